package dryrun

import (
	"encoding/json"
	"slices"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// Story is how one request was decided, step by step, as `usher explain` tells it. Its JSON is stable: members are only ever
// added. It can be decided again: see [ParseRecord]. Credentials are hidden.
type Story struct {
	Stage      extauthz.Stage   `json:"stage"` // how far the request came
	Request    StoryRequest     `json:"request"`
	Policy     *StoryPolicy     `json:"policy"` // null: none guards the host
	Route      *StoryRoute      `json:"route"`  // null: none matches
	Identity   *StoryIdentity   `json:"identity"`
	Operations []StoryOperation `json:"operations"`
	Objects    []StoryObject    `json:"objects"` // that were looked up
	Edits      []StoryEdit      `json:"edits"`
	Backend    *StoryBackend    `json:"backend"` // what the backend gets; null: nothing
	Answer     StoryAnswer      `json:"answer"`

	why *extauthz.Explanation
}

// StoryRequest is what the client sent.
type StoryRequest struct {
	Method        string            `json:"method"`
	Host          string            `json:"host"`
	Path          string            `json:"path"` // with the query
	Headers       map[string]string `json:"headers"`
	Body          string            `json:"body,omitempty"`
	Policy        string            `json:"policy,omitempty"` // that Envoy named
	RemoteAddress string            `json:"remoteAddress,omitempty"`
}

// StoryPolicy is the policy that guards the host.
type StoryPolicy struct {
	Name  string   `json:"name"`
	Hosts []string `json:"hosts"`
}

// StoryRoute is the route that matches.
type StoryRoute struct {
	Pattern string `json:"pattern"`
	Public  bool   `json:"public"`
}

// StoryIdentity is who asks.
type StoryIdentity struct {
	Anonymous   bool           `json:"anonymous"`
	Identity    string         `json:"identity,omitempty"`
	DisplayName string         `json:"displayName,omitempty"`
	Permissions []string       `json:"permissions,omitempty"`
	Provider    string         `json:"provider,omitempty"`
	Claims      map[string]any `json:"claims,omitempty"`
}

// StoryOperation is one thing that the request asks for.
type StoryOperation struct {
	Operation string       `json:"operation"`
	Value     policy.Value `json:"value,omitempty"`
	Unruled   bool         `json:"unruled,omitempty"` // no rule is asked: a verified token is enough
	Rules     []StoryRule  `json:"rules"`             // that could apply, the most specific first
	Steps     []StoryStep  `json:"steps"`
	Outcome   string       `json:"outcome"` // undecided: another operation ended the request before
	Reason    string       `json:"reason,omitempty"`
}

// StoryRule is a rule that could apply.
type StoryRule struct {
	On      string `json:"on"`
	At      string `json:"at"`
	Applies bool   `json:"applies"`
	Why     string `json:"why"`
}

// StoryStep is one thing that the rule looked at.
type StoryStep struct {
	Kind     string         `json:"kind"`
	OK       bool           `json:"ok"`
	Text     string         `json:"text,omitempty"`
	Detail   string         `json:"detail,omitempty"`
	Object   string         `json:"object,omitempty"`
	Found    bool           `json:"found,omitempty"`
	Metadata map[string]any `json:"metadata,omitempty"`
	Filter   string         `json:"filter,omitempty"`
	Set      map[string]any `json:"set,omitempty"`
}

// StoryObject is what a look-up found.
type StoryObject struct {
	Resource string         `json:"resource"`
	ID       string         `json:"id"`
	Path     string         `json:"path"` // that the backend is asked at
	Found    bool           `json:"found"`
	Metadata map[string]any `json:"metadata,omitempty"`
}

// StoryEdit sets members of one object of the body.
type StoryEdit struct {
	At  []string       `json:"at"`
	Set map[string]any `json:"set"`
}

// StoryBackend is what the backend gets.
type StoryBackend struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"` // that Usher set or left
	Set     []string          `json:"set"`     // names of those that Usher set
	Removed []string          `json:"removed"`
	Body    string            `json:"body,omitempty"`
	Edited  bool              `json:"edited"`
}

// StoryAnswer is how it ended.
type StoryAnswer struct {
	Outcome string            `json:"outcome"`
	Status  int               `json:"status"` // 200 with allow: the backend answers
	Rule    string            `json:"rule,omitempty"`
	RuleAt  string            `json:"ruleAt,omitempty"`
	Reason  string            `json:"reason,omitempty"` // as the decision record has it; the client does not read it
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
	Fault   string            `json:"fault,omitempty"` // Envoy could not carry the answer out
}

