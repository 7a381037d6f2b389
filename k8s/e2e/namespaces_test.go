package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Of several namespaces, those that are named are read and no other; all are, where that is asked for. A host that two
// namespaces want stays the older policy's.
func TestTheNamespacesThatAreWatched(t *testing.T) {
	first, second, other := namespace(t, "watched-1"), namespace(t, "watched-2"), namespace(t, "unwatched")
	p := newProvider(t)
	named := startUsher(t, first, admin(t), "--namespaces", first+","+second, "--allow-local-addresses")
	all := startUsher(t, other, admin(t), "--all-namespaces", "--allow-local-addresses")
	for i, ns := range []string{first, second, other} {
		kubectl(t, p.manifest(ns, "idp", "")+guard(ns, "own", fmt.Sprintf("own-%d.test", i), "idp", ""), "apply", "-f", "-")
	}
	kubectl(t, guard(second, "shared", "shared.test", "idp", ""), "apply", "-f", "-")
	all.wantStatus(t, 200, "shared.test", "GET", "/items", p.Mint())
	time.Sleep(1100 * time.Millisecond) // the age of objects is in whole seconds
	kubectl(t, guard(first, "shared", "shared.test", "idp", ", allow: 'false'"), "apply", "-f", "-")
	wantCondition(t, first, "authpolicy/shared", "Accepted", "False", "Conflicted", `spec.hosts[0]: found host "shared.test"`)
	for _, u := range []*usher{named, all} {
		u.wantStatus(t, 200, "own-0.test", "GET", "/items", p.Mint())
		u.wantStatus(t, 200, "own-1.test", "GET", "/items", p.Mint())
		u.wantStatus(t, 200, "shared.test", "GET", "/items", p.Mint())
	}
	all.wantStatus(t, 200, "own-2.test", "GET", "/items", p.Mint())
	named.wantStatus(t, 404, "own-2.test", "GET", "/items", p.Mint())
	if got := named.readyz(t); strings.Contains(got, other) {
		t.Errorf("what is not watched is shown: %s", got)
	}
	// The older policy goes, and the host is the other one's.
	kubectl(t, "", "delete", "authpolicy", "shared", "-n", second)
	for _, u := range []*usher{named, all} {
		u.wantStatus(t, 403, "shared.test", "GET", "/items", p.Mint())
	}
	wantCondition(t, first, "authpolicy/shared", "Accepted", "True", "Accepted", "")
	eventually(t, func() error {
		out := kubectl(t, "", "describe", "authpolicy", "shared", "-n", first)
		for _, want := range []string{"Warning  Conflicted", `spec.hosts[0]: found host "shared.test"`, "Normal   Accepted", "usher.dev/usher"} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("kubectl describe does not say %q:\n%s", want, out)
			}
		}
		return nil
	})
}
