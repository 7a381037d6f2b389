package e2e_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// The recorder shows the headers as the backend got them.
func TestTheBackendGetsTheTokensIdentityAndNoOther(t *testing.T) {
	ctx := begin(t)
	thread := newThread(ctx, t, alice, nil)

	for name, forged := range map[string]http.Header{
		"no forged header": {},
		"a forged x-user-id": {
			"X-User-Id": {"bob"},
		},
		"several of them": {
			"X-User-Id": {"bob", "root"}, "X-User-Permissions": {"admin"},
		},
		"in other letters": {
			"x-user-id": {"bob"}, "X-USER-ID": {"root"},
		},
		"an empty one": {
			"X-User-Id": {""},
		},
		"a door of the backend's own": {
			"X-Auth-Scheme": {"langsmith"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			header := marking(t.Name())
			for k, v := range forged {
				header[k] = v
			}
			want(ctx, t, watched, http.StatusOK, call{method: "GET", path: "/threads/" + thread, token: alice, header: header})
			arrived := recorded.marked(t.Name())
			if len(arrived) != 1 {
				t.Fatalf("the backend got %d requests, want 1", len(arrived))
			}
			got := arrived[0].header
			if v := got.Values("X-User-Id"); !slices.Equal(v, []string{"alice"}) {
				t.Errorf("x-user-id is %q", v)
			}
			if v := got.Values("X-User-Permissions"); !slices.Equal(v, []string{"threads:read,threads:write"}) {
				t.Errorf("x-user-permissions is %q", v)
			}
			for _, name := range []string{"X-Auth-Scheme", "Authorization"} {
				if v := got.Values(name); len(v) > 0 {
					t.Errorf("%s got through: %d values", name, len(v))
				}
			}
		})
	}

	t.Run("a name with underscores is refused by Envoy", func(t *testing.T) {
		header := marking(t.Name())
		header["X_user_id"] = []string{"bob"}
		want(ctx, t, watched, http.StatusBadRequest, call{method: "GET", path: "/threads/" + thread, token: alice, header: header})
		if n := len(recorded.marked(t.Name())); n != 0 {
			t.Errorf("the backend got %d requests, want 0", n)
		}
	})

	t.Run("a public route carries no identity", func(t *testing.T) {
		header := marking(t.Name())
		header["X-User-Id"] = []string{"alice"}
		want(ctx, t, watched, http.StatusOK, call{method: "GET", path: "/ok", header: header})
		for _, a := range recorded.marked(t.Name()) {
			if v := a.header.Values("X-User-Id"); len(v) > 0 {
				t.Errorf("x-user-id is %q", v)
			}
		}
	})

	t.Run("a run keeps the true identity", func(t *testing.T) {
		r := want(ctx, t, gate, http.StatusOK, call{
			method: "POST", path: "/threads/" + thread + "/runs", token: alice,
			header: http.Header{"X-User-Id": {"bob"}},
			body:   `{"assistant_id":"agent","input":{"messages":[{"role":"user","content":"hello"}]}}`,
		})
		if !strings.Contains(r.body, `"x-user-id":"alice"`) {
			t.Errorf("the run is %s", r.body)
		}
	})
}

func TestATokenThatIsNotTheProvidersIs401(t *testing.T) {
	ctx := begin(t)
	parts := strings.Split(alice, ".")
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	signature[10] ^= 1
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	for name, token := range map[string]string{
		"one bit of the signature is wrong": parts[0] + "." + parts[1] + "." + encode(signature),
		"another subject":                   parts[0] + "." + encode([]byte(strings.Replace(string(claims), "alice", "bobby", 1))) + "." + parts[2],
		"no signature":                      parts[0] + "." + parts[1] + ".",
		"algorithm none":                    encode([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"two parts":                         parts[0] + "." + parts[1],
		"not a token":                       "hello",
	} {
		t.Run(name, func(t *testing.T) {
			r := want(ctx, t, watched, http.StatusUnauthorized, call{method: "POST", path: "/threads/search", token: token, body: `{}`, header: marking(t.Name())})
			if c := r.header.Get("WWW-Authenticate"); !strings.HasPrefix(c, "Bearer") || !strings.Contains(c, `error="invalid_token"`) {
				t.Errorf("the challenge is %q", c)
			}
			if n := len(recorded.marked(t.Name())); n != 0 {
				t.Errorf("the backend got %d requests, want 0", n)
			}
		})
	}
}
