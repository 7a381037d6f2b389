package lookup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/usher-authz/usher/policy"
)

// Config configures a Client. The zero fields mean the defaults.
type Config struct {
	BackendURL string            // http or https, without a path
	Transport  http.RoundTripper // nil: one of its own, without a proxy from the environment
	Now        func() time.Time  // nil: time.Now
	TTL        time.Duration     // how long metadata is kept; 0: 5 s
	Timeout    time.Duration     // of one request; 0: 1 s. A caller waits no longer than its own context
	MaxEntries int               // of the cache; 0: 10,000
	MaxBytes   int64             // of an answer that are read; 0: 8 MiB
	Parallel   int64             // requests under way at once; 0: 64
}

// Client looks objects up at one backend. It is safe for concurrent use.
type Client struct {
	base     string
	http     *http.Client
	now      func() time.Time
	ttl      time.Duration
	timeout  time.Duration
	maxBytes int64
	slots    *semaphore.Weighted
	flights  singleflight.Group

	mu      sync.Mutex
	entries *lru.Cache[policy.Ref, entry]
	writes  *lru.Cache[policy.Ref, time.Time] // when a write to the object passed last
}

// maxKept bounds, in bytes of JSON, the metadata of an object that is kept: what a client stores there must not fill
// Usher's memory.
const maxKept = 16 << 10

type entry struct {
	object policy.Object
	until  time.Time
}

// New returns a client. It does no I/O.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.BackendURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("backend URL %q: expected http://HOST or https://HOST without a path", c.BackendURL)
	}
	or := func(d *time.Duration, fallback time.Duration) {
		if *d <= 0 {
			*d = fallback
		}
	}
	or(&c.TTL, 5*time.Second)
	or(&c.Timeout, time.Second)
	if c.MaxEntries <= 0 {
		c.MaxEntries = 10_000
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 8 << 20
	}
	if c.Parallel <= 0 {
		c.Parallel = 64
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: c.Timeout}).DialContext,
			MaxIdleConnsPerHost: int(c.Parallel), MaxConnsPerHost: int(c.Parallel),
			IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: time.Second, MaxResponseHeaderBytes: 64 << 10,
		}
	}
	client := &Client{
		base: u.Scheme + "://" + u.Host, now: c.Now, ttl: c.TTL, timeout: c.Timeout, maxBytes: c.MaxBytes,
		slots: semaphore.NewWeighted(c.Parallel),
		http: &http.Client{Transport: c.Transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}
	if client.entries, err = lru.New[policy.Ref, entry](c.MaxEntries); err != nil {
		return nil, err
	}
	if client.writes, err = lru.New[policy.Ref, time.Time](c.MaxEntries); err != nil {
		return nil, err
	}
	return client, nil
}

// Get returns the object, from the cache or from the backend, with one request for however many ask at once. An object
// that does not exist is the zero Object. The error is a *policy.Refusal Unavailable.
func (c *Client) Get(ctx context.Context, ref policy.Ref) (policy.Object, error) {
	now := c.now()
	c.mu.Lock()
	e, ok := c.entries.Get(ref)
	c.mu.Unlock()
	if ok && now.Before(e.until) {
		return e.object, nil
	}
	// The flight does not end with the first caller's context: the others wait for it too.
	flight := c.flights.DoChan(ref.Path, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
		defer cancel()
		began := c.now()
		o, size, err := c.fetch(ctx, ref)
		if err == nil && o.Found && size <= maxKept {
			c.keep(ref, o, began)
		}
		return o, err
	})
	select {
	case result := <-flight:
		if result.Err != nil {
			return policy.Object{}, unavailable(result.Err)
		}
		return result.Val.(policy.Object), nil
	case <-ctx.Done():
		return policy.Object{}, unavailable(fmt.Errorf("look up %s: %w", ref.Resource, ctx.Err()))
	}
}

