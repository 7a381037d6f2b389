package extauthz

import (
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/usher-authz/usher/policy"
)

// serverFor is a server with one policy over two routes, changed by the test.
func serverFor(t *testing.T, change func(*policy.Source)) (*Server, *minter) {
	t.Helper()
	text := func(s string) policy.Text { return policy.Text{Text: s} }
	route := func(method, path, on string) policy.RouteSource {
		return policy.RouteSource{Method: text(method), Path: text(path), On: text(on), Public: on == ""}
	}
	source := policy.Source{
		Name: "api", Hosts: []policy.Text{text("api.test")}, Providers: []string{"p"},
		API: policy.APISource{Routes: []policy.RouteSource{
			route("GET", "/items", "items:read"), route("POST", "/items", "items:create"), route("GET", "/open", ""),
		}},
		Rules:           []policy.RuleSource{{On: text("items")}},
		IdentityHeaders: []policy.HeaderSource{{Name: text("x-user"), Value: text("user.identity")}},
	}
	change(&source)
	snapshot, err := policy.New(policy.Set{Policies: []policy.Source{source}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, m, _ := newServer(t)
	next := *testStateFor(t, m.jwks(t))
	next.Policies, next.Verifiers = snapshot, s.state.Load().Verifiers
	if err := next.prepare(); err != nil {
		t.Fatal(err)
	}
	s.Swap(&next)
	return s, m
}

// ask makes a check without credentials, with these headers in the list form, or in the map form.
func ask(method, path string, asMap bool, headers ...[2]string) *authv3.CheckRequest {
	http := &authv3.AttributeContext_HttpRequest{Method: method, Path: path, Host: "api.test", Scheme: "https"}
	if asMap {
		http.Headers = map[string]string{":authority": "api.test"}
		for _, h := range headers {
			if old, ok := http.Headers[h[0]]; ok {
				h[1] = old + "," + h[1]
			}
			http.Headers[h[0]] = h[1]
		}
	} else {
		http.HeaderMap = &corev3.HeaderMap{}
		for _, h := range headers {
			http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
		}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: http}}}
}

