package e2e

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// many is how many policies there are.
var many = flag.Int("many", 50, "how many policies TestManyPolicies applies")

// One more policy among many takes effect soon, and the others stay in force. The times and the memory are told, and not
// judged: the machine is everybody's.
func TestManyPolicies(t *testing.T) {
	ns := namespace(t, "many")
	p := newProvider(t)
	u := startUsher(t, ns, admin(t))
	var b strings.Builder
	b.WriteString(p.manifest(ns, "idp", ""))
	for i := range *many {
		b.WriteString(guard(ns, fmt.Sprintf("p%d", i), fmt.Sprintf("h%d.test", i), "idp", ""))
	}
	begin := time.Now()
	kubectl(t, b.String(), "create", "-f", "-")
	applied := time.Since(begin)
	last := fmt.Sprintf("h%d.test", *many-1)
	u.wantStatus(t, 200, last, "GET", "/items", p.Mint())
	t.Logf("%d policies: applied in %v, the last one in force %v after that", *many, applied.Round(time.Millisecond), (time.Since(begin) - applied).Round(time.Millisecond))
	u.wantStatus(t, 200, "h0.test", "GET", "/items", p.Mint())

	begin = time.Now()
	kubectl(t, guard(ns, "one-more", "one-more.test", "idp", ""), "create", "-f", "-")
	created := time.Since(begin)
	u.wantStatus(t, 200, "one-more.test", "GET", "/items", p.Mint())
	t.Logf("one more: %v for kubectl, in force after %v", created.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	wantCondition(t, ns, fmt.Sprintf("authpolicy/p%d", *many-1), "Programmed", "True", "Programmed", "")
	t.Logf("%d MiB resident", resident(t, u)>>20)
}

// resident is the memory of the process, in bytes.
func resident(t *testing.T, u *usher) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", u.part.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
