package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Who has a host is told by name wherever it is told, and never by a line of what only the API server has: in the
// condition, /readyz and the log. So is the rule of a decision.
func TestAConflictNamesTheOtherPolicy(t *testing.T) {
	ns := namespace(t, "conflict")
	p := newProvider(t)
	u := startUsher(t, ns, admin(t))
	kubectl(t, p.manifest(ns, "idp", "")+guard(ns, "conversations", "one.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	time.Sleep(1100 * time.Millisecond) // the age of objects is in whole seconds
	kubectl(t, guard(ns, "newer", "one.test", "idp", ""), "apply", "-f", "-")
	const conflict = `found host "one.test", which AuthPolicy conflict/conversations guards already`
	wantCondition(t, ns, "authpolicy/newer", "Accepted", "False", "Conflicted", "spec.hosts[0]: "+conflict)

	pages := map[string]string{"/readyz": u.readyz(t), "the log": u.part.Log()}
	for name, text := range pages {
		text = strings.ReplaceAll(text, `\"`, `"`)
		if want := "AuthPolicy conflict/newer: spec.hosts[0]: " + conflict; !strings.Contains(text, want) {
			t.Errorf("%s does not say %s:\n%s", name, want, text)
		}
		if at := regexp.MustCompile(`AuthPolicy [a-z/-]+:[0-9].*`).FindString(text); at != "" {
			t.Errorf("%s shows a line that nobody sees: %s", name, at)
		}
	}
	if want := fmt.Sprintf(`"rule_at":"AuthPolicy %s/conversations, spec.rules[0]"`, ns); !strings.Contains(pages["the log"], want) {
		t.Errorf("no decision record has %s", want)
	}
}
