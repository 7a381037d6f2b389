package manifest_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

type claims = tokentest.Claims

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// documented returns the providers that the page shows.
func documented(t *testing.T, path string) map[string]token.Config {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, block := range yamlBlock.FindAllSubmatch(page, -1) {
		text = append(text, string(block[1]))
	}
	compiled, problems := load([]txtar.File{{Name: path, Data: []byte(strings.Join(text, "---\n"))}})
	if len(problems) > 0 {
		t.Fatalf("%s: %v", path, problems)
	}
	return compiled.Providers
}

func TestEveryDocumentedProviderLoads(t *testing.T) {
	pages, err := filepath.Glob("../../docs/providers/*.md")
	if err != nil || len(pages) < 9 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		if filepath.Base(page) != "README.md" && len(documented(t, page)) == 0 {
			t.Errorf("%s shows no provider", page)
		}
	}
}

func TestTheManifestsOfSenderConstrainedTokensLoad(t *testing.T) {
	text, err := os.ReadFile("../../docs/sender-constrained.md")
	if err != nil {
		t.Fatal(err)
	}
	pieces := strings.Split(string(text), "```yaml\n")[1:]
	if len(pieces) != 3 {
		t.Fatalf("%d pieces", len(pieces))
	}
	for i, piece := range pieces {
		piece, _, _ = strings.Cut(piece, "```")
		compiled, problems := load([]txtar.File{{Name: "a.yaml", Data: []byte(piece)}})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if len(compiled.Snapshot.Warnings()) > 0 {
			t.Error(compiled.Snapshot.Warnings())
		}
		proof := compiled.Providers["company"].Proof
		if dpop := i == 0; proof.Nonces != dpop || (len(proof.NonceKey) >= 32) != dpop || proof.Required != (i < 2) {
			t.Errorf("piece %d: %+v", i, proof)
		}
		for _, p := range compiled.Snapshot.Policies() {
			if p.ForwardedCertificate != (i == 2) {
				t.Errorf("piece %d: a forwarded certificate counts: %v", i, p.ForwardedCertificate)
			}
		}
	}
}

const (
	ours, theirs = "11111111-1111-1111-1111-111111111111", "33333333-3333-3333-3333-333333333333"
	app          = "99999999-9999-9999-9999-999999999999"
	supabaseURL  = "https://abcdefghijklmnopqrst.supabase.co/auth/v1"
)

