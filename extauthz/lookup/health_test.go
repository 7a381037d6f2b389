package lookup

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/policy"
)

// nth is a thread of its own.
func nth(i int) policy.Ref {
	n := fmt.Sprint(i)
	return policy.Ref{Resource: "threads", ID: n, Path: "/threads/" + n, Member: "thread_id"}
}

func TestBreaker(t *testing.T) {
	refused := func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
	for name, failure := range map[string]func(*http.Request) (*http.Response, error){
		"refused_connections": refused, "502": says(502, ""), "503": says(503, ""), "504": says(504, ""),
	} {
		bubble(t, "after_20_failures_the_backend_rests_for_a_second/"+name, func(t *testing.T) {
			b := &backend{answer: failure}
			c := start(t, b)
			for i := range 100 {
				_, err := c.Get(t.Context(), nth(i))
				wantUnavailable(t, err)
			}
			if got := b.asked.Load(); got != breakAfter {
				t.Errorf("asked %d times, want %d", got, breakAfter)
			}
			if s := c.Status(); s.Openings != 1 || s.Failures != breakAfter || s.Problem == "" {
				t.Errorf("status %+v", s)
			}
			time.Sleep(breakFor + 1)
			synctest.Wait()
			b.answer = owned("alice")
			if got := ownerOf(t, c, thread); got != "alice" {
				t.Errorf("after a second: %q", got)
			}
			if s := c.Status(); s.Problem != "" {
				t.Errorf("well again, but: %s", s.Problem)
			}
		})
	}
	bubble(t, "still_sick_it_is_asked_once_a_second", func(t *testing.T) {
		b := &backend{answer: refused}
		c := start(t, b)
		for range 60 * 10 {
			_, err := c.Get(t.Context(), thread)
			wantUnavailable(t, err)
			time.Sleep(100 * time.Millisecond)
		}
		if got := b.asked.Load(); got > breakAfter+60 {
			t.Errorf("asked %d times in a minute", got)
		}
	})
	bubble(t, "a_timeout_counts", func(t *testing.T) {
		b := &backend{wait: time.Hour}
		c := start(t, b)
		for i := range breakAfter {
			_, err := c.Get(t.Context(), nth(i))
			wantUnavailable(t, err)
		}
		begin := time.Now()
		_, err := c.Get(t.Context(), thread)
		wantUnavailable(t, err)
		if d := time.Since(begin); d != 0 {
			t.Errorf("a resting backend takes %v", d)
		}
	})
	bubble(t, "an_object_that_cannot_be_read_is_no_sickness", func(t *testing.T) {
		// Else anybody could close the backend for all with one object of his own.
		b := &backend{answer: func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == thread.Path {
				return owned("alice")(r)
			}
			return says(200, `{"metadata":[]}`)(r)
		}}
		c := start(t, b)
		for i := range 100 {
			_, err := c.Get(t.Context(), nth(i))
			wantUnavailable(t, err)
		}
		b.answer = func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == thread.Path {
				return owned("alice")(r)
			}
			return says(500, "")(r)
		}
		for i := range 100 {
			_, err := c.Get(t.Context(), nth(i))
			wantUnavailable(t, err)
		}
		if got := ownerOf(t, c, thread); got != "alice" {
			t.Errorf("got %q", got)
		}
	})
	bubble(t, "what_is_known_is_answered_while_it_rests", func(t *testing.T) {
		b := &backend{answer: owned("alice")}
		c := start(t, b)
		ownerOf(t, c, thread)
		b.answer = refused
		for i := range 100 {
			_, err := c.Get(t.Context(), nth(i))
			wantUnavailable(t, err)
		}
		if got := ownerOf(t, c, thread); got != "alice" {
			t.Errorf("got %q", got)
		}
	})
}

