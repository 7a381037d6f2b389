package e2e_test

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func TestWithUsherStoppedEnvoyAnswers503AndLetsNothingPass(t *testing.T) {
	ctx := begin(t)
	thread := newThread(ctx, t, alice, nil)
	calls := map[string]call{
		"a request that was allowed a moment ago": {method: "GET", path: "/threads/" + thread, token: alice},
		"a request with a body":                   {method: "POST", path: "/threads", token: alice, body: `{}`},
		"a request without a token":               {method: "GET", path: "/threads/" + thread},
		"a public route":                          {method: "GET", path: "/ok"},
	}
	want(ctx, t, watched, http.StatusOK, calls["a request that was allowed a moment ago"])

	watched.Usher.Stop()
	t.Cleanup(func() {
		if err := errors.Join(watched.Usher.Start(ctx), watched.Ready(ctx)); err != nil {
			t.Fatal(err)
		}
		// Back again, it works as before.
		want(ctx, t, watched, http.StatusOK, call{method: "GET", path: "/threads/" + thread, token: alice})
	})
	for name, c := range calls {
		t.Run(name, func(t *testing.T) {
			c.header = marking(t.Name())
			want(ctx, t, watched, http.StatusServiceUnavailable, c)
			if n := len(recorded.marked(t.Name())); n != 0 {
				t.Errorf("the backend got %d requests, want 0", n)
			}
		})
	}
}

// Without the filter that carries out edits, an edited request must not reach the backend as it was sent. It is parked:
// at most it arrives at a path that the backend does not serve.
func TestWithoutTheEditFilterNoUneditedRequestReachesTheBackend(t *testing.T) {
	ctx := begin(t)
	thread := newThread(ctx, t, alice, nil)
	for name, edit := range map[string]func(map[string]any) error{
		"taken-out":        removeEditFilter,
		"before-the-check": moveEditFilterFirst,
	} {
		broken, err := watched.WithEnvoy(ctx, name, edit)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(broken.Envoy.Stop)
		for _, c := range []call{
			{method: "POST", path: "/threads", body: `{"metadata":{"owner":"bob"}}`},
			{method: "POST", path: "/threads"},
			{method: "POST", path: "/threads/search", body: `{}`},
			{method: "POST", path: "/threads/count", body: `{}`},
			{method: "PATCH", path: "/threads/" + thread, body: `{"metadata":{"owner":"bob"}}`},
			{method: "POST", path: "/threads/" + thread + "/runs", body: `{"assistant_id":"agent","input":{"messages":[]}}`},
			{method: "POST", path: "/runs/wait", body: `{"assistant_id":"agent","input":{"messages":[]}}`},
		} {
			t.Run(name+" "+c.method+" "+strings.Replace(c.path, thread, "ID", 1), func(t *testing.T) {
				c.token, c.header = alice, marking(t.Name())
				r := ask(ctx, t, broken, c)
				if r.status < 400 {
					t.Errorf("got %d: %.300s", r.status, r.body)
				}
				for _, a := range recorded.marked(t.Name()) {
					if a.path != "/.usher/edit-filter-missing" {
						t.Errorf("the backend got %s %s with %q", a.method, a.path, a.body)
					}
				}
			})
		}
		t.Run(name+" what needs no edit still works", func(t *testing.T) {
			want(ctx, t, broken, http.StatusOK, call{method: "GET", path: "/threads/" + thread, token: alice})
		})
	}
}

// httpFilters calls f with each list of HTTP filters of a bootstrap, and puts what it returns in its place.
func httpFilters(node any, f func([]any) []any) {
	switch n := node.(type) {
	case map[string]any:
		for name, value := range n {
			if list, ok := value.([]any); ok && name == "http_filters" {
				n[name] = f(list)
				continue
			}
			httpFilters(value, f)
		}
	case []any:
		for _, value := range n {
			httpFilters(value, f)
		}
	}
}

func isEditFilter(filter any) bool {
	m, _ := filter.(map[string]any)
	config, _ := m["typed_config"].(map[string]any)
	kind, _ := config["@type"].(string)
	return strings.Contains(kind, "filters.http.lua")
}

func removeEditFilter(bootstrap map[string]any) error {
	removed := 0
	httpFilters(bootstrap, func(list []any) []any {
		var kept []any
		for _, filter := range list {
			if isEditFilter(filter) {
				removed++
				continue
			}
			kept = append(kept, filter)
		}
		return kept
	})
	if removed != 1 {
		return errors.New("the generated bootstrap has not just one Lua filter")
	}
	return nil
}

func moveEditFilterFirst(bootstrap map[string]any) error {
	moved := 0
	httpFilters(bootstrap, func(list []any) []any {
		var first, rest []any
		for _, filter := range list {
			if isEditFilter(filter) {
				moved++
				first = append(first, filter)
				continue
			}
			rest = append(rest, filter)
		}
		return append(first, rest...)
	})
	if moved != 1 {
		return errors.New("the generated bootstrap has not just one Lua filter")
	}
	return nil
}

func TestWithTheLangGraphServerStoppedNothingIs401Or403(t *testing.T) {
	ctx := begin(t)
	// A backend that is not there. It has its own gate, so that nothing of it is cached.
	text, err := os.ReadFile(gate.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	g, err := parts.NewGateNotReady(ctx, "nobackend", strings.Replace(string(text), parts.Backend, "http://127.0.0.1:1", 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Envoy.Stop)
	t.Cleanup(g.Usher.Stop)
	const thread = "/threads/00000000-0000-4000-8000-000000000000"
	r := want(ctx, t, g, http.StatusServiceUnavailable, call{method: "GET", path: thread, token: alice})
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	want(ctx, t, g, http.StatusUnauthorized, call{method: "GET", path: thread})
	want(ctx, t, g, http.StatusServiceUnavailable, call{method: "GET", path: "/ok"})
}

func TestAPolicyIsReadAgainWhenItsFileChangesAndABrokenOneIsNot(t *testing.T) {
	ctx := begin(t)
	good, err := os.ReadFile(watched.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		// As editors do: a new file in the place of the old one.
		if err := os.WriteFile(watched.Manifest+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(watched.Manifest+".new", watched.Manifest); err != nil {
			t.Fatal(err)
		}
	}
	create := call{method: "POST", path: "/threads", token: alice, body: `{}`}
	until := func(what string, f func() bool) {
		t.Helper()
		for !f() {
			select {
			case <-ctx.Done():
				t.Fatalf("never: %s", what)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	t.Cleanup(func() {
		write(string(good))
		until("the good policy is back", func() bool { return ask(ctx, t, watched, create).status == http.StatusOK })
	})

	const rule = `"'threads:write' in user.permissions"`
	changed := strings.Replace(string(good), rule, `"'threads:admin' in user.permissions"`, 1)
	if changed == string(good) {
		t.Fatalf("the example has no %s", rule)
	}
	want(ctx, t, watched, http.StatusOK, create)
	write(changed)
	until("the stricter rule is in force", func() bool { return ask(ctx, t, watched, create).status == http.StatusForbidden })

	write(strings.Replace(string(good), rule, `"no such thing("`, 1))
	until("the problem is logged, with its place", func() bool { return strings.Contains(watched.Usher.Log(), "spec.rules[2].allow") })
	want(ctx, t, watched, http.StatusForbidden, create) // the last good one
}
