package token

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// spoken answers every request with what it makes of it.
type spoken func(*http.Request) *http.Response

func (s spoken) RoundTrip(r *http.Request) (*http.Response, error) { return s(r), nil }

func TestAnswersOfUserinfo(t *testing.T) {
	challenge := http.Header{"Www-Authenticate": {`Bearer realm="x", error="invalid_token", error_description="gone"`}}
	header := func(name, value string) http.Header { return http.Header{name: {value}} }
	tokeninfo := &Userinfo{TokenParameter: "access_token"}
	cases := []struct {
		name   string
		spec   *Userinfo
		answer tokentest.Answer
		want   policy.Outcome
	}{
		{"of_our_audience", nil, tokentest.Answer{Body: `{"sub":"alice","aud":"api"}`}, policy.Allow},
		{"of_another_audience", nil, tokentest.Answer{Body: `{"sub":"alice","aud":"other"}`}, policy.Unauthenticated},
		{"of_no_audience", nil, tokentest.Answer{Body: `{"sub":"alice"}`}, policy.Unauthenticated},
		{"of_any_audience", &Userinfo{AnyAudience: true}, tokentest.Answer{Body: `{"sub":"alice"}`}, policy.Allow},
		{"of_any_audience_and_another_one", &Userinfo{AnyAudience: true}, tokentest.Answer{Body: `{"sub":"alice","aud":"other"}`}, policy.Unauthenticated},
		{"of_any_audience_and_null", &Userinfo{AnyAudience: true}, tokentest.Answer{Body: `{"sub":"alice","aud":null}`}, policy.Unauthenticated},
		{"of_any_audience_and_another_issuer", &Userinfo{AnyAudience: true}, tokentest.Answer{Body: `{"sub":"alice","iss":"https://other.test"}`}, policy.Unauthenticated},
		{"of_any_audience_and_expired", &Userinfo{AnyAudience: true}, tokentest.Answer{Body: `{"sub":"alice","exp":1}`}, policy.Unauthenticated},
		{"a_jwt", nil, tokentest.Answer{Header: header("Content-Type", "application/jwt"), Body: `{"sub":"alice","aud":"api"}`}, policy.Unavailable},
		{"html", nil, tokentest.Answer{Header: header("Content-Type", "text/html; charset=utf-8"), Body: `<html>`}, policy.Unavailable},
		{"html_with_json_in_it", nil, tokentest.Answer{Header: header("Content-Type", "text/html"), Body: `{"sub":"alice","aud":"api"}`}, policy.Unavailable},
		{"redirect", nil, tokentest.Answer{Status: 302, Header: header("Location", "https://idp.test/login")}, policy.Unavailable},
		{"status_500", nil, tokentest.Answer{Status: 500}, policy.Unavailable},
		{"status_500_with_a_challenge", nil, tokentest.Answer{Status: 500, Header: challenge}, policy.Unavailable},
		{"status_429", nil, tokentest.Answer{Status: 429}, policy.Unavailable},
		{"401_with_a_challenge", nil, tokentest.Answer{Status: 401, Header: challenge}, policy.Unauthenticated},
		{"401_alone", nil, tokentest.Answer{Status: 401}, policy.Unavailable},
		{"supabase_bad_token", nil, tokentest.Answer{Status: 403, Body: `{"code":403,"error_code":"bad_jwt","msg":"invalid JWT"}`}, policy.Unauthenticated},
		{"supabase_session_gone", nil, tokentest.Answer{Status: 403, Body: `{"code":403,"error_code":"session_not_found","msg":"x"}`}, policy.Unauthenticated},
		{"supabase_wrong_apikey", nil, tokentest.Answer{Status: 401, Header: header("Www-Authenticate", `Key realm="kong"`), Body: `{"message":"Invalid authentication credentials"}`}, policy.Unavailable},
		{"github_bad_token", nil, tokentest.Answer{Status: 401, Body: `{"message":"Bad credentials","status":"401"}`}, policy.Unauthenticated},
		{"github_rate_limit", nil, tokentest.Answer{Status: 403, Body: `{"message":"API rate limit exceeded"}`}, policy.Unavailable},
		{"tokeninfo_bad_token", tokeninfo, tokentest.Answer{Status: 400, Body: `{"error":"invalid_token","error_description":"Invalid Value"}`}, policy.Unauthenticated},
		{"tokeninfo_bad_request", tokeninfo, tokentest.Answer{Status: 400, Body: `{"error":"invalid_request"}`}, policy.Unavailable},
		{"tokeninfo", tokeninfo, tokentest.Answer{Body: `{"sub":"alice","aud":"api","exp":"9999999999","expires_in":"3599"}`}, policy.Allow},
		{"tokeninfo_of_another", tokeninfo, tokentest.Answer{Body: `{"sub":"alice","aud":"other","exp":"9999999999"}`}, policy.Unauthenticated},
		{"tokeninfo_expired", tokeninfo, tokentest.Answer{Body: `{"sub":"alice","aud":"api","exp":"1"}`}, policy.Unauthenticated},
		{"tokeninfo_bad_token_in_other_words", tokeninfo, tokentest.Answer{Status: 400, Body: `{"error_description":"Invalid Value"}`}, policy.Unauthenticated},
		{"google_userinfo_bad_token", nil, tokentest.Answer{Status: 401, Body: `{"error":"invalid_request","error_description":"Invalid Credentials"}`}, policy.Unauthenticated},
		{"google_userinfo_bad_token_of_the_newer_kind", nil, tokentest.Answer{Status: 401, Body: `{"error":{"code":401,"message":"Request had invalid authentication credentials.","status":"UNAUTHENTICATED"}}`}, policy.Unauthenticated},
		{"google_quota", nil, tokentest.Answer{Status: 403, Body: `{"error":{"code":403,"status":"PERMISSION_DENIED"}}`}, policy.Unavailable},
		{"401_that_names_the_token", nil, tokentest.Answer{Status: 401, Body: `{"error":"invalid_token","error_description":"Token verification failed"}`}, policy.Unauthenticated},
		{"403_that_names_the_token", nil, tokentest.Answer{Status: 403, Body: `{"error":"invalid_token"}`}, policy.Unavailable},
		{"auth0_expired", nil, tokentest.Answer{Status: 401, Header: header("Www-Authenticate", `Bearer realm="Users", error="invalid_token", error_description="The token has expired"`), Body: "Unauthorized"}, policy.Unauthenticated},
		{"auth0_rate_limit", nil, tokentest.Answer{Status: 429, Body: `{"error":"too_many_requests"}`}, policy.Unavailable},
		{"supabase_no_uuid", nil, tokentest.Answer{Status: 400, Body: `{"code":400,"error_code":"bad_jwt","msg":"invalid claim: sub claim must be a UUID"}`}, policy.Unauthenticated},
		{"supabase_newer_version", nil, tokentest.Answer{Status: 403, Body: `{"code":"session_not_found","message":"x"}`}, policy.Unauthenticated},
		{"supabase_user_gone", nil, tokentest.Answer{Status: 403, Body: `{"code":403,"error_code":"user_not_found","msg":"x"}`}, policy.Unauthenticated},
		{"supabase_without_its_header", nil, tokentest.Answer{Status: 401, Body: `{"message":"No API key found in request"}`}, policy.Unavailable},
		{"supabase_rate_limit", nil, tokentest.Answer{Status: 429, Body: `{"code":429,"error_code":"over_request_rate_limit","msg":"x"}`}, policy.Unavailable},
		{"github_second_rate_limit", nil, tokentest.Answer{Status: 403, Body: `{"message":"You have exceeded a secondary rate limit"}`}, policy.Unavailable},
		{"400_elsewhere", nil, tokentest.Answer{Status: 400, Body: `{"error":"invalid_token"}`}, policy.Unavailable},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := tokentest.New(issuer)
			p.Say("/userinfo", c.answer)
			spec := config(t, p)
			spec.Userinfo = &Userinfo{}
			if c.spec != nil {
				*spec.Userinfo = *c.spec
			}
			spec.Userinfo.Endpoint = issuer + "/userinfo"
			v, err := New(spec)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, v, bearer("opaque"), c.want)
		})
	}
}

