package e2e_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

// The hosts of revocationManifests: what their policies do while the list cannot be read.
const (
	denyHost  = "deny.test"
	allowHost = "allow.test"
)

const revocationIssuer = "https://idp.example.com"

// revocationManifests has the list's server for REDIS, the provider's keys for KEYS and the backend for BACKEND.
const revocationManifests = `
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: idp}
spec:
  issuer: ` + revocationIssuer + `
  audiences: [api]
  jwt: {keys: KEYS}
  revocation:
    redis: REDIS
    backChannelLogout: {clientIDs: [chat]}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: deny}
spec:
  hosts: [deny.test, "127.0.0.1"]
  providers: [idp]
  api: {routes: [{method: GET, path: /ok, public: true}, {method: GET, path: /me, on: "me:read"}]}
  backend: {url: "BACKEND"}
  rules: [{on: "me:read", allow: "true"}]
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: allow}
spec:
  hosts: [allow.test]
  providers: [idp]
  revocation: {onUnavailable: Allow}
  api: {routes: [{method: GET, path: /me, on: "me:read"}]}
  backend: {url: "BACKEND"}
  rules: [{on: "me:read", allow: "true"}]
`

// revoking is a list's server, a provider of which the test has the keys, and an usher that follows the list.
type revoking struct {
	redis *stack.Redis
	idp   *tokentest.Provider
	usher *stack.Gate
	check authv3.AuthorizationClient

	manifests func(redis string) string
}

// beginRevoking is begin for tests of which several run at a time: most of their time they wait.
func beginRevoking(t *testing.T) context.Context {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// name makes a name of log files of a test's.
func name(t *testing.T) string {
	return strings.NewReplacer("/", "-").Replace(strings.TrimPrefix(t.Name(), "Test"))
}

// newRedis starts a list's server.
func newRedis(ctx context.Context, t *testing.T, o stack.RedisOptions) *stack.Redis {
	t.Helper()
	r, err := parts.NewRedis(ctx, name(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r
}

// revoke starts an usher that follows the list of a server, which may not run. The text is the manifest's redis.
func revoke(ctx context.Context, t *testing.T, server *stack.Redis, text string, more ...string) *revoking {
	t.Helper()
	r := &revoking{redis: server, idp: tokentest.New(revocationIssuer, tokentest.NewKey("k1", "ES256"))}
	r.manifests = func(redis string) string {
		return strings.NewReplacer("REDIS", redis, "KEYS", string(r.idp.Set()), "BACKEND", "http://127.0.0.1:1").Replace(revocationManifests) + strings.Join(more, "")
	}
	r.usher, r.check = startRevoking(ctx, t, name(t), r.manifests(text))
	return r
}

// startRevoking starts an usher without an Envoy, and a client of it.
func startRevoking(ctx context.Context, t *testing.T, name, manifests string) (*stack.Gate, authv3.AuthorizationClient) {
	t.Helper()
	g, err := parts.NewUsher(ctx, name, stack.GateOptions{Manifests: manifests})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Usher.Stop)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("\n" + g.Usher.Tail())
		}
	})
	conn, err := grpc.NewClient(g.GRPC(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return g, authv3.NewAuthorizationClient(conn)
}

// plainly is the manifest's redis for a server without passwords.
func plainly(r *stack.Redis) string { return fmt.Sprintf("{url: %q}", "redis://"+r.Address+"/0") }

// ask sends one check, as Envoy does, and returns the status of its answer, 200 for one that lets pass.
func (r *revoking) ask(ctx context.Context, t *testing.T, host, token string) *authv3.CheckResponse {
	t.Helper()
	return check(ctx, t, r.check, host, token)
}

func check(ctx context.Context, t *testing.T, c authv3.AuthorizationClient, host, token string) *authv3.CheckResponse {
	t.Helper()
	answer, err := c.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: http.MethodGet, Path: "/me", Host: host, Scheme: "https", Protocol: "HTTP/1.1",
			HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: "authorization", RawValue: []byte("Bearer " + token)}}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func statusOf(r *authv3.CheckResponse) int {
	if r.GetOkResponse() != nil && r.GetStatus().GetCode() == 0 {
		return http.StatusOK
	}
	return int(r.GetDeniedResponse().GetStatus().GetCode())
}

func headerOf(r *authv3.CheckResponse, name string) string {
	for _, h := range r.GetDeniedResponse().GetHeaders() {
		if strings.EqualFold(h.GetHeader().GetKey(), name) {
			return h.GetHeader().GetValue() + string(h.GetHeader().GetRawValue())
		}
	}
	return ""
}

