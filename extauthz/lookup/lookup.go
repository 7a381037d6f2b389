package lookup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/usher-authz/usher/extauthz/egress"
	"github.com/usher-authz/usher/extauthz/fair"
	"github.com/usher-authz/usher/policy"
)

// Config configures a Client. The zero fields mean the defaults.
type Config struct {
	BackendURL string            // http or https, without a path
	Headers    map[string]string // sent with each look-up, such as a key of the backend's; a client's request never gets them
	CA         []byte            // PEM certificates that the backend is trusted by, instead of the usual roots
	Tenant     string            // whose it is: see policy.Source. Clients of two are not equal, and fail each for itself
	NoLocal    bool              // connect to no address of this machine or its link: see package egress
	Probe      string            // path that the backend answers 200; before it did, a 404 of an object means nothing. Empty: it does
	Transport  http.RoundTripper // nil: one of its own, without a proxy from the environment
	Now        func() time.Time  // nil: time.Now
	TTL        time.Duration     // how old metadata may be; 0: 5 s
	Timeout    time.Duration     // of one look-up; 0: 1 s. A caller waits no longer than its own context
	MaxEntries int               // how many objects are kept; 0: 10,000
	MaxMemory  int               // about how many bytes they take; 0: 16 MiB
	MaxBytes   int64             // of an answer, in which the metadata must stand; 0: 8 MiB, twice the largest body by default
	Parallel   int               // look-ups under way at once; 0: 64
	Queue      int               // look-ups that wait for their turn; 0: 1,024
	Large      int               // answers of more than 256 KiB that are read at once; 0: 4
	Room       *fair.Room        // of RoomOfAnswers, for all clients of a process; nil: one of its own
}

// Client looks objects up at one backend. It is safe for concurrent use. The zero Client is not usable: see New.
type Client struct {
	base      string // scheme and host
	transport http.RoundTripper
	now       func() time.Time
	ttl       time.Duration
	timeout   time.Duration
	maxBytes  int64
	headers   http.Header
	probe     *probe // nil: none
	breaker   *gobreaker.CircuitBreaker[answer]
	slots     chan struct{}
	large     chan struct{}
	room      *fair.Room
	tenant    string
	memory    int // of the cache, at most
	most      int // flights at once, under way and waiting
	counts    counts

	mu      sync.Mutex
	cache   *cache
	flights map[policy.Ref]*flight // that further callers may share
	flying  int                    // all of them
}

// flight is one look-up, for however many ask.
type flight struct {
	began     time.Time
	done      chan struct{} // closed when object and err are set
	object    policy.Object
	err       error
	forgotten bool // a write passed since it began; guarded by Client.mu
}

// New returns a client. It does no I/O.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.BackendURL)
	if err == nil && u.User != nil {
		return nil, errors.New("backend URL: it carries a user name, expected none")
	}
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("backend URL %q: expected http://HOST or https://HOST without a path", c.BackendURL)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	orElse(&c.TTL, 5*time.Second)
	orElse(&c.Timeout, time.Second)
	orElse(&c.MaxEntries, 10_000)
	orElse(&c.MaxMemory, 16<<20)
	orElse(&c.MaxBytes, 8<<20)
	orElse(&c.Parallel, 64)
	orElse(&c.Queue, 1024)
	orElse(&c.Large, 4)
	if c.Room == nil {
		c.Room = fair.NewRoom(RoomOfAnswers)
	}
	if c.Transport == nil {
		roots, err := authorities(c.CA)
		if err != nil {
			return nil, err
		}
		c.Transport = &http.Transport{
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			Proxy:                  nil, // whose metadata decides must not come from a proxy that the environment names
			DialContext:            egress.Dialer(c.Timeout, c.NoLocal).DialContext,
			TLSHandshakeTimeout:    time.Second,
			DisableCompression:     true,
			MaxConnsPerHost:        c.Parallel,
			MaxIdleConnsPerHost:    c.Parallel,
			IdleConnTimeout:        4 * time.Second, // Node and uvicorn close theirs after 5
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		}
	}
	cache, err := newCache(c.MaxEntries, c.MaxMemory)
	if err != nil {
		return nil, err
	}
	client := &Client{
		base: u.Scheme + "://" + u.Host, transport: c.Transport, now: c.Now, ttl: c.TTL, timeout: c.Timeout, maxBytes: c.MaxBytes,
		slots: make(chan struct{}, c.Parallel), most: c.Parallel + c.Queue, large: make(chan struct{}, c.Large),
		room: c.Room, tenant: c.Tenant, memory: c.MaxMemory,
		cache: cache, flights: map[policy.Ref]*flight{},
		headers: http.Header{
			"Accept":          {"application/json"},
			"Accept-Encoding": {"identity"}, // a small answer must not become a large one here
			"User-Agent":      {"usher"},
		},
	}
	for name, value := range c.Headers {
		client.headers.Set(name, value)
	}
	if c.Probe != "" {
		client.probe = &probe{path: c.Probe, turn: make(chan struct{}, 1)}
	}
	client.breaker = newBreaker(&client.counts)
	return client, nil
}