// Tell asks, and tells how the request was decided.
func (g *Gate) Tell(id policytest.Identity, r policytest.Request) Story {
	token := g.token(id)
	a, why, response := g.ask(token, r)
	h := hider{token: token}
	if p := g.config.Policies.Match(why.Host, r.Policy); p != nil {
		h.header = p.TokenFrom.Header
	}
	s := Story{
		why: why, Stage: why.Stage, Objects: []StoryObject{}, Edits: []StoryEdit{}, Operations: []StoryOperation{},
		Request: StoryRequest{
			Method: r.Method, Host: r.Host, Path: h.path(r.Path), Headers: h.headers(r.Headers), Body: h.text(string(r.Body)),
			Policy: r.Policy, RemoteAddress: r.RemoteAddress,
		},
		Answer: answerOf(&a, why, response),
	}
	if p := g.policy(why.Policy); p != nil {
		s.Policy = &StoryPolicy{Name: p.Name, Hosts: p.Hosts()}
	}
	if why.Route != "" {
		s.Route = &StoryRoute{Pattern: why.Route, Public: why.Public}
	}
	if i := why.Identity; i != nil {
		s.Identity = &StoryIdentity{
			Anonymous: why.Anonymous, Identity: i.Name, DisplayName: i.DisplayName, Permissions: i.Permissions, Provider: i.Provider, Claims: h.object(i.Claims),
		}
	}
	for _, o := range why.Trace.Operations {
		s.Operations = append(s.Operations, h.operation(o))
	}
	for i, ref := range why.Needs {
		object := StoryObject{Resource: ref.Resource, ID: ref.ID, Path: ref.Path}
		if i < len(why.Found) {
			object.Found, object.Metadata = why.Found[i].Found, h.object(why.Found[i].Metadata)
		}
		s.Objects = append(s.Objects, object)
	}
	for _, e := range why.Edits {
		s.Edits = append(s.Edits, StoryEdit{At: slices.Clone(e.At), Set: h.object(members(e.Set))})
	}
	if a.Outcome == policy.Allow && a.Fault == "" {
		s.Backend = &StoryBackend{
			Method: a.Backend.Method, Path: h.path(a.Backend.Path), Headers: h.headers(a.Backend.Headers), Removed: slices.Sorted(slices.Values(a.Removed)),
			Body: h.text(string(a.Backend.Body)), Edited: a.Edited, Set: []string{},
		}
		for _, o := range response.GetOkResponse().GetHeaders() {
			if name := strings.ToLower(o.GetHeader().GetKey()); name != "" && name[0] != ':' {
				s.Backend.Set = append(s.Backend.Set, name)
			}
		}
		slices.Sort(s.Backend.Set)
	}
	return s
}

func (g *Gate) policy(name string) *policy.Policy {
	all := g.config.Policies.Policies()
	if i := slices.IndexFunc(all, func(p *policy.Policy) bool { return p.Name == name }); i >= 0 {
		return all[i]
	}
	return nil
}

func answerOf(a *policytest.Answer, why *extauthz.Explanation, response *authv3.CheckResponse) StoryAnswer {
	out := StoryAnswer{Outcome: a.Outcome.String(), Status: a.Status, Rule: a.Rule.On, RuleAt: a.Rule.Position, Reason: a.Reason, Fault: a.Fault}
	if why.Trace.Headers != "" {
		out.Reason = why.Trace.Headers
	}
	if denied := response.GetDeniedResponse(); denied != nil {
		out.Body, out.Headers = denied.GetBody(), map[string]string{}
		for _, h := range denied.GetHeaders() {
			out.Headers[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
		}
	}
	return out
}

func (h hider) operation(o *policy.OperationTrace) StoryOperation {
	out := StoryOperation{
		Operation: o.Resource + ":" + o.Action, Value: policytest.HideValue(o.Value, h.text), Unruled: o.Unruled, Outcome: o.Outcome.String(), Reason: o.Reason,
		Rules: []StoryRule{}, Steps: []StoryStep{},
	}
	for _, c := range o.Considered {
		r := StoryRule{On: c.Rule.On, At: c.Rule.Position, Applies: c.Applies, Why: "the most specific rule"}
		if !c.Applies {
			r.Why = "less specific than " + o.Rule.On
		}
		out.Rules = append(out.Rules, r)
	}
	for _, s := range o.Steps {
		step := StoryStep{Kind: string(s.Kind), OK: s.OK, Text: s.Text, Detail: s.Detail, Found: s.Found, Metadata: h.object(s.Metadata), Set: h.object(members(s.Set))}
		if !s.Ref.IsZero() {
			step.Object = s.Ref.Resource + " " + s.Ref.ID
		}
		if !s.Filter.IsZero() {
			step.Filter = h.text(s.Filter.String())
		}
		out.Steps = append(out.Steps, step)
	}
	return out
}

func members(set []policy.EditMember) map[string]any {
	if len(set) == 0 {
		return nil
	}
	out := make(map[string]any, len(set))
	for _, m := range set {
		out[m.Name] = m.Value
	}
	return out
}

// JSON writes a value as one line, for people.
func JSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return "no JSON"
	}
	return string(text)
}