// want asks once.
func (r *revoking) want(ctx context.Context, t *testing.T, status int, host, token string) {
	t.Helper()
	answer := r.ask(ctx, t, host, token)
	if got := statusOf(answer); got != status {
		t.Errorf("%s: got %d, want %d: %s", host, got, status, answer.GetDeniedResponse().GetBody())
	}
}

// become asks until the status is this one, and returns how long that took. Nothing but the others may come before.
func (r *revoking) become(ctx context.Context, t *testing.T, limit time.Duration, status int, host, token string, others ...int) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		answer := r.ask(ctx, t, host, token)
		got := statusOf(answer)
		if got == status {
			return time.Since(begin)
		}
		known := false
		for _, o := range others {
			known = known || got == o
		}
		if !known || time.Since(begin) > limit {
			t.Fatalf("%s: got %d after %v, want %d within %v: %s", host, got, time.Since(begin), status, limit, answer.GetDeniedResponse().GetBody())
		}
		time.Sleep(time.Millisecond)
	}
}

// do sends the list's server a command that must succeed.
func (r *revoking) do(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	answer, err := r.redis.Do(ctx, args...)
	if err != nil {
		t.Fatalf("%s: %v", args[0], err)
	}
	return answer
}

// revocationBase is the list's name on the server: of its channel, and of its keys before the colon.
func revocationBase(issuer string) string {
	sum := sha256.Sum256([]byte(issuer))
	return "usher:revoked:" + hex.EncodeToString(sum[:])
}

// put writes an entry and says so.
func (r *revoking) put(ctx context.Context, t *testing.T, suffix, value string) {
	t.Helper()
	base := revocationBase(revocationIssuer)
	r.do(ctx, t, "SET", base+":"+suffix, value, "EX", "600")
	r.do(ctx, t, "PUBLISH", base, suffix)
}