// presetCases are tokens shaped as the provider's documentation shows them. A bad one is a good one but for its changes; a
// nil value leaves the claim out.
var presetCases = []struct {
	page, provider, jwksURI string
	good                    claims
	identity, display       string
	permissions             string // with spaces between them
	bad                     map[string]claims
	alsoGood                map[string]claims
}{
	{
		page: "auth0", provider: "auth0",
		good: claims{
			"iss": "https://example.eu.auth0.com/", "sub": "auth0|123456", "azp": "my_client_id", "scope": "openid read:threads",
			"aud": []any{"https://agents.example.com", "https://example.eu.auth0.com/userinfo"},
		},
		identity: "auth0|123456", display: "auth0|123456", permissions: "openid read:threads",
		bad: map[string]claims{
			"an_ID_token":                   {"aud": "my_client_id", "scope": nil},
			"a_token_for_userinfo_alone":    {"aud": []any{"https://example.eu.auth0.com/userinfo"}},
			"another_tenant":                {"iss": "https://evil.eu.auth0.com/"},
			"an_issuer_without_its_slash":   {"iss": "https://example.eu.auth0.com"},
			"no_audience":                   {"aud": nil},
			"permissions_that_are_no_list":  {"permissions": "read:threads"},
			"permissions_of_another_nature": {"permissions": []any{1}},
		},
		alsoGood: map[string]claims{"RFC_9068_profile": {"azp": nil, "client_id": "my_client_id", "jti": "x"}},
	},
	{
		page: "cognito", provider: "cognito",
		good: claims{
			"iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_EXAMPLE", "aud": nil, "client_id": "1example23456789",
			"token_use": "access", "sub": "aaaaaaaa-bbbb", "username": "alice", "scope": "openid threads/read", "cognito:groups": []any{"staff"},
		},
		identity: "aaaaaaaa-bbbb", display: "alice", permissions: "openid threads/read",
		bad: map[string]claims{
			"an_ID_token":                    {"token_use": "id", "aud": "1example23456789", "client_id": nil},
			"an_ID_token_with_a_client_id":   {"token_use": "id"},
			"no_token_use":                   {"token_use": nil},
			"another_client":                 {"client_id": "other"},
			"another_client_and_our_aud":     {"client_id": "other", "aud": "1example23456789"},
			"no_client":                      {"client_id": nil},
			"another_user_pool":              {"iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_OTHER"},
			"the_same_pool_in_another_place": {"iss": "https://cognito-idp.us-east-1.amazonaws.com/eu-central-1_EXAMPLE"},
		},
	},
	{
		page: "entra", provider: "entra",
		good: claims{
			"iss": "https://login.microsoftonline.com/" + ours + "/v2.0", "tid": ours, "oid": "o1", "sub": "pairwise", "aud": app,
			"azp": "client", "ver": "2.0", "scp": "Threads.Read Threads.Write", "preferred_username": "alice@example.com",
		},
		identity: ours + ".o1", display: "alice@example.com", permissions: "Threads.Read Threads.Write",
		bad: map[string]claims{
			"another_tenant":            {"iss": "https://login.microsoftonline.com/" + theirs + "/v2.0", "tid": theirs},
			"an_ID_token":               {"scp": nil, "azp": nil},
			"a_version_1_token":         {"iss": "https://sts.windows.net/" + ours + "/"},
			"another_audience":          {"aud": "00000003-0000-0000-c000-000000000000"},
			"no_oid":                    {"oid": nil},
			"an_issuer_that_is_a_group": {"iss": "https://login.microsoftonline.com/common/v2.0"},
		},
		alsoGood: map[string]claims{"an_application": {"scp": nil, "roles": []any{"Threads.Read"}}},
	},
	{
		page: "entra", provider: "entra-tenants", jwksURI: "https://login.microsoftonline.com/common/discovery/v2.0/keys",
		good: claims{
			"iss": "https://login.microsoftonline.com/" + ours + "/v2.0", "tid": ours, "oid": "o1", "sub": "pairwise", "aud": app,
			"ver": "2.0", "roles": []any{"Threads.Read"},
		},
		identity: ours + ".o1", display: "o1", permissions: "Threads.Read",
		bad: map[string]claims{
			"a_tenant_that_is_not_listed":      {"iss": "https://login.microsoftonline.com/" + theirs + "/v2.0", "tid": theirs},
			"a_tid_of_ours_with_their_issuer":  {"iss": "https://login.microsoftonline.com/" + theirs + "/v2.0"},
			"our_issuer_with_their_tid":        {"tid": theirs},
			"no_tid":                           {"tid": nil},
			"the_template":                     {"iss": "https://login.microsoftonline.com/{tenantid}/v2.0", "tid": "{tenantid}"},
			"neither_scopes_nor_roles":         {"roles": nil},
			"roles_that_are_one_string":        {"roles": "Threads.Read"},
			"the_same_user_of_a_listed_tenant": {"tid": "22222222-2222-2222-2222-222222222222"},
		},
	},
	{
		page: "google", provider: "google",
		good: claims{
			"iss": "https://accounts.google.com", "aud": "1234567890-example.apps.googleusercontent.com", "azp": "1234567890-example.apps.googleusercontent.com",
			"sub": "10769150350006150715113082367", "email": "alice@example.com", "email_verified": true, "hd": "example.com",
		},
		identity: "10769150350006150715113082367", display: "alice@example.com",
		bad: map[string]claims{
			"another_application":          {"aud": "9-other.apps.googleusercontent.com"},
			"an_issuer_without_its_scheme": {"iss": "accounts.google.com"},
			"another_issuer":               {"iss": "https://accounts.google.com.evil.example"},
			"no_sub":                       {"sub": nil},
		},
	},
	{
		page: "keycloak", provider: "keycloak",
		good: claims{
			"iss": "https://auth.example.com/realms/agents", "aud": []any{"langgraph", "account"}, "typ": "Bearer", "azp": "chat", "sub": "f1c4",
			"scope": "openid profile", "preferred_username": "ada", "realm_access": claims{"roles": []any{"operator"}},
		},
		identity: "f1c4", display: "ada", permissions: "openid profile operator",
		bad: map[string]claims{
			"an_ID_token":                  {"typ": "ID"},
			"a_refresh_token":              {"typ": "Refresh"},
			"no_typ":                       {"typ": nil},
			"another_realm":                {"iss": "https://auth.example.com/realms/other"},
			"no_audience_mapper":           {"aud": "account"},
			"no_audience":                  {"aud": nil},
			"azp_does_not_stand_in_of_aud": {"aud": "account", "azp": "langgraph"},
			"roles_of_another_nature":      {"realm_access": claims{"roles": "operator"}},
		},
		alsoGood: map[string]claims{"no_roles": {"realm_access": nil}, "one_audience": {"aud": "langgraph"}},
	},
	{
		page: "kubernetes", provider: "cluster",
		good: claims{
			"iss": "https://kubernetes.default.svc.cluster.local", "aud": []any{"agents"}, "sub": "system:serviceaccount:prod:worker",
			"kubernetes.io": claims{"namespace": "prod", "serviceaccount": claims{"name": "worker", "uid": "u"}, "pod": claims{"name": "p", "uid": "v"}},
		},
		identity: "system:serviceaccount:prod:worker", display: "system:serviceaccount:prod:worker",
		permissions: "system:serviceaccounts system:serviceaccounts:prod",
		bad: map[string]claims{
			"the_default_token_of_a_pod": {"aud": []any{"https://kubernetes.default.svc.cluster.local"}},
			"another_cluster":            {"iss": "https://other.example.com"},
			"a_legacy_token":             {"iss": "kubernetes/serviceaccount", "aud": nil, "exp": nil, "kubernetes.io": nil},
			"no_expiry":                  {"exp": nil},
			"no_claim_of_the_API_server": {"kubernetes.io": nil},
		},
	},
	{
		page: "okta", provider: "okta",
		good: claims{
			"iss": "https://example.okta.com/oauth2/default", "aud": "api://default", "cid": "nmdP1fcyvdVO11AL7ECm", "uid": "00ucmukel4KHsPARU0h7",
			"scp": []any{"openid", "threads"}, "sub": "alice@example.com", "ver": 1,
		},
		identity: "alice@example.com", display: "alice@example.com", permissions: "openid threads",
		bad: map[string]claims{
			"an_ID_token":                  {"aud": "nmdP1fcyvdVO11AL7ECm", "scp": nil},
			"an_ID_token_for_our_audience": {"scp": nil},
			"the_org_server":               {"iss": "https://example.okta.com", "aud": "https://example.okta.com"},
			"another_server_of_the_org":    {"iss": "https://example.okta.com/oauth2/other"},
			"scopes_that_are_one_string":   {"scp": "openid threads"},
		},
	},
	{
		page: "supabase", provider: "supabase", jwksURI: supabaseURL + "/.well-known/jwks.json",
		good: supabaseUser, identity: "123e4567-e89b-12d3-a456-426614174000", display: "user@example.com", bad: supabaseBad,
	},
	{
		page: "supabase", provider: "supabase-legacy",
		good: supabaseUser, identity: "123e4567-e89b-12d3-a456-426614174000", display: "user@example.com", bad: supabaseBad,
	},
}

