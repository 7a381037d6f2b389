package watch

import (
	"crypto/tls"
	"crypto/x509"
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
