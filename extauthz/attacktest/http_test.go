package attacktest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
)

// recorded plays an Envoy of which the outcome is known.
type recorded struct {
	outcome Outcome
	shot    Shot
}

func (r *recorded) Send(_ context.Context, s Shot) (Outcome, error) {
	r.shot = s
	return r.outcome, nil
}

func TestHTTPOutcomesAreJudged(t *testing.T) {
	s, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	alice := Upstream{Method: "GET", Host: "api.test", Path: "/v1/items", Headers: [][2]string{{"x-user-id", "alice"}}}
	thread := func(body, path string) []Upstream {
		return []Upstream{{Method: "POST", Host: "agents.test", Path: path, Body: []byte(body)}}
	}
	challenge := [][2]string{{"www-authenticate", "Bearer"}}
	for _, c := range []struct {
		name, id string
		outcome  Outcome
		want     string // of the problems; empty: none
	}{
		{"refused_as_expected", "env-01-dot-dot", Outcome{Status: 400}, ""},
		{"another_status", "env-02-encoded-slash", Outcome{Status: 404}, "status 404"},
		{"the_backend_was_reached", "env-02-encoded-slash", Outcome{Status: 400, Upstream: []Upstream{alice}}, "1 requests, expected 0"},
		{"no_answer", "env-02-encoded-slash", Outcome{}, "no answer"},
		{"a_reset_where_none_may_be", "env-02-encoded-slash", Outcome{Reset: true}, "was reset"},
		{"a_reset_that_refuses", "env-19-h2-path-no-slash", Outcome{Reset: true}, ""},
		{"no_challenge", "env-01-dot-dot", Outcome{Status: 401}, "without a challenge"},
		{"a_challenge", "env-01-dot-dot", Outcome{Status: 401, Headers: challenge}, ""},
		{"identity_as_expected", "env-07-spoofed-identity", Outcome{Status: 200, Upstream: []Upstream{alice}}, ""},
		{"identity_twice", "env-07-spoofed-identity", Outcome{Status: 200, Upstream: []Upstream{{Host: "api.test", Headers: [][2]string{{"x-user-id", "alice"}, {"X-User-Id", "root"}}}}}, `["alice" "root"]`},
		{"a_header_left_in", "env-07-spoofed-identity", Outcome{Status: 200, Upstream: []Upstream{{Host: "api.test", Headers: [][2]string{{"x-user-id", "alice"}, {"x-auth-scheme", "langsmith"}}}}}, "x-auth-scheme"},
		{"hits_are_not_judged_where_null", "env-15-h2c-upgrade", Outcome{Status: 200, Upstream: []Upstream{{Host: "api.test"}}}, ""},
		{"an_upgrade_left_in", "env-15-h2c-upgrade", Outcome{Status: 200, Upstream: []Upstream{{Host: "api.test", Headers: [][2]string{{"upgrade", "h2c"}}}}}, "upgrade"},
		{"a_host_that_must_not_get_it", "env-04-absolute-form", Outcome{Status: 200, Upstream: []Upstream{{Host: "api.test"}}}, "api.test"},
		{"a_host_that_nothing_guards", "env-04-absolute-form", Outcome{Status: 200, Upstream: []Upstream{{Host: "nobody.test"}}}, "no policy guards"},
		{"an_edit_that_arrived", "env-24-edit-applied", Outcome{Status: 200, Upstream: thread(`{"metadata":{"owner":"alice"}}`, "/threads")}, ""},
		{"an_edit_that_did_not", "env-24-edit-applied", Outcome{Status: 200, Upstream: thread(`{"metadata":{"owner":"bob"}}`, "/threads")}, `"bob"`},
		{"a_200_that_the_backend_does_not_know_of", "env-24-edit-applied", Outcome{Status: 200}, "got no request"},
		{"a_parked_request", "env-27-edit-filter-missing", Outcome{Status: 404, Upstream: thread(``, "/.usher/edit-filter-missing")}, ""},
		{"an_unedited_request", "env-27-edit-filter-missing", Outcome{Status: 404, Upstream: thread(``, "/threads")}, "/threads"},
		{"too_slow", "env-17-authz-hang", Outcome{Status: 503, Took: 16e9}, "took 16s"},
		{"the_secret_in_the_log", "env-01-dot-dot", Outcome{Status: 400, Log: ClientSecret}, "the log holds the client's secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := slices.IndexFunc(s.Cases, func(x *Case) bool { return x.ID == c.id })
			_, problems, err := s.RunHTTP(t.Context(), s.Cases[i], NewWorld(s, MemoryURLs()), &recorded{outcome: c.outcome})
			if err != nil {
				t.Fatal(err)
			}
			if said := strings.Join(problems, "\n"); c.want == "" && said != "" || !strings.Contains(said, c.want) {
				t.Errorf("got %q, expected %q", said, c.want)
			}
		})
	}
}

func TestHTTPRequestsAreSentAsTheyAre(t *testing.T) {
	s, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	sent := func(id string) Shot {
		d := &recorded{outcome: Outcome{Status: 400}}
		i := slices.IndexFunc(s.Cases, func(x *Case) bool { return x.ID == id })
		if _, _, err := s.RunHTTP(t.Context(), s.Cases[i], NewWorld(s, MemoryURLs()), d); err != nil {
			t.Fatal(err)
		}
		return d.shot
	}
	if raw := sent("env-11-large-headers").Raw; len(raw) < 200000 || !bytes.HasPrefix(raw, []byte("GET /v1/items HTTP/1.1\r\nx-pad: xxx")) || !bytes.HasSuffix(raw, []byte("\r\n\r\n")) {
		t.Errorf("padded: %s", short(string(raw)))
	}
	if raw := sent("env-10-nul-header").Raw; !bytes.Contains(raw, []byte("\x00\r\n")) || bytes.Contains(raw, []byte("{{")) {
		t.Errorf("with NUL: %q", raw)
	}
	if raw := sent("env-12-large-body").Raw; len(raw) < 2000000 || !bytes.HasSuffix(raw, []byte(`x"}`)) {
		t.Errorf("large body: %d bytes", len(raw))
	}
	if shot := sent("env-22-h2-two-paths"); shot.Raw != nil || len(shot.H2) != 5 || shot.H2[4] != [2]string{":path", "/v1/admin/x"} {
		t.Errorf("HTTP/2: %v", shot)
	}
	if shot := sent("env-16-authz-down"); shot.Usher != "stopped" {
		t.Errorf("usher: %q", shot.Usher)
	}
	if shot := sent("env-27-edit-filter-missing"); shot.Bootstrap != WithoutEditFilter {
		t.Errorf("bootstrap: %q", shot.Bootstrap)
	}
}