func TestToken_from_a_cookie(t *testing.T) {
	const page = "https://chat.example.com"
	cookie := policy.TokenFrom{Cookie: "__Host-t", Origins: []string{page}}
	s, m := serverFor(t, func(p *policy.Source) { p.TokenFrom = cookie })
	good := m.mint(t, nil)
	for _, c := range []struct {
		name, method string
		headers      [][2]string
		want         int
	}{
		{"a_page_that_may", "POST", [][2]string{{"cookie", "a=1; __Host-t=TOKEN"}, {"origin", page}}, 200},
		{"a_page_that_may_reads_from_another_site", "GET", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"origin", page}, {"sec-fetch-site", "cross-site"}}, 200},
		{"another_page", "POST", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"origin", "https://evil.example"}}, 403},
		{"another_page_reads", "GET", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"origin", "https://evil.example"}}, 403},
		{"a_page_with_a_longer_name", "POST", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"origin", page + ".evil.example"}}, 403},
		{"an_opaque_origin", "POST", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"origin", "null"}}, 403},
		{"an_empty_origin", "POST", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"origin", ""}}, 403},
		{"no_origin", "POST", [][2]string{{"cookie", "__Host-t=TOKEN"}}, 403},
		{"no_origin_but_the_same_by_its_own_word", "POST", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"sec-fetch-site", "same-origin"}}, 403},
		{"two_origins", "POST", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"origin", page}, {"origin", page}}, 403},
		{"an_upgrade_without_origin", "GET", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"upgrade", "websocket"}}, 403},
		{"an_upgrade_from_another_page", "GET", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"upgrade", "websocket"}, {"origin", "https://evil.example"}}, 403},
		{"a_read_without_origin", "GET", [][2]string{{"cookie", "__Host-t=TOKEN"}}, 200},
		{"a_read_from_the_address_bar", "GET", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"sec-fetch-site", "none"}}, 200},
		{"a_read_from_another_site", "GET", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"sec-fetch-site", "cross-site"}}, 403},
		{"a_read_from_a_sibling", "GET", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"sec-fetch-site", "same-site"}}, 403},
		{"no_cookie", "GET", nil, 401},
		{"another_cookie", "GET", [][2]string{{"cookie", "t=TOKEN"}}, 401},
		{"another_case_of_the_name", "GET", [][2]string{{"cookie", "__host-t=TOKEN"}}, 401},
		{"a_bad_token", "GET", [][2]string{{"cookie", "__Host-t=TOKENx"}}, 401},
		{"an_empty_token", "GET", [][2]string{{"cookie", "__Host-t="}}, 401},
		{"a_quoted_token", "GET", [][2]string{{"cookie", `__Host-t="TOKEN"`}}, 401},
		{"the_name_twice", "GET", [][2]string{{"cookie", "__Host-t=TOKEN; __Host-t=TOKEN"}}, 401},
		{"two_headers", "GET", [][2]string{{"cookie", "a=1"}, {"cookie", "__Host-t=TOKEN"}}, 401},
		{"two_headers_with_it", "GET", [][2]string{{"cookie", "__Host-t=TOKEN"}, {"cookie", "__Host-t=TOKEN"}}, 401},
		{"the_Authorization_header_alone", "GET", [][2]string{{"authorization", "Bearer TOKEN"}}, 401},
		{"a_bad_cookie_beside_a_good_header", "GET", [][2]string{{"authorization", "Bearer TOKEN"}, {"cookie", "__Host-t=x"}}, 401},
	} {
		for form, asMap := range map[string]bool{"list": false, "map": true} {
			t.Run(c.name+"/"+form, func(t *testing.T) {
				headers := slices.Clone(c.headers)
				for i := range headers {
					headers[i][1] = strings.ReplaceAll(headers[i][1], "TOKEN", good)
				}
				r := do(t, s, ask(c.method, "/items", asMap, headers...))
				if statusOf(r) != c.want {
					t.Fatalf("status %d, want %d: %v", statusOf(r), c.want, r)
				}
				if challenge := headerOf(r.GetDeniedResponse().GetHeaders(), "www-authenticate"); (c.want == 401) != strings.HasPrefix(challenge, "Bearer") {
					t.Errorf("challenge %q with %d", challenge, c.want)
				}
			})
		}
	}
}

func TestThe_cookie_with_the_token_stays_at_the_gate(t *testing.T) {
	const page = "https://chat.example.com"
	from := policy.TokenFrom{Cookie: "t", Origins: []string{page}}
	for _, c := range []struct{ name, path, cookie, want string }{
		{"alone", "/items", "t=TOKEN", "(removed)"},
		{"first", "/items", "t=TOKEN; a=1;b=\"x,y\"", "a=1;b=\"x,y\""},
		{"last", "/items", "a=1; b=%20 ; t=TOKEN", "a=1; b=%20 "},
		{"between", "/items", "a=1; t=TOKEN; b=2", "a=1; b=2"},
		{"public", "/open", "a=1; t=TOKEN", "a=1"},
		{"public_and_twice", "/open", "t=TOKEN; a=1; T=TOKEN; b=x,t=TOKEN", "a=1"},
		{"public_without_it", "/open", "a=1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, m := serverFor(t, func(p *policy.Source) { p.TokenFrom = from })
			token := m.mint(t, nil)
			r := do(t, s, ask("GET", c.path, false, [2]string{"cookie", strings.ReplaceAll(c.cookie, "TOKEN", token)}, [2]string{"authorization", "Bearer x"}))
			ok := r.GetOkResponse()
			if ok == nil {
				t.Fatal(r)
			}
			got := headerOf(ok.GetHeaders(), "cookie")
			if slices.Contains(ok.GetHeadersToRemove(), "cookie") {
				got += "(removed)"
			}
			if got != c.want || strings.Contains(r.String(), token) {
				t.Errorf("the backend gets %q, want %q", got, c.want)
			}
			if !slices.Contains(ok.GetHeadersToRemove(), "authorization") {
				t.Error("an Authorization header that nobody looked at reaches the backend")
			}
		})
	}
	t.Run("two_headers_on_a_public_route", func(t *testing.T) {
		s, _ := serverFor(t, func(p *policy.Source) { p.TokenFrom = from })
		r := do(t, s, ask("GET", "/open", false, [2]string{"cookie", "a=1"}, [2]string{"cookie", "t=x"}))
		if !slices.Contains(r.GetOkResponse().GetHeadersToRemove(), "cookie") {
			t.Error("the second header reaches the backend")
		}
	})
	t.Run("forwardToken", func(t *testing.T) {
		s, m := serverFor(t, func(p *policy.Source) { p.TokenFrom, p.ForwardToken = from, true })
		ok := do(t, s, ask("GET", "/items", false, [2]string{"cookie", "t=" + m.mint(t, nil)})).GetOkResponse()
		if ok == nil || slices.Contains(ok.GetHeadersToRemove(), "cookie") || !slices.Contains(ok.GetHeadersToRemove(), "authorization") {
			t.Errorf("got %v, want the cookie left and an unread Authorization header removed", ok)
		}
	})
}

