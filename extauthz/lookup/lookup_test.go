package lookup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/policy"
)

const id = "11111111-1111-4111-8111-111111111111"

var thread = policy.Ref{Resource: "threads", ID: id, Path: "/threads/" + id, Member: "thread_id"}

// backend answers in memory, after a while, and counts.
type backend struct {
	wait   time.Duration // of the bubble's clock
	answer func(*http.Request) (*http.Response, error)

	asked, now, most atomic.Int64 // in all, at this moment, at once
}

func (b *backend) RoundTrip(r *http.Request) (*http.Response, error) {
	b.asked.Add(1)
	if n := b.now.Add(1); n > b.most.Load() {
		b.most.Store(n)
	}
	defer b.now.Add(-1)
	select {
	case <-time.After(b.wait):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return b.answer(r)
}

func says(status int, body string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

// owned answers with a thread of that owner's.
func owned(owner string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return says(200, fmt.Sprintf(`{"thread_id":%q,"metadata":{"owner":%q},"values":{}}`, strings.TrimPrefix(r.URL.Path, "/threads/"), owner))(r)
	}
}

func start(t testing.TB, b *backend, change ...func(*Config)) *Client {
	t.Helper()
	config := Config{BackendURL: "http://backend:8000", Transport: b, Timeout: 120 * time.Millisecond, MaxBytes: 4 << 20}
	for _, f := range change {
		f(&config)
	}
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ownerOf asks, and returns the owner that was found: "" for an absent object.
func ownerOf(t *testing.T, c *Client, ref policy.Ref) string {
	t.Helper()
	o, err := c.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	owner, _ := o.Metadata["owner"].(string)
	return owner
}

// wantUnavailable fails the test unless err is the refusal that becomes a 503 with Retry-After.
func wantUnavailable(t *testing.T, err error) {
	t.Helper()
	var refusal *policy.Refusal
	if !errors.As(err, &refusal) || refusal.Outcome != policy.Unavailable || refusal.RetryAfter <= 0 || refusal.Err == nil {
		t.Errorf("got %v, want Unavailable with Retry-After", err)
	}
}

// bubble runs f with a clock of its own.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestKeeping(t *testing.T) {
	bubble(t, "a_found_object_is_kept_for_5_s_from_when_it_was_asked_for", func(t *testing.T) {
		b := &backend{wait: 100 * time.Millisecond, answer: owned("alice")}
		c := start(t, b)
		begin := time.Now()
		ownerOf(t, c, thread)
		b.answer = owned("bob")
		time.Sleep(5*time.Second - time.Since(begin) - 1)
		if got := ownerOf(t, c, thread); got != "alice" || b.asked.Load() != 1 {
			t.Errorf("just before: %q, asked %d times", got, b.asked.Load())
		}
		time.Sleep(1)
		if got := ownerOf(t, c, thread); got != "bob" || b.asked.Load() != 2 {
			t.Errorf("then: %q, asked %d times", got, b.asked.Load())
		}
	})
	bubble(t, "an_absent_object_is_not_kept", func(t *testing.T) {
		b := &backend{answer: says(404, `{"detail":"not found"}`)}
		c := start(t, b)
		if o, err := c.Get(t.Context(), thread); o.Found || err != nil {
			t.Fatalf("got %v, %v", o, err)
		}
		b.answer = owned("alice")
		if got := ownerOf(t, c, thread); got != "alice" {
			t.Errorf("got %q", got)
		}
	})
	bubble(t, "a_failure_is_not_kept", func(t *testing.T) {
		b := &backend{answer: says(500, "")}
		c := start(t, b)
		_, err := c.Get(t.Context(), thread)
		wantUnavailable(t, err)
		b.answer = owned("alice")
		if got := ownerOf(t, c, thread); got != "alice" {
			t.Errorf("got %q", got)
		}
	})
	bubble(t, "two_objects_of_one_path_are_two", func(t *testing.T) {
		c := start(t, &backend{answer: owned("alice")})
		ownerOf(t, c, thread)
		other := thread
		other.ID = "22222222-2222-4222-8222-222222222222"
		_, err := c.Get(t.Context(), other)
		wantUnavailable(t, err)
	})
	bubble(t, "the_least_recently_used_goes_first", func(t *testing.T) {
		b := &backend{answer: owned("alice")}
		c := start(t, b, func(c *Config) { c.MaxEntries = 2 })
		for _, n := range []string{"1", "2", "1", "3", "1", "2"} {
			ownerOf(t, c, policy.Ref{ID: n, Path: "/threads/" + n, Member: "thread_id"})
		}
		if got := b.asked.Load(); got != 4 { // 1, 2, 3, and 2 again
			t.Errorf("asked %d times, want 4", got)
		}
	})
	bubble(t, "memory_is_bounded_whatever_the_metadata", func(t *testing.T) {
		b := &backend{answer: owned(strings.Repeat("x", 10_000))}
		const room = 1 << 20
		c := start(t, b, func(c *Config) { c.MaxMemory = room })
		for i := range 50 {
			n := fmt.Sprint(i)
			ownerOf(t, c, policy.Ref{ID: n, Path: "/threads/" + n, Member: "thread_id"})
		}
		if n := c.cache.entries.Len(); n < 5 || n > 13 || c.cache.used > room || c.cache.used <= 0 {
			t.Errorf("%d objects are kept, in %d bytes", n, c.cache.used)
		}
		b.answer = owned(strings.Repeat("x", room))
		ref := policy.Ref{ID: "big", Path: "/threads/big", Member: "thread_id"}
		ownerOf(t, c, ref)
		ownerOf(t, c, ref)
		if got := b.asked.Load(); got != 52 || c.cache.entries.Len() < 5 {
			t.Errorf("asked %d times, want 52: one that is larger than the room is not kept, and drives no other out", got)
		}
	})
}

func TestForget(t *testing.T) {
	bubble(t, "the_next_look_up_asks_the_backend", func(t *testing.T) {
		b := &backend{answer: owned("alice")}
		c := start(t, b)
		ownerOf(t, c, thread)
		c.Forget(thread)
		b.answer = owned("bob")
		if got := ownerOf(t, c, thread); got != "bob" {
			t.Errorf("got %q", got)
		}
	})
	bubble(t, "what_is_read_before_the_write_arrives_is_not_kept", func(t *testing.T) {
		b := &backend{answer: owned("alice")}
		c := start(t, b)
		c.Forget(thread)
		time.Sleep(time.Second)
		ownerOf(t, c, thread)
		b.answer = owned("bob") // the write arrives
		if got := ownerOf(t, c, thread); got != "bob" {
			t.Errorf("got %q", got)
		}
	})
	bubble(t, "after_5_s_objects_are_kept_again", func(t *testing.T) {
		b := &backend{answer: owned("alice")}
		c := start(t, b)
		c.Forget(thread)
		time.Sleep(5 * time.Second)
		ownerOf(t, c, thread)
		ownerOf(t, c, thread)
		if got := b.asked.Load(); got != 1 {
			t.Errorf("asked %d times, want 1", got)
		}
	})
	bubble(t, "a_look_up_under_way_is_neither_shared_further_nor_kept", func(t *testing.T) {
		b := &backend{wait: 100 * time.Millisecond, answer: owned("alice")}
		c := start(t, b)
		var before string
		var wg sync.WaitGroup
		wg.Go(func() { before = ownerOf(t, c, thread) })
		time.Sleep(50 * time.Millisecond)
		c.Forget(thread)
		if after := ownerOf(t, c, thread); after != "alice" || b.asked.Load() != 2 {
			t.Errorf("got %q, asked %d times, want 2", after, b.asked.Load())
		}
		wg.Wait()
		b.answer = owned("bob")
		if got := ownerOf(t, c, thread); before != "alice" || got != "bob" {
			t.Errorf("got %q, then %q", before, got)
		}
	})
	bubble(t, "nor_is_it_kept_when_other_objects_have_driven_the_note_out", func(t *testing.T) {
		b := &backend{wait: 100 * time.Millisecond, answer: owned("alice")}
		c := start(t, b, func(c *Config) { c.MaxEntries = 1 })
		var wg sync.WaitGroup
		wg.Go(func() { ownerOf(t, c, thread) })
		time.Sleep(50 * time.Millisecond)
		c.Forget(thread)
		c.Forget(policy.Ref{ID: "another"})
		wg.Wait()
		b.answer = owned("bob")
		if got := ownerOf(t, c, thread); got != "bob" {
			t.Errorf("got %q", got)
		}
	})
	bubble(t, "what_was_not_known_can_be_forgotten", func(t *testing.T) {
		start(t, &backend{}).Forget(thread)
	})
}

func TestFlights(t *testing.T) {
	bubble(t, "however_many_ask_the_backend_is_asked_once", func(t *testing.T) {
		b := &backend{wait: 100 * time.Millisecond, answer: owned("alice")}
		c := start(t, b)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if got := ownerOf(t, c, thread); got != "alice" {
					t.Errorf("got %q", got)
				}
			})
		}
		wg.Wait()
		if got := b.asked.Load(); got != 1 {
			t.Errorf("asked %d times", got)
		}
	})
	bubble(t, "the_first_caller_gone_the_others_get_their_answer", func(t *testing.T) {
		b := &backend{wait: 100 * time.Millisecond, answer: owned("alice")}
		c := start(t, b)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := c.Get(ctx, thread)
			wantUnavailable(t, err)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { ownerOf(t, c, thread) })
		synctest.Wait()
		cancel()
		wg.Wait()
		if got := b.asked.Load(); got != 1 {
			t.Errorf("asked %d times", got)
		}
	})
	bubble(t, "a_backend_that_hangs_is_503_after_120_ms", func(t *testing.T) {
		c := start(t, &backend{wait: time.Hour})
		begin := time.Now()
		_, err := c.Get(t.Context(), thread)
		wantUnavailable(t, err)
		if d := time.Since(begin); d != 120*time.Millisecond {
			t.Errorf("after %v", d)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	bubble(t, "so_is_one_that_hangs_within_its_answer", func(t *testing.T) {
		c := start(t, &backend{answer: func(r *http.Request) (*http.Response, error) {
			body := io.MultiReader(strings.NewReader(`{"thread_id":`), until{r.Context()})
			return &http.Response{StatusCode: 200, Body: io.NopCloser(body)}, nil
		}})
		begin := time.Now()
		_, err := c.Get(t.Context(), thread)
		wantUnavailable(t, err)
		if d := time.Since(begin); d != 120*time.Millisecond {
			t.Errorf("after %v", d)
		}
	})
	bubble(t, "no_more_than_so_many_at_once_and_no_more_than_so_many_wait", func(t *testing.T) {
		b := &backend{wait: 50 * time.Millisecond, answer: owned("alice")}
		c := start(t, b, func(c *Config) { c.Parallel, c.Queue = 2, 3 })
		var wg sync.WaitGroup
		var refused atomic.Int64
		for i := range 8 {
			wg.Go(func() {
				n := fmt.Sprint(i)
				if _, err := c.Get(t.Context(), policy.Ref{ID: n, Path: "/threads/" + n, Member: "thread_id"}); err != nil {
					wantUnavailable(t, err)
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		// Three are refused at once, two pairs take 100 ms, and the last one's 120 ms end before its answer.
		if b.most.Load() != 2 || refused.Load() != 4 {
			t.Errorf("%d at once, %d refused", b.most.Load(), refused.Load())
		}
		if c.flying != 0 || len(c.flights) != 0 || len(c.slots) != 0 {
			t.Errorf("%d fly, %d listed, %d slots taken", c.flying, len(c.flights), len(c.slots))
		}
	})
	bubble(t, "a_panic_in_a_transport_is_503", func(t *testing.T) {
		c := start(t, &backend{answer: func(*http.Request) (*http.Response, error) { panic("bug") }})
		_, err := c.Get(t.Context(), thread)
		wantUnavailable(t, err)
		if c.flying != 0 || len(c.slots) != 0 {
			t.Error("its flight goes on")
		}
	})
}

// until is a body that comes to no end before its context does.
type until struct{ context.Context }

func (u until) Read([]byte) (int, error) {
	<-u.Done()
	return 0, errors.New("connection closed")
}

func TestTheBackendIsAskedPlainly(t *testing.T) {
	var got *http.Request
	b := &backend{answer: func(r *http.Request) (*http.Response, error) {
		got = r
		return owned("alice")(r)
	}}
	ownerOf(t, start(t, b), thread)
	want := http.Header{"Accept": {"application/json"}, "Accept-Encoding": {"identity"}, "User-Agent": {"usher"}}
	if got.Method != "GET" || got.URL.String() != "http://backend:8000/threads/"+id || got.Body != nil || !reflect.DeepEqual(got.Header, want) {
		t.Errorf("asked %s %s with %v", got.Method, got.URL, got.Header)
	}
	for _, path := range []string{"", "threads", "@evil.example/threads", ".evil.example/", ":80/", "\x00", "/%zz"} {
		_, err := start(t, b).Get(t.Context(), policy.Ref{Path: path})
		wantUnavailable(t, err)
	}
	if b.asked.Load() != 1 {
		t.Error("the backend was asked for a path that is none")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, url := range []string{"", "backend", "ftp://backend", "http://", "http://:80", "http://backend/path", "http://backend?x", "http://backend#x", "http://u:secret@backend", "http://b\x00"} {
		if _, err := New(Config{BackendURL: url}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v", url, err)
		}
	}
	c, err := New(Config{BackendURL: "https://backend/"})
	if err != nil {
		t.Fatal(err)
	}
	if transport := c.transport.(*http.Transport); transport.Proxy != nil || !transport.DisableCompression {
		t.Error("its own transport goes through a proxy, or undoes encodings")
	}
}