// status is the list's part of /readyz, and whether usher is ready.
func (r *revoking) status(ctx context.Context, t *testing.T) (s listStatus, ready bool) {
	t.Helper()
	answer, err := askAt(ctx, oauthClient, r.usher.UsherAdmin, "/readyz", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var page struct {
		Ready     bool
		Providers map[string]struct{ Revocation listStatus }
	}
	if err := json.Unmarshal([]byte(answer.body), &page); err != nil {
		t.Fatalf("/readyz: %v: %s", err, answer.body)
	}
	if page.Ready != (answer.status == http.StatusOK) {
		t.Errorf("/readyz is %d, and says ready: %v", answer.status, page.Ready)
	}
	return page.Providers["idp"].Revocation, page.Ready
}

type listStatus struct {
	Connected, Full bool
	Entries         int
	Problem         string
}

// connected waits until the list is followed.
func (r *revoking) connected(ctx context.Context, t *testing.T) {
	t.Helper()
	r.until(ctx, t, func(s listStatus) bool { return s.Connected })
}

func (r *revoking) until(ctx context.Context, t *testing.T, good func(listStatus) bool) listStatus {
	t.Helper()
	for {
		s, _ := r.status(ctx, t)
		if good(s) {
			return s
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the list is still %+v", s)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// atOnce is how long a revocation may take; it is mostly less than a millisecond, but the machine may be busy. Without its message it
// would take up to a minute.
const atOnce = 10 * time.Second

func TestARevocationTakesEffectAtOnceThoughTheTokenIsWarm(t *testing.T) {
	ctx := beginRevoking(t)
	server := newRedis(ctx, t, stack.RedisOptions{})
	r := revoke(ctx, t, server, plainly(server))
	r.connected(ctx, t)
	now := time.Now().Unix()
	claims := func(user string, change tokentest.Claims) string {
		return r.idp.Mint(tokentest.Claims{"sub": user, "jti": user + "-1", "sid": user + "-session"}, change)
	}
	for _, c := range []struct {
		entry, value string
		refused      []string
		good         []string
	}{
		{"jti:a-1", "", []string{claims("a", nil)}, []string{claims("a", tokentest.Claims{"jti": "a-2"}), claims("b", nil)}},
		{"sid:c-session", "", []string{claims("c", nil), claims("c", tokentest.Claims{"jti": "c-2"})}, []string{claims("c", tokentest.Claims{"sid": "other"}), claims("d", nil)}},
		{"sub:e", strconv.FormatInt(now-60, 10),
			[]string{claims("e", tokentest.Claims{"iat": now - 60}), claims("e", tokentest.Claims{"iat": now - 61, "sid": nil}), claims("e", tokentest.Claims{"iat": nil})},
			[]string{claims("e", tokentest.Claims{"iat": now - 59}), claims("f", nil)}},
		{"sub:g", "all", []string{claims("g", tokentest.Claims{"iat": now + 5})}, []string{claims("h", nil)}},
		{"jti:" + strings.Repeat("ü*? ", 1000), "", []string{claims("i", tokentest.Claims{"jti": strings.Repeat("ü*? ", 1000)})}, []string{claims("i", nil)}},
	} {
		t.Run(c.entry[:min(len(c.entry), 10)], func(t *testing.T) {
			for range 2 { // cold, warm
				for _, token := range append(c.refused, c.good...) {
					r.want(ctx, t, http.StatusOK, denyHost, token)
					r.want(ctx, t, http.StatusOK, allowHost, token)
				}
			}
			r.put(ctx, t, c.entry, c.value)
			took := r.become(ctx, t, atOnce, http.StatusUnauthorized, denyHost, c.refused[0], http.StatusOK)
			t.Logf("the first refusal came %v after the message", took)
			for _, token := range c.refused {
				answer := r.ask(ctx, t, allowHost, token)
				if got, challenge := statusOf(answer), headerOf(answer, "WWW-Authenticate"); got != 401 || !strings.Contains(challenge, `error="invalid_token"`) {
					t.Errorf("got %d, %q", got, challenge)
				}
			}
			for _, token := range c.good {
				r.want(ctx, t, http.StatusOK, denyHost, token)
			}

			base := revocationBase(revocationIssuer)
			r.do(ctx, t, "DEL", base+":"+c.entry)
			r.do(ctx, t, "PUBLISH", base, c.entry)
			r.become(ctx, t, atOnce, http.StatusOK, denyHost, c.refused[0], http.StatusUnauthorized)
		})
	}
	if s, ready := r.status(ctx, t); !ready || s.Entries != 0 || !s.Connected || s.Problem != "" {
		t.Errorf("ready %v, and the list is %+v", ready, s)
	}
}

// TestTheDocumentedCommands runs those of docs/revocation.md.
func TestTheDocumentedCommandsRevokeAUser(t *testing.T) {
	ctx := beginRevoking(t)
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "revocation.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, commands, _ := strings.Cut(string(page), "```sh\n")
	commands, _, found := strings.Cut(commands, "```")
	if !found || !strings.Contains(commands, "redis-cli PUBLISH") {
		t.Fatal("the page has no commands")
	}
	server := newRedis(ctx, t, stack.RedisOptions{})
	r := revoke(ctx, t, server, plainly(server))
	r.connected(ctx, t)
	warm, later := r.idp.Mint(), r.idp.Mint(tokentest.Claims{"iat": time.Now().Add(25 * time.Second).Unix()})
	r.want(ctx, t, http.StatusOK, denyHost, warm)

	_, port, _ := strings.Cut(server.Address, ":")
	script := "set -eu\nredis-cli() { " + server.CLI + " -p " + port + " \"$@\"; }\n" +
		strings.ReplaceAll(commands, "https://auth.example.com/realms/agents", revocationIssuer)
	out, err := exec.CommandContext(ctx, "bash", "-c", script).CombinedOutput()
	if err != nil || string(out) != "OK\n1\n" {
		t.Fatalf("%v: %s", err, out)
	}
	r.become(ctx, t, atOnce, http.StatusUnauthorized, denyHost, warm, http.StatusOK)
	r.want(ctx, t, http.StatusOK, denyHost, later)
}

func TestARevokedTokenIsRefusedThroughEnvoy(t *testing.T) {
	ctx := beginRevoking(t)
	server := newRedis(ctx, t, stack.RedisOptions{})
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }))
	t.Cleanup(backend.Close)
	r := &revoking{redis: server, idp: tokentest.New(revocationIssuer, tokentest.NewKey("k1", "ES256"))}
	gate, err := parts.NewGateAs(ctx, name(t), stack.GateOptions{
		Manifests: strings.NewReplacer("REDIS", plainly(server), "KEYS", string(r.idp.Set()), "BACKEND", backend.URL).Replace(revocationManifests),
		EnvoyArgs: []string{"--check-timeout=5s"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gate.Usher.Stop)
	t.Cleanup(gate.Envoy.Stop)
	token := r.idp.Mint(tokentest.Claims{"jti": "one"})
	me := func() (reply, error) {
		return askMe(ctx, oauthClient, gate.URL, denyHost, http.Header{"Authorization": {"Bearer " + token}})
	}
	if got, err := me(); err != nil || got.status != 200 || got.body != "here" {
		t.Fatalf("%v %+v", err, got)
	}
	r.put(ctx, t, "jti:one", "")
	got := until(ctx, t, http.StatusUnauthorized, me, http.StatusOK)
	if c := got.header.Get("WWW-Authenticate"); !strings.HasPrefix(c, "Bearer ") || !strings.Contains(c, `error="invalid_token", error_description="The access token was revoked."`) {
		t.Errorf("the challenge is %q", c)
	}
}