func TestUserinfoIsShownTheTokenAndTheHeaders(t *testing.T) {
	p := tokentest.New(issuer)
	ask := func(u Userinfo) (got *http.Request, form url.Values) {
		c := config(t, p)
		u.Endpoint = issuer + "/userinfo"
		c.Userinfo = &u
		c.Transport = spoken(func(r *http.Request) *http.Response {
			got = r
			_ = r.ParseForm()
			form = r.PostForm
			return &http.Response{StatusCode: 500, Body: http.NoBody}
		})
		v, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, v, bearer("opaque"), policy.Unavailable)
		return got, form
	}
	r, _ := ask(Userinfo{Headers: map[string]string{"apikey": "anon"}})
	if r.Method != http.MethodGet || r.Header.Get("Authorization") != "Bearer opaque" || r.Header.Get("apikey") != "anon" {
		t.Errorf("got %s %v", r.Method, r.Header)
	}
	r, form := ask(Userinfo{TokenParameter: "access_token"})
	if r.Method != http.MethodPost || r.Header.Get("Authorization") != "" || form.Get("access_token") != "opaque" || r.URL.RawQuery != "" {
		t.Errorf("got %s %v %v", r.Method, r.Header, form)
	}
}

func TestAThousandRequestsToAWrongEndpointAreOneLineAndOneOnRecovery(t *testing.T) {
	for name, c := range map[string]struct {
		answer tokentest.Answer
		want   string
	}{
		"wrong_secret":     {tokentest.Answer{Status: 401, Body: `{"error":"invalid_client"}`}, "introspection at https://idp.test/introspect: 401 invalid_client: the client id or secret is wrong"},
		"no_such_endpoint": {tokentest.Answer{Status: 404}, "introspection at https://idp.test/introspect: 404: no such endpoint: check its URL"},
		"html_page":        {tokentest.Answer{Header: http.Header{"Content-Type": {"text/html"}}, Body: "<html>"}, "introspection at https://idp.test/introspect: the endpoint answered an HTML page, expected application/json: check its URL"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.DebugLevel)
				p := tokentest.New(issuer)
				spec := config(t, p)
				spec.Logger = zap.New(core)
				spec.Introspection = &Introspection{Endpoint: p.Issuer + tokentest.Introspection, ClientID: tokentest.ClientID, ClientSecret: tokentest.ClientSecret}
				i, err := NewIntrospector(spec)
				if err != nil {
					t.Fatal(err)
				}
				p.Say(tokentest.Introspection, c.answer)
				for n := range 1000 {
					expect(t, i, bearer(fmt.Sprint("opaque-", n)), policy.Unavailable)
				}
				if logs.Len() != 1 || logs.All()[0].ContextMap()["problem"] != c.want || i.Status().Problem != c.want {
					t.Errorf("got %v and %q, want one %q", logs.All(), i.Status().Problem, c.want)
				}
				if a := i.Status().Asked; a.Openings == 0 || a.Failures != a.Requests {
					t.Errorf("counted %+v", a)
				}
				p.Truth(tokentest.Introspection)
				p.Opaque("good", p.Good())
				i.mu.Lock()
				i.closed = i.now()
				i.mu.Unlock()
				expect(t, i, bearer("good"), policy.Allow)
				expect(t, i, bearer("good"), policy.Allow)
				if logs.Len() != 2 || i.Status().Problem != "" || i.Status().Asked.Hits != 1 {
					t.Errorf("got %v, %+v", logs.All(), i.Status().Asked)
				}
			})
		})
	}
}

