package dryrun

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
	"github.com/usher-authz/usher/policy/policytest"
)

const example = "../../examples/langgraph/"

func compile(t testing.TB, files ...string) *manifest.Compiled {
	t.Helper()
	return compileWith(t, nil, files...)
}

func compileWith(t testing.TB, objects []manifest.Object, files ...string) *manifest.Compiled {
	t.Helper()
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // a test's own
		if err != nil {
			t.Fatal(err)
		}
		os, problems := manifest.Parse(file, text)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		objects = append(objects, os...)
	}
	compiled, problems := manifest.Compile(objects, map[string]policy.Preset{"langgraph": langgraph.Preset()})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return compiled
}

// backend is a LangGraph server as far as look-ups go, on a socket. It knows nothing of dry runs.
func backend(objects []policytest.Object) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"ok":true}`)) })
	for _, o := range objects {
		mux.HandleFunc("/"+o.Resource+"/"+o.ID, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{o.Resource[:len(o.Resource)-1] + "_id": o.ID, "metadata": o.Metadata, "values": map[string]any{"metadata": map[string]any{"owner": "root"}}})
		})
	}
	return mux
}

// TestADryRunAnswersAsARealServer: every case of the example, once supposed and once with a signed token and a backend behind
// a socket. The answers are the same, byte for byte.
func TestADryRunAnswersAsARealServer(t *testing.T) {
	c := compile(t, example+"policy.yaml", example+"policy_test.yaml")
	issuer := tokentest.New("https://auth.example.com", tokentest.NewKey("one", "ES256"))
	providers := map[string]token.Config{}
	for name, config := range c.Providers {
		config.JWKS = issuer.Set()
		providers[name] = config
	}
	for i := range c.Tests {
		suite := &c.Tests[i]
		server := httptest.NewServer(backend(suite.Objects))
		defer server.Close()
		backends := map[string]lookup.Config{}
		for name, config := range c.Backends {
			config.BackendURL = server.URL
			backends[name] = config
		}
		state, err := extauthz.Build(nil, c.Snapshot, providers, backends)
		if err != nil {
			t.Fatal(err)
		}
		state.Start(context.Background())
		defer state.Stop(nil)
		real := extauthz.New(extauthz.Options{})
		real.Swap(state)
		dry, err := New(Config{Policies: c.Snapshot, Providers: c.Providers, Backends: c.Backends, Objects: suite.Objects})
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range suite.Cases {
			t.Run(one.Name, func(t *testing.T) {
				text := ""
				if !one.Identity.Anonymous {
					text = issuer.Mint(tokentest.Claims{"aud": "langgraph", "scope": nil, "name": nil}, one.Identity.Claims)
				}
				sent := dry.arrive(text, one.Request)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				response, why := real.Explain(ctx, sent.check())
				if checked, _ := real.Check(ctx, sent.check()); !proto.Equal(checked, response) {
					t.Errorf("explained\n%v\nchecked\n%v", response, checked)
				}
				want := sent.carryOut(response, why)
				got := dry.Ask(one.Identity, one.Request)
				for _, a := range []*policytest.Answer{&got, &want} {
					slices.Sort(a.Removed)
					a.Operations = nil // pointers; what they say is in the rest
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("supposed\n%+v\nreal\n%+v", got, want)
				}
			})
		}
	}
}

func TestAnAssertionIsSignedAndShownNowhere(t *testing.T) {
	key := JSON(tokentest.NewKey("one", "ES256").PrivateJWK())
	secret, problems := manifest.Parse("secret.json", []byte(`{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"privateKey": `+JSON(key)+`}}`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	c := compileWith(t, secret, "testdata/assertion.yaml")
	g, err := New(Config{Policies: c.Snapshot, Providers: c.Providers, Backends: c.Backends})
	if err != nil {
		t.Fatal(err)
	}
	id := policytest.Identity{Name: "alice", Provider: "company", User: &policytest.User{Identity: "alice"}}
	r := policytest.Request{Method: "GET", Host: "a.example.com", Path: "/a", Headers: map[string]string{"x-copy": "eyJhbGciOiJub25lIn0.e30."}}
	a := g.Ask(id, r)
	if a.Outcome != policy.Allow || policytest.Hide(a.Backend.Headers["x-assertion"]) != policytest.Hidden {
		t.Errorf("got %v with %v", a.Outcome, a.Backend.Headers)
	}
	story := g.Tell(id, r)
	if text := JSON(story); policytest.Hide(text) != text || story.Backend.Headers["x-assertion"] != policytest.Hidden {
		t.Errorf("a token is shown: %s", text)
	}
	c2 := policytest.Case{Identity: id, Request: r, Expect: policytest.Expectation{Outcome: policytest.Allow, Headers: map[string]string{"x-assertion": "a"}}}
	for _, m := range policytest.Compare(&c2, &a) {
		if policytest.Hide(m.Got) != m.Got {
			t.Errorf("a token is shown: %s", m.Got)
		}
	}
}

// TestABackendThatFailsForOneObject is the circuit breaker's business: it must not open for the other cases of a suite.
func TestABackendThatFailsForOneObject(t *testing.T) {
	c := compile(t, example+"policy.yaml")
	const bad, good = "8f9c3a52-7f0e-4d8b-9d53-6f1c2a4b7e01", "8f9c3a52-7f0e-4d8b-9d53-6f1c2a4b7e02"
	g, err := New(Config{Policies: c.Snapshot, Providers: c.Providers, Backends: c.Backends, Objects: []policytest.Object{
		{Resource: "threads", ID: bad, Unavailable: true}, {Resource: "threads", ID: good, Metadata: map[string]any{"owner": "alice"}}, {Path: "/threads/x", Body: []byte("{}")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	id := policytest.Identity{Name: "alice", Provider: "company", Claims: map[string]any{"sub": "alice"}}
	ask := func(thread string) policytest.Answer {
		return g.Ask(id, policytest.Request{Method: "GET", Host: "agents.example.com", Path: "/threads/" + thread})
	}
	for range 50 {
		if a := ask(bad); a.Outcome != policy.Unavailable || a.Status != 503 {
			t.Fatalf("got %v", a.Outcome)
		}
	}
	if a := ask(good); a.Outcome != policy.Allow {
		t.Errorf("got %v: %s", a.Outcome, a.Reason)
	}
	if got := g.Unused(); !slices.Equal(got, []string{"/threads/x"}) {
		t.Errorf("unused are %q", got)
	}
}

// BenchmarkAsk is one case of a PolicyTest.
func BenchmarkAsk(b *testing.B) {
	c := compile(b, example+"policy.yaml", example+"policy_test.yaml")
	g, err := New(Config{Policies: c.Snapshot, Providers: c.Providers, Backends: c.Backends, Objects: c.Tests[0].Objects})
	if err != nil {
		b.Fatal(err)
	}
	cases := c.Tests[0].Cases
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		one := &cases[i%len(cases)]
		g.Ask(one.Identity, one.Request)
	}
}
