package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestWhyAHandshakeFailedIsLogged(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	files := tlsFiles(t, a, a, envoyID)
	core, lines := observer.New(zap.WarnLevel)
	c, err := newCertificates(files, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.now = func() time.Time { return now }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	// The second server of each connection is a copy, as grpc-go may take one.
	server := c.handshakes().Clone()
	handshake := func(t *testing.T, client func(net.Conn)) {
		t.Helper()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		raw, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			client(conn)
		}()
		_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
		over, _, err := server.ServerHandshake(raw)
		if err == nil {
			_ = over.Close()
		}
		_ = raw.Close()
		<-done
	}
	showing := func(certificate, key []byte, authority *authority, protocols ...string) func(net.Conn) {
		pool := x509.NewCertPool()
		pool.AddCert(authority.certificate)
		config := &tls.Config{RootCAs: pool, ServerName: "usher.test", NextProtos: protocols, MinVersion: tls.VersionTLS13}
		if certificate != nil {
			pair, err := tls.X509KeyPair(certificate, key)
			if err != nil {
				t.Fatal(err)
			}
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		return func(conn net.Conn) {
			_ = tls.Client(conn, config).Handshake()
			_, _ = io.Copy(io.Discard, conn) // until the server is done
		}
	}
	good, goodKey := a.leaf(nil, envoyID)
	other, otherKey := a.leaf(nil, "spiffe://mesh.test/ns/edge/sa/other")
	strange, strangeKey := stranger.leaf(nil, envoyID)
	old, oldKey := a.leaf(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }, envoyID)
	for _, test := range []struct {
		name   string
		client func(net.Conn)
		want   string // in the log; empty: no line
	}{
		{"a_good_certificate", showing(good, goodKey, a, "h2"), ""},
		{"among_other_protocols", showing(good, goodKey, a, "istio", "h2"), ""},
		{"a_client_that_names_no_protocol", showing(good, goodKey, a), ""},
		{"another_protocol", showing(good, goodKey, a, "http/1.1"), "the client names the protocols [\"http/1.1\"], expected h2"},
		{"TLS_1.2", func(c net.Conn) {
			_ = tls.Client(c, &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true}).Handshake() //nolint:gosec // it is the server that refuses
		}, "unsupported versions"},
		{"another_name", showing(other, otherKey, a), `--grpc-client-san: the client's certificate is for ["spiffe://mesh.test/ns/edge/sa/other"], expected another name`},
		{"another_authority", showing(strange, strangeKey, a), "signed by unknown authority"},
		{"expired", showing(old, oldKey, a), "has expired"},
		{"no_certificate", showing(nil, nil, a), "client didn't provide a certificate"},
		{"no_TLS", func(c net.Conn) { _, _ = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") }, "does not look like a TLS handshake"},
		{"a_client_that_refuses_us", showing(good, goodKey, stranger), "remote error"},
		{"a_probe_of_the_port", func(c net.Conn) { _ = c.Close() }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			now = now.Add(time.Second)
			handshake(t, test.client)
			handshake(t, test.client) // within the same second
			all := lines.TakeAll()
			if test.want == "" && len(all) == 0 {
				return
			}
			if len(all) != 1 || all[0].Message != "a TLS handshake failed" || !strings.Contains(all[0].ContextMap()["error"].(string), test.want) || all[0].ContextMap()["peer"] == "" {
				t.Errorf("logged %v, want one line with %q", all, test.want)
			}
		})
	}
}