func TestTheClientsSecretCanBePosted(t *testing.T) {
	p := tokentest.New(issuer)
	c := config(t, p)
	c.Introspection = &Introspection{Endpoint: issuer + "/i", ClientID: "a", ClientSecret: "b:c", Method: "client_secret_post"}
	c.Transport = spoken(func(r *http.Request) *http.Response {
		if r.PostFormValue("client_id") != "a" || r.PostFormValue("client_secret") != "b:c" || r.Header.Get("Authorization") != "" {
			t.Errorf("got %v %v", r.PostForm, r.Header)
		}
		return &http.Response{StatusCode: 400, Body: http.NoBody}
	})
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, v, bearer("opaque"), policy.Unavailable)
	c.Introspection.Method = "none"
	if _, err := New(c); err == nil {
		t.Error("an unknown method is accepted")
	}
}

func TestOneIssuerCanHaveJWTsAndOpaqueTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		p.Opaque("opaque", p.Good())
		i := introspector(t, p)
		v := Choose(i, inline(t, p))
		expect(t, v, bearer(p.Mint()), policy.Allow)
		if n := p.Hits(tokentest.Introspection); n != 0 {
			t.Errorf("a JWT was asked about %d times", n)
		}
		expect(t, v, bearer("opaque"), policy.Allow)
	})
}

