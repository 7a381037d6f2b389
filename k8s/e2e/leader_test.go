package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lease is the Lease of the election, as far as it matters here.
type lease struct {
	Metadata struct{ ResourceVersion string }
	Spec     struct {
		HolderIdentity   string
		LeaseTransitions int
	}
}

func leaseOf(t *testing.T, ns string) (l lease) {
	t.Helper()
	out, err := shared.Kubectl(t.Context(), "", "get", "lease", "usher", "-n", ns, "-o", "json")
	if err != nil {
		return l // not yet
	}
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		t.Fatal(err)
	}
	return l
}

// elected waits until somebody else than that holds the lease, and returns who.
func elected(t *testing.T, ns, than string) string {
	t.Helper()
	var holder string
	eventually(t, func() error {
		if holder = leaseOf(t, ns).Spec.HolderIdentity; holder == "" || holder == than {
			return fmt.Errorf("the lease is held by %q", holder)
		}
		return nil
	})
	return holder
}

func send(t *testing.T, u *usher, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(u.part.Pid(), s); err != nil {
		t.Fatal(err)
	}
}

// A leader that is gone without a word is followed by another within the time of the lease, and nobody notices but by that.
func TestALeaderThatIsKilled(t *testing.T) {
	ns := namespace(t, "killed")
	p := newProvider(t)
	first := startUsher(t, ns, admin(t))
	kubectl(t, p.manifest(ns, "idp", "")+guard(ns, "one", "one.test", "idp", ""), "apply", "-f", "-")
	holder := elected(t, ns, "")
	second := startUsher(t, ns, admin(t))
	second.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	send(t, first, syscall.SIGKILL)
	begin := time.Now()
	kubectl(t, guard(ns, "two", "two.test", "idp", ""), "apply", "-f", "-")
	second.wantStatus(t, 200, "two.test", "GET", "/items", p.Mint())
	elected(t, ns, holder)
	t.Logf("another one holds the lease after %v", time.Since(begin).Round(time.Millisecond))
	wantCondition(t, ns, "authpolicy/two", "Accepted", "True", "Accepted", "")
	if n := leaseOf(t, ns).Spec.LeaseTransitions; n != 1 {
		t.Errorf("%d transitions", n)
	}
}

// A leader that was stopped, and goes on when another one has its lease, writes nothing of what it believed: it sees that it
// lost the lease, and serves on with what is in force.
func TestALeaderThatWasStopped(t *testing.T) {
	ns := namespace(t, "stopped")
	p := newProvider(t)
	first := startUsher(t, ns, admin(t))
	kubectl(t, p.manifest(ns, "idp", ", proofOfPossession: {nonces: true, nonceKeyRef: {name: nonces}}")+guard(ns, "one", "one.test", "idp", ""), "apply", "-f", "-")
	wantCondition(t, ns, "identityprovider/idp", "Accepted", "False", "Invalid", `found no Secret "nonces"`)
	holder := elected(t, ns, "")
	second := startUsher(t, ns, admin(t))
	second.wantReadyz(t, "200")
	send(t, first, syscall.SIGSTOP)
	defer func() { _ = syscall.Kill(first.part.Pid(), syscall.SIGCONT) }()
	elected(t, ns, holder)
	// What it believes is wrong by now: the Secret is there.
	kubectl(t, "", "create", "secret", "generic", "nonces", "-n", ns, "--from-literal=nonceKey="+strings.Repeat("k", 32))
	wantCondition(t, ns, "identityprovider/idp", "Accepted", "True", "Accepted", "")
	version := func() string {
		return kubectl(t, "", "get", "identityprovider/idp", "-n", ns, "-o", `jsonpath={.status.conditions[?(@.type=="Accepted")]}`)
	}
	before := version()
	send(t, first, syscall.SIGCONT)
	eventually(t, func() error {
		if log := first.part.Log(); !strings.Contains(log, "this replica writes status no longer") {
			return fmt.Errorf("it does not know yet")
		}
		return nil
	})
	first.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint()) // it has the Secret now, too
	if now := version(); now != before {
		t.Errorf("it wrote %s, in the place of %s", now, before)
	}
	if now := leaseOf(t, ns).Spec; now.HolderIdentity == holder || now.LeaseTransitions != 1 {
		t.Errorf("the lease: %+v", now)
	}
	// And it is there when it is needed.
	second.part.Stop()
	kubectl(t, guard(ns, "two", "two.test", "idp", ""), "apply", "-f", "-")
	first.wantStatus(t, 200, "two.test", "GET", "/items", p.Mint())
	wantCondition(t, ns, "authpolicy/two", "Accepted", "True", "Accepted", "")
}

// Who loses the lease for another reason, here because somebody else writes his name into it, goes on watching: what is in force
// stays, changes come in, and the status is written again once the lease can be had.
func TestALeaseThatIsLost(t *testing.T) {
	ns := namespace(t, "lost")
	p := newProvider(t)
	u := startUsher(t, ns, admin(t))
	kubectl(t, p.manifest(ns, "idp", "")+guard(ns, "one", "one.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	wantCondition(t, ns, "authpolicy/one", "Accepted", "True", "Accepted", "")
	take := func() error {
		_, err := shared.Kubectl(t.Context(), "", "patch", "lease", "usher", "-n", ns, "--type=merge", "-p",
			fmt.Sprintf(`{"spec": {"holderIdentity": "somebody-else", "renewTime": %q, "leaseDurationSeconds": 30}}`, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")))
		return err
	}
	if err := take(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if log := u.part.Log(); !strings.Contains(log, "this replica writes status no longer") {
			return fmt.Errorf("it does not know yet")
		}
		return nil
	})
	kubectl(t, guard(ns, "two", "two.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "two.test", "GET", "/items", p.Mint())
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	if _, err := conditionOf(t, ns, "authpolicy/two", "Accepted"); err == nil {
		if leaseOf(t, ns).Spec.HolderIdentity == "somebody-else" {
			t.Error("a status was written without the lease")
		}
	}
	if got := u.readyz(t); !strings.Contains(got, `"connected": true`) {
		t.Errorf("losing the lease is no loss of the connection: %s", got)
	}
	wantCondition(t, ns, "authpolicy/two", "Accepted", "True", "Accepted", "") // the other one never renews
}
