package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// clientCertificate makes a self-signed one. It returns its PEM as well.
func clientCertificate(t *testing.T, name string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, // its own
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// RFC 8705: Envoy ends TLS and tells Usher the certificate of the connection.
func TestATokenBoundToACertificateNeedsItsConnection(t *testing.T) {
	ctx := begin(t)
	certs := newCertificates(t)
	mine, minePEM := clientCertificate(t, "mine")
	other, otherPEM := clientCertificate(t, "other")
	trusted := filepath.Join(t.TempDir(), "clients.pem")
	if err := os.WriteFile(trusted, append(append([]byte(nil), minePEM...), otherPEM...), 0o600); err != nil {
		t.Fatal(err)
	}
	o := startOAuth(ctx, t, "mtls", oauthManifests)
	gate := *o.gate
	gate.EnvoyArgs = append(gate.EnvoyArgs,
		"--tls-certificate-file", certs.cert, "--tls-key-file", certs.key, "--tls-client-ca-file", trusted)
	connect := func(pairs ...tls.Certificate) *http.Client {
		config := certs.client.Clone()
		config.Certificates = pairs
		return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	}
	gate.Ping = pingOver(connect(mine))
	secure, err := gate.WithEnvoy(ctx, "oauth-mtls-tls", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(secure.Envoy.Stop)

	for _, c := range []struct{ format, host string }{{"jwt", jwtHost}, {"opaque", opaqueHost}} {
		t.Run(c.format, func(t *testing.T) {
			token := o.token(ctx, t, c.format, "bound", http.Header{"X-Test-Client-Certificate": {url.PathEscape(string(minePEM))}})
			header := http.Header{"Authorization": {"Bearer " + token}}
			over := func(base string, header http.Header, pairs ...tls.Certificate) func() (reply, error) {
				return func() (reply, error) { return askMe(ctx, connect(pairs...), base, c.host, header) }
			}
			address := "https://" + secure.Address
			forged := http.Header{
				"Authorization":           {"Bearer " + token},
				"X-Forwarded-Client-Cert": {"Cert=" + `"` + url.PathEscape(string(minePEM)) + `"`},
			}
			r := until(ctx, t, http.StatusOK, over(address, header, mine), http.StatusServiceUnavailable)
			if r.body != "bound" {
				t.Errorf("the backend was told of user %q", r.body)
			}
			for name, bad := range map[string]func() (reply, error){
				"with another certificate": over(address, header, other),
				"without a certificate":    over(address, header),
				"in the clear":             over(o.gate.URL, header),
				"with another certificate and the right in a header":   over(address, forged, other),
				"without a certificate and with the right in a header": over(address, forged),
				"in the clear with the right in a header":              over(o.gate.URL, forged),
			} {
				t.Run(name+" it is 401", func(t *testing.T) {
					until(ctx, t, http.StatusUnauthorized, bad, http.StatusServiceUnavailable) // the provider may be asked again meanwhile
				})
			}
			until(ctx, t, http.StatusOK, over(address, header, mine), http.StatusServiceUnavailable)
		})
	}
}

// pingOver is a stack.Gate's Ping over TLS.
func pingOver(c *http.Client) func(context.Context, *stack.Gate) error {
	return func(ctx context.Context, g *stack.Gate) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+g.Address+"/ok", nil)
		if err != nil {
			return err
		}
		res, err := c.Do(req)
		if err != nil {
			return err
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	}
}
