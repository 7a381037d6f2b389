package extauthz

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// objects is a backend in memory: metadata by path.
type objects map[string]map[string]any

func (o objects) Get(_ context.Context, ref policy.Ref) (policy.Object, error) {
	metadata, ok := o[ref.Path]
	return policy.Object{Found: ok, Metadata: metadata}, nil
}

func (objects) Forget(policy.Ref) {}

// TestConformance runs the numbered LangGraph cases that need a token or a header; policy/langgraph runs the others.
func TestConformance(t *testing.T) {
	const dir = "../policy/langgraph/testdata/cases/"
	text, err := os.ReadFile(dir + "conformance.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		IDs     map[string]string         `json:"ids"`
		Objects map[string]map[string]any `json:"objects"`
		Cases   []struct {
			Case                                int
			Level, Policy, User, Token, Request string
			Permissions                         []string
			Headers                             [][2]string
			Body                                json.RawMessage
			Want                                struct {
				Status          int
				WWWAuthenticate string `json:"www_authenticate"`
			}
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	fill := func(s string) string {
		for name, id := range file.IDs {
			s = strings.ReplaceAll(s, "{"+name+"}", id)
		}
		return s
	}
	backend := objects{}
	for path, metadata := range file.Objects {
		backend[fill(path)] = metadata
	}
	m := newMinter(t, "ES256")
	ran := 0
	for _, c := range file.Cases {
		if c.Level != "http" {
			continue
		}
		ran++
		t.Run(fmt.Sprintf("%d_%s_token", c.Case, c.Token), func(t *testing.T) {
			s := conformanceServer(t, m, dir+c.Policy+".yaml", backend)
			method, path, _ := strings.Cut(fill(c.Request), " ")
			good := map[string]any{"sub": c.User, "scope": strings.Join(c.Permissions, " ")}
			headers := c.Headers
			with := func(value string) { headers = append(headers, [2]string{"authorization", value}) }
			switch c.Token {
			case "none":
			case "valid":
				with("Bearer " + m.mint(t, good))
			case "lower_case_scheme":
				with("bearer " + m.mint(t, good))
			case "no_scheme":
				with(m.mint(t, good))
			case "empty":
				with("Bearer ")
			case "basic":
				with("Basic x")
			case "garbage":
				with("Bearer garbage")
			case "expired":
				good["exp"] = time.Now().Unix() - 3600
				with("Bearer " + m.mint(t, good))
			case "no_subject":
				with("Bearer " + m.mint(t, map[string]any{"sub": nil}))
			default:
				t.Fatalf("unknown token %q", c.Token)
			}
			list := &corev3.HeaderMap{}
			for _, h := range headers {
				list.Headers = append(list.Headers, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
			}
			r := do(t, s, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
				Http: &authv3.AttributeContext_HttpRequest{Method: method, Path: path, Host: "agents.test", Scheme: "https", HeaderMap: list, RawBody: c.Body},
			}}})
			if got := statusOf(r); got != c.Want.Status {
				t.Errorf("got %d (%v), want %d", got, r, c.Want.Status)
			}
			if got := headerOf(r.GetDeniedResponse().GetHeaders(), "www-authenticate"); !strings.HasPrefix(got, c.Want.WWWAuthenticate) {
				t.Errorf("challenge is %q, want %q", got, c.Want.WWWAuthenticate)
			}
		})
	}
	if ran == 0 {
		t.Error("no case was run")
	}
}

// conformanceServer runs the rules of a policy file with the minter's tokens.
func conformanceServer(t *testing.T, m *minter, file string, backend objects) *Server {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The files hold the policy alone; the provider is the tests'.
	text = append(text, fmt.Sprintf("\n---\n"+`apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: idp}
spec:
  issuer: %s
  audiences: [langgraph]
  jwt: {keys: %s}
  identity: {permissions: 'claims.scope.split(" ").filter(s, s != "")'}
`, testIssuer, m.jwks(t))...)
	parsed, problems := manifest.Parse(file, text)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	compiled, problems := manifest.Compile(parsed, map[string]policy.Preset{"langgraph": langgraph.Preset()})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	state, err := Build(nil, compiled.Snapshot, compiled.Providers, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range compiled.Snapshot.Policies() {
		state.Lookups[p.Name] = backend
	}
	s := New(Options{})
	s.Swap(state)
	return s
}

// A body that was decided on reaches the backend as JSON, whatever type the client gave it: the JS server takes a body of
// another type for an empty one, and an edit would be lost with it.
func TestA_body_that_was_decided_on_is_JSON_for_the_backend_too(t *testing.T) {
	m := newMinter(t, "ES256")
	s := conformanceServer(t, m, "../policy/langgraph/testdata/cases/p2.yaml", objects{})
	for _, body := range []string{`{}`, `{"metadata":{"owner":"johndoe"}}`, ``} {
		list := &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
			{Key: "authorization", RawValue: []byte("Bearer " + m.mint(t, map[string]any{"sub": "johndoe", "scope": "me"}))},
			{Key: "content-type", RawValue: []byte("foo/bar")},
		}}
		r := do(t, s, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
			Http: &authv3.AttributeContext_HttpRequest{Method: "POST", Path: "/threads/search", Host: "agents.test", HeaderMap: list, RawBody: []byte(body)},
		}}})
		if got := headerOf(r.GetOkResponse().GetHeaders(), "content-type"); statusOf(r) != 200 || got != "application/json" {
			t.Errorf("body %q: %d with content-type %q, want 200 with application/json", body, statusOf(r), got)
		}
	}
}
