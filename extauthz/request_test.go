package extauthz

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/usher-authz/usher/policy"
)

func TestDecodePath(t *testing.T) {
	for raw, want := range map[string]string{
		"/": "/", "/threads": "/threads", "/threads/": "/threads/", "/a%20b": "/a b", "/%7Ba%7D": "/{a}", "/%74hreads": "/threads",
		"/caf%C3%A9": "/café", "/...": "/...", "/a.b": "/a.b", "/%3F": "/?",
	} {
		if got, err := decodePath(raw); err != nil || got != want {
			t.Errorf("decodePath(%q) = %q, %v, want %q", raw, got, err, want)
		}
	}
	for _, raw := range []string{
		"", "*", "v1", "https://a/b", "/a/../b", "/a/./b", "/..", "/.", "/a/%2e%2e/b", "/a/.%2E", "/%2f", "/a%2Fb", "/a%5Cb", "//a", "/a//b",
		"/%", "/%2", "/%zz", "/%u002e", "/%00", "/%0a", "/%7f", "/%ff", "/%c0%ae", "/%25", "/a;b", "/..;/a",
	} {
		if got, err := decodePath(raw); err == nil {
			t.Errorf("decodePath(%q) = %q, want a refusal", raw, got)
		}
	}
}

func FuzzDecodePath(f *testing.F) {
	for _, s := range []string{"/threads/1", "/a%2fb", "/%2e%2e/", "/a%", "/%c3%a9", "/;"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := decodePath(raw)
		if err != nil {
			return
		}
		// The standard library must read the same, with the same number of segments, and none that walks.
		if u, err := url.PathUnescape(raw); err != nil || u != got {
			t.Fatalf("decodePath(%q) = %q, url.PathUnescape %q, %v", raw, got, u, err)
		}
		if strings.Count(raw, "/") != strings.Count(got, "/") {
			t.Fatalf("decodePath(%q) = %q has other segments", raw, got)
		}
		for _, s := range strings.Split(got, "/") {
			if s == "." || s == ".." || plain(raw) && !utf8.ValidString(s) {
				t.Fatalf("decodePath(%q) = %q has segment %q", raw, got, s)
			}
		}
	})
}

func TestAn_IPv4_peer_has_one_address_whatever_the_socket(t *testing.T) {
	for given, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "::FFFF:c000:207": "192.0.2.7", "0:0:0:0:0:ffff:c000:207": "192.0.2.7",
		"2001:db8::7": "2001:db8::7", "::ffff:192.0.2.7%eth0": "::ffff:192.0.2.7%eth0", "fe80::1%eth0": "fe80::1%eth0",
		"64:ff9b::192.0.2.7": "64:ff9b::192.0.2.7", "::192.0.2.7": "::192.0.2.7", "": "", "/run/a:b.sock": "/run/a:b.sock", "::ffff:192.0.2.007": "::ffff:192.0.2.007",
	} {
		if got := addressText(given); got != want {
			t.Errorf("%q is %q, want %q", given, got, want)
		}
	}
}

func TestHostName(t *testing.T) {
	for authority, want := range map[string]string{
		"api.test": "api.test", "API.Test": "api.test", "api.test:443": "api.test", "[::1]:8000": "[::1]", "[::1]": "[::1]", "127.0.0.1:80": "127.0.0.1", "a_b": "a_b",
	} {
		if got, ok := hostName(authority); !ok || got != want {
			t.Errorf("hostName(%q) = %q, %v, want %q", authority, got, ok, want)
		}
	}
	for _, authority := range []string{
		"", ":80", "api.test:", "api.test:80x", "api.test:+80", "api.test:99999", "api.test.", ".api.test", "a@b", "a,b", "a b", "a/b", "a#b", "a\x00b", "api。test", "[::1", "[]", "[x]", "::1",
	} {
		if got, ok := hostName(authority); ok {
			t.Errorf("hostName(%q) = %q, want a refusal", authority, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("GET", "/v1/items?x=1", "api.test", "authorization", "Bearer x", []byte("{}"))
	f.Add("", "*", "a@b", "", "\x00", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path, host, name, value string, body []byte) {
		check := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: method, Path: path, Host: host, Headers: map[string]string{name: value}, RawBody: body,
		}}}}
		var r request
		err := r.decode(wireText(check))
		if err != nil {
			var refusal *policy.Refusal
			if !errors.As(err, &refusal) || refusal.Outcome != policy.BadRequest {
				t.Fatalf("decode: %v, want a refusal with 400", err)
			}
			return
		}
		_, _ = r.credential(&policy.TokenFrom{})
		_, _ = r.body(1 << 20)
	})
}
