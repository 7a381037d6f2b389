package revocation

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
)

// DefaultPrefix of keys and channels.
const DefaultPrefix = "usher:revoked:"

// timeout of each command and of connecting. No request waits for one.
const timeout = 3 * time.Second

// Config says where the list is.
type Config struct {
	Provider           string // for the log
	Issuer             string // exact, as the manifest says it
	URL                string // redis://HOST:PORT/DB or rediss://
	Username, Password string
	CA                 []byte  // PEM of the only roots that the server is trusted by; empty: the usual ones
	NoLocal            bool    // connect to no address of this machine or its link: see package egress
	Prefix             string  // of keys and channels; empty: DefaultPrefix
	Tenant             string  // whose it is: see policy.Source
	Bounds             *Bounds // of all lists of the process; nil: of this one alone

	Logger *zap.Logger // nil: no log
}

// List is the revocation list of one provider. It is safe for concurrent use; [List.Run] must run beside it. The zero
// List must not be used; make one with [New].
type List struct {
	config  Config
	address string
	options []redis.DialOption
	base    string // of keys: prefix and issuer
	table   *table
	log     *zap.Logger
	writers *semaphore.Weighted

	scanned atomic.Bool  // once: the whole list was read
	alive   atomic.Int64 // the server's last sign of life, in ns since made
	made    time.Time    // by the monotonic clock: whoever sets the clock back does not lengthen an outage

	mu      sync.Mutex
	since   time.Time // of the connection, or of its loss
	online  bool
	problem string
	reasons []string // of an outage, that were logged
}

// Status is how a list is.
type Status struct {
	Connected bool      `json:"connected"`
	Entries   int       `json:"entries"`
	Full      bool      `json:"full,omitempty"` // longer than can be held: every token is answered 503
	Since     time.Time `json:"since,omitzero"` // connected, or not
	Problem   string    `json:"problem,omitempty"`
}

// New returns an empty list. It does no I/O. The error names what is wrong in the Config, and no password.
func New(c Config) (*List, error) {
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.Bounds == nil {
		c.Bounds = NewBounds()
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "redis" && u.Scheme != "rediss" {
		return nil, fmt.Errorf("provider %q: the revocation list's URL is not redis://HOST:PORT/DB", c.Provider)
	}
	db := 0
	if path := strings.Trim(u.Path, "/"); path != "" {
		if db, err = strconv.Atoi(path); err != nil || db < 0 {
			return nil, fmt.Errorf("provider %q: the revocation list's database is no number", c.Provider)
		}
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	sum := sha256.Sum256([]byte(c.Issuer))
	l := &List{
		config: c, address: net.JoinHostPort(u.Hostname(), port), base: c.Prefix + hex.EncodeToString(sum[:]),
		table: newTable(c.Bounds.entries, c.Tenant), made: time.Now(), log: c.Logger, writers: semaphore.NewWeighted(8),
		options: []redis.DialOption{
			redis.DialReadTimeout(timeout), redis.DialWriteTimeout(timeout),
			redis.DialDatabase(db), redis.DialUsername(c.Username), redis.DialPassword(c.Password),
		},
	}
	if l.log == nil {
		l.log = zap.NewNop()
	}
	var t *tls.Config
	if u.Scheme == "rediss" {
		t = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
		if len(c.CA) > 0 {
			t.RootCAs = x509.NewCertPool()
			if !t.RootCAs.AppendCertsFromPEM(c.CA) {
				return nil, fmt.Errorf("provider %q: the revocation list's CA holds no certificate", c.Provider)
			}
		}
	}
	l.options = append(l.options, dialer(c.NoLocal, t))
	return l, nil
}

// Inherit takes over what another list of the same issuer and prefix knows, so that a change of the configuration forgets no
// revocation. Before its own first reading, the list is then as good as the other was at its server's last sign of life, if it
// is the same server. Both may run for a while. It must be called before l is used.
func (l *List) Inherit(other *List) {
	if other.base != l.base {
		return
	}
	l.table = other.table
	if other.config.URL == l.config.URL {
		l.made = other.made
		l.alive.Store(other.alive.Load())
		l.scanned.Store(other.scanned.Load())
	}
}

func (l *List) dial(ctx context.Context) (redis.Conn, error) {
	return redis.DialContext(ctx, "tcp", l.address, l.options...)
}

// raise sets a user's time and lengthens any entry's life; a logout token that comes late or twice takes nothing back. An
// entry that never expires stays so. What is no time (see List.read) revokes every token, whatever its type, and stays.
var raise = redis.NewScript(1, `
local key, at, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
local left = redis.call('PTTL', key)
local lower = left == -2
if redis.call('TYPE', key).ok == 'string' then
  local old = redis.call('GETRANGE', key, 0, 20)
  lower = #old <= 20 and old:match('^[+-]?%d+$') and math.abs(tonumber(old)) < 9.2e18 and tonumber(old) < tonumber(at)
end
if lower then redis.call('SET', key, at, 'KEEPTTL') end
if left == -2 or left >= 0 and left < ttl then redis.call('PEXPIRE', key, ttl) end
return redis.call('PUBLISH', ARGV[3], ARGV[4])`)

// Revoke adds an entry: to this process at once, whatever becomes of the rest, and to the server, from where all others
// have it. An error means that others may not know of it. before is meant for SUB alone. It waits for the server as long
// as ctx allows, and 3 s at most.
func (l *List) Revoke(ctx context.Context, k Kind, value string, before time.Time, ttl time.Duration) error {
	if kinds[k] == "" || value == "" || ttl < time.Second {
		return errors.New("revoke: expected a kind, a value and a time to live")
	}
	l.table.put(k, value, entry{before: before.Unix(), expires: time.Now().Add(ttl).Unix()})
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := l.writers.Acquire(ctx, 1); err != nil {
		return errors.New("revoke: too many at once")
	}
	defer l.writers.Release(1)
	conn, err := l.dial(ctx)
	if err != nil {
		return errors.New("revoke: the list's server cannot be reached")
	}
	defer conn.Close()
	suffix := k.String() + ":" + value
	if _, err := raise.DoContext(ctx, conn, l.base+":"+suffix, before.Unix(), ttl.Milliseconds(), l.base, suffix); err != nil {
		return errors.New("revoke: the list's server did not take the entry")
	}
	return nil
}

// seen notes a sign of life of the server.
func (l *List) seen() { l.alive.Store(int64(time.Since(l.made))) }

// Ready reports whether tokens can be told; mayLag is that of [List.Check].
func (l *List) Ready(mayLag bool) bool { return l.unavailable(time.Now(), mayLag) == "" }

// Status says how the list is.
func (l *List) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Status{
		Connected: l.online, Entries: int(l.table.size.Load()), Full: l.table.full.Load(), Since: l.since, Problem: l.problem,
	}
}
