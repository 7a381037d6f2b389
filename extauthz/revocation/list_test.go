package revocation

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/usher-authz/usher/policy"
)

func list(t testing.TB) *List {
	t.Helper()
	l, err := New(Config{Provider: "idp", Issuer: "https://idp.test", URL: "redis://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func outcome(err error) policy.Outcome {
	var r *policy.Refusal
	if errors.As(err, &r) {
		return r.Outcome
	}
	if err == nil {
		return policy.Allow
	}
	return policy.Undecided
}

func TestCheck(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	in := entry{before: now.Unix(), expires: now.Unix() + 60}
	l := list(t)
	l.table.put(JTI, "t1", in)
	l.table.put(JTI, "17", in)
	l.table.put(SID, "s1", in)
	l.table.put(SUB, "alice", in)
	for name, c := range map[string]struct {
		claims map[string]any
		at     time.Time
		want   policy.Outcome
	}{
		"a_token_by_jti":                             {map[string]any{"jti": "t1", "iat": now.Unix() + 5}, now, policy.Unauthenticated},
		"a_token_by_a_jti_that_is_a_number":          {map[string]any{"jti": int64(17)}, now, policy.Unauthenticated},
		"a_session_by_sid":                           {map[string]any{"sid": "s1", "iat": now.Unix() + 5}, now, policy.Unauthenticated},
		"a_user's_token_of_the_same_second":          {map[string]any{"sub": "alice", "iat": now.Unix()}, now, policy.Unauthenticated},
		"a_user's_token_of_a_fraction_later":         {map[string]any{"sub": "alice", "iat": float64(now.Unix()) + 0.5}, now, policy.Unauthenticated},
		"a_user's_token_without_iat":                 {map[string]any{"sub": "alice"}, now, policy.Unauthenticated},
		"a_user_who_logged_in_again":                 {map[string]any{"sub": "alice", "iat": now.Unix() + 1}, now, policy.Allow},
		"another_user":                               {map[string]any{"sub": "bob"}, now, policy.Allow},
		"a_kind_is_not_another":                      {map[string]any{"sub": "s1", "sid": "t1", "jti": "alice"}, now, policy.Allow},
		"once_its_time_to_live_has_passed":           {map[string]any{"jti": "t1"}, now.Add(time.Minute), policy.Allow},
		"claims_of_other_types_are_compared_to_none": {map[string]any{"sub": int64(1), "sid": nil}, now, policy.Allow},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcome(l.Check(&policy.Identity{Claims: c.claims}, c.at, true)); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestUnavailable(t *testing.T) {
	l := list(t)
	now := l.made.Add(time.Hour)
	someone := &policy.Identity{Claims: map[string]any{"sub": "bob", "iat": now.Unix()}}
	expect := func(at time.Time, mayLag bool, want policy.Outcome) {
		t.Helper()
		if got := outcome(l.Check(someone, at, mayLag)); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	expect(now, false, policy.Unavailable) // never read
	expect(now, true, policy.Allow)
	l.scanned.Store(true)
	l.alive.Store(int64(time.Hour))
	expect(now.Add(Grace), false, policy.Allow)
	expect(now.Add(Grace+1), false, policy.Unavailable)
	expect(now.Add(Grace+1), true, policy.Allow)
}

// TestFlood: a million entries take no more memory than the bound, and then nobody is let in.
func TestFlood(t *testing.T) {
	l := list(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 1_000_000 {
		l.table.put(SUB, fmt.Sprint(i), entry{before: 1, expires: 1 << 40})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := l.table.size.Load(); n != maxEntries {
		t.Errorf("%d entries, want %d", n, maxEntries)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 20<<20 {
		t.Errorf("grown by %d bytes", grown)
	}
	if got := outcome(l.Check(&policy.Identity{Claims: map[string]any{"sub": "bob"}}, time.Now(), true)); got != policy.Unavailable {
		t.Errorf("got %v, want unavailable", got)
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	l, now := list(t), time.Now()
	l.scanned.Store(true)
	l.seen()
	for i := range 1000 {
		l.table.put(SUB, fmt.Sprint(i), entry{before: 1, expires: 1 << 40})
	}
	id := &policy.Identity{Claims: map[string]any{"sub": "bob", "sid": "s", "jti": "j", "iat": now.Unix()}}
	if n := testing.AllocsPerRun(100, func() { _ = l.Check(id, now, false) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestNamesAreNotPatterns: keys come from claims.
func TestNamesAreNotPatterns(t *testing.T) {
	if got, want := escape(`a*b?[c]\^`), `a\*b\?\[c\]\\\^`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	k, v, ok := split("sub:jti:x\n*")
	if k != SUB || v != "jti:x\n*" || !ok {
		t.Errorf("got %v %q %v", k, v, ok)
	}
	for _, text := range []string{"", "sub", "sub:", "aud:x", ":x"} {
		if _, _, ok := split(text); ok {
			t.Errorf("%q was taken for an entry", text)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	l, now := list(b), time.Now()
	for i := range 100_000 {
		l.table.put(SUB, fmt.Sprint(i), entry{before: 1, expires: 1 << 40})
	}
	l.scanned.Store(true)
	l.seen()
	id := &policy.Identity{Claims: map[string]any{"sub": "bob", "sid": "s", "jti": "j", "iat": now.Unix()}}
	b.ReportAllocs()
	for b.Loop() {
		_ = l.Check(id, now, false)
	}
}
