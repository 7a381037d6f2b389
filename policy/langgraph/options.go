package langgraph

import (
	"fmt"
	"slices"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// httpOptions are the members of `http` in a deployment's langgraph.json that change which routes there are
// (langgraph_api.config.schemas.HttpConfig, and dist/server.mjs of the JS server).
type httpOptions struct {
	mountPrefix string

	disableAssistants, disableThreads, disableRuns, disableStore, disableMeta bool
	disableMCP, disableA2A, disableUI, disableWebhooks, disableEventStreaming bool
}

// flags are the switches by their names in langgraph.json.
func (h *httpOptions) flags() map[string]*bool {
	return map[string]*bool{
		"disable_assistants": &h.disableAssistants, "disable_threads": &h.disableThreads, "disable_runs": &h.disableRuns,
		"disable_store": &h.disableStore, "disable_meta": &h.disableMeta, "disable_mcp": &h.disableMCP, "disable_a2a": &h.disableA2A,
		"disable_ui": &h.disableUI, "disable_webhooks": &h.disableWebhooks, "disable_event_streaming": &h.disableEventStreaming,
	}
}

// configure returns the preset as the options of a policy say: {http, webhooks, webSocket}.
func configure(options policy.Tree) (policy.Preset, policy.Problems) {
	a, o := &api{}, &reader{}
	for _, m := range o.members(options, "http", "webhooks", "webSocket") {
		switch m.Name.Text {
		case "http":
			a.http = o.http(m.Value)
		case "webhooks":
			a.webhooks = o.webhooks(m.Value)
		case "webSocket":
			a.webSocket = o.word(m.Value, "Deny", "Allow") == "Allow"
		}
	}
	if a.http.disableWebhooks && len(a.webhooks) > 0 {
		o.add(options.Pos, "both disable_webhooks and webhooks.allow", "one of them", "the server would refuse every run with a webhook")
	}
	return a.preset(), o.problems
}

// reader reads options, and collects what is wrong with them.
type reader struct{ problems policy.Problems }

func (r *reader) add(pos policy.Position, found, want, hint string) {
	r.problems = append(r.problems, policy.Problem{Pos: pos, Found: found, Want: want, Hint: hint})
}

// members are those of an object, each of which must be known.
func (r *reader) members(t policy.Tree, known ...string) []policy.Member {
	if !t.IsObject {
		r.add(t.Pos, "no object", "an object with "+strings.Join(known, ", "), "")
		return nil
	}
	return slices.DeleteFunc(slices.Clone(t.Members), func(m policy.Member) bool {
		if slices.Contains(known, m.Name.Text) {
			return false
		}
		r.add(m.Name.Pos, fmt.Sprintf("unknown option %q", m.Name.Text), strings.Join(known, ", "), "")
		return true
	})
}

// word is one of some words; the first is the default.
func (r *reader) word(t policy.Tree, words ...string) string {
	if s, ok := t.Scalar.(string); ok && slices.Contains(words, s) {
		return s
	}
	r.add(t.Pos, fmt.Sprintf("%v", t.Scalar), strings.Join(words, " or "), "")
	return words[0]
}

func (r *reader) http(t policy.Tree) (h httpOptions) {
	flags := h.flags()
	known := []string{"mount_prefix"}
	for name := range flags {
		known = append(known, name)
	}
	slices.Sort(known)
	for _, m := range r.members(t, known...) {
		if flag := flags[m.Name.Text]; flag != nil {
			on, ok := m.Value.Scalar.(bool)
			if !ok {
				r.add(m.Value.Pos, m.Name.Text+" is no bool", "true or false, as in langgraph.json", "")
			}
			*flag = on
			continue
		}
		prefix, ok := m.Value.Scalar.(string)
		if !ok || !isMount(prefix) {
			r.add(m.Value.Pos, fmt.Sprintf("mount_prefix %q", prefix), "a path that starts with / and does not end with one, such as /agents", "")
			continue
		}
		h.mountPrefix = prefix
	}
	return h
}

// isMount reports whether a path can stand before every route: plain segments, as the servers ask too.
func isMount(prefix string) bool {
	if !strings.HasPrefix(prefix, "/") {
		return false
	}
	for _, s := range strings.Split(prefix[1:], "/") {
		if s == "" || s == "." || s == ".." || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~") != "" {
			return false
		}
	}
	return !strings.HasPrefix(prefix+"/", policy.ReservedPrefix)
}

// mounted puts the prefix before the routes, and before the paths that objects are looked up at. As in the Python server
// (langgraph_api.server), the health checks stay at the root too.
func (a *api) mounted(routes []policy.PresetRoute) []policy.PresetRoute {
	prefix := a.http.mountPrefix
	if prefix == "" {
		return routes
	}
	for i := range routes {
		r := &routes[i]
		r.Path = prefix + r.Path
		if mapper := r.Map; mapper != nil {
			r.Map = func(in policy.Input) ([]policy.Operation, error) {
				ops, err := mapper(in)
				for i := range ops {
					ops[i].Object = under(prefix, ops[i].Object)
					requires := slices.Clone(ops[i].Requires) // operations may share them
					for j := range requires {
						requires[j] = under(prefix, requires[j])
					}
					ops[i].Requires = requires
				}
				return ops, err
			}
		}
	}
	return append(routes, policy.PresetRoute{Method: "GET", Path: "/", Public: true}, policy.PresetRoute{Method: "GET", Path: "/ok", Public: true})
}

func under(prefix string, ref policy.Ref) policy.Ref {
	if ref.Path != "" {
		ref.Path = prefix + ref.Path
	}
	return ref
}
