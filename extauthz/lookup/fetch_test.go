package lookup

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/usher-authz/usher/policy"
)

func TestAnswers(t *testing.T) {
	const head = `{"thread_id":"` + id + `",`
	alice := map[string]any{"owner": "alice"}
	unchecked := policy.Ref{Resource: "assistants", ID: "agent", Path: "/assistants/agent"}
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   policy.Object
		fails  bool
		ref    *policy.Ref
		header http.Header
	}{
		{name: "found", status: 200, body: head + `"metadata":{"owner":"alice"}}`, want: policy.Object{Found: true, Metadata: alice}},
		{name: "metadata_first", status: 200, body: `{"metadata":{"owner":"alice"},"thread_id":"` + id + `"} `, want: policy.Object{Found: true, Metadata: alice}},
		{name: "among_others", status: 200, body: `{"a":[{"metadata":1}],"thread_id":"` + id + `","b":{"thread_id":2},"metadata":{"owner":"alice"},"values":{}}`, want: policy.Object{Found: true, Metadata: alice}},
		{name: "no_id_to_compare", status: 200, ref: &unchecked, body: `{"assistant_id":"5","metadata":{"owner":"alice"}}`, want: policy.Object{Found: true, Metadata: alice}},
		{name: "empty_metadata", status: 200, body: head + `"metadata":{}}`, want: policy.Object{Found: true, Metadata: map[string]any{}}},
		{name: "null_metadata_matches_nothing", status: 200, body: head + `"metadata":null}`, want: policy.Object{Found: true}},
		{name: "metadata_is_read_as_policy_reads_it", status: 200, body: head + `"metadata":{"owner":["alice"],"n":12345,"f":1.5}}`,
			want: policy.Object{Found: true, Metadata: map[string]any{"owner": []any{"alice"}, "n": int64(12345), "f": 1.5}}},
		{name: "values_of_megabytes_are_not_read", status: 200, body: head + `"metadata":{"owner":"alice"},"values":"` + strings.Repeat("v", 50_000_000) + `"}`,
			want: policy.Object{Found: true, Metadata: alice}},
		{name: "404_is_absent", status: 404, body: `{"detail":"no"}`},
		{name: "422_is_absent", status: 422},
		{name: "401", status: 401, fails: true},
		{name: "403", status: 403, fails: true},
		{name: "429", status: 429, fails: true},
		{name: "500", status: 500, fails: true},
		{name: "204", status: 204, fails: true},
		{name: "206", status: 206, body: head + `"metadata":{}}`, fails: true},
		{name: "304", status: 304, fails: true},
		{name: "redirect", status: 302, header: http.Header{"Location": {"/elsewhere"}}, fails: true},
		{name: "html", status: 200, body: `<html>`, fails: true},
		{name: "empty", status: 200, fails: true},
		{name: "list", status: 200, body: `[]`, fails: true},
		{name: "encoded", status: 200, body: head + `"metadata":{}}`, header: http.Header{"Content-Encoding": {"gzip"}}, fails: true},
		{name: "no_metadata", status: 200, body: `{"thread_id":"` + id + `"}`, fails: true},
		{name: "metadata_elsewhere", status: 200, body: head + `"x":{"metadata":{}}}`, fails: true},
		{name: "metadata_is_text", status: 200, body: head + `"metadata":"x"}`, fails: true},
		{name: "metadata_is_a_list", status: 200, body: head + `"metadata":[]}`, fails: true},
		{name: "no_id", status: 200, body: `{"metadata":{}}`, fails: true},
		{name: "another_id", status: 200, body: `{"thread_id":"22222222-2222-4222-8222-222222222222","metadata":{}}`, fails: true},
		{name: "id_is_a_number", status: 200, body: `{"thread_id":1,"metadata":{}}`, fails: true},
		{name: "id_twice", status: 200, body: head + `"metadata":{},"thread_id":"` + id + `"}`, fails: true},
		{name: "metadata_twice", status: 200, body: head + `"metadata":{"owner":"alice"},"metadata":{"owner":"bob"}}`, fails: true},
		{name: "metadata_twice_by_escapes", status: 200, body: head + `"metadata":{"owner":"alice"},"metadat\u0061":{"owner":"bob"}}`, fails: true},
		{name: "metadata_twice_after_values", status: 200, body: head + `"metadata":{"owner":"alice"},"values":"` + strings.Repeat("v", 50_000) + `","metadata":{}}`, fails: true},
		{name: "owner_twice", status: 200, body: head + `"metadata":{"owner":"alice","owner":"bob"}}`, fails: true},
		{name: "more_text", status: 200, body: head + `"metadata":{}} {}`, fails: true},
		{name: "cut_off_after_the_metadata", status: 200, body: head + `"metadata":{}`, fails: true},
		{name: "cut_off_in_the_values", status: 200, body: head + `"metadata":{},"values":{"a":`, fails: true},
		{name: "bad_UTF-8", status: 200, body: head + "\"metadata\":{\"owner\":\"\xff\"}}", fails: true},
		{name: "metadata_behind_the_limit", status: 200, body: head + `"values":"` + strings.Repeat("v", 4<<20) + `","metadata":{"owner":"alice"}}`, fails: true},
		{name: "metadata_over_the_limit", status: 200, body: head + `"metadata":{"owner":"` + strings.Repeat("v", 4<<20) + `"}}`, fails: true},
		{name: "without_end", status: 200, body: head + `"metadata":{"a":` + strings.Repeat("[", 1<<20), fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ref := thread
			if c.ref != nil {
				ref = *c.ref
			}
			b := &backend{answer: func(r *http.Request) (*http.Response, error) {
				response, err := says(c.status, c.body)(r)
				response.Header = c.header
				return response, err
			}}
			got, err := start(t, b, withoutDeadline).Get(t.Context(), ref)
			if c.fails {
				wantUnavailable(t, err)
				for _, word := range []string{"alice", "owner", "vvv"} {
					if strings.Contains(fmt.Sprint(err), word) {
						t.Errorf("the error shows the answer: %v", err)
					}
				}
			} else if err != nil {
				t.Error(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// withoutDeadline is for tests on the real clock, which a slow machine could make end too early.
func withoutDeadline(c *Config) { c.Timeout = 1e12 }

// Through a socket and the client's own transport.
func TestItsOwnTransport(t *testing.T) {
	var asked, connections atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/threads/moved":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/threads/gone":
			http.NotFound(w, r)
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"thread_id": strings.TrimPrefix(r.URL.Path, "/threads/"), "metadata": map[string]any{}, "values": strings.Repeat("v", 50_000)})
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	t.Setenv("HTTP_PROXY", elsewhere.URL)
	c, err := New(Config{BackendURL: server.URL, Timeout: 1e12})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		n := fmt.Sprint(i)
		if o, err := c.Get(t.Context(), policy.Ref{ID: n, Path: "/threads/" + n, Member: "thread_id"}); err != nil || !o.Found {
			t.Errorf("got %v, %v", o, err)
		}
	}
	if asked.Load() != 5 || connections.Load() != 1 {
		t.Errorf("%d look-ups took %d connections, want 5 in 1", asked.Load(), connections.Load())
	}
	if o, err := c.Get(t.Context(), policy.Ref{ID: "gone", Path: "/threads/gone"}); err != nil || o.Found {
		t.Errorf("got %v, %v", o, err)
	}
	_, err = c.Get(t.Context(), policy.Ref{ID: "moved", Path: "/threads/moved"})
	wantUnavailable(t, err)
}

// FuzzRead compares what is taken from an answer with what a strict reading of all of it holds.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"thread_id":"1","metadata":{"owner":"alice"},"values":[1,{"a":null}]}`, `{"metadata":{},"thread_id":"1"}`, `{"thread_id":"1","metadata":null}`,
		`{"thread_id":"1","metadata":{"a":1,"a":2}}`, `{"thread_id":"2","metadata":{}}`, `{"thread_id":"1","metadata":{}}x`, `[]`, ``, `{"metadata":{}`,
	} {
		f.Add([]byte(seed), int64(1<<20))
	}
	f.Add([]byte(`{"thread_id":"1","metadata":{"a":"b"},"x":1}`), int64(20))
	f.Fuzz(func(t *testing.T, body []byte, limit int64) {
		o, size, err := read(&reader{from: strings.NewReader(string(body)), left: limit}, policy.Ref{ID: "1", Member: "thread_id"})
		if err != nil {
			if o.Found {
				t.Error("an error, and an object")
			}
			return
		}
		if !o.Found || size < 2 || size > len(body) {
			t.Errorf("got %v of %d bytes, and no error", o, size)
		}
		whole, err := policy.ParseValue(body)
		if err != nil {
			if int64(len(body)) < min(limit, tail) && !strings.Contains(err.Error(), "out of range") && !strings.Contains(err.Error(), "nested deeper") {
				t.Errorf("%q is read, but is not strict: %v", body, err)
			}
			return
		}
		object := whole.(map[string]any)
		metadata, _ := object["metadata"].(map[string]any)
		if object["thread_id"] != "1" || !reflect.DeepEqual(o.Metadata, metadata) {
			t.Errorf("%q: got %v", body, o)
		}
	})
}
