package manifest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// said is an answer of a provider's endpoint: in the words of its documentation or of its server, as docs/providers says.
type said struct {
	status    int
	challenge string
	body      string
}

type roundTrip func(*http.Request) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// askedCases are the documented providers that are asked about each token.
var askedCases = []struct {
	page, provider    string
	method, url       string // of the request
	headers           map[string]string
	form              string
	good              string
	identity, display string
	alsoGood, bad     map[string]said // bad: the token is not good
	unavailable       map[string]said // says nothing of the token
}{
	{
		page: "google", provider: "google-access", method: "POST", url: "https://oauth2.googleapis.com/tokeninfo", form: "access_token=TOKEN",
		good: `{"azp":"1234567890-example.apps.googleusercontent.com","aud":"1234567890-example.apps.googleusercontent.com","sub":"10769150350006150715113082367",
			"scope":"openid https://www.googleapis.com/auth/userinfo.email","exp":"EXP","expires_in":"3599","email":"alice@example.com","email_verified":"true","access_type":"online"}`,
		identity: "10769150350006150715113082367", display: "alice@example.com",
		bad: map[string]said{
			"an_expired_one":                   {400, "", `{"error":"invalid_token","error_description":"Invalid Value"}`},
			"an_expired_one_in_fewer_words":    {400, "", `{"error_description":"Invalid Value"}`},
			"another_application":              {200, "", `{"aud":"9-other.apps.googleusercontent.com","sub":"1","exp":"EXP"}`},
			"ours_is_only_the_presenter":       {200, "", `{"aud":"9-other.apps.googleusercontent.com","azp":"1234567890-example.apps.googleusercontent.com","sub":"1","exp":"EXP"}`},
			"without_the_scope_that_gives_sub": {200, "", `{"aud":"1234567890-example.apps.googleusercontent.com","exp":"EXP"}`},
			"one_that_has_ended":               {200, "", `{"aud":"1234567890-example.apps.googleusercontent.com","sub":"1","exp":"1"}`},
		},
		unavailable: map[string]said{
			"too_often":  {429, "", `{"error":"rate_limit_exceeded"}`},
			"a_bad_form": {400, "", `{"error":"invalid_request"}`},
			"an_outage":  {503, "", ""},
		},
	},
	{
		page: "supabase", provider: "supabase-user", method: "GET", url: supabaseURL + "/user",
		headers: map[string]string{"Apikey": "the-publishable-key-of-the-project", "Authorization": "Bearer TOKEN"},
		good: `{"id":"123e4567-e89b-12d3-a456-426614174000","aud":"authenticated","role":"authenticated","email":"user@example.com","phone":"",
			"app_metadata":{"provider":"email","providers":["email"]},"user_metadata":{"name":"x"},"identities":[],"is_anonymous":false}`,
		identity: "123e4567-e89b-12d3-a456-426614174000", display: "user@example.com",
		alsoGood: map[string]said{
			"a_user_with_a_telephone": {200, "", `{"id":"123e4567-e89b-12d3-a456-426614174000","aud":"authenticated","role":"authenticated","email":"","phone":"491234","is_anonymous":false}`},
			"an_anonymous_one":        {200, "", `{"id":"123e4567-e89b-12d3-a456-426614174000","aud":"authenticated","role":"authenticated","is_anonymous":true}`},
		},
		bad: map[string]said{
			"an_expired_one":       {403, "", `{"code":403,"error_code":"bad_jwt","msg":"invalid JWT: unable to parse or verify signature, token has invalid claims: token is expired"}`},
			"a_session_that_ended": {403, "", `{"code":403,"error_code":"session_not_found","msg":"Session from session_id claim in JWT does not exist"}`},
			"a_user_who_is_gone":   {403, "", `{"code":"user_not_found","message":"User from sub claim in JWT does not exist"}`},
			"a_role_of_its_own":    {200, "", `{"id":"1","aud":"authenticated","role":"service_role"}`},
			"another_audience":     {200, "", `{"id":"1","aud":"anon","role":"authenticated"}`},
			"no_id":                {200, "", `{"aud":"authenticated","role":"authenticated","email":"user@example.com"}`},
		},
		unavailable: map[string]said{
			"the_wrong_apikey": {401, `Key realm="kong"`, `{"message":"Invalid API key","hint":"Double check your Supabase anon or service_role API key."}`},
			"too_often":        {429, "", `{"code":429,"error_code":"over_request_rate_limit","msg":"Request rate limit reached"}`},
		},
	},
	{
		page: "github", provider: "github", method: "GET", url: "https://api.github.com/user",
		headers: map[string]string{"Accept": "application/vnd.github+json", "Authorization": "Bearer TOKEN"},
		good:    `{"login":"octocat","id":583231,"node_id":"x","type":"User","name":"The Octocat","email":null}`, identity: "583231", display: "octocat",
		bad: map[string]said{
			"bad_credentials": {401, "", `{"message":"Bad credentials","documentation_url":"https://docs.github.com/rest","status":"401"}`},
			"no_id":           {200, "", `{"login":"octocat"}`},
		},
		unavailable: map[string]said{
			"too_often":               {403, "", `{"message":"API rate limit exceeded for user ID 1.","documentation_url":"https://docs.github.com/rest"}`},
			"too_many_failed_log_ins": {403, "", `{"message":"Maximum number of login attempts exceeded. Please try again later."}`},
			"an_outage":               {502, "", "<html>"},
		},
	},
}

