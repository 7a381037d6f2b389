package langgraph_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// compile reads one AuthPolicy; the provider that it needs is added.
func compile(t testing.TB, text string) *policy.Policy {
	t.Helper()
	const provider = `
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: idp}
spec: {issuer: "https://auth.example.com", audiences: [langgraph]}
---
`
	objects, problems := manifest.Parse("policy.yaml", []byte(provider+text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	compiled, problems := manifest.Compile(objects, map[string]policy.Preset{"langgraph": langgraph.Preset()})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return compiled.Snapshot.Policies()[0]
}

// rules wraps rules into a policy for the preset.
func rules(t testing.TB, list string) *policy.Policy {
	t.Helper()
	return withAPI(t, "{preset: langgraph}", list)
}

// withAPI is rules, with what stands under spec.api.
func withAPI(t testing.TB, api, list string) *policy.Policy {
	t.Helper()
	return compile(t, `
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: conversations}
spec:
  hosts: ["*"]
  providers: [idp]
  api: `+api+`
  backend: {url: "http://langgraph:8000"}
  identityHeaders: {x-user-id: user.identity}
  rules:
`+list)
}

// store is a backend's objects, by the path of their look-up.
type store map[string]map[string]any

func (s store) find(needs []policy.Ref) []policy.Object {
	out := make([]policy.Object, len(needs))
	for i, ref := range needs {
		metadata, ok := s[ref.Path]
		out[i] = policy.Object{Found: ok, Metadata: metadata}
	}
	return out
}

// result is what became of a request.
type result struct {
	decision policy.Decision
	ops      []policy.Operation
	public   bool
}

func user(name string, permissions ...string) *policy.Identity {
	return &policy.Identity{Name: name, DisplayName: name, Permissions: permissions, Claims: map[string]any{"sub": name}, Provider: "idp"}
}

// ask sends a request through routing, mapping and deciding, as extauthz does.
func ask(t testing.TB, p *policy.Policy, id *policy.Identity, s store, request string, body []byte) result {
	t.Helper()
	method, target, _ := strings.Cut(request, " ")
	path, query, _ := strings.Cut(target, "?")
	refused := func(err error) result {
		var r *policy.Refusal
		if !errors.As(err, &r) {
			t.Fatalf("%s: %v", request, err)
		}
		return result{decision: policy.Decision{Outcome: r.Outcome, Detail: r.Detail}}
	}
	route, err := p.Route(method, path)
	if err != nil {
		return refused(err)
	}
	if route.Public {
		return result{decision: policy.Decision{Outcome: policy.Allow}, public: true}
	}
	ops, err := route.Operations(query, body)
	if err != nil {
		return refused(err)
	}
	facts := policy.Facts{
		Identity: id, Now: time.Unix(1_700_000_000, 0),
		Request: &policy.Request{Method: method, Path: path, Host: "agents.test", Query: query},
	}
	d := p.Decide(facts, ops)
	if d.Outcome == policy.Undecided && len(d.Needs) > 0 {
		d = d.Resolve(s.find(d.Needs))
	}
	return result{decision: d, ops: ops}
}

// status is what the client gets; backend is what the backend answers where the request is allowed.
func (r result) status(t testing.TB, backend int) int {
	t.Helper()
	switch r.decision.Outcome {
	case policy.Allow:
		return backend
	case policy.Answer:
		return 200
	case policy.BadRequest:
		return 400
	case policy.Forbidden, policy.InsufficientScope:
		return 403
	case policy.NotFound:
		return 404
	case policy.Conflict:
		return 409
	}
	t.Fatalf("outcome %v: %s", r.decision.Outcome, r.decision.Reason)
	return 0
}
