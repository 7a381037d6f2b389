package watch

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/usher-authz/usher/policy"
)

// A lease is held no longer than it can be counted on: whoever was stopped, or cannot reach the API server, writes nothing.
func TestALeaseIsHeldForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{LeaseLock: resourcelock.LeaseLock{LockConfig: resourcelock.ResourceLockConfig{Identity: "me"}}}
		mine := resourcelock.LeaderElectionRecord{HolderIdentity: "me"}
		good, bad := func() error { return nil }, func() error { return errors.New("no") }
		if l.held() {
			t.Error("a lease that nobody made is held")
		}
		if err := l.renew(mine, good); err != nil || !l.held() {
			t.Errorf("a lease that was just made is not held, %v", err)
		}
		time.Sleep(renewWithin - time.Second)
		if err := l.renew(mine, bad); err == nil || !l.held() {
			t.Errorf("one renewal failed: %v", err)
		}
		time.Sleep(time.Second)
		if l.held() {
			t.Error("it is held for longer than it can be counted on")
		}
		if err := l.renew(mine, good); err != nil || !l.held() {
			t.Errorf("it was renewed, %v", err)
		}
		slow := func() error { time.Sleep(renewWithin); return nil }
		if err := l.renew(mine, slow); err != nil || l.held() {
			t.Errorf("the renewal counts from its end, %v", err)
		}
		if err := errors.Join(l.renew(mine, good), l.renew(resourcelock.LeaderElectionRecord{}, good)); err != nil || l.held() {
			t.Errorf("it was released, %v", err)
		}
	})
}

func TestMessagesAreBounded(t *testing.T) {
	var ps policy.Problems
	for range 1000 {
		ps = append(ps, policy.Problem{Found: strings.Repeat("ü", 100), Hint: "x"})
	}
	got := text(ps)
	if len(got) > maxMessage || !strings.HasSuffix(got, "...") && !strings.Contains(got, "more") || strings.ContainsRune(got, '\uFFFD') {
		t.Errorf("%d bytes, ending in %q", len(got), got[len(got)-20:])
	}
	if got := text(policy.Problems{{Found: "found it", Pos: policy.Position{File: "AuthPolicy b/two", Line: 1, Column: 7, Path: "spec.hosts[0]", Stored: true}, Hint: "see there"}}); got != "spec.hosts[0]: found it (see there)" {
		t.Errorf("got %q", got)
	}
	if got := text(policy.Problems{{Found: "found it", Pos: policy.Position{File: "AuthPolicy b/two[OpenAPI]", Line: 3, Column: 7, Path: "paths./items"}}}); got != "OpenAPI document:3:7: paths./items: found it" {
		t.Errorf("got %q", got)
	}
	if got := text(nil); got == "" {
		t.Error("nothing is said of what is not valid")
	}
}
