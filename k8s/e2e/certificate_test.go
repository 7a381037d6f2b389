package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// webhookFor stores a configuration that asks at each of the addresses about objects of the namespace, and insists on an answer.
func webhookFor(t *testing.T, ns, name string, ca []byte, addresses ...string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: %s}\nwebhooks:\n", name)
	for i, address := range addresses {
		bundle := ""
		if len(ca) > 0 {
			bundle = ", caBundle: " + base64.StdEncoding.EncodeToString(ca)
		}
		fmt.Fprintf(&b, `  - name: validate%d.usher.dev
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: Fail
    timeoutSeconds: 10
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}
    clientConfig: {url: "https://%s/validate"%s}
    rules: [{apiGroups: [usher.dev], apiVersions: [v1alpha1], operations: [CREATE, UPDATE], resources: [identityproviders, authpolicies]}]
`, i, ns, address, bundle)
	}
	kubectl(t, b.String(), "apply", "-f", "-")
	t.Cleanup(func() {
		_, _ = shared.Kubectl(context.Background(), "", "delete", "validatingwebhookconfiguration", name)
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := stack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// storeCertificate replaces the Secret.
func storeCertificate(t *testing.T, ns, name, label string, pair stack.Pair, ca []byte) {
	t.Helper()
	encode := base64.StdEncoding.EncodeToString
	kubectl(t, fmt.Sprintf("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: %s, namespace: %s, labels: {%s}}\ndata: {tls.crt: %s, tls.key: %s, ca.crt: %s}\n",
		name, ns, label, encode(pair.Certificate), encode(pair.Key), encode(ca)), "apply", "--server-side", "--force-conflicts", "-f", "-")
}

// announced is the caBundle of the configuration.
func announced(t *testing.T, name string) *x509.CertPool {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(kubectl(t, "", "get", "validatingwebhookconfiguration", name, "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

// served is the serial number of the certificate that is served at the address, as whoever trusts these authorities sees it.
func served(address string, roots *x509.CertPool) (*big.Int, error) {
	c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber, nil
}

// A self-made certificate that comes to its end is made anew by one of two replicas, and served by both; meanwhile not one
// change of an object is refused, although the API server insists on both answers, and whoever believes the authorities that
// are announced believes both replicas at any time.
func TestTheWebhooksCertificateIsRotated(t *testing.T) {
	ns := namespace(t, "rotated")
	p := newProvider(t)
	addresses := []string{freeAddress(t), freeAddress(t)}
	webhookFor(t, ns, "usher-rotated", nil, addresses...)
	for _, address := range addresses {
		startUsher(t, ns, admin(t), "--webhook-address", address, "--webhook-host", "127.0.0.1", "--webhook-configuration", "usher-rotated")
	}
	policies := "/apis/usher.dev/v1alpha1/namespaces/" + ns + "/authpolicies"
	kubectlEventually := func(text string) {
		t.Helper()
		eventually(t, func() error {
			_, err := shared.Kubectl(t.Context(), text, "apply", "-f", "-")
			return err
		})
	}
	kubectlEventually(p.manifest(ns, "idp", "") + guard(ns, "one", "one.test", "idp", ""))
	first, err := served(addresses[0], announced(t, "usher-rotated"))
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	var good int
	var bad []error
	group.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprintf("dry%d", i)
			err := direct(ctx, "POST", policies+"?dryRun=All", guard(ns, name, name+".test", "idp", ""))
			switch {
			case ctx.Err() != nil:
			case err != nil:
				bad = append(bad, err)
			default:
				good++
			}
		}
	})
	authority, err := stack.NewAuthority("usher webhook authority")
	if err != nil {
		t.Fatal(err)
	}
	aged, err := authority.Issue("127.0.0.1") // for a day
	if err != nil {
		t.Fatal(err)
	}
	storeCertificate(t, ns, "usher-webhook", "usher.dev/self-made: 'true'", aged, authority.PEM)
	deadline := time.Now().Add(5 * time.Minute)
	for {
		asked := time.Now()
		roots := announced(t, "usher-rotated")
		var serials []string
		for _, address := range addresses {
			serial, err := served(address, roots)
			if err != nil && time.Since(asked) > 4*time.Second { // a new authority is announced 5 s before it is used: these are old
				break
			}
			if err != nil {
				t.Fatalf("%s is not believed: %v", address, err)
			}
			serials = append(serials, serial.String())
		}
		if len(serials) < len(addresses) {
			continue
		}
		if serials[0] == serials[1] && serials[0] != first.String() && serials[0] != aged.Serial.String() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("served are %v, the first was %v", serials, first)
		}
	}
	stop()
	group.Wait()
	if len(bad) > 0 || good == 0 {
		t.Errorf("%d of %d were refused: %.1000v", len(bad), good+len(bad), errors.Join(bad...))
	}
	t.Logf("%d objects were reviewed meanwhile", good)
	text, err := base64.StdEncoding.DecodeString(kubectl(t, "", "get", "secret", "usher-webhook", "-n", ns, "-o", `jsonpath={.data.tls\.crt}`))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if leaf, err := x509.ParseCertificate(block.Bytes); err != nil || time.Until(leaf.NotAfter) < 80*24*time.Hour {
		t.Errorf("the new one: %v, %v", leaf.NotAfter, err)
	}
	if _, err := shared.Kubectl(t.Context(), guard(ns, "two", "two.test", "idp", ", allow: '1'"), "apply", "-f", "-"); err == nil {
		t.Error("nobody is asked any more")
	}
}

// A certificate that somebody else puts into the Secret is used, followed when it changes, and never overwritten; the
// configuration is left to him too.
func TestACertificateThatSomebodyElseMakes(t *testing.T) {
	ns := namespace(t, "given")
	address := freeAddress(t)
	authority, err := stack.NewAuthority("cert-manager")
	if err != nil {
		t.Fatal(err)
	}
	issue := func() stack.Pair {
		t.Helper()
		pair, err := authority.Issue("usher-webhook.given.svc")
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.PEM)
	serial := func() (*big.Int, error) {
		c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: "usher-webhook.given.svc"})
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber, nil
	}
	wantServed := func(want stack.Pair) {
		t.Helper()
		eventually(t, func() error {
			got, err := serial()
			if err == nil && got.Cmp(want.Serial) != 0 {
				err = fmt.Errorf("served is %v, want %v", got, want.Serial)
			}
			return err
		})
	}
	first := issue()
	storeCertificate(t, ns, "given", "made-by: cert-manager", first, authority.PEM)
	webhookFor(t, ns, "usher-given", authority.PEM, address)
	configuration := func() string {
		return kubectl(t, "", "get", "validatingwebhookconfiguration", "usher-given", "-o", "jsonpath={.metadata.resourceVersion}")
	}
	before := configuration()
	u := startUsher(t, ns, admin(t), "--webhook-address", address, "--webhook-cert-secret", "given", "--webhook-configuration", "usher-given")
	wantServed(first)
	second := issue()
	storeCertificate(t, ns, "given", "made-by: cert-manager", second, authority.PEM)
	wantServed(second)
	// What is none leaves the last good one, and is said.
	storeCertificate(t, ns, "given", "made-by: cert-manager", stack.Pair{Certificate: []byte("none"), Key: []byte("of these")}, authority.PEM)
	eventually(t, func() error {
		if log := u.part.Log(); !strings.Contains(log, "secret given/given: tls: failed to find any PEM data in certificate input") {
			return fmt.Errorf("the log does not say so")
		}
		return nil
	})
	wantServed(second)
	if got := kubectl(t, "", "get", "secret", "given", "-n", ns, "-o", `jsonpath={.data.tls\.crt}`); got != base64.StdEncoding.EncodeToString([]byte("none")) {
		t.Error("the Secret was overwritten")
	}
	if got := configuration(); got != before {
		t.Error("the configuration was written")
	}
	if strings.Contains(u.part.Log(), "of these") {
		t.Error("the log shows the key")
	}
}
