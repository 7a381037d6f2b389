package deploy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"
)

// certificates are an authority, one for a client with each of the URIs, and the Secret usher-tls of that namespace.
func certificates(t *testing.T, namespace string, uris ...string) (*x509.CertPool, []tls.Certificate, object) {
	t.Helper()
	caKey := newKey(t)
	ca := authority()
	caDER := sign(t, ca, ca, caKey, caKey)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(block("CERTIFICATE", caDER))

	leaf := func(template x509.Certificate, usage x509.ExtKeyUsage) (certificate, key []byte) {
		own := newKey(t)
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(2), ca.NotBefore, ca.NotAfter
		template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{usage}
		der, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			t.Fatal(err)
		}
		return block("CERTIFICATE", sign(t, &template, ca, own, caKey)), block("PRIVATE KEY", der)
	}
	var clients []tls.Certificate
	for _, text := range uris {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(leaf(x509.Certificate{URIs: []*url.URL{uri}}, x509.ExtKeyUsageClientAuth))
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, pair)
	}
	certificate, key := leaf(x509.Certificate{DNSNames: []string{"usher." + namespace + ".svc"}}, x509.ExtKeyUsageServerAuth)
	secret := object{
		"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": map[string]any{"name": "usher-tls", "namespace": namespace},
		"stringData": map[string]any{"tls.crt": string(certificate), "tls.key": string(key), "ca.crt": string(block("CERTIFICATE", caDER))},
	}
	return roots, clients, secret
}

func authority() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mesh authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
