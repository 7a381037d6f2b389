package token

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

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
	p := tokentest.New(issuer, keyOf("ES256", 1))
	p.Opaque("opaque", p.Good())
	i := introspector(t, p)
	v := Choose(i, inline(t, p))
	expect(t, v, bearer(p.Mint()), policy.Allow)
	if n := p.Hits(tokentest.Introspection); n != 0 {
		t.Errorf("a JWT was asked about %d times", n)
	}
	expect(t, v, bearer("opaque"), policy.Allow)
}

func FuzzIntrospectionAnswer(f *testing.F) {
	for _, s := range []string{`{"active":true,"aud":"api","sub":"alice"}`, `{"active":"true"}`, `{"active":true,"active":false}`, `[]`, `<html>`, `{"active":true,"aud":["api"],"sub":"a","exp":1e99}`} {
		f.Add(s)
	}
	p := tokentest.New(issuer)
	c := config(f, p)
	c.Introspection = &Introspection{Endpoint: issuer + "/i", ClientID: "a", ClientSecret: "b"}
	i, err := NewIntrospector(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		claims, err := i.endpoint.read(200, http.Header{}, []byte(body))
		if err != nil {
			return
		}
		if claims["active"] != true || !strings.Contains(body, "true") {
			t.Fatalf("%q is active", body)
		}
		if v, err := i.accept(claims, nil); err == nil {
			if _, exp := numericDate(claims["exp"]); !audience(claims["aud"], i.audiences) || v.identity.Name == "" || claims["exp"] != nil && !exp {
				t.Fatalf("%q is accepted", body)
			}
		}
	})
}
