package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// A tenant who may write objects of his own namespace takes nobody else down by them: others' policies stay in force and take
// changes, and what is wrong is said of his objects alone.
func TestABadObjectTakesNoOtherDown(t *testing.T) {
	victim, tenant := namespace(t, "victim"), namespace(t, "tenant")
	p := newProvider(t)
	u := startUsher(t, victim, admin(t), "--namespaces", victim+","+tenant, "--ready-within", "2s")
	kubectl(t, p.manifest(victim, "idp", "")+guard(victim, "one", "one.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())

	head := func(kind, name string) string {
		return fmt.Sprintf("apiVersion: usher.dev/v1alpha1\nkind: %s\nmetadata: {name: %s, namespace: %s}\n", kind, name, tenant)
	}
	policy := func(name, more string) string {
		return head("AuthPolicy", name) + fmt.Sprintf("spec: {hosts: [%s.tenant.test], providers: [idp], api: {routes: [{method: GET, path: /items, 'on': 'items:read'}]}%s}\n---\n", name, more)
	}
	rule := func(more string) string { return ", rules: [{'on': 'items:read'" + more + "}]" }
	var refs, rules strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&refs, "x%dRef: {name: secret-%d}, ", i, i)
	}
	for i := range 400 {
		fmt.Fprintf(&rules, "{'on': 'unknown%d:read', allow: 'no such thing at all'}, ", i)
	}
	const header = ", backend: {url: 'http://b', headers: {%s}}"
	var many strings.Builder
	for i := range 40 {
		fmt.Fprintf(&many, "x-%d: {secretRef: {name: s%d, key: k}}, ", i, i)
	}
	for i, c := range []struct {
		name, objects, bad, message string
	}{
		{
			"a_key_that_is_none",
			head("IdentityProvider", "key") + "spec: {issuer: 'https://a.example.com', audiences: [a], jwt: {keys: {keys: [{kty: EC, crv: P-256, x: AAAA, \"y\": AAAA}]}}}\n",
			"identityprovider/key", "spec: found what tokens cannot be verified by: ",
		},
		{"more_Secrets_than_anybody_needs", policy("many", rule("")+fmt.Sprintf(header, many.String())), "authpolicy/many", "found more than 32 Secrets and ConfigMaps, expected at most 32"},
		{"what_looks_like_references", policy("constants", rule("")+", variables: {c: {"+refs.String()+"}}"), "authpolicy/constants", `found unknown provider "idp"`},
		{"terminal_escapes_and_lines", policy("escapes", rule("")+`, variables: {"x\e[31m\nAccepted: True": 1}`), "authpolicy/escapes", `x\x1b[31m\nAccepted: True`},
		{"hundreds_of_problems", policy("problems", ", rules: ["+rules.String()+"]"), "authpolicy/problems", "spec.rules[0]"},
		{
			"a_provider_that_nobody_reaches",
			head("IdentityProvider", "idp") + "spec: {issuer: 'https://127.0.0.1:1', audiences: [a]}\n---\n" + policy("silent", rule("")),
			"", "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			kubectl(t, c.objects, "apply", "--server-side", "-f", "-")
			if c.bad != "" {
				wantCondition(t, tenant, c.bad, "Accepted", "False", "Invalid", c.message)
				condition, err := conditionOf(t, tenant, c.bad, "Accepted")
				if err != nil || len(condition.Message) > 9000 || strings.ContainsAny(condition.Message, "\x1b\u0085") {
					t.Errorf("%v: a message of %d bytes: %.300q", err, len(condition.Message), condition.Message)
				}
			}
			host := fmt.Sprintf("one-%d.test", i)
			kubectl(t, guard(victim, "one", host, "idp", ""), "apply", "-f", "-")
			u.wantStatus(t, 200, host, "GET", "/items", p.Mint())
		})
	}
	t.Run("a_Secret_whose_name_is_a_path_is_not_stored", func(t *testing.T) {
		out, err := shared.Kubectl(t.Context(), head("IdentityProvider", "path")+"spec: {issuer: 'https://a.example.com', audiences: [a], caRef: {name: '../../other/x'}}\n", "apply", "--server-side", "-f", "-")
		if err == nil || !strings.Contains(out, `spec.caRef.name: Invalid value: "../../other/x"`) {
			t.Errorf("%v, %s", err, out)
		}
	})
	t.Run("a_new_replica_becomes_ready_all_the_same", func(t *testing.T) {
		second := startUsher(t, victim, admin(t), "--namespaces", victim+","+tenant, "--ready-within", "2s")
		second.wantReadyz(t, "200")
		second.wantStatus(t, 200, "one-5.test", "GET", "/items", p.Mint())
		second.wantReadyz(t, "200", "refused to connect to 127.0.0.1")
	})
	for _, line := range strings.Split(strings.TrimSpace(u.part.Log()), "\n") {
		if !strings.HasPrefix(line, "{") || strings.ContainsAny(line, "\x1b") {
			t.Errorf("a line of the log: %.200q", line)
		}
	}
}