func TestTheDocumentedProvidersThatAreAsked(t *testing.T) {
	for _, c := range askedCases {
		t.Run(c.provider, func(t *testing.T) {
			config := documented(t, "../../docs/providers/"+c.page+".md")[c.provider]
			ask := func(answer said) (*policy.Identity, error) {
				config.Transport = roundTrip(func(r *http.Request) *http.Response {
					if r.Method != c.method || r.URL.String() != c.url {
						t.Errorf("asked %s %s", r.Method, r.URL)
					}
					for name, value := range c.headers {
						if got := r.Header.Get(name); got != strings.Replace(value, "TOKEN", "opaque", 1) {
							t.Errorf("header %s: %q", name, got)
						}
					}
					if c.form != "" {
						if form, _ := io.ReadAll(r.Body); string(form) != strings.Replace(c.form, "TOKEN", "opaque", 1) || r.Header.Get("Authorization") != "" {
							t.Errorf("form %q, Authorization %q", form, r.Header.Get("Authorization"))
						}
					}
					body := strings.ReplaceAll(answer.body, "EXP", strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10))
					header := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
					if answer.challenge != "" {
						header.Set("WWW-Authenticate", answer.challenge)
					}
					return &http.Response{StatusCode: answer.status, Header: header, Body: io.NopCloser(strings.NewReader(body))}
				})
				v, err := token.New(config)
				if err != nil {
					t.Fatal(err)
				}
				return v.Verify(context.Background(), token.Credential{Scheme: "Bearer", Token: "opaque"})
			}
			id, err := ask(said{200, "", c.good})
			if err != nil {
				t.Fatal(err)
			}
			if id.Name != c.identity || id.DisplayName != c.display {
				t.Errorf("got %q, %q", id.Name, id.DisplayName)
			}
			for name, answer := range c.alsoGood {
				if id, err := ask(answer); err != nil || id.Name != c.identity || id.DisplayName == "" {
					t.Errorf("%s: %+v, %v", name, id, err)
				}
			}
			for want, answers := range map[policy.Outcome]map[string]said{policy.Unauthenticated: c.bad, policy.Unavailable: c.unavailable} {
				for name, answer := range answers {
					_, err := ask(answer)
					var r *policy.Refusal
					if !errors.As(err, &r) || r.Outcome != want {
						t.Errorf("%s: %v, want %v", name, err, want)
					}
				}
			}
		})
	}
}

// TestKeycloaksClientRoles: the manifest that docs/providers/keycloak.md shows for them.
func TestKeycloaksClientRoles(t *testing.T) {
	config := documented(t, "../../docs/providers/keycloak.md")["keycloak-roles"]
	p := tokentest.New(config.Issuer, tokentest.NewKey("k", "ES256"))
	config.JWKS = p.Set()
	v, err := token.NewJWT(config)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		access any
		want   string // "refused": 401
	}{
		"of_this_client":           {claims{"langgraph": claims{"roles": []any{"reader", "writer"}}, "account": claims{"roles": []any{"view-profile"}}}, "reader writer"},
		"of_another_client_only":   {claims{"account": claims{"roles": []any{"view-profile"}}}, ""},
		"of_none":                  {nil, ""},
		"a_client_without_roles":   {claims{"langgraph": claims{}}, ""},
		"roles_that_are_no_list":   {claims{"langgraph": claims{"roles": "writer"}}, "refused"},
		"a_client_that_is_no_map":  {claims{"langgraph": "writer"}, ""},
		"roles_that_are_no_string": {claims{"langgraph": claims{"roles": []any{1}}}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			changes := claims{"aud": "langgraph", "typ": "Bearer", "realm_access": claims{"roles": []any{"operator"}}, "scope": "openid"}
			if c.access != nil {
				changes["resource_access"] = c.access
			}
			id, err := v.Verify(context.Background(), token.Credential{Scheme: "Bearer", Token: p.Mint(changes)})
			got := "refused"
			var r *policy.Refusal
			if err == nil {
				got = strings.Join(id.Permissions, " ")
			} else if !errors.As(err, &r) || r.Outcome != policy.Unauthenticated {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("got %q, want %q (%v)", got, c.want, err)
			}
		})
	}
}
