package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// Who Envoy and Usher are to each other.
const (
	usherID = "spiffe://mesh.test/ns/usher/sa/usher"
	envoyID = "spiffe://mesh.test/ns/edge/sa/envoy"
)

// mutual is an usher that serves whoever has a certificate for envoyID. Its authority is usherCA, that of Envoy is envoyCA.
type mutual struct {
	*stack.Gate
	usherCA, envoyCA *stack.Authority
	dir              string // of Usher's certificate
}

func newAuthority(t *testing.T, name string) *stack.Authority {
	t.Helper()
	a, err := stack.NewAuthority(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *stack.Authority, names ...string) stack.Pair {
	t.Helper()
	p, err := a.Issue(names...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// place puts files into a directory.
type place func(dir string, files map[string][]byte) error

func (p place) into(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	if err := p(dir, files); err != nil {
		t.Fatal(err)
	}
}

// startMutual starts an usher with this certificate before the recorder. By default it is a good one.
func startMutual(ctx context.Context, t *testing.T, name string, put place, certificate func(*mutual) stack.Pair, usherArgs ...string) *mutual {
	t.Helper()
	m := &mutual{usherCA: newAuthority(t, "usher's"), envoyCA: newAuthority(t, "envoy's"), dir: t.TempDir()}
	pair := issue(t, m.usherCA, usherID)
	if certificate != nil {
		pair = certificate(m)
	}
	put.into(t, m.dir, pair.Files(m.envoyCA))
	text, err := parts.Manifests(recorded.URL)
	if err != nil {
		t.Fatal(err)
	}
	m.Gate, err = parts.NewUsher(ctx, name, stack.GateOptions{Manifests: text, UsherArgs: append([]string{
		"--grpc-tls-cert", filepath.Join(m.dir, "tls.crt"), "--grpc-tls-key", filepath.Join(m.dir, "tls.key"),
		"--grpc-client-ca", filepath.Join(m.dir, "ca.crt"), "--grpc-client-san", envoyID,
	}, usherArgs...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Usher.Stop)
	return m
}

// envoyArgs are what `usher envoy` is told of an Envoy whose certificate is in that directory, or will be.
func envoyArgs(dir string) []string {
	args := []string{"--check-timeout=5s", "--usher-tls-san", usherID, "--usher-tls-ca-file", filepath.Join(dir, "ca.crt")}
	_, noCA := os.Lstat(filepath.Join(dir, "ca.crt"))
	if _, err := os.Lstat(filepath.Join(dir, "tls.crt")); err == nil || noCA != nil {
		args = append(args, "--usher-tls-certificate-file", filepath.Join(dir, "tls.crt"), "--usher-tls-key-file", filepath.Join(dir, "tls.key"))
	}
	return args
}

// envoy starts an Envoy whose certificate is in that directory. It is ready when a public route is answered so.
func (m *mutual) envoy(ctx context.Context, t *testing.T, name, dir string, status int, edit func(map[string]any) error) *stack.Gate {
	t.Helper()
	g := *m.Gate
	g.EnvoyArgs = envoyArgs(dir)
	g.Ping = func(ctx context.Context, g *stack.Gate) error {
		r, err := askAt(ctx, client, g.URL, "/ok", "", nil)
		if err == nil && r.status != status {
			err = fmt.Errorf("%d %s", r.status, r.body)
		}
		return err
	}
	with, err := g.WithEnvoy(ctx, name, edit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(with.Envoy.Stop)
	return with
}

// The gate works as it does without TLS.
func TestMTLSEnvoyAndUsherKnowEachOtherBySPIFFEIDs(t *testing.T) {
	ctx := begin(t)
	m := startMutual(ctx, t, "mtls", stack.ReplaceFiles, nil)
	dir := t.TempDir()
	place(stack.ReplaceFiles).into(t, dir, issue(t, m.envoyCA, envoyID).Files(m.usherCA))
	g := m.envoy(ctx, t, "mtls", dir, http.StatusOK, nil)
	thread := newThread(ctx, t, alice, nil)
	for _, c := range []struct {
		name   string
		status int
		call
	}{
		{"Alice", http.StatusOK, call{method: "GET", path: "/threads/" + thread, token: alice}},
		{"Bob", http.StatusNotFound, call{method: "GET", path: "/threads/" + thread, token: bob}},
		{"nobody", http.StatusUnauthorized, call{method: "GET", path: "/threads/" + thread}},
		{"no token", http.StatusUnauthorized, call{method: "GET", path: "/threads/" + thread, token: "a.b.c"}},
		{"a public route", http.StatusOK, call{method: "GET", path: "/ok"}},
		{"an edit", http.StatusOK, call{method: "POST", path: "/threads", token: alice, body: `{"metadata":{"owner":"bob"}}`}},
	} {
		want(ctx, t, g, c.status, c.call)
	}
	if err := untilServing(ctx, g, 1); err != nil { // Envoy asks for its health over the same TLS
		t.Error(err)
	}
	if n := statistic(ctx, t, g, "cluster.usher.ssl.versions.TLSv1.3"); n == 0 {
		t.Error("no connection of TLS 1.3")
	}
}

// shut asks through a gate that must not open: whatever is asked is 503, and the backend gets none of it.
func shut(ctx context.Context, t *testing.T, g *stack.Gate, thread string) {
	t.Helper()
	for _, c := range []call{
		{method: "GET", path: "/threads/" + thread, token: alice},
		{method: "POST", path: "/threads", token: alice, body: `{}`},
		{method: "GET", path: "/threads/" + thread},
		{method: "GET", path: "/ok"},
	} {
		c.header = marking(t.Name())
		want(ctx, t, g, http.StatusServiceUnavailable, c)
	}
	if n := len(recorded.marked(t.Name())); n != 0 {
		t.Errorf("the backend got %d requests", n)
	}
	// What is seen of it: no answer of Usher is an error of the check.
	logs(ctx, t, g.Envoy, `"details":"ext_authz_error","flags":"UAEX"`)
}

// logs waits until a part has written this.
func logs(ctx context.Context, t *testing.T, p *stack.Part, text string) {
	t.Helper()
	if err := stack.Poll(ctx, func() error {
		if !strings.Contains(p.Log(), text) {
			return errors.New("not yet")
		}
		return nil
	}); err != nil {
		t.Errorf("%s never wrote %q: %v\n%s", p.Name, text, err, p.Tail())
	}
}

func TestMTLSUsherRefusesEnvoysThatItDoesNotKnow(t *testing.T) {
	ctx := begin(t)
	m := startMutual(ctx, t, "mtls-clients", stack.ReplaceFiles, nil)
	thread := newThread(ctx, t, alice, nil)
	stranger := newAuthority(t, "a stranger's")
	expired, err := m.envoyCA.IssueExpired(envoyID)
	if err != nil {
		t.Fatal(err)
	}
	good := issue(t, m.envoyCA, envoyID)
	for _, c := range []struct {
		name string
		pair stack.Pair // zero: none
		logs string
	}{
		{"another id", issue(t, m.envoyCA, "spiffe://mesh.test/ns/edge/sa/other"), "spiffe://mesh.test/ns/edge/sa/other"},
		{"an id that begins so", issue(t, m.envoyCA, envoyID+"/more"), envoyID + "/more"},
		{"another authority", issue(t, stranger, envoyID), "certificate signed by unknown authority"},
		{"an expired certificate", expired, "certificate has expired"},
		{"no certificate", stack.Pair{}, "client didn't provide a certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			files := c.pair.Files(m.usherCA)
			if c.pair.Certificate == nil {
				delete(files, "tls.crt")
				delete(files, "tls.key")
			}
			place(stack.ReplaceFiles).into(t, dir, files)
			g := m.envoy(ctx, t, "mtls-"+strings.ReplaceAll(c.name, " ", "-"), dir, http.StatusServiceUnavailable, nil)
			logs(ctx, t, m.Usher, c.logs)
			shut(ctx, t, g, thread)
			if c.pair.Certificate == nil {
				return
			}
			// It was for the certificate: with a good one, read again, the same Envoy is let in.
			place(stack.ReplaceFiles).into(t, dir, good.Files(m.usherCA))
			until(ctx, t, http.StatusOK, func() (reply, error) {
				return askAt(ctx, client, g.URL, "/threads/"+thread, "", http.Header{"Authorization": {"Bearer " + alice}})
			}, http.StatusServiceUnavailable)
		})
	}
}

// Until its files are there, nothing gets through Envoy. A certificate that comes late is read then; an authority is, once the
// file that names it is written anew.
func TestMTLSEnvoyWithoutItsCertificatesIsShut(t *testing.T) {
	ctx := begin(t)
	m := startMutual(ctx, t, "mtls-late", stack.ReplaceFiles, nil)
	dir := t.TempDir()
	g := m.envoy(ctx, t, "mtls-late", dir, http.StatusServiceUnavailable, nil)
	shut(ctx, t, g, newThread(ctx, t, alice, nil))
	logs(ctx, t, g.Envoy, "Filesystem config update rejected: Invalid path")
	place(stack.ReplaceFiles).into(t, dir, issue(t, m.envoyCA, envoyID).Files(m.usherCA))
	beside := filepath.Join(parts.Dir, "envoy-mtls-late")
	text, err := os.ReadFile(filepath.Join(beside, "usher-authority.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	place(stack.ReplaceFiles).into(t, beside, map[string][]byte{"usher-authority.yaml": text})
	until(ctx, t, http.StatusOK, func() (reply, error) { return askAt(ctx, client, g.URL, "/ok", "", nil) }, http.StatusServiceUnavailable)
}

func TestMTLSEnvoyRefusesUshersThatItDoesNotKnow(t *testing.T) {
	ctx := begin(t)
	thread := newThread(ctx, t, alice, nil)
	for _, c := range []struct {
		name, statistic string
		certificate     func(*mutual) stack.Pair
	}{
		{"another id", "fail_verify_san", func(m *mutual) stack.Pair { return issue(t, m.usherCA, "spiffe://mesh.test/ns/usher/sa/other") }},
		{"an id as a DNS name", "fail_verify_san", func(m *mutual) stack.Pair { return issue(t, m.usherCA, "mesh.test") }},
		{"another authority", "fail_verify_error", func(*mutual) stack.Pair { return issue(t, newAuthority(t, "a stranger's"), usherID) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := "mtls-usher-" + strings.ReplaceAll(c.name, " ", "-")
			m := startMutual(ctx, t, name, stack.ReplaceFiles, c.certificate)
			dir := t.TempDir()
			place(stack.ReplaceFiles).into(t, dir, issue(t, m.envoyCA, envoyID).Files(m.usherCA))
			g := m.envoy(ctx, t, name, dir, http.StatusServiceUnavailable, nil)
			if err := stack.Poll(ctx, func() error {
				if statistic(ctx, t, g, "cluster.usher.ssl."+c.statistic) == 0 {
					return errors.New("not yet")
				}
				return nil
			}); err != nil {
				t.Errorf("%s: %v", c.statistic, err)
			}
			shut(ctx, t, g, thread)
			logs(ctx, t, m.Usher, "remote error: tls:")
			place(stack.ReplaceFiles).into(t, m.dir, issue(t, m.usherCA, usherID).Files(m.envoyCA))
			until(ctx, t, http.StatusOK, func() (reply, error) {
				return askAt(ctx, client, g.URL, "/threads/"+thread, "", http.Header{"Authorization": {"Bearer " + alice}})
			}, http.StatusServiceUnavailable)
		})
	}
}
