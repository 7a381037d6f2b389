package dryrun

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy/policytest"
)

// watching keeps what it observes.
type watching struct{ seen []*extauthz.Observation }

func (w *watching) Wants() bool                     { return true }
func (w *watching) Observe(o *extauthz.Observation) { w.seen = append(w.seen, o) }
func (w *watching) last(t *testing.T) (line []byte) {
	t.Helper()
	r := NewRecording(w.seen[len(w.seen)-1], 1<<10)
	line, err := r.Line()
	if err != nil {
		t.Fatal(err)
	}
	return line
}

const someProvider = `apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: idp}
spec: {issuer: "https://auth.example.com", audiences: [langgraph]}
`

// documents writes manifests to a file, and the provider beside them.
func documents(t *testing.T, docs ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(name, []byte(strings.Join(append(docs, someProvider), "\n---\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestRecordsReplayedSayWhatShadowSaid asks a server with Shadow policies, records the requests as serve does, and has each
// Shadow policy, as another version of the manifests, decide the records.
func TestRecordsReplayedSayWhatShadowSaid(t *testing.T) {
	text, err := os.ReadFile("../testdata/shadow.yaml")
	if err != nil {
		t.Fatal(err)
	}
	docs := strings.Split(string(text), "\n---\n")
	const thread = "11111111-1111-4111-8111-111111111111"
	objects := []policytest.Object{{Resource: "threads", ID: thread, Metadata: map[string]any{"owner": "alice"}}}
	all := compile(t, documents(t, docs...))
	g, err := New(Config{Policies: all.Snapshot, Providers: all.Providers, Backends: all.Backends, Objects: objects})
	if err != nil {
		t.Fatal(err)
	}
	lookups, err := g.lookups()
	if err != nil {
		t.Fatal(err)
	}
	state, err := extauthz.NewState(all.Snapshot, map[string]token.Verifier{"idp": verifier{g, "idp"}}, lookups)
	if err != nil {
		t.Fatal(err)
	}
	user := func(name string, permissions ...string) policytest.Identity {
		return policytest.Identity{Name: name + strings.Join(permissions, ""), Provider: "idp", User: &policytest.User{Identity: name, Permissions: permissions}}
	}
	alice, reader, bob, nobody := user("alice", "threads:write"), user("alice"), user("bob", "threads:write"), policytest.Identity{Name: "nobody", Anonymous: true}
	replayed := 0
	for _, one := range []struct {
		name   string
		who    policytest.Identity
		method string
		path   string
		body   string
	}{
		{"a create", alice, "POST", "/threads", `{}`},
		{"a create without the scope", reader, "POST", "/threads", `{"metadata": {"n": 9007199254740993}}`},
		{"a read", alice, "GET", "/threads/" + thread, ""},
		{"another's thread", bob, "GET", "/threads/" + thread, ""},
		{"without a rule", alice, "POST", "/assistants/search", `{}`},
		{"a search", alice, "POST", "/threads/search", `{"limit": 5}`},
		{"without a token", nobody, "GET", "/threads/" + thread, ""},
		{"a public route", nobody, "GET", "/ok", ""},
		{"no route", alice, "GET", "/none", ""},
	} {
		t.Run(one.name, func(t *testing.T) {
			seen := &watching{}
			server := extauthz.New(extauthz.Options{Observer: seen})
			server.Swap(state)
			r := policytest.Request{Method: one.method, Path: one.path, Host: "agents.test", Headers: map[string]string{"content-type": "application/json"}}
			if one.body != "" {
				r.Body = []byte(one.body)
			}
			sent := g.arrive(g.token(one.who), r)
			if _, err := server.Check(context.Background(), sent.check()); err != nil {
				t.Fatal(err)
			}
			server.WaitShadows()
			said := map[string]extauthz.Difference{}
			for count := range server.ShadowCounts() {
				said[count.Policy] = count.Difference
			}
			line := seen.last(t)
			record, err := ParseRecord(line)
			if err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			now := compile(t, documents(t, docs[0]))
			for _, doc := range docs[1:] {
				next := compile(t, documents(t, strings.Replace(doc, "mode: Shadow", "mode: Enforce", 1)))
				name := next.Snapshot.Policies()[0].Name
				v := Versions{
					A: Config{Policies: now.Snapshot, Providers: now.Providers, Backends: now.Backends},
					B: Config{Policies: next.Snapshot, Providers: next.Providers, Backends: next.Backends},
				}
				got, err := v.Replay(&record)
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case !got.Replayed:
					t.Logf("%s: not replayed: %s", name, got.Why)
				case got.Difference != said[name]:
					t.Errorf("%s: replayed it is %s, and Shadow said %s: %s", name, got.Difference, said[name], line)
				default:
					replayed++
				}
			}
		})
	}
	if replayed < 30 {
		t.Errorf("%d of 36 were replayed", replayed)
	}
}

// TestARecordHoldsNoCredential, wherever it stands in a request.
func TestARecordHoldsNoCredential(t *testing.T) {
	c := compile(t, example+"policy.yaml")
	g, err := New(Config{Policies: c.Snapshot, Providers: c.Providers, Backends: c.Backends})
	if err != nil {
		t.Fatal(err)
	}
	lookups, err := g.lookups()
	if err != nil {
		t.Fatal(err)
	}
	state, err := extauthz.NewState(c.Snapshot, map[string]token.Verifier{"company": verifier{g, "company"}}, lookups)
	if err != nil {
		t.Fatal(err)
	}
	seen := &watching{}
	server := extauthz.New(extauthz.Options{Observer: seen})
	server.Swap(state)
	who := policytest.Identity{Name: "alice", Provider: "company", User: &policytest.User{
		Identity: "alice", Permissions: []string{"threads:write"}, Claims: map[string]any{"nested": "eyJhbGciOiJub25lIn0.eyJodXNoIjoxfQ.hush00000000"},
	}}
	bearer := g.token(who)
	sent := g.arrive(bearer, policytest.Request{
		Method: "POST", Host: "agents.example.com", Path: "/threads?access_token=hush-in-query1&%61ccess_token=hush-in-query2&x=hush3hush3hush3hush3hush3&copy=" + bearer + "&limit=5",
		Headers: map[string]string{
			"content-type": "application/json", "cookie": "sid=hush-in-cookie", "x-api-key": "hush-key", "x-my-thing": "9f8e7d6c5b4a39281706f5e4hush", "X-Custom": "eyJhbGciOiJub25lIn0.eyJodXNoIjoxfQ.hush",
			"referer": "https://chat.example.com/?access_token=hush-in-referer", "x-copy": "Bearer " + bearer, "x-request-id": "11111111-1111-4111-8111-111111111111", "x-plan": "gold",
			"x-quoting": "the key is hush-key of alice",
		},
		Body: []byte(`{"metadata": {"copy": "` + bearer + `", "api_key": "hush-in-body", "pass\u0077ord": "hush-in-body2", "client_secret" : "a\"hush", "max_tokens": 5, "note": "sid hush-in-cookie"}}`),
	})
	check := sent.check()
	check.GetAttributes().GetRequest().GetHttp().HeaderMap.Headers = append(check.GetAttributes().GetRequest().GetHttp().HeaderMap.Headers,
		&corev3.HeaderValue{Key: "X-Auth_Token", RawValue: []byte("hush-odd")}, &corev3.HeaderValue{Key: "x-binary", RawValue: []byte("\xff\xfe\x1b[2J")})
	if _, err := server.Check(context.Background(), check); err != nil {
		t.Fatal(err)
	}
	line := string(seen.last(t))
	for _, secret := range []string{"hush", bearer} {
		if i := strings.Index(line, secret); i >= 0 {
			t.Errorf("%q is in the record: ...%s", secret, line[max(0, i-80):min(len(line), i+80)])
		}
	}
	for _, kept := range []string{"gold", "11111111-1111-4111-8111-111111111111", "limit=5", `\"max_tokens\": 5`} {
		if !strings.Contains(line, kept) {
			t.Errorf("%q is not in the record: %s", kept, line)
		}
	}
	if strings.Count(line, "\n") != 1 || strings.Contains(line, "\x1b") {
		t.Errorf("not one line: %q", line)
	}
	if r, err := ParseRecord([]byte(line)); err != nil || len(r.Missing) == 0 {
		t.Errorf("%+v, %v: what is hidden is missing", r.Missing, err)
	}
}