func TestToken_from_a_header(t *testing.T) {
	s, m := serverFor(t, func(p *policy.Source) {
		p.TokenFrom = policy.TokenFrom{Header: "x-access-token"}
		p.Rules[0].Allow = &policy.Text{Text: `!('x-access-token' in request.headers) && !('X_Access_Token' in request.headers)`}
	})
	good := m.mint(t, nil)
	for _, c := range []struct {
		name    string
		headers [][2]string
		want    int
	}{
		{"the_bare_token", [][2]string{{"x-access-token", good}}, 200},
		{"with_a_scheme", [][2]string{{"x-access-token", "Bearer " + good}}, 401},
		{"twice", [][2]string{{"x-access-token", good}, {"x-access-token", good}}, 401},
		{"empty", [][2]string{{"x-access-token", ""}}, 401},
		{"none", nil, 401},
		{"another_spelling", [][2]string{{"x_access_token", good}}, 401},
		{"the_Authorization_header_alone", [][2]string{{"authorization", "Bearer " + good}}, 401},
		{"a_cookie", [][2]string{{"cookie", "x-access-token=" + good}}, 401},
	} {
		for form, asMap := range map[string]bool{"list": false, "map": true} {
			t.Run(c.name+"/"+form, func(t *testing.T) {
				r := do(t, s, ask("GET", "/items", asMap, c.headers...))
				if statusOf(r) != c.want {
					t.Fatalf("status %d, want %d: %v", statusOf(r), c.want, r)
				}
				if ok := r.GetOkResponse(); ok != nil && (!slices.Contains(ok.GetHeadersToRemove(), "x-access-token") || !slices.Contains(ok.GetHeadersToRemove(), "authorization")) {
					t.Errorf("removed are %v", ok.GetHeadersToRemove())
				}
			})
		}
	}
	if r := do(t, s, ask("GET", "/items?access_token="+good+"&x-access-token="+good, false)); statusOf(r) != 401 {
		t.Errorf("a token of the query passes: %v", r)
	}
}

// FuzzCookie checks that a value which is found is the only one that any reader could find, and that nothing is left of it.
func FuzzCookie(f *testing.F) {
	for _, s := range []string{"t=a", "a=1; t=b", "t=a; t=b", "a=1,t=b", "t=a,b", `t="a"`, "T=a", " t = a ;;=;t", "a=t=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		value, found, ok := cookie(header, "t")
		rest, cut := withoutCookie([]string{header}, "t")
		if strings.Count(header, ";") < strings.Count(rest, ";") || len(rest) > len(header) {
			t.Fatalf("%q grew to %q", header, rest)
		}
		if again, more := withoutCookie([]string{rest}, "t"); more || again != strings.TrimLeft(rest, " \t") {
			t.Fatalf("%q keeps the cookie: %q", header, rest)
		}
		if !found {
			return
		}
		if !cut {
			t.Fatalf("%q: found %q but not removed", header, value)
		}
		if !ok {
			return
		}
		// Put together again, it reads the same.
		if v, _, ok := cookie(rest+"; t="+value, "t"); !ok || v != value {
			t.Fatalf("%q: %q and then %q", header, value, v)
		}
	})
}
