package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func admin(t *testing.T) string {
	t.Helper()
	path, err := shared.Kubeconfig("admin", "")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPoliciesAreObjects(t *testing.T) {
	ns := namespace(t, "policies")
	p := newProvider(t)
	u := startUsher(t, ns, admin(t))
	if got := u.status(t.Context(), "one.test", "GET", "/items", p.Mint()); got != 503 && got != 404 {
		t.Errorf("before there are objects: %d", got)
	}

	kubectl(t, p.manifest(ns, "idp", "")+guard(ns, "one", "one.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	u.wantStatus(t, 401, "one.test", "GET", "/items", "")
	wantCondition(t, ns, "authpolicy/one", "Accepted", "True", "Accepted", "Valid.")
	wantCondition(t, ns, "authpolicy/one", "Programmed", "True", "Programmed", "")
	wantCondition(t, ns, "identityprovider/idp", "Healthy", "True", "Healthy", "")
	if out := kubectl(t, "", "get", "ap", "-n", ns); !strings.Contains(out, "one.test") || !strings.Contains(out, "True") {
		t.Errorf("kubectl get ap:\n%s", out)
	}

	t.Run("a_bad_version_leaves_the_last_good_one_and_says_why", func(t *testing.T) {
		kubectl(t, guard(ns, "one", "one.test", "idp", `, allow: "user.identiti == 'alice'"`), "apply", "-f", "-")
		wantCondition(t, ns, "authpolicy/one", "Accepted", "False", "Invalid", "spec.rules[0].allow: ")
		wantCondition(t, ns, "authpolicy/one", "Programmed", "False", "LastGoodInForce", "")
		u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
		eventually(t, func() error {
			if out := kubectl(t, "", "get", "events", "-n", ns); !strings.Contains(out, "Invalid") || !strings.Contains(out, "identiti") {
				return fmt.Errorf("no event:\n%s", out)
			}
			return nil
		})
	})
	t.Run("a_policy_that_never_was_good_closes_its_host_and_no_other", func(t *testing.T) {
		kubectl(t, guard(ns, "all", "'*.test'", "idp", "")+guard(ns, "bad", "bad.test", "idp", ", allow: '1'"), "apply", "-f", "-")
		wantCondition(t, ns, "authpolicy/bad", "Programmed", "False", "HostsClosed", "503")
		u.wantStatus(t, 200, "other.test", "GET", "/items", p.Mint())
		u.wantStatus(t, 503, "bad.test", "GET", "/items", p.Mint())
		u.wantStatus(t, 503, "bad.test", "GET", "/ok", "")
	})
	t.Run("of_two_policies_with_one_host_the_older_stays", func(t *testing.T) {
		time.Sleep(1100 * time.Millisecond) // the age of objects is in whole seconds
		kubectl(t, guard(ns, "a-newer", "other.test, one.test", "idp", ", allow: 'false'"), "apply", "-f", "-")
		wantCondition(t, ns, "authpolicy/a-newer", "Accepted", "False", "Conflicted", "one.test")
		u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	})
	t.Run("what_is_deleted_guards_nothing", func(t *testing.T) {
		kubectl(t, "", "delete", "authpolicy", "-n", ns, "a-newer", "bad", "all", "one")
		u.wantStatus(t, 404, "one.test", "GET", "/items", p.Mint())
	})
}

func TestSecretsAreReadByName(t *testing.T) {
	ns := namespace(t, "secrets")
	p := newProvider(t)
	u := startUsher(t, ns, admin(t))
	kubectl(t, p.manifest(ns, "idp", ", proofOfPossession: {nonces: true, nonceKeyRef: {name: nonces}}")+guard(ns, "one", "one.test", "idp", ""), "apply", "-f", "-")
	wantCondition(t, ns, "identityprovider/idp", "Accepted", "False", "Invalid", `found no Secret "nonces"`)
	u.wantStatus(t, 503, "one.test", "GET", "/items", p.Mint())
	kubectl(t, "", "create", "secret", "generic", "nonces", "-n", ns, "--from-literal=other=x")
	wantCondition(t, ns, "identityprovider/idp", "Accepted", "False", "Invalid", `found no key "nonceKey" in Secret "nonces"`)
	kubectl(t, "", "delete", "secret", "nonces", "-n", ns)
	kubectl(t, "", "create", "secret", "generic", "nonces", "-n", ns, "--from-literal=nonceKey="+strings.Repeat("k", 32))
	wantCondition(t, ns, "identityprovider/idp", "Accepted", "True", "Accepted", "")
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	kubectl(t, "", "delete", "secret", "nonces", "-n", ns)
	wantCondition(t, ns, "identityprovider/idp", "Accepted", "False", "Invalid", `found no Secret "nonces"`)
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint()) // the last good version stays
	if log := u.part.Log(); strings.Contains(log, strings.Repeat("k", 32)) {
		t.Error("the log shows a secret")
	}
}

func TestProvidersOfOtherNamespaces(t *testing.T) {
	users, shop := namespace(t, "users"), namespace(t, "shop")
	p := newProvider(t)
	u := startUsher(t, shop, admin(t), "--namespaces", users+","+shop, "--allow-local-addresses")
	kubectl(t, p.manifest(users, "idp", "")+guard(shop, "one", "one.test", "users/idp", ""), "apply", "-f", "-")
	wantCondition(t, shop, "authpolicy/one", "Accepted", "False", "Invalid", `its spec.allowedNamespaces must have "shop"`)
	u.wantStatus(t, 503, "one.test", "GET", "/items", p.Mint())
	kubectl(t, p.manifest(users, "idp", ", allowedNamespaces: [shop]"), "apply", "-f", "-")
	wantCondition(t, shop, "authpolicy/one", "Accepted", "True", "Accepted", "")
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
}

func TestTheAPIServerGoneAndBack(t *testing.T) {
	ns := namespace(t, "gone")
	p := newProvider(t)
	u := startUsher(t, ns, admin(t))
	kubectl(t, p.manifest(ns, "idp", "")+guard(ns, "one", "one.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	shared.APIServer.Stop()
	eventually(t, func() error {
		if got := u.readyz(t); !strings.HasPrefix(got, "200") || !strings.Contains(got, `"connected": false`) {
			return fmt.Errorf("readyz: %s", got)
		}
		return nil
	})
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	if err := shared.APIServer.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	kubectl(t, guard(ns, "one", "two.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "two.test", "GET", "/items", p.Mint())
	u.wantStatus(t, 404, "one.test", "GET", "/items", p.Mint())
	eventually(t, func() error {
		if got := u.readyz(t); !strings.Contains(got, `"connected": true`) {
			return fmt.Errorf("readyz: %s", got)
		}
		return nil
	})
}

func TestOneReplicaWritesAndAnotherTakesOver(t *testing.T) {
	ns := namespace(t, "leader")
	p := newProvider(t)
	first := startUsher(t, ns, admin(t))
	kubectl(t, p.manifest(ns, "idp", "")+guard(ns, "one", "one.test", "idp", ""), "apply", "-f", "-")
	wantCondition(t, ns, "authpolicy/one", "Accepted", "True", "Accepted", "")
	second := startUsher(t, ns, admin(t))
	second.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	holder := kubectl(t, "", "get", "lease", "usher", "-n", ns, "-o", "jsonpath={.spec.holderIdentity}")
	first.part.Stop()
	kubectl(t, guard(ns, "two", "two.test", "idp", ""), "apply", "-f", "-")
	second.wantStatus(t, 200, "two.test", "GET", "/items", p.Mint())
	wantCondition(t, ns, "authpolicy/two", "Accepted", "True", "Accepted", "")
	if now := kubectl(t, "", "get", "lease", "usher", "-n", ns, "-o", "jsonpath={.spec.holderIdentity}"); now == holder || now == "" {
		t.Errorf("the lease is held by %q, before by %q", now, holder)
	}
}