// FuzzIntrospectionAnswer: whatever the endpoint answers, nobody is let in but by an answer that says active: true, names
// our audience, no other issuer and no past exp; and every other answer is a refusal or our own fault, never both.
func FuzzIntrospectionAnswer(f *testing.F) {
	for _, s := range []string{
		`{"active":true,"aud":"api","sub":"alice"}`, `{"active":"true"}`, `{"active":true,"active":false}`, `[]`, `<html>`,
		`{"active":true,"aud":["api"],"sub":"a","exp":1e99}`, `{"active":true,"aud":"api","sub":"a","iss":"https://idp.test","exp":9999999999}`,
		`{"active":true,"aud":"api","sub":"a","nbf":9999999999}`, `{"active":true,"aud":"api","sub":"a","cnf":{"jkt":"x"}}`,
	} {
		f.Add(200, "application/json", "", s)
	}
	f.Add(401, "application/json", `Bearer error="invalid_token"`, `{"error":"invalid_client"}`)
	fuzzAnswers(f, Config{Introspection: &Introspection{Endpoint: issuer + "/i", ClientID: "a", ClientSecret: "b"}}, func(answer map[string]any) bool {
		return answer["active"] == true
	})
}

// FuzzUserinfoAnswer is the same for userinfo.
func FuzzUserinfoAnswer(f *testing.F) {
	f.Add(200, "application/json", "", `{"sub":"alice","aud":"api","exp":"9999999999"}`)
	f.Add(200, "text/html", "", `{"sub":"alice","aud":"api"}`)
	f.Add(400, "application/json", "", `{"error":"invalid_token"}`)
	f.Add(401, "application/json", `Bearer error="invalid_token"`, `{"error":{"status":"UNAUTHENTICATED"}}`)
	f.Add(403, "application/json", "", `{"error_code":"bad_jwt"}`)
	fuzzAnswers(f, Config{Userinfo: &Userinfo{Endpoint: issuer + "/u", TokenParameter: "access_token"}}, func(map[string]any) bool { return true })
}

func fuzzAnswers(f *testing.F, c Config, active func(map[string]any) bool) {
	var answer *http.Response
	c.Name, c.Issuer, c.Audiences, c.Identity = "idp", issuer, []string{tokentest.Audience}, mapping(f)
	c.Transport = spoken(func(*http.Request) *http.Response { return answer })
	now := time.Now()
	c.Now = func() time.Time { now = now.Add(time.Hour); return now } // the breaker never stays open
	v, err := New(c)
	if err != nil {
		f.Fatal(err)
	}
	n := 0
	f.Fuzz(func(t *testing.T, status int, media, challenge, body string) {
		if status < 200 || status > 599 {
			return
		}
		answer = &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{"Content-Type": {media}, "Www-Authenticate": {challenge}}}
		n++
		id, err := v.Verify(t.Context(), bearer(fmt.Sprint("opaque-", n)))
		switch got := outcome(id, err); got {
		case policy.Unauthenticated:
			if status >= 500 || status == 429 || status >= 300 && status < 400 {
				t.Fatalf("status %d refuses the token", status)
			}
		case policy.Unavailable:
		case policy.Allow:
			parsed, err := policy.ParseValue([]byte(body))
			claims, ok := parsed.(map[string]any)
			if status != 200 || err != nil || !ok || !active(claims) || media == "text/html" || claims["sub"] != id.Name || claims["cnf"] != nil {
				t.Fatalf("status %d, %q: %q is accepted as %q", status, media, body, id.Name)
			}
			if !audience(claims["aud"], []string{tokentest.Audience}) {
				t.Fatalf("accepted without our audience: %q", body)
			}
			if iss, has := claims["iss"]; has && iss != issuer {
				t.Fatalf("accepted of another issuer: %q", body)
			}
			if exp, has := claims["exp"]; has {
				if s, ok := exp.(string); ok {
					if exp, err = policy.ParseValue([]byte(strings.TrimLeft(strings.TrimPrefix(s, "+"), "0"))); err != nil {
						t.Fatalf("accepted with exp %q", s)
					}
				}
				if at, ok := numericDate(exp); !ok || !at.Add(defaultSkew+24*time.Hour).After(now.Add(-24*time.Hour)) {
					t.Fatalf("accepted past its end: %q", body)
				}
			}
		default:
			t.Fatalf("%v for status %d, %q", err, status, body)
		}
	})
}
