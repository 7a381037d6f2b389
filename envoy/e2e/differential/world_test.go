package differential_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// side is one of the two: the server that decides itself, or the gate before the one that decides nothing.
type side struct {
	name    string
	url     string // where the users ask
	backend string // where the operator asks
	ask     func(r *http.Request, user string, policy int)
	admit   func(r *http.Request) // as the operator

	ids     map[string]string // of a symbol, where it is not the client's choice
	symbols map[string]string // of an id
}

// world is both sides with the policies that they know.
type world struct {
	server, usher *side
}

const issuer = "https://auth.test"

// client keeps no connection for as long as Node does, 5 s: a request that meets its end is an error, unless it can be sent again.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 2 * time.Second}}

// start runs two LangGraph servers and a gate before one of them.
func start(ctx context.Context, t *testing.T, policies []policy) *world {
	t.Helper()
	s, err := stack.New(stack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("\n" + s.Tails("usher", "envoy"))
		}
	})
	failed := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	failed(s.Build(ctx, false))
	own, err := s.FreeURL()
	failed(err)
	bare, err := s.FreeURL()
	failed(err)

	operator := rand.Text()
	text, err := json.Marshal(policies)
	failed(err)
	file := filepath.Join(s.Dir, "policies.json")
	failed(os.WriteFile(file, text, 0o600))
	may, err := json.Marshal(permissions)
	failed(err)
	quick := "DEMO_WORD_PAUSE_MS=0"
	_, err = s.NewLangGraph(ctx, "own", own, "differential.mjs", quick,
		"DIFFERENTIAL_POLICIES="+file, "DIFFERENTIAL_PERMISSIONS="+string(may), "DIFFERENTIAL_OPERATOR="+operator)
	failed(err)
	_, err = s.NewLangGraph(ctx, "bare", bare, "", quick)
	failed(err)

	secret := rand.Text() + rand.Text()
	objects := []any{map[string]any{
		"apiVersion": "usher.dev/v1alpha1", "kind": "IdentityProvider", "metadata": map[string]any{"name": "users"},
		"spec": map[string]any{
			"issuer": issuer, "audiences": []any{"langgraph"}, "jwt": map[string]any{"sharedSecret": secret},
			"identity": map[string]any{"permissions": "claims.permissions"},
		},
	}}
	for i, p := range policies {
		objects = append(objects, p.manifest(fmt.Sprintf("p%d", i), host(i), bare))
	}
	var manifests bytes.Buffer
	for _, o := range objects {
		b, err := json.MarshalIndent(o, "", "  ")
		failed(err)
		manifests.WriteString("---\n")
		manifests.Write(b)
		manifests.WriteByte('\n')
	}
	gate, err := s.NewGateAs(ctx, "differential", stack.GateOptions{
		Manifests: manifests.String(),
		Ping: func(ctx context.Context, g *stack.Gate) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL+"/ok", nil)
			if err != nil {
				return err
			}
			req.Host = host(0)
			res, err := client.Do(req)
			if err != nil {
				return err
			}
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("status %s", res.Status)
			}
			return nil
		},
	})
	failed(err)

	tokens := map[string]string{}
	for _, u := range users {
		tokens[u] = token(u, secret)
	}
	return &world{
		server: &side{
			name: "server", url: own, backend: own,
			ask: func(r *http.Request, user string, policy int) {
				r.Header.Set("Authorization", "Bearer "+user)
				r.Header.Set("Policy-Number", fmt.Sprint(policy))
			},
			admit: func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+operator) },
		},
		usher: &side{
			name: "usher", url: gate.URL, backend: bare,
			ask: func(r *http.Request, user string, policy int) {
				r.Header.Set("Authorization", "Bearer "+tokens[user])
				r.Host = host(policy)
			},
			admit: func(*http.Request) {},
		},
	}
}

func host(policy int) string { return fmt.Sprintf("p%d.test", policy) }

// token signs with the secret that the policies' provider shares (RFC 7518, section 3.2).
func token(user, secret string) string {
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	now := time.Now()
	input := part(map[string]any{"alg": "HS256", "typ": "JWT"}) + "." + part(map[string]any{
		"iss": issuer, "aud": "langgraph", "sub": user, "permissions": permissions[user], "iat": now.Unix(), "exp": now.Add(3 * time.Hour).Unix(),
	})
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

type answer struct {
	status int
	stream bool
	body   []byte
}

func (a answer) good() bool { return a.status >= 200 && a.status < 300 }

// send asks as a user. Where Usher could not look something up in time, which happens on a busy machine, it asks again.
func (s *side) send(ctx context.Context, q request, policy int, seed string) (answer, error) {
	for {
		a, retry, err := s.do(ctx, s.url, q.method, s.fill(q.path, seed), q.body, seed, func(r *http.Request) { s.ask(r, q.user, policy) })
		if err != nil || a.status != http.StatusServiceUnavailable || !retry {
			return a, err
		}
		select {
		case <-ctx.Done():
			return a, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// operate asks the LangGraph server itself, for everybody's things.
func (s *side) operate(ctx context.Context, method, path string, body any) (answer, error) {
	a, _, err := s.do(ctx, s.backend, method, path, body, "", s.admit)
	return a, err
}

func (s *side) do(ctx context.Context, base, method, path string, body any, seed string, dress func(*http.Request)) (a answer, retry bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return a, false, err
		}
		reader = bytes.NewReader([]byte(s.fill(string(b), seed)))
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, reader)
	if err != nil {
		return a, false, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	dress(req)
	res, err := client.Do(req)
	if err != nil {
		return a, false, fmt.Errorf("%s: %w", s.name, err)
	}
	defer res.Body.Close()
	a.status, a.stream = res.StatusCode, res.Header.Get("Content-Type") == "text/event-stream"
	if a.body, err = io.ReadAll(res.Body); err != nil {
		return a, false, fmt.Errorf("%s: %s %s: %w", s.name, method, path, err)
	}
	return a, res.Header.Get("Retry-After") != "", nil
}
