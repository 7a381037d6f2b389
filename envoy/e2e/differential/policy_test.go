package differential_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// policy is a policy in the neutral form, which parts/langgraph/differential.mjs reads as it is.
type policy struct {
	Rules []rule `json:"rules"`
}

// rule is one handler, or one of a manifest's rules. In filter and stamp "$user" stands for the user's identity.
type rule struct {
	On         string         `json:"on"`
	Allow      string         `json:"allow"` // yes, no, users, permission, namespace or tag
	Users      []string       `json:"users,omitempty"`
	Permission string         `json:"permission,omitempty"`
	Filter     map[string]any `json:"filter,omitempty"`
	Stamp      map[string]any `json:"stamp,omitempty"`
}

// users and the permissions of each.
var users = []string{"alice", "bob", "carol"}

var permissions = map[string][]string{
	"alice": {"threads:write", "assistants:write"},
	"bob":   {"threads:write"},
	"carol": {},
}

var (
	filters = []map[string]any{
		{"owner": "$user"},
		{"owner": "$user"},
		{"owner": map[string]any{"$eq": "$user"}},
		{"owner": "$user", "tag": "x"},
		{"readers": map[string]any{"$contains": "$user"}},
		{"readers": map[string]any{"$contains": []any{"$user"}}},
		{"$or": []any{map[string]any{"owner": "$user"}, map[string]any{"readers": map[string]any{"$contains": "$user"}}}},
		{"$and": []any{map[string]any{"owner": "$user"}, map[string]any{"tag": "x"}}},
	}
	stamps = []map[string]any{
		{"owner": "$user"},
		{"owner": "$user"},
		{"owner": "$user", "tag": "x"},
		{"owner": "$user", "readers": []any{"$user"}},
		{"readers": []any{"$user", "alice"}},
	}
	itemFilters = []map[string]any{
		{"namespace": map[string]any{"$contains": "$user"}},
		{"namespace": map[string]any{"$contains": []any{"$user", "notes"}}},
	}
	actions = map[string][]string{
		"threads":    {"create", "read", "update", "delete", "search", "create_run"},
		"assistants": {"create", "read", "update", "delete", "search"},
		"store":      {"put", "get", "delete", "search", "list_namespaces"},
	}
	resources = []string{"threads", "assistants", "store"}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func chance(r *rand.Rand, percent int) bool { return r.IntN(100) < percent }

// newPolicy makes a policy. One half of them begins with the rules that an application would write: threads and assistants
// of their owners, namespaces of their users.
func newPolicy(r *rand.Rand) policy {
	var p policy
	usual := chance(r, 50)
	if chance(r, 85) {
		p.Rules = append(p.Rules, newRule(r, "*"))
	}
	for _, resource := range resources {
		switch {
		case usual && resource == "store":
			p.Rules = append(p.Rules, pick(r, []rule{{On: resource, Allow: "namespace"}, {On: resource, Allow: "yes", Filter: itemFilters[0]}}))
		case usual:
			p.Rules = append(p.Rules, rule{On: resource, Allow: "yes", Filter: filters[0], Stamp: stamps[0]})
		case chance(r, 60):
			p.Rules = append(p.Rules, newRule(r, resource))
		}
	}
	for _, action := range []string{"create", "read", "update", "delete", "search"} {
		if chance(r, 12) {
			p.Rules = append(p.Rules, newRule(r, "*:"+action))
		}
	}
	for _, resource := range resources {
		for _, action := range actions[resource] {
			if chance(r, 15) {
				p.Rules = append(p.Rules, newRule(r, resource+":"+action))
			}
		}
	}
	return p
}

func newRule(r *rand.Rand, on string) rule {
	resource, action, _ := strings.Cut(on, ":")
	out := rule{On: on, Allow: "yes"}
	switch n := r.IntN(100); {
	case n < 12:
		out.Allow = "no"
	case n < 24:
		out.Allow, out.Users = "users", users[:1+r.IntN(2)]
	case n < 34:
		out.Allow, out.Permission = "permission", pick(r, permissions["alice"])
	case n < 60 && resource == "store":
		out.Allow = "namespace"
	case n < 44 && (action == "create" || action == "create_run"):
		out.Allow = "tag"
	}
	if chance(r, 60) {
		out.Filter = pick(r, filters)
		if resource == "store" {
			out.Filter = pick(r, itemFilters)
		}
	}
	writes := action == "" || action == "create" || action == "update" || action == "create_run"
	if resource != "store" && writes && (out.Filter != nil && chance(r, 85) || chance(r, 30)) {
		out.Stamp = pick(r, stamps)
	}
	return out
}

// find returns the rule for an event, by LangGraph's precedence; nil is none.
func (p policy) find(event string) *rule {
	resource, action, _ := strings.Cut(event, ":")
	for _, on := range []string{event, resource, "*:" + action, "*"} {
		for i := range p.Rules {
			if p.Rules[i].On == on {
				return &p.Rules[i]
			}
		}
	}
	return nil
}

// manifest writes the policy as an AuthPolicy for a host.
func (p policy) manifest(name, host, backend string) map[string]any {
	var rules []any
	for _, r := range p.Rules {
		out := map[string]any{"on": r.On, "allow": r.condition()}
		if r.Filter != nil {
			out["filter"] = expressions(r.Filter)
		}
		if r.Stamp != nil {
			out["stamp"] = expressions(r.Stamp)
		}
		rules = append(rules, out)
	}
	if rules == nil {
		rules = []any{map[string]any{"on": "crons:read", "allow": "false"}} // a policy has a rule
	}
	return map[string]any{
		"apiVersion": "usher.dev/v1alpha1", "kind": "AuthPolicy", "metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"hosts": []any{host}, "providers": []any{"users"}, "api": map[string]any{"preset": "langgraph"},
			"backend": map[string]any{"url": backend}, "rules": rules,
		},
	}
}

