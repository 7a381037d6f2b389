package revocation

import (
	"errors"
	"hash/maphash"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-authz/usher/extauthz/fair"
	"github.com/usher-authz/usher/policy"
)

const (
	// maxEntries bounds the list of one provider, at some 12 MB. Beyond it every token of the provider is answered 503,
	// whatever a policy says of a list that cannot be read: a revocation that is not known would let somebody in.
	maxEntries = 200_000
	// Grace is how long the list is good without a sign of life of its server: a restart of it passes unseen, and a
	// revocation takes at most that longer.
	Grace = 10 * time.Second
	// forever is how long an entry without a time to live is kept after it was seen last.
	forever = 24 * time.Hour
)

// Kind says what an entry revokes.
type Kind byte

// The kinds.
const (
	JTI Kind = 1 + iota // one token
	SID                 // all tokens of a session
	SUB                 // a user's tokens that were issued up to a time
)

var kinds = map[Kind]string{JTI: "jti", SID: "sid", SUB: "sub"}

// String returns the name of the claim.
func (k Kind) String() string { return kinds[k] }

// split takes KIND ":" VALUE apart.
func split(text string) (Kind, string, bool) {
	name, value, found := strings.Cut(text, ":")
	for k, n := range kinds {
		if found && n == name && value != "" {
			return k, value, true
		}
	}
	return 0, "", false
}

// always is a time before which every token was issued.
const always = math.MaxInt64

// entry is 16 bytes, and the value that it is for is a hash: no value makes the list larger than another.
type entry struct {
	before  int64 // Unix time; tokens issued then or earlier are revoked
	expires int64 // Unix time
}

// held counts the entries of a table that take of the room of all.
type held struct {
	room   *fair.Room
	tenant string
	n      int64
}

func (h *held) take() bool {
	if !h.room.TryAcquire(h.tenant, 1) {
		return false
	}
	h.n++
	return true
}

// leave gives back so many.
func (h *held) leave(n int64) {
	if n > 0 {
		h.room.Release(h.tenant, n)
		h.n -= n
	}
}

// table is the list in memory. The zero table must not be used. It is safe for concurrent use.
type table struct {
	seed maphash.Seed // of the process: nobody can look for two values with one hash
	size atomic.Int64
	full atomic.Bool
	// overflows counts the entries for which there was no room.
	overflows atomic.Uint64

	mu      sync.RWMutex
	entries map[uint64]entry
	held    *held
}

// newTable returns an empty table, whose entries take of the room until nobody has the table any more.
func newTable(room *fair.Room, tenant string) *table {
	t := &table{seed: maphash.MakeSeed(), entries: map[uint64]entry{}, held: &held{room: room, tenant: tenant}}
	runtime.AddCleanup(t, func(h *held) { h.leave(h.n) }, t.held)
	return t
}

// hash separates the kinds by two bits of the result: a session is never a user of the same name.
func (t *table) hash(k Kind, value string) uint64 {
	return maphash.String(t.seed, value)<<2 | uint64(k)
}

// put adds an entry. What is there is never shortened.
func (t *table) put(k Kind, value string, e entry) {
	if k != SUB {
		e.before = always
	}
	h := t.hash(k, value)
	t.mu.Lock()
	defer t.mu.Unlock()
	old, there := t.entries[h]
	if !there && (len(t.entries) >= maxEntries || !t.held.take()) {
		t.overflows.Add(1)
		t.full.Store(true)
		return
	}
	t.entries[h] = entry{before: max(old.before, e.before), expires: max(old.expires, e.expires)}
	t.size.Store(int64(len(t.entries)))
}

// drop takes an entry back.
func (t *table) drop(k Kind, value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := len(t.entries)
	delete(t.entries, t.hash(k, value))
	t.held.leave(int64(before - len(t.entries)))
	t.size.Store(int64(len(t.entries)))
}

// sweep drops what has expired.
func (t *table) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := len(t.entries)
	for h, e := range t.entries {
		if e.expires <= now.Unix() {
			delete(t.entries, h)
		}
	}
	t.held.leave(int64(before - len(t.entries)))
	t.size.Store(int64(len(t.entries)))
}

// revoked reports whether the claims are those of a revoked token. A token without iat was issued before any time.
func (t *table) revoked(claims map[string]any, now time.Time) bool {
	if t.size.Load() == 0 {
		return false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	at := now.Unix()
	if v, ok := name(claims["jti"]); ok && t.entries[t.hash(JTI, v)].expires > at {
		return true
	}
	if v, ok := name(claims["sid"]); ok && t.entries[t.hash(SID, v)].expires > at {
		return true
	}
	v, ok := claims["sub"].(string)
	if !ok {
		return false
	}
	e, ok := t.entries[t.hash(SUB, v)]
	return ok && e.expires > at && issued(claims["iat"]) <= e.before
}

// name is what a claim names as the list writes it. A jti is a text (RFC 7519, section 4.1.7), but some providers number
// theirs.
func name(claim any) (string, bool) {
	switch v := claim.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), true
	}
	return "", false
}

// issued reads a NumericDate (RFC 7519, section 2) down to its second; one that cannot be read is the earliest.
func issued(iat any) int64 {
	switch iat := iat.(type) {
	case int64:
		return iat
	case float64:
		if iat >= 0 && iat < math.MaxInt32*100 {
			return int64(iat)
		}
	}
	return 0
}

var errRevoked = errors.New("the token, its session or its user's earlier tokens were revoked")

// Check refuses a token that was revoked: 401. It is answered 503 if the list cannot tell: it is too long or, unless
// mayLag, it was never read or its server cannot be reached. It does no I/O and does not allocate for a good token.
func (l *List) Check(id *policy.Identity, now time.Time, mayLag bool) error {
	if l.table.revoked(id.Claims, now) {
		const text = "The access token was revoked."
		return &policy.Refusal{
			Outcome: policy.Unauthenticated, Detail: text, Err: errRevoked,
			Challenge: `error="invalid_token", error_description="` + text + `"`,
		}
	}
	if problem := l.unavailable(now, mayLag); problem != "" {
		return &policy.Refusal{
			Outcome: policy.Unavailable, Detail: "Revoked tokens cannot be told now.", RetryAfter: time.Second, Err: errors.New(problem),
		}
	}
	return nil
}

// unavailable says why the list cannot tell, or "".
func (l *List) unavailable(now time.Time, mayLag bool) string {
	switch {
	case l.table.full.Load():
		return "the revocation list is longer than can be held"
	case mayLag:
		return ""
	case !l.scanned.Load():
		return "the revocation list was never read"
	case now.Sub(l.made)-time.Duration(l.alive.Load()) > Grace:
		return "the revocation list cannot be reached"
	}
	return ""
}