func unavailable(err error) error {
	return &policy.Refusal{Outcome: policy.Unavailable, Detail: "The backend cannot be asked now.", RetryAfter: time.Second, Err: err}
}

// keep stores what a look-up that began at that time has found, unless a write passed meanwhile or shortly before: the
// write reaches the backend after Usher has answered, so what was found may be what it replaces.
func (c *Client) keep(ref policy.Ref, o policy.Object, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wrote, ok := c.writes.Get(ref); ok && !wrote.Add(c.ttl).Before(began) {
		return
	}
	c.entries.Add(ref, entry{o, c.now().Add(c.ttl)})
}

// Forget drops what is known of the object, as a write to it is about to pass, and has nothing kept of it that is looked
// up in the next moments (TTL).
func (c *Client) Forget(ref policy.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Remove(ref)
	c.writes.Add(ref, c.now())
	c.flights.Forget(ref.Path)
}

// fetch asks the backend; size is that of the metadata in bytes.
func (c *Client) fetch(ctx context.Context, ref policy.Ref) (o policy.Object, size int, err error) {
	if err := c.slots.Acquire(ctx, 1); err != nil {
		return policy.Object{}, 0, fmt.Errorf("look up %s: too many look-ups under way: %w", ref.Resource, err)
	}
	defer c.slots.Release(1)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+ref.Path, nil)
	if err != nil {
		return policy.Object{}, 0, fmt.Errorf("look up %s: %w", ref.Resource, err)
	}
	request.Header.Set("Accept", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return policy.Object{}, 0, fmt.Errorf("look up %s at %q: %w", ref.Resource, c.base, err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusUnprocessableEntity:
		return policy.Object{}, 0, nil
	default:
		return policy.Object{}, 0, fmt.Errorf("look up %s at %q: backend answered %d", ref.Resource, c.base, response.StatusCode)
	}
	o, size, err = read(io.LimitReader(response.Body, c.maxBytes), ref)
	if err != nil {
		return policy.Object{}, 0, fmt.Errorf("look up %s at %q: %w", ref.Resource, c.base, err)
	}
	return o, size, nil
}

// read takes the metadata, and the member that must be the object's id, from the backend's answer. It reads a stream and
// stops once it has both: both servers write them before a thread's values, which may be many megabytes.
func read(body io.Reader, ref policy.Ref) (o policy.Object, size int, err error) {
	malformed := func(error) error { // without the error, which may show what it read
		return errors.New("the answer is not the JSON object that was expected, or is too large")
	}
	d := jsontext.NewDecoder(body, jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return policy.Object{}, 0, malformed(err)
	}
	o.Found = true
	id, seenID, seenMetadata := "", ref.Member == "", false
	for !(seenID && seenMetadata) && d.PeekKind() != '}' {
		t, err := d.ReadToken()
		if err != nil {
			return policy.Object{}, 0, malformed(err)
		}
		switch name := t.String(); name {
		case "metadata":
			raw, err := d.ReadValue()
			if err != nil {
				return policy.Object{}, 0, malformed(err)
			}
			v, err := policy.ParseValue(raw)
			if err != nil {
				return policy.Object{}, 0, malformed(err)
			}
			object, ok := v.(map[string]any)
			if !ok && v != nil {
				return policy.Object{}, 0, malformed(nil)
			}
			o.Metadata, seenMetadata, size = object, true, len(raw)
		case ref.Member:
			t, err := d.ReadToken()
			if err != nil {
				return policy.Object{}, 0, malformed(err)
			}
			if seenID = true; t.Kind() == '"' {
				id = t.String()
			}
		default:
			if err := d.SkipValue(); err != nil {
				return policy.Object{}, 0, malformed(err)
			}
		}
	}
	if !(seenID && seenMetadata) {
		return policy.Object{}, 0, malformed(nil)
	}
	if ref.Member != "" && id != ref.ID {
		return policy.Object{}, 0, errors.New("the answer is about another object")
	}
	return o, size, nil
}