func TestProbe(t *testing.T) {
	probing := func(c *Config) { c.Probe = "/ok" }
	// A proxy on the way that knows no such host answers everything 404.
	proxy := says(404, "no such host")
	lacks := func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/ok" {
			return says(200, `{"ok":true}`)(r)
		}
		return says(404, "Thread not found")(r)
	}
	bubble(t, "a_proxy_that_knows_no_such_host_says_nothing_about_an_object", func(t *testing.T) {
		_, err := start(t, &backend{answer: proxy}, probing).Get(t.Context(), thread)
		wantUnavailable(t, err)
	})
	bubble(t, "nor_does_it_where_the_backend_was_a_minute_ago", func(t *testing.T) {
		b := &backend{answer: owned("alice")}
		c := start(t, b, probing)
		ownerOf(t, c, thread)
		time.Sleep(time.Minute)
		b.answer = proxy
		_, err := c.Get(t.Context(), thread)
		wantUnavailable(t, err)
	})
	bubble(t, "a_backend_that_answers_the_probe_has_no_such_object", func(t *testing.T) {
		if o, err := start(t, &backend{answer: lacks}, probing).Get(t.Context(), thread); err != nil || o.Found {
			t.Errorf("got %v, %v", o, err)
		}
	})
	bubble(t, "it_is_probed_once_a_minute_however_many_are_absent", func(t *testing.T) {
		b := &backend{wait: time.Millisecond, answer: lacks}
		c := start(t, b, probing)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if o, err := c.Get(t.Context(), nth(i)); err != nil || o.Found {
					t.Errorf("got %v, %v", o, err)
				}
			})
		}
		wg.Wait()
		if got := b.asked.Load(); got != 51 {
			t.Errorf("asked %d times, want 50 and a probe", got)
		}
	})
	bubble(t, "a_probe_that_hangs_holds_nobody_up_for_longer_than_a_look_up", func(t *testing.T) {
		b := &backend{}
		b.answer = func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/ok" {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return says(404, "")(r)
		}
		c := start(t, b, probing)
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				_, err := c.Get(t.Context(), nth(i))
				wantUnavailable(t, err)
			})
		}
		wg.Wait()
		if d := time.Since(begin); d != 120*time.Millisecond {
			t.Errorf("after %v", d)
		}
	})
}

func TestCredentials(t *testing.T) {
	var got http.Header
	b := &backend{answer: func(r *http.Request) (*http.Response, error) {
		got = r.Header
		return owned("alice")(r)
	}}
	c := start(t, b, withoutDeadline, func(c *Config) { c.Headers = map[string]string{"x-api-key": "key", "Authorization": "Bearer one"} })
	ownerOf(t, c, thread)
	if got.Get("X-Api-Key") != "key" || got.Get("Authorization") != "Bearer one" || got.Get("Accept") != "application/json" {
		t.Errorf("sent %v", got)
	}
	t.Run("without_them_the_error_says_where_to_put_them", func(t *testing.T) {
		for _, code := range []int{401, 403} {
			_, err := start(t, &backend{answer: says(code, "")}, withoutDeadline).Get(t.Context(), thread)
			wantUnavailable(t, err)
			if !strings.Contains(fmt.Sprint(err), "spec.backend.headers") {
				t.Errorf("got %v", err)
			}
		}
	})
	if _, err := New(Config{BackendURL: "https://backend", CA: []byte("none")}); err == nil {
		t.Error("a CA that is none")
	}
}

// Metadata of megabytes is read by a few at a time, whatever else is under way.
func TestLargeAnswersWaitForTheirTurn(t *testing.T) {
	bubble(t, "4_at_once", func(t *testing.T) {
		var now, most atomic.Int64
		b := &backend{answer: func(r *http.Request) (*http.Response, error) {
			id := strings.TrimPrefix(r.URL.Path, "/threads/")
			body := io.MultiReader(
				strings.NewReader(`{"thread_id":"`+id+`","metadata":{"owner":"alice","x":"`+strings.Repeat("x", 1<<20)),
				&slow{now: &now, most: &most}, strings.NewReader(`"}}`))
			return &http.Response{StatusCode: 200, Body: io.NopCloser(body)}, nil
		}}
		c := start(t, b, func(c *Config) { c.Timeout = time.Minute })
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if o, err := c.Get(t.Context(), nth(i)); err != nil || !o.Found {
					t.Errorf("got %v, %v", o.Found, err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 4 || len(c.large) != 0 {
			t.Errorf("%d at once, %d turns are taken", most.Load(), len(c.large))
		}
	})
}

// slow takes a second to end, and counts how many do.
type slow struct{ now, most *atomic.Int64 }

func (s *slow) Read([]byte) (int, error) {
	if n := s.now.Add(1); n > s.most.Load() {
		s.most.Store(n)
	}
	time.Sleep(time.Second)
	s.now.Add(-1)
	return 0, io.EOF
}