// Keep bounds how many bytes the objects take that are kept from now on, and what is kept already: never more than MaxMemory.
func (c *Client) Keep(memory int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cache.max = min(memory, c.memory)
	c.cache.trim()
}

// authorities are the CAs that the backend is trusted by; nil: the usual ones.
func authorities(pem []byte) (*x509.CertPool, error) {
	if len(pem) == 0 {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("backend: the CA has no certificate in PEM")
	}
	return roots, nil
}

func orElse[T int | int64 | time.Duration](value *T, fallback T) {
	if *value <= 0 {
		*value = fallback
	}
}

// Get returns the object, from memory or from the backend, with one look-up for however many ask at once. An object that
// does not exist is the zero Object. Its Metadata is shared: nobody may write to it. The error is a *policy.Refusal
// Unavailable, also where ctx ends first, which is then what it wraps; the look-up itself goes on for the others.
func (c *Client) Get(ctx context.Context, ref policy.Ref) (policy.Object, error) {
	now := c.now()
	c.mu.Lock()
	if object, ok := c.cache.get(ref, now); ok {
		c.mu.Unlock()
		c.counts.hits.Add(1)
		return object, nil
	}
	f := c.flights[ref]
	if f == nil {
		if c.flying >= c.most {
			c.mu.Unlock()
			return policy.Object{}, unavailable(ref, errors.New("too many look-ups under way"))
		}
		f = &flight{began: now, done: make(chan struct{})}
		c.flights[ref] = f
		c.flying++
		go c.fly(ref, f)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.object, f.err
	case <-ctx.Done():
		return policy.Object{}, unavailable(ref, context.Cause(ctx))
	}
}

// Forget drops what is known of the object at the reference's path, however it is read, as a write to it is about to pass.
//
// The write reaches the backend only after Usher has answered, at a time that Usher does not learn. So for TTL from now
// on nothing of the object is kept, and a look-up that began before is shared with nobody who asks later: each answer is
// as fresh as the backend's own. A write that takes longer than TTL to arrive can be missed for TTL more, and so can one
// that passes another replica of Usher, or none: TTL is the bound that always holds.
func (c *Client) Forget(ref policy.Ref) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for r, f := range c.flights { // not more than Parallel and Queue
		if r.Path == ref.Path {
			f.forgotten = true
			delete(c.flights, r)
		}
	}
	c.cache.bar(ref, now.Add(c.ttl))
}

// fly does a flight's look-up within the client's own deadline: the first caller's context says nothing about the others.
func (c *Client) fly(ref policy.Ref, f *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	var size int
	defer func() {
		// A panic is a bug, and must leave no flight that nobody ends.
		if p := recover(); p != nil {
			f.object, f.err = policy.Object{}, unavailable(ref, fmt.Errorf("panic: %T", p))
		}
		c.land(ref, f, size)
		close(f.done)
	}()
	if c.breaker.State() == gobreaker.StateOpen {
		f.err = unavailable(ref, errResting) // at once, without a turn
		return
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		f.err = unavailable(ref, fmt.Errorf("wait for a turn: %w", context.Cause(ctx)))
		return
	}
	found, err := c.breaker.Execute(func() (answer, error) { return c.ask(ctx, ref) })
	if err != nil {
		if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
			err = errResting
		}
		f.err = unavailable(ref, err)
		return
	}
	f.object, size = found.object, found.size
}

// ask fetches the object. That there is none counts only from a backend that is known to be the right one.
func (c *Client) ask(ctx context.Context, ref policy.Ref) (a answer, err error) {
	defer func() { c.counts.note(err) }()
	if a, err = c.fetch(ctx, ref); err != nil || c.probe == nil {
		return a, err
	}
	if a.object.Found {
		c.probe.passed(c.now())
		return a, nil
	}
	return a, c.prove(ctx)
}

// land takes a flight off the list and keeps what it has found, unless a write passed meanwhile or shortly before.
func (c *Client) land(ref policy.Ref, f *flight, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flying--
	if c.flights[ref] == f {
		delete(c.flights, ref)
	}
	if f.err == nil && f.object.Found && !f.forgotten {
		c.cache.put(ref, f.object, size, f.began, f.began.Add(c.ttl))
	}
}

// unavailable is the one refusal of this package. Its error names the object, and holds nothing that the backend said.
func unavailable(ref policy.Ref, err error) error {
	return &policy.Refusal{
		Outcome: policy.Unavailable, Detail: "The backend cannot be asked now.", RetryAfter: time.Second,
		Err: fmt.Errorf("look up %s %q: %w", ref.Resource, ref.ID, err),
	}
}
