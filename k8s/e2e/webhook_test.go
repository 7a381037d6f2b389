package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

func TestWebhook(t *testing.T) {
	ns := namespace(t, "webhook")
	p := newProvider(t)
	port, err := stack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	kubectl(t, fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: usher}
webhooks:
  - name: validate.usher.dev
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: Fail
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}
    clientConfig: {url: "https://%s/validate"}
    rules: [{apiGroups: [usher.dev], apiVersions: [v1alpha1], operations: [CREATE, UPDATE], resources: [identityproviders, authpolicies]}]
`, ns, address), "apply", "-f", "-")
	t.Cleanup(func() {
		_, _ = shared.Kubectl(context.Background(), "", "delete", "validatingwebhookconfiguration", "usher")
	})
	startUsher(t, ns, admin(t), "--webhook-address", address, "--webhook-host", "127.0.0.1")

	good := p.manifest(ns, "idp", "") + guard(ns, "one", "one.test", "idp", "")
	eventually(t, func() error { // until the certificate is made and its authority announced
		_, err := shared.Kubectl(t.Context(), good, "apply", "-f", "-")
		return err
	})
	t.Run("kubectl_prints_what_is_wrong", func(t *testing.T) {
		for _, c := range []struct{ name, object, want string }{
			{"an_expression", guard(ns, "two", "two.test", "idp", `, allow: "user.identiti == 'a'"`), "spec.rules[0].allow: "},
			{"a_field_that_makes_no_sense", p.manifest(ns, "other", ", jwt: {typ: [dpop+jwt]}"), `spec.jwt.typ[0]: found typ "dpop+jwt", expected the type of access tokens`},
			{"a_host_that_another_guards", guard(ns, "two", "one.test", "idp", ""), `spec.hosts[0]: found host "one.test"`},
			{"a_new_version", guard(ns, "one", "one.test", "idp", ", allow: '1'"), "spec.rules[0].allow: "},
		} {
			out, err := shared.Kubectl(t.Context(), c.object, "apply", "-f", "-")
			if err == nil || !strings.Contains(out, c.want) {
				t.Errorf("%s: %v: %s; want %s", c.name, err, out, c.want)
			}
		}
	})
	t.Run("what_is_referred_to_may_come_later", func(t *testing.T) {
		out := kubectl(t, guard(ns, "three", "three.test", "later", "")+p.manifest(ns, "later", ", proofOfPossession: {nonces: true, nonceKeyRef: {name: none}}"), "apply", "-f", "-")
		if !strings.Contains(out, `Warning: spec.providers[0]: found unknown provider "later"`) || !strings.Contains(out, `found Secret "none", which was not read yet`) {
			t.Errorf("no warning: %s", out)
		}
	})
	t.Run("garbage_is_refused", func(t *testing.T) {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // loopback
		for body, want := range map[string]int{
			"": 400, "{}": 400, "[]": 400, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`: 400,
			`{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{}}`: 400, strings.Repeat(" ", 5<<20): 413,
			`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"operation":"CREATE","object":{"a":1}}}`: 200,
		} {
			r, err := client.Post("https://"+address+"/validate", "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
			if r.StatusCode != want {
				t.Errorf("%.80q: %d, want %d", body, r.StatusCode, want)
			}
		}
	})
	t.Run("the_certificate_is_kept_in_the_Secret_for_all_replicas", func(t *testing.T) {
		before := kubectl(t, "", "get", "secret", "usher-webhook", "-n", ns, "-o", "jsonpath={.data.tls\\.crt}")
		if before == "" {
			t.Fatal("no certificate in the Secret")
		}
	})
}