func (r rule) condition() string {
	switch r.Allow {
	case "no":
		return "false"
	case "users":
		list, _ := json.Marshal(r.Users)
		return "user.identity in " + string(list)
	case "permission":
		return fmt.Sprintf("%q in user.permissions", r.Permission)
	case "namespace":
		return "value.namespace != null && value.namespace.size() > 0 && value.namespace[0] == user.identity"
	case "tag":
		return `value.metadata.?tag.orValue("") == "x"`
	}
	return "true"
}

// expressions writes a filter or a stamp with CEL in the place of its texts.
func expressions(v any) any {
	switch v := v.(type) {
	case string:
		if v == "$user" {
			return "user.identity"
		}
		return fmt.Sprintf("%q", v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = expressions(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for name, value := range v {
			out[name] = expressions(value)
		}
		return out
	}
	return v
}

// tags say what of the policy a difference may depend on: for each of the request's events how its rule decides.
func (p policy) tags(user string, events []string, body any) []string {
	var out []string
	writer := rule{}
	if r := p.find(events[0]); r != nil {
		writer = *r // the request's first event is the one that writes
	}
	for _, event := range events {
		r := p.find(event)
		if r == nil {
			out = append(out, "none")
			continue
		}
		switch {
		case r.Allow == "no", r.Allow == "users" && !strings.Contains(strings.Join(r.Users, " "), user),
			r.Allow == "permission" && !strings.Contains(strings.Join(permissions[user], " "), r.Permission):
			out = append(out, event+" no")
		case r.Allow == "namespace", r.Allow == "tag":
			out = append(out, event+" "+r.Allow)
		}
		if written := writer.written(user, body); r.Filter != nil && !matches(r.Filter, user, written, true) {
			out = append(out, event+" lost") // a new object would not match
			if !matches(r.Filter, user, written, false) {
				out = append(out, event+" given away") // nor would an old one with this written to it
			}
		}
		for name := range r.Filter {
			out = append(out, event+" filter", event+" filter "+name)
			if name[0] == '$' {
				out = append(out, "$or")
			}
		}
		if r.Stamp != nil {
			out = append(out, event+" stamp")
		}
	}
	return out
}

// written is what a create or an update writes into the metadata: what the client sent, and the stamp over it.
func (r rule) written(user string, body any) map[string]any {
	out := map[string]any{}
	if o, ok := body.(map[string]any); ok {
		if md, ok := o["metadata"].(map[string]any); ok {
			maps.Copy(out, md)
		}
	}
	for name, v := range r.Stamp {
		out[name] = instead(v, user)
	}
	return out
}

// matches compares as LangGraph's documentation says. Unless all of the metadata is given, a name that is not there may be
// anything.
func matches(filter map[string]any, user string, md map[string]any, all bool) bool {
	for name, want := range filter {
		got, there := md[name]
		branches, _ := want.([]any)
		matching := func(f any) bool { return matches(f.(map[string]any), user, md, all) }
		switch {
		case name == "$or":
			if !slices.ContainsFunc(branches, matching) {
				return false
			}
			continue
		case name == "$and":
			if slices.ContainsFunc(branches, func(f any) bool { return !matching(f) }) {
				return false
			}
			continue
		case !there:
			if all {
				return false
			}
			continue
		}
		want = instead(want, user)
		operator, ok := want.(map[string]any)
		if !ok {
			operator = map[string]any{"$eq": want}
		}
		if equal, ok := operator["$eq"]; ok && got != equal {
			return false
		}
		if contained, ok := operator["$contains"]; ok {
			each, ok := contained.([]any)
			if !ok {
				each = []any{contained}
			}
			list, _ := got.([]any)
			if slices.ContainsFunc(each, func(v any) bool { return !slices.Contains(list, v) }) {
				return false
			}
		}
	}
	return true
}

// instead puts the user in the place of "$user".
func instead(v any, user string) any {
	switch v := v.(type) {
	case string:
		if v == "$user" {
			return user
		}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = instead(v[i], user)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for name, value := range v {
			out[name] = instead(value, user)
		}
		return out
	}
	return v
}
