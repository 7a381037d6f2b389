package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// authority signs certificates for tests.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, c, key}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// leaf is a certificate and its key with these names, changed by edit before it is signed.
func (a *authority) leaf(edit func(*x509.Certificate), names ...string) (certificate, key []byte) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "leaf"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if u, err := url.Parse(name); err == nil && u.Scheme != "" {
			template.URIs = append(template.URIs, u)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

func replaceFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path+".next", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
}

const envoyID = "spiffe://mesh.test/ns/edge/sa/envoy"

// tlsFiles are the files of a server for usher.test, which trusts clients for their names.
func tlsFiles(t *testing.T, server, clients *authority, sans ...string) tlsOptions {
	t.Helper()
	dir := t.TempDir()
	o := tlsOptions{certificate: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key"), clientCA: filepath.Join(dir, "ca.crt"), clientSANs: sans}
	certificate, key := server.leaf(nil, "usher.test")
	replaceFile(t, o.certificate, certificate)
	replaceFile(t, o.key, key)
	replaceFile(t, o.clientCA, clients.pem())
	return o
}

func (o tlsOptions) flags() []string {
	out := []string{"--grpc-tls-cert", o.certificate, "--grpc-tls-key", o.key, "--grpc-client-ca", o.clientCA}
	for _, san := range o.clientSANs {
		out = append(out, "--grpc-client-san", san)
	}
	return out
}

// ask asks for health with this client's certificate.
func ask(t *testing.T, address string, server *authority, certificate, key []byte, edit func(*tls.Config)) error {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(server.certificate)
	config := &tls.Config{RootCAs: pool, ServerName: "usher.test", MinVersion: tls.VersionTLS12}
	if certificate != nil {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		// Sent whatever authorities the server names.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	if edit != nil {
		edit(config)
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err = grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

func TestOnlyTheRightClientCertificateIsServed(t *testing.T) {
	noLeaks(t)
	w := newWorld(t)
	server, clients, stranger := newAuthority(t), newAuthority(t), newAuthority(t)
	p := start(t, w.config, tlsFiles(t, server, clients, envoyID, "envoy.edge.test").flags()...).ready()
	for _, c := range []struct {
		name  string
		by    *authority // nil: no certificate
		names []string
		edit  func(*x509.Certificate)
		tls   func(*tls.Config)
		good  bool
	}{
		{name: "a_SPIFFE_id_of_the_list", by: clients, names: []string{envoyID}, good: true},
		{name: "a_DNS_name_of_the_list", by: clients, names: []string{"other.test", "envoy.edge.test"}, good: true},
		{name: "no_certificate"},
		{name: "another_authority", by: stranger, names: []string{envoyID}},
		{name: "the_server's_authority", by: server, names: []string{envoyID}},
		{name: "another_name", by: clients, names: []string{"spiffe://mesh.test/ns/edge/sa/other"}},
		{name: "a_longer_name", by: clients, names: []string{envoyID + "/x"}},
		{name: "a_shorter_name", by: clients, names: []string{"spiffe://mesh.test/ns/edge/sa/envo"}},
		{name: "another_spelling_of_the_trust_domain", by: clients, names: []string{"spiffe://MESH.test/ns/edge/sa/envoy"}},
		{name: "an_escape_in_the_name", by: clients, names: []string{"spiffe://mesh.test/ns/edge/sa/%65nvoy"}},
		{name: "a_wildcard", by: clients, names: []string{"*.edge.test"}},
		{name: "two_SPIFFE_ids", by: clients, names: []string{"spiffe://mesh.test/other", envoyID}},
		{name: "the_name_as_common_name_only", by: clients, edit: func(c *x509.Certificate) { c.Subject.CommonName = "envoy.edge.test" }},
		{name: "expired", by: clients, names: []string{envoyID}, edit: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }},
		{name: "not_yet_good", by: clients, names: []string{envoyID}, edit: func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }},
		{name: "for_servers_only", by: clients, names: []string{envoyID}, edit: func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }},
		{name: "TLS_1.2", by: clients, names: []string{envoyID}, tls: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var certificate, key []byte
			if c.by != nil {
				certificate, key = c.by.leaf(c.edit, c.names...)
			}
			err := ask(t, p.grpc, server, certificate, key, c.tls)
			if (err == nil) != c.good {
				t.Errorf("got %v, good: %v", err, c.good)
			}
		})
	}
	if _, err := p.check("GET", "/ok", ""); err == nil {
		t.Error("a check without TLS was answered")
	}
	p.stop()
}

func TestCertificatesAreReplacedWhileChecksGoOn(t *testing.T) {
	noLeaks(t)
	w := newWorld(t)
	server, clients := newAuthority(t), newAuthority(t)
	files := tlsFiles(t, server, clients, envoyID)
	p := start(t, w.config, files.flags()...).ready()
	old, oldKey := clients.leaf(nil, envoyID)
	if err := ask(t, p.grpc, server, old, oldKey, nil); err != nil {
		t.Fatal(err)
	}

	// A half of a change is not put in force, and what was stays.
	nextServer, nextClients := newAuthority(t), newAuthority(t)
	certificate, key := nextServer.leaf(nil, "usher.test")
	replaceFile(t, files.certificate, certificate)
	if line := p.logged("certificates are not good"); !strings.Contains(line["error"].(string), "does not match") {
		t.Errorf("%v", line)
	}
	if err := ask(t, p.grpc, server, old, oldKey, nil); err != nil {
		t.Errorf("the last good certificate is gone: %v", err)
	}
	replaceFile(t, files.key, key)
	p.logged("certificates are in force")
	if err := ask(t, p.grpc, nextServer, old, oldKey, nil); err != nil {
		t.Error(err)
	}
	replaceFile(t, files.clientCA, nextClients.pem())
	p.logged("certificates are in force")
	if err := ask(t, p.grpc, nextServer, old, oldKey, nil); err == nil {
		t.Error("an authority that was taken away is trusted")
	}
	next, nextKey := nextClients.leaf(nil, envoyID)
	if err := ask(t, p.grpc, nextServer, next, nextKey, nil); err != nil {
		t.Error(err)
	}
	if err := os.Remove(files.certificate); err != nil {
		t.Fatal(err)
	}
	p.logged("certificates are not good")
	if err := ask(t, p.grpc, nextServer, next, nextKey, nil); err != nil {
		t.Errorf("the file is gone, and the certificate with it: %v", err)
	}
	p.stop()
}

func TestWhatIsWrongWithCertificatesIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		files := tlsFiles(t, a, a)
		core, lines := observer.New(zap.InfoLevel)
		c, err := newCertificates(files, zap.New(core))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go c.watch(ctx)
		replaceFile(t, files.key, []byte("nothing"))
		time.Sleep(10 * certificatesEvery)
		cancel()
		synctest.Wait()
		if n := lines.FilterMessageSnippet("not good").Len(); n != 1 {
			t.Errorf("logged %d times", n)
		}
		if n := lines.FilterMessageSnippet("whoever has a certificate of that authority").Len(); n != 1 {
			t.Errorf("an authority without names: %d warnings", n)
		}
	})
}

func TestServeSaysWhatIsWrongWithItsCertificates(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t)
	replace := func(pick func(tlsOptions) string, text []byte) func(*tlsOptions) {
		return func(o *tlsOptions) { replaceFile(t, pick(*o), text) }
	}
	certificateOf := func(o tlsOptions) string { return o.certificate }
	keyOf := func(o tlsOptions) string { return o.key }
	caOf := func(o tlsOptions) string { return o.clientCA }
	expired, expiredKey := a.leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "usher.test")
	future, futureKey := a.leaf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, "usher.test")
	leaf, leafKey := a.leaf(nil, "usher.test")
	for _, c := range []struct {
		name string
		edit func(*tlsOptions)
		want string
	}{
		{"no_key", func(o *tlsOptions) { o.key = "" }, "--grpc-tls-cert and --grpc-tls-key: expected both or none"},
		{"a_key_of_another", replace(keyOf, leafKey), "private key does not match public key"},
		{"a_key_that_is_gone", func(o *tlsOptions) { o.key += ".gone" }, "no such file"},
		{"a_directory", func(o *tlsOptions) { o.key = filepath.Dir(o.key) }, "is a directory"},
		{"no_PEM", replace(certificateOf, []byte("hello")), "--grpc-tls-cert"},
		{"a_file_without_end", replace(certificateOf, bytes.Repeat([]byte("x"), maxCertificates+1)), "longer than 1048576 bytes"},
		{"expired", func(o *tlsOptions) { replaceFile(t, o.certificate, expired); replaceFile(t, o.key, expiredKey) }, "expired at 20"},
		{"not_yet_good", func(o *tlsOptions) { replaceFile(t, o.certificate, future); replaceFile(t, o.key, futureKey) }, "check the clock"},
		{"an_empty_authority", replace(caOf, nil), "--grpc-client-ca"},
		{"an_authority_that_is_none", replace(caOf, leaf), "is no authority's"},
		{"a_key_as_authority", replace(caOf, leafKey), "found a PRIVATE KEY"},
		{"a_pattern", func(o *tlsOptions) { o.clientSANs = []string{"spiffe://mesh.test/*"} }, "expected a URI"},
		{"an_empty_name", func(o *tlsOptions) { o.clientSANs = []string{""} }, "expected a URI"},
		{"names_without_authority", func(o *tlsOptions) { o.clientCA = "" }, "--grpc-client-san: expected --grpc-client-ca"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := tlsFiles(t, a, a, envoyID)
			c.edit(&o)
			var args []string
			for i, f := range o.flags() {
				if i%2 == 1 && f == "" && o.clientSANs[0] != "" {
					args = args[:len(args)-1] // a flag that is not given
					continue
				}
				args = append(args, f)
			}
			var out bytes.Buffer
			code := run(append([]string{"serve", "--config", w.config, "--grpc-address", "127.0.0.1:0", "--admin-address", ""}, args...), &out, &out)
			if code == exitGood || !strings.Contains(out.String(), c.want) {
				t.Errorf("%d %s; want %q", code, out.String(), c.want)
			}
			if strings.Contains(out.String(), "BEGIN") {
				t.Error("what is in the files is shown")
			}
		})
	}
}

func TestAKeyThatEverybodyCanReadIsWarnedOf(t *testing.T) {
	a := newAuthority(t)
	files := tlsFiles(t, a, a, envoyID)
	for mode, want := range map[os.FileMode]int{0o644: 1, 0o640: 0, 0o600: 0} {
		if err := os.Chmod(files.key, mode); err != nil {
			t.Fatal(err)
		}
		core, lines := observer.New(zap.WarnLevel)
		if _, err := newCertificates(files, zap.New(core)); err != nil {
			t.Fatal(err)
		}
		if got := lines.FilterMessageSnippet("every user of this machine").Len(); got != want {
			t.Errorf("%v: %d warnings, want %d", mode, got, want)
		}
	}
}
