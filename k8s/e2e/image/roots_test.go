package image

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

func TestTheProgramHoldsTheRoots(t *testing.T) {
	program, err := os.ReadFile(filepath.Join(theImage(t).root, "usher"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for root := range bundle.Roots() {
		n++
		if !bytes.Contains(program, root.Certificate) {
			t.Errorf("certificate %d is missing", n)
		}
	}
	if n < 100 {
		t.Errorf("only %d", n)
	}
}

// TestProvidersAreVerifiedByTheRootsInTheProgram has a provider whose certificate an authority of ours has signed. The image does
// not know it, and the same image with ours in the place of one root does: so those bytes are what it believes.
func TestProvidersAreVerifiedByTheRootsInTheProgram(t *testing.T) {
	original := root(t)
	ca, key := authority(t, len(original))
	p := secureProvider(t, ca, key)
	config := manifests(t, fmt.Sprintf("apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: remote}\nspec: {issuer: %q, audiences: [api]}\n---\n", p.Issuer)+guard("remote"))

	t.Run("one_that_no_root_has_signed", func(t *testing.T) {
		s := serve(t, alone(t), config)
		s.eventually(t, func() error {
			if got := s.readyz(t); !strings.Contains(got, "certificate signed by unknown authority") {
				return fmt.Errorf("/readyz: %s", got)
			}
			return nil
		})
		if got := s.status(t, "remote.test", p.Mint()); got != 503 {
			t.Errorf("a token of it: %d", got)
		}
		if got := s.status(t, "inline.test", inline.Mint()); got != 200 {
			t.Errorf("a token of the other provider: %d", got)
		}
	})
	t.Run("one_that_a_root_has_signed", func(t *testing.T) {
		c := alone(t)
		program := filepath.Join(c.Root, "usher")
		text, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program, bytes.Replace(text, original, ca.Raw, 1), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		s := serve(t, c, config)
		s.eventually(t, func() error {
			if got := s.status(t, "remote.test", p.Mint()); got != 200 {
				return fmt.Errorf("a token of it: %d", got)
			}
			return nil
		})
	})
}

// root is one of those in the program, large enough for ours to take its place.
func root(t *testing.T) []byte {
	t.Helper()
	for r := range bundle.Roots() {
		if r.Constraint == nil && len(r.Certificate) > 1200 {
			return r.Certificate
		}
	}
	t.Fatal("no root is large enough")
	return nil
}

// authority makes one whose certificate is that long, by an extension that says nothing.
func authority(t *testing.T, length int) (*x509.Certificate, ed25519.PrivateKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader) // its signatures are all of one length
	if err != nil {
		t.Fatal(err)
	}
	padding := 500
	for range 2 {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, padding)}},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		if len(der) == length {
			ca, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			return ca, key
		}
		padding += length - len(der)
	}
	t.Fatalf("no certificate of %d bytes", length)
	return nil, nil
}

// secureProvider is an identity provider on a TLS socket.
func secureProvider(t *testing.T, ca *x509.Certificate, key ed25519.PrivateKey) *tokentest.Provider {
	t.Helper()
	public, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, public, key)
	if err != nil {
		t.Fatal(err)
	}
	var p *tokentest.Provider
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.ServeHTTP(w, r) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail, as they should
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: own}}, MinVersion: tls.VersionTLS13}
	server.StartTLS()
	t.Cleanup(server.Close)
	p = tokentest.New(server.URL, tokentest.NewKey("k1", "ES256"))
	return p
}

// eventually waits until f finds nothing wrong.
func (s *served) eventually(t *testing.T, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := stack.Poll(ctx, f); err != nil {
		t.Error(err)
	}
}
