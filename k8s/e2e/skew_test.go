package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// An Usher that is older than the definitions meets a field that it does not know: it keeps the last good version in force,
// and says so.
func TestAFieldOfANewerVersion(t *testing.T) {
	ns := namespace(t, "skew")
	p := newProvider(t)
	const path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/future"
	kubectl(t, "", "patch", "crd", "authpolicies.usher.dev", "--type=json", "-p", `[{"op": "add", "path": "`+path+`", "value": {"type": "string"}}]`)
	defer kubectl(t, "", "patch", "crd", "authpolicies.usher.dev", "--type=json", "-p", `[{"op": "remove", "path": "`+path+`"}]`)
	probe := strings.Replace(guard(ns, "probe", "probe.test", "idp", ""), "spec:\n", "spec:\n  future: 1\n", 1)
	eventually(t, func() error { // until the API server has taken the new definition, in which it is a string
		out, err := shared.Kubectl(t.Context(), probe, "apply", "--dry-run=server", "-f", "-")
		if err == nil || !strings.Contains(out, "spec.future in body must be of type string") {
			return fmt.Errorf("%w, %s", err, out)
		}
		return nil
	})
	u := startUsher(t, ns, admin(t))
	kubectl(t, p.manifest(ns, "idp", "")+guard(ns, "one", "one.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())

	newer := strings.Replace(guard(ns, "one", "two.test", "idp", ""), "spec:\n", "spec:\n  future: x\n", 1)
	kubectl(t, newer, "apply", "--validate=strict", "-f", "-")
	wantCondition(t, ns, "authpolicy/one", "Accepted", "False", "Invalid", `spec.future: `)
	wantCondition(t, ns, "authpolicy/one", "Programmed", "False", "LastGoodInForce", "")
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	u.wantStatus(t, 404, "two.test", "GET", "/items", p.Mint())
}
