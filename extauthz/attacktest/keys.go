package attacktest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
)

// keyring holds the private keys and certificates of an environment. They are made once, outside of any bubble.
type keyring struct {
	named map[string]*namedKey
	certs map[string][]byte // DER
	order []string          // names of the keys, sorted: the order in which an issuer publishes them
}

type namedKey struct {
	Key
	private crypto.Signer
}

func makeKeys(keys map[string]Key, certs map[string]Cert) (*keyring, error) {
	ring := &keyring{named: map[string]*namedKey{}, certs: map[string][]byte{}}
	all := maps.Clone(keys)
	for name, c := range certs {
		var bits int
		if _, err := fmt.Sscanf(c.Key, "RSA %d", &bits); err != nil {
			return nil, fmt.Errorf("certificate %q: key %q, expected such as \"RSA 2048\"", name, c.Key)
		}
		if _, ok := all[name]; ok {
			return nil, fmt.Errorf("certificate %q: a key has this name too", name)
		}
		all[name] = Key{Kty: "RSA", Bits: bits}
	}
	type made struct {
		name string
		key  crypto.Signer
		err  error
	}
	results := make(chan made)
	var group sync.WaitGroup
	for name, k := range all {
		group.Go(func() {
			key, err := makeKey(k)
			results <- made{name, key, err}
		})
	}
	go func() { group.Wait(); close(results) }()
	var failed error
	for m := range results {
		if m.err != nil {
			failed = fmt.Errorf("make key %q: %w", m.name, m.err)
		}
		ring.named[m.name] = &namedKey{all[m.name], m.key}
	}
	if failed != nil {
		return nil, failed
	}
	ring.order = slices.Sorted(maps.Keys(keys))
	for name, c := range certs {
		common, ok := strings.CutPrefix(c.Subject, "CN=")
		if !ok {
			return nil, fmt.Errorf("certificate %q: subject %q, expected CN=name", name, c.Subject)
		}
		key := ring.named[name].private
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(len(ring.certs) + 1)), Subject: pkix.Name{CommonName: common},
			// A bubble's clock begins in the year 2000.
			NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return nil, fmt.Errorf("make certificate %q: %w", name, err)
		}
		ring.certs[name] = der
	}
	return ring, nil
}

func makeKey(k Key) (crypto.Signer, error) {
	switch {
	case k.Kty == "RSA":
		return rsa.GenerateKey(rand.Reader, k.Bits)
	case k.Kty == "EC":
		curve, ok := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k.Crv]
		if !ok {
			return nil, fmt.Errorf("unknown curve %q", k.Crv)
		}
		return ecdsa.GenerateKey(curve, rand.Reader)
	case k.Kty == "OKP" && k.Crv == "Ed25519":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("unknown key type %q %q", k.Kty, k.Crv)
}

func (r *keyring) key(name string) (*namedKey, error) {
	if k := r.named[name]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("unknown key %q", name)
}

// form returns a public key in one of the forms that attackers have used as an HMAC secret, or its RFC 7638 thumbprint.
func (r *keyring) form(name, form string) ([]byte, error) {
	k, err := r.key(name)
	if err != nil {
		return nil, err
	}
	switch form {
	case "$jkt":
		return k.thumbprint()
	case "$modulus":
		public, ok := k.private.Public().(*rsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("key %q has no modulus", name)
		}
		return public.N.Bytes(), nil
	}
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil || form == "$spki_der" {
		return der, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if form == "$spki_pem_trimmed" {
		text = []byte(strings.TrimSuffix(string(text), "\n"))
	}
	return text, nil
}

func (r *keyring) certForm(name, form string) ([]byte, error) {
	der, ok := r.certs[name]
	if !ok {
		return nil, fmt.Errorf("unknown certificate %q", name)
	}
	sum := sha256.Sum256(der)
	switch form {
	case "$x5t": // RFC 8705, section 3.1
		return []byte(b64u(sum[:])), nil
	case "$cert_sha256_hex":
		return []byte(hex.EncodeToString(sum[:])), nil
	case "$cert_der_b64":
		return []byte(base64.StdEncoding.EncodeToString(der)), nil
	}
	return []byte(pemURL(der)), nil
}

// pemURL is a certificate as Envoy hands it on: PEM, with what a URL cannot hold escaped.
func pemURL(der []byte) string {
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D").Replace(text)
}
