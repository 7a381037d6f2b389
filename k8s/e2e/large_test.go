package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

// An object as large as the API server takes is in force, or refused with what is too large; others do not wait for it. One
// that is larger the API server refuses itself, and kubectl says so.
func TestAnObjectOfAMegabyte(t *testing.T) {
	ns := namespace(t, "large")
	p := newProvider(t)
	u := startUsher(t, ns, admin(t))
	kubectl(t, p.manifest(ns, "idp", "")+guard(ns, "one", "one.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	full := func(size int, item string) string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			b.WriteString(strings.ReplaceAll(item, "%", fmt.Sprint(i)) + ", ")
		}
		return b.String()
	}
	large := func(name string, size int) string {
		return strings.Replace(guard(ns, name, name+".test", "idp", ", allow: 'user.identity in variables.users'"), "  rules:", "  variables: {users: ["+full(size, `"user-%"`)+" alice]}\n  rules:", 1)
	}
	create := func(text string) (string, error) {
		// kubectl apply would write the whole object into an annotation too, of which the API server takes 256 KiB.
		return shared.Kubectl(t.Context(), text, "create", "-f", "-")
	}
	begin := time.Now()
	if out, err := create(large("users", 1_400_000)); err != nil {
		t.Fatalf("%.500s, %.500v", out, err)
	}
	wantCondition(t, ns, "authpolicy/users", "Programmed", "True", "Programmed", "")
	u.wantStatus(t, 200, "users.test", "GET", "/items", p.Mint())
	u.wantStatus(t, 403, "users.test", "GET", "/items", p.Mint(tokentest.Claims{"sub": "user-x"}))
	t.Logf("a policy of 1.4 MB in force after %v, %d MiB resident", time.Since(begin).Round(time.Millisecond), resident(t, u)>>20)

	many := full(1_000_000, `"c%": "user.identity == 'a'"`)
	if out, err := create(replaced(t, guard(ns, "conditions", "conditions.test", "idp", ""), "  rules:", "  conditions: {"+many+"}\n  rules:")); err == nil || !strings.Contains(out, "must have at most 256 items") {
		t.Errorf("a megabyte of conditions: %v, %.500s", err, out)
	}
	begin = time.Now()
	if out, err := create(replaced(t, guard(ns, "fields", "fields.test", "idp", ""), "  rules:", "  "+strings.ReplaceAll(strings.TrimSuffix(many, ", "), ", ", "\n  ")+"\n  rules:")); err != nil {
		t.Fatalf("%.500s, %.500v", out, err)
	}
	wantCondition(t, ns, "authpolicy/fields", "Accepted", "False", "Invalid", `spec.c0: found unknown field "c0"`)
	t.Logf("another refused after %v, %d MiB resident", time.Since(begin).Round(time.Millisecond), resident(t, u)>>20)
	u.wantStatus(t, 503, "fields.test", "GET", "/items", p.Mint())

	kubectl(t, guard(ns, "one", "two.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "two.test", "GET", "/items", p.Mint())
	if out, err := create(large("larger", 1_700_000)); err == nil || !strings.Contains(out, "request is too large") && !strings.Contains(out, "larger than max") {
		t.Errorf("1.7 MB: %v, %.500s", err, out)
	} else {
		t.Logf("1.7 MB: %.300s", out)
	}
	if out, err := create(large("largest", 4_000_000)); err == nil || !strings.Contains(out, "limit") && !strings.Contains(out, "too large") {
		t.Errorf("4 MB: %v, %.500s", err, out)
	} else {
		t.Logf("4 MB: %.300s", out)
	}
	if out, err := shared.Kubectl(t.Context(), large("applied", 1_000_000), "apply", "-f", "-"); err == nil || !strings.Contains(out, "annotations: Too long") {
		t.Errorf("applied: %v, %.500s", err, out)
	}
	kubectl(t, large("applied", 1_000_000), "apply", "--server-side", "-f", "-")
	u.wantStatus(t, 200, "applied.test", "GET", "/items", p.Mint())
}
