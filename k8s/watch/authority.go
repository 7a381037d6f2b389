package watch

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	authorityName = "usher webhook authority"
	// backdated is how long before it was made a certificate begins: so far the API server's clock may be behind ours.
	backdated = 24 * time.Hour
	// maxAuthorities bounds those that a configuration names: the one in use, and the ones before it.
	maxAuthorities = 4
)

// bundle is what a webhook's caBundle must be so that a certificate of that authority is believed, and so are those of the
// authorities before it that other replicas may serve still. What is nobody's of these is left out: expired ones, and others'.
func bundle(have, own []byte, now time.Time) []byte {
	var before []*x509.Certificate
	known := false
	for _, c := range certificatesOf(have) {
		switch {
		case c.Subject.CommonName != authorityName || !c.IsCA || now.After(c.NotAfter):
		case isIn(c, own):
			known = true
		case len(before) < maxAuthorities-1:
			before = append(before, c)
		}
	}
	if known && len(certificatesOf(have)) == len(before)+1 {
		return have // in whatever order
	}
	out := bytes.Clone(own)
	for _, c := range before {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func isIn(c *x509.Certificate, text []byte) bool {
	return slices.ContainsFunc(certificatesOf(text), c.Equal)
}

// certificatesOf reads a PEM text; what cannot be read is left out.
func certificatesOf(text []byte) (out []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return out
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			out = append(out, c)
		}
	}
}

// newCertificate makes an authority that signs just one certificate, and whose key is thrown away.
func newCertificate(hosts []string, now time.Time) (map[string][]byte, error) {
	number := func() *big.Int {
		n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // it never fails (crypto/rand)
		return n
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: number(), Subject: pkix.Name{CommonName: authorityName}, NotBefore: now.Add(-backdated), NotAfter: now.Add(certificateLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: number(), Subject: pkix.Name{CommonName: "usher webhook"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return map[string][]byte{
		corev1.TLSCertKey: block("CERTIFICATE", der), corev1.TLSPrivateKeyKey: block("PRIVATE KEY", keyDER), "ca.crt": block("CERTIFICATE", caDER),
	}, nil
}
