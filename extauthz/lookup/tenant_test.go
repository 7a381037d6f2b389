package lookup

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/fair"
)

// A tenant has as many backends as it writes policies. What they answer at once is bounded for all of them together, and leaves
// room for the others.
func TestBackendsOfOneTenantTakeHalf(t *testing.T) {
	for _, c := range []struct {
		name string
		size int
		most int64
	}{
		{"large_answers", 300 << 10, 4},
		{"other_answers", 200 << 10, 64},
	} {
		bubble(t, c.name, func(t *testing.T) {
			var now, most atomic.Int64
			hanging := func(r *http.Request) (*http.Response, error) {
				body := io.MultiReader(strings.NewReader(`{"thread_id":"`+strings.TrimPrefix(r.URL.Path, "/threads/")+`","metadata":{"x":"`+strings.Repeat("x", c.size)), &slow{now: &now, most: &most})
				return &http.Response{StatusCode: 200, Body: io.NopCloser(body)}, nil
			}
			room := fair.NewRoom(RoomOfAnswers)
			tenant := func(name string) func(*Config) {
				return func(c *Config) { c.Tenant, c.Room, c.Timeout = name, room, 10*time.Second }
			}
			victim := start(t, &backend{answer: func(r *http.Request) (*http.Response, error) {
				return says(200, fmt.Sprintf(`{"thread_id":%q,"metadata":{"owner":"alice","x":%q}}`, strings.TrimPrefix(r.URL.Path, "/threads/"), strings.Repeat("x", c.size)))(r)
			}}, tenant("victim"))
			var group sync.WaitGroup
			for range 16 {
				client := start(t, &backend{answer: hanging}, tenant("hostile"))
				for i := range 20 {
					group.Go(func() { _, _ = client.Get(t.Context(), nth(i)) })
				}
			}
			time.Sleep(time.Millisecond) // all of them are under way
			for i := range 10 {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				if o, err := victim.Get(ctx, nth(i)); err != nil || !o.Found {
					t.Errorf("the other tenant gets %v, %v", o.Found, err)
				}
				cancel()
			}
			group.Wait()
			if most.Load() != c.most {
				t.Errorf("%d answers were read at once, want %d", most.Load(), c.most)
			}
			if !room.TryAcquire("", RoomOfAnswers) {
				t.Error("not all room was given back")
			}
		})
	}
}

// Backends that do not answer at all take no room.
func TestSilentBackendsTakeNoRoom(t *testing.T) {
	bubble(t, "of_one's_own_tenant", func(t *testing.T) {
		room := fair.NewRoom(RoomOfAnswers)
		var group sync.WaitGroup
		for range 8 {
			client := start(t, &backend{wait: time.Hour}, func(c *Config) { c.Room = room })
			for i := range 64 {
				group.Go(func() { _, _ = client.Get(t.Context(), nth(i)) })
			}
		}
		time.Sleep(time.Millisecond)
		if !room.TryAcquire("", RoomOfAnswers) {
			t.Error("they have taken some")
		}
		group.Wait()
	})
}

// What is kept can be bounded anew, and never above what was said first.
func TestKeep(t *testing.T) {
	b := &backend{answer: owned("alice")}
	c := start(t, b, func(c *Config) { c.MaxMemory = 100 * weightOfEntry })
	for i := range 20 {
		if _, err := c.Get(t.Context(), nth(i)); err != nil {
			t.Fatal(err)
		}
	}
	full := c.cache.used
	if c.Keep(1 << 30); c.cache.used != full || c.cache.max != 100*weightOfEntry {
		t.Errorf("%d of %d bytes are kept, before %d", c.cache.used, c.cache.max, full)
	}
	if c.Keep(full / 2); c.cache.used > full/2 || c.cache.entries.Len() == 0 {
		t.Errorf("%d bytes and %d objects are kept", c.cache.used, c.cache.entries.Len())
	}
}
