package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// What a user sees with kubectl alone.
func TestKubectl(t *testing.T) {
	ns := namespace(t, "kubectl")
	p := newProvider(t)
	startUsher(t, ns, admin(t))
	google := "apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: google}\nspec: {preset: google, audiences: [a], caRef: {name: missing}}\n---\n"
	kubectl(t, p.manifest(ns, "idp", "")+google+guard(ns, "good", "good.test", "idp", "")+guard(ns, "bad", "bad.test", "idp", ", allow: '1'"), "apply", "-n", ns, "-f", "-")
	wantCondition(t, ns, "authpolicy/good", "Programmed", "True", "Programmed", "")
	wantCondition(t, ns, "authpolicy/bad", "Programmed", "False", "HostsClosed", "")
	wantCondition(t, ns, "identityprovider/idp", "Healthy", "True", "Healthy", "")
	wantCondition(t, ns, "identityprovider/google", "Accepted", "False", "Invalid", "")

	for _, c := range []struct{ args, want string }{
		{"get ap", `(?s)NAME +HOSTS +MODE +ACCEPTED +PROGRAMMED +REASON +AGE\n` +
			`bad +\["bad.test"\] +False +False +Invalid +[0-9ms]+\ngood +\["good.test"\] +True +True +Accepted +[0-9ms]+\n`},
		{"get ap -o wide", `IN FORCE +MESSAGE\nbad .* HostsClosed +spec.rules\[0\].allow: .*\ngood .* Programmed +Valid\.`},
		{"get idp", `NAME +ISSUER +ACCEPTED +HEALTHY +AGE\n(google +False.*\n)idp +http://127\.0\.0\.1:[0-9]+ +True +True +[0-9ms]+`},
		{"get idp -o wide", `PRESET +REASON +MESSAGE +HEALTH\ngoogle .* google +Invalid +spec.caRef: found no Secret "missing".*\nidp .* Accepted +Valid\.`},
		{"get usher", `(?s)authpolicy.usher.dev/good .*identityprovider.usher.dev/idp `},
		{"get authpolicies,identityproviders", `(?s)authpolicy.usher.dev/good .*identityprovider.usher.dev/idp `},
		{"explain authpolicy", `AuthPolicy says who may do what at the hosts it guards\.`},
		{"explain authpolicy.spec.rules", `(?s)rules: the most specific one applies, and only that\. An operation without a\s+rule is denied\..*allow\s+<string>\s+allow is a CEL expression that gives a bool\. Default: true\..*on\s+<string>`},
		{"explain ap.spec.mode", `(?s)ENUM:.*Enforce.*Shadow.*mode is Enforce, or Shadow`},
		{"explain idp.spec.jwt.algorithms", `(?s)algorithms that are accepted\. Default: RS256`},
		{"explain authpolicy.spec.api.routes.path", `\{name\} is one segment`},
	} {
		if out := kubectl(t, "", append(strings.Fields(c.args), "-n", ns)...); !regexp.MustCompile(c.want).MatchString(out) {
			t.Errorf("kubectl %s:\n%s\nwant %s", c.args, out, c.want)
		}
	}
}