var (
	supabaseUser = claims{
		"iss": supabaseURL, "aud": "authenticated", "sub": "123e4567-e89b-12d3-a456-426614174000", "role": "authenticated", "aal": "aal1",
		"session_id": "s", "email": "user@example.com", "phone": "", "is_anonymous": false,
	}
	supabaseBad = map[string]claims{
		"the_anon_key":                    {"iss": "supabase", "role": "anon", "aud": nil, "sub": nil, "ref": "abcdefghijklmnopqrst"},
		"the_service_role_key":            {"iss": "supabase", "role": "service_role", "aud": nil, "sub": nil},
		"role_anon":                       {"role": "anon"},
		"role_service_role":               {"role": "service_role"},
		"no_role":                         {"role": nil},
		"another_project":                 {"iss": "https://zzzzzzzzzzzzzzzzzzzz.supabase.co/auth/v1"},
		"audience_anon":                   {"aud": "anon"},
		"no_user":                         {"sub": nil},
		"an_issuer_with_a_slash_too_many": {"iss": supabaseURL + "/"},
	}
)

func TestPresets(t *testing.T) {
	signer := tokentest.NewKey("k", "ES256")
	for _, c := range presetCases {
		t.Run(c.provider, func(t *testing.T) {
			config := documented(t, "../../docs/providers/"+c.page+".md")[c.provider]
			if config.JWKSURI != c.jwksURI {
				t.Errorf("keys at %q, want %q", config.JWKSURI, c.jwksURI)
			}
			key := signer
			if len(config.SharedSecret) > 0 {
				key = &tokentest.Key{ID: "k", Alg: "HS256", Secret: config.SharedSecret}
			} else {
				config.JWKSURI, config.JWKS = "", tokentest.New(config.Issuer, signer).Set()
			}
			v, err := token.NewJWT(config)
			if err != nil {
				t.Fatal(err)
			}
			mint := func(key *tokentest.Key, changes claims) token.Credential {
				payload := maps.Clone(c.good)
				payload["exp"], payload["iat"] = time.Now().Add(time.Minute).Unix(), time.Now().Unix()
				for name, v := range changes {
					if payload[name] = v; v == nil {
						delete(payload, name)
					}
				}
				for name, v := range payload {
					if v == nil {
						delete(payload, name)
					}
				}
				tok := tokentest.Token{Header: claims{"alg": key.Alg, "kid": "k", "typ": "JWT"}, Claims: payload, Key: key}
				return token.Credential{Scheme: "Bearer", Token: tok.String()}
			}
			id, err := v.Verify(context.Background(), mint(key, nil))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(id.Permissions, " "); id.Name != c.identity || id.DisplayName != c.display || got != c.permissions {
				t.Errorf("%q, %q, %q; want %q, %q, %q", id.Name, id.DisplayName, got, c.identity, c.display, c.permissions)
			}
			for name, changes := range c.alsoGood {
				if _, err := v.Verify(context.Background(), mint(key, changes)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			for name, changes := range c.bad {
				_, err := v.Verify(context.Background(), mint(key, changes))
				var r *policy.Refusal
				if !errors.As(err, &r) || r.Outcome != policy.Unauthenticated {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, err := v.Verify(context.Background(), mint(tokentest.NewKey("k", "ES256"), nil)); err == nil {
				t.Error("a token by another's key was accepted")
			}
		})
	}
}
