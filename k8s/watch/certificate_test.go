package watch

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestSelfMadeCertificates(t *testing.T) {
	now := time.Now()
	hosts := []string{"usher-webhook.agents.svc", "127.0.0.1"}
	data, err := newCertificate(hosts, now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data["ca.crt"]) {
		t.Fatal("no authority")
	}
	for _, h := range hosts {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: h, Roots: roots, CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", h, err)
		}
	}
	s := &corev1.Secret{Data: data}
	for _, c := range []struct {
		name  string
		hosts []string
		after time.Duration
		old   bool
	}{
		{"new", hosts, 0, false},
		{"with_a_third_of_its_life_left", hosts, 59 * 24 * time.Hour, false},
		{"with_less", hosts, 61 * 24 * time.Hour, true},
		{"for_other_names", []string{"another.agents.svc"}, 0, true},
	} {
		if got := (&Certificate{Hosts: c.hosts}).old(s, now.Add(c.after)); got != c.old {
			t.Errorf("%s: old is %v", c.name, got)
		}
	}
	if !(&Certificate{}).old(&corev1.Secret{}, now) {
		t.Error("an empty Secret is good")
	}
}

// authorityAt is a self-made authority of that time, as the Secret has it.
func authorityAt(t *testing.T, at time.Time) []byte {
	t.Helper()
	data, err := newCertificate([]string{"x"}, at)
	if err != nil {
		t.Fatal(err)
	}
	return data["ca.crt"]
}

// A new authority is announced beside those before it, whose certificates other replicas serve still; what has expired, or is
// nobody's of them, goes.
func TestTheBundleOfAuthorities(t *testing.T) {
	now := time.Now()
	old, own, expired := authorityAt(t, now.Add(-60*24*time.Hour)), authorityAt(t, now), authorityAt(t, now.Add(-100*24*time.Hour))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	var many [][]byte
	for range 8 {
		many = append(many, authorityAt(t, now.Add(-time.Hour)))
	}
	for _, c := range []struct {
		name       string
		have, want []byte
	}{
		{"none_yet", nil, own},
		{"the_one_before", old, join(own, old)},
		{"both_already", join(old, own), join(old, own)},
		{"an_expired_one", join(own, expired), own},
		{"garbage", []byte("no PEM"), own},
		{"garbage_behind_it", join(own, []byte("\n# a comment\n")), join(own, []byte("\n# a comment\n"))},
		{"no_authority", selfSigned(t), own},
		{"too_many", join(many...), join(own, many[0], many[1], many[2])},
		{"the_same_twice", join(own, own), own},
	} {
		got := bundle(c.have, own, now)
		if !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d certificates, want %d", c.name, len(certificatesOf(got)), len(certificatesOf(c.want)))
		}
		if again := bundle(got, own, now); !bytes.Equal(again, got) {
			t.Errorf("%s: it is not at rest", c.name)
		}
	}
}

// selfSigned is somebody else's certificate.
func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "another"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// Clocks that differ by hours do no harm: a certificate made by a clock that is ahead is good for one that is behind, and not
// made anew by a replica that thinks that it has yet to begin.
func TestClocksThatDiffer(t *testing.T) {
	now := time.Now()
	data, err := newCertificate([]string{"x"}, now.Add(20*time.Hour)) // of a replica that is ahead
	if err != nil {
		t.Fatal(err)
	}
	leaf := certificatesOf(data[corev1.TLSCertKey])[0]
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data["ca.crt"])
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "x", Roots: roots, CurrentTime: now}); err != nil {
		t.Errorf("the API server does not believe it yet: %v", err)
	}
	if (&Certificate{Hosts: []string{"x"}}).old(&corev1.Secret{Data: data}, now.Add(-30*time.Hour)) {
		t.Error("a replica whose clock is far behind makes another one")
	}
}

func TestACertificateOfAnotherAuthorityIsMadeAnew(t *testing.T) {
	now := time.Now()
	data, err := newCertificate([]string{"x"}, now)
	if err != nil {
		t.Fatal(err)
	}
	data["ca.crt"] = authorityAt(t, now)
	if !(&Certificate{Hosts: []string{"x"}}).old(&corev1.Secret{Data: data}, now) {
		t.Error("nobody could believe it")
	}
}
