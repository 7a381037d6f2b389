package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// statistic is one of Envoy's, 0 where there is none.
func statistic(ctx context.Context, t *testing.T, g *stack.Gate, name string) (n int) {
	t.Helper()
	r, err := askAt(ctx, client, g.EnvoyAdmin, "/stats?filter="+strings.ReplaceAll(name, ".", "%5C."), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(r.body) {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			if _, err := fmt.Sscan(value, &n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

// loaded are the serial numbers of what Envoy takes for connections to come: its own certificate, and its authorities.
func loaded(ctx context.Context, t *testing.T, g *stack.Gate) (serials []string) {
	t.Helper()
	r, err := askAt(ctx, client, g.EnvoyAdmin, "/certs", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Certificates []struct {
			CA []struct {
				Serial string `json:"serial_number"`
			} `json:"ca_cert"`
			Chain []struct {
				Serial string `json:"serial_number"`
			} `json:"cert_chain"`
		}
	}
	if err := json.Unmarshal([]byte(r.body), &all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all.Certificates {
		for _, one := range append(c.CA, c.Chain...) {
			serials = append(serials, one.Serial)
		}
	}
	return serials
}

// knock makes a connection to Usher with a certificate, and returns the one that Usher shows.
func (m *mutual) knock(ctx context.Context, shown stack.Pair) (*x509.Certificate, error) {
	pair, err := shown.TLS()
	if err != nil {
		return nil, err
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", m.GRPC())
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
		NextProtos:           []string{"h2"}, MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, //nolint:gosec // what is shown is looked at
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	// Whether Usher takes the certificate shows in its first bytes: the settings of HTTP/2, or an alert.
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err = conn.Read(make([]byte, 1))
	return conn.ConnectionState().PeerCertificates[0], err
}

// rotation is an Envoy and an usher whose certificates change while a crowd asks.
type rotation struct {
	*mutual
	gate        *stack.Gate
	crowd       *crowd
	put         place
	envoyDir    string
	usher, edge stack.Pair // in force
}

func eventually(ctx context.Context, t *testing.T, what string, f func() error) {
	t.Helper()
	if err := stack.Poll(ctx, f); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// serves waits until Usher shows its certificate to new connections.
func (r *rotation) serves(ctx context.Context, t *testing.T, knocker stack.Pair) {
	t.Helper()
	eventually(ctx, t, "usher's new certificate", func() error {
		c, err := r.knock(ctx, knocker)
		if err == nil && c.SerialNumber.Cmp(r.usher.Serial) != 0 {
			err = errors.New("the old one")
		}
		return err
	})
}

// takes waits until Envoy takes these for connections to come.
func (r *rotation) takes(ctx context.Context, t *testing.T, serials ...*big.Int) {
	t.Helper()
	eventually(ctx, t, "envoy's new certificates", func() error {
		have := loaded(ctx, t, r.gate)
		for _, s := range serials {
			if !strings.Contains(strings.Join(have, " "), s.Text(16)) {
				return fmt.Errorf("%v without %s", have, s.Text(16))
			}
		}
		return nil
	})
}

// renewed waits until every connection of now is gone, with some good answers over new ones.
func (r *rotation) renewed(ctx context.Context, t *testing.T) {
	t.Helper()
	const opened, ended = "cluster.usher.upstream_cx_total", "cluster.usher.upstream_cx_destroy"
	all := statistic(ctx, t, r.gate, opened)
	eventually(ctx, t, "new connections", func() error {
		if n, gone := statistic(ctx, t, r.gate, opened), statistic(ctx, t, r.gate, ended); n <= all || gone < all {
			return fmt.Errorf("of %d connections then %d are gone, and there were %d", all, gone, n)
		}
		return nil
	})
	r.crowd.passed(ctx, t, 20)
}

// Each side's certificate, and then each side's authority, is replaced while requests go on: not one fails, and what was
// taken away is out.
func TestMTLSCertificatesAndAuthoritiesAreReplacedUnderLoad(t *testing.T) {
	t.Run("files", func(t *testing.T) {
		rotate(beginFor(t, 5*time.Minute), t, "files", stack.ReplaceFiles, []string{"--grpc-max-connection-age", "1s"}, nil)
	})
	t.Run("secret", func(t *testing.T) {
		rotate(beginFor(t, 5*time.Minute), t, "secret", stack.MountFiles, nil, func(bootstrap map[string]any) error {
			return eachMap(bootstrap, "max_connection_duration", "1s")
		})
	})
}

// rotate replaces everything. Connections are renewed by Usher, or by Envoy.
func rotate(ctx context.Context, t *testing.T, name string, put place, usherArgs []string, edit func(map[string]any) error) {
	m := startMutual(ctx, t, "rotation-"+name, put, nil, usherArgs...)
	r := &rotation{mutual: m, put: put, envoyDir: t.TempDir(), edge: issue(t, m.envoyCA, envoyID)}
	put.into(t, r.envoyDir, r.edge.Files(m.usherCA))
	r.gate = m.envoy(ctx, t, "rotation-"+name, r.envoyDir, http.StatusOK, edit)
	thread := newThread(ctx, t, alice, nil)
	authorization := http.Header{"Authorization": {"Bearer " + alice}}
	asks := func(ctx context.Context, _ int) (reply, error) {
		for { // Usher says so where it could not look the thread up in time. Envoy's own 503 has no Retry-After.
			got, err := askAt(ctx, client, r.gate.URL, "/threads/"+thread, "", authorization)
			if err != nil || got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
				return got, err
			}
		}
	}
	until(ctx, t, http.StatusOK, func() (reply, error) { return asks(ctx, 0) }, http.StatusServiceUnavailable)
	r.crowd = newCrowd(ctx, asks)
	r.crowd.passed(ctx, t, 20)

	t.Log("the certificates, twice")
	for range 2 {
		r.usher = issue(t, m.usherCA, usherID)
		put.into(t, m.dir, r.usher.Files(m.envoyCA))
		r.serves(ctx, t, r.edge)
		r.renewed(ctx, t)
		r.edge = issue(t, m.envoyCA, envoyID)
		put.into(t, r.envoyDir, r.edge.Files(m.usherCA))
		r.takes(ctx, t, r.edge.Serial)
		r.renewed(ctx, t)
	}

	t.Log("both sides trust the new authorities as well")
	oldUsherCA, oldEnvoyCA, oldEdge := m.usherCA, m.envoyCA, r.edge
	m.usherCA, m.envoyCA = newAuthority(t, "usher's next"), newAuthority(t, "envoy's next")
	put.into(t, m.dir, r.usher.Files(oldEnvoyCA, m.envoyCA))
	nextEdge := issue(t, m.envoyCA, envoyID)
	r.serves(ctx, t, nextEdge)
	put.into(t, r.envoyDir, r.edge.Files(oldUsherCA, m.usherCA))
	r.takes(ctx, t, m.usherCA.Serial(), oldUsherCA.Serial())
	r.renewed(ctx, t)

	t.Log("the certificates come from the new authorities")
	r.usher = issue(t, m.usherCA, usherID)
	put.into(t, m.dir, r.usher.Files(oldEnvoyCA, m.envoyCA))
	r.serves(ctx, t, nextEdge)
	r.edge = nextEdge
	put.into(t, r.envoyDir, r.edge.Files(oldUsherCA, m.usherCA))
	r.takes(ctx, t, r.edge.Serial)
	r.renewed(ctx, t)

	t.Log("the old authorities are dropped")
	put.into(t, m.dir, r.usher.Files(m.envoyCA))
	eventually(ctx, t, "the old authority is out", func() error {
		if _, err := m.knock(ctx, oldEdge); err == nil {
			return errors.New("its certificate is still good")
		}
		return nil
	})
	put.into(t, r.envoyDir, r.edge.Files(m.usherCA))
	eventually(ctx, t, "envoy's old authority is out", func() error {
		if have := strings.Join(loaded(ctx, t, r.gate), " "); strings.Contains(have, oldUsherCA.Serial().Text(16)) {
			return errors.New(have)
		}
		return nil
	})
	r.renewed(ctx, t)
	r.crowd.end(t)

	t.Log("what the old authorities signed opens nothing")
	put.into(t, r.envoyDir, oldEdge.Files(m.usherCA))
	closed := func() {
		until(ctx, t, http.StatusServiceUnavailable, func() (reply, error) { return asks(ctx, 0) }, http.StatusOK)
	}
	open := func() {
		until(ctx, t, http.StatusOK, func() (reply, error) { return asks(ctx, 0) }, http.StatusServiceUnavailable)
	}
	closed()
	put.into(t, r.envoyDir, r.edge.Files(m.usherCA))
	open()
	put.into(t, m.dir, issue(t, oldUsherCA, usherID).Files(m.envoyCA))
	closed()
	put.into(t, m.dir, r.usher.Files(m.envoyCA))
	open()
}

// eachMap gives a setting this value wherever it is set, which must be somewhere.
func eachMap(node any, name string, value any) error {
	found := false
	var walk func(any)
	walk = func(node any) {
		switch n := node.(type) {
		case map[string]any:
			for key := range n {
				if key == name {
					n[key], found = value, true
				}
				walk(n[key])
			}
		case []any:
			for _, v := range n {
				walk(v)
			}
		}
	}
	walk(node)
	if !found {
		return fmt.Errorf("the bootstrap has no %s", name)
	}
	return nil
}
