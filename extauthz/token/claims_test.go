package token

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

func TestClaimsMustBeWhatTheProviderIsConfiguredFor(t *testing.T) {
	const entra = "https://login.microsoftonline.com/{tenantid}/v2.0"
	const ours, theirs = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
	iss := func(tenant string) string { return "https://login.microsoftonline.com/" + tenant + "/v2.0" }
	clients := func(c *Config) { c.Clients = []string{"chat", "cli"} }
	tenants := func(c *Config) { c.Issuer, c.Tenants, c.JWKSURI = entra, []string{ours, "33"}, "" }
	clientID := func(c *Config) { c.Audiences, c.AudienceClaim = []string{"app"}, "client_id" }
	required := func(c *Config) {
		c.RequiredClaims = map[string][]any{"email_verified": {true}, "level": {int64(2), 3.0}, "groups": {"staff"}}
	}
	good := claims{"email_verified": true, "level": 2, "groups": []string{"x", "staff"}}
	with := func(base claims, name string, value any) claims {
		out := claims{}
		for k, v := range base {
			out[k] = v
		}
		if out[name] = value; value == nil {
			delete(out, name)
		}
		return out
	}
	for name, c := range map[string]struct {
		config func(*Config)
		claims claims
		want   policy.Outcome
	}{
		"an_accepted_client_by_azp":                      {clients, claims{"azp": "chat"}, policy.Allow},
		"an_accepted_client_by_client_id":                {clients, claims{"client_id": "cli"}, policy.Allow},
		"an_accepted_client_by_cid":                      {clients, claims{"cid": "cli"}, policy.Allow},
		"an_accepted_azp_and_another_appid":              {clients, claims{"azp": "chat", "appid": "evil"}, policy.Unauthenticated},
		"another_client":                                 {clients, claims{"azp": "evil"}, policy.Unauthenticated},
		"no_client":                                      {clients, claims{}, policy.Unauthenticated},
		"a_client_that_differs_in_case":                  {clients, claims{"azp": "Chat"}, policy.Unauthenticated},
		"a_client_that_is_a_list":                        {clients, claims{"azp": []string{"chat"}}, policy.Unauthenticated},
		"azp_and_client_id_that_disagree":                {clients, claims{"azp": "chat", "client_id": "evil"}, policy.Unauthenticated},
		"azp_and_client_id_of_two_accepted_clients":      {clients, claims{"azp": "chat", "client_id": "cli"}, policy.Allow},
		"a_tenant_of_ours":                               {tenants, claims{"iss": iss(ours), "tid": ours}, policy.Allow},
		"another_tenant":                                 {tenants, claims{"iss": iss(theirs), "tid": theirs}, policy.Unauthenticated},
		"an_issuer_of_another_tenant_with_a_tid_of_ours": {tenants, claims{"iss": iss(theirs), "tid": ours}, policy.Unauthenticated},
		"an_issuer_of_ours_with_a_tid_of_another":        {tenants, claims{"iss": iss(ours), "tid": theirs}, policy.Unauthenticated},
		"an_issuer_of_one_tenant_and_a_tid_of_the_other": {tenants, claims{"iss": iss(ours), "tid": "33"}, policy.Unauthenticated},
		"no_tid":                                         {tenants, claims{"iss": iss(ours)}, policy.Unauthenticated},
		"the_template_itself":                            {tenants, claims{"iss": entra, "tid": "{tenantid}"}, policy.Unauthenticated},
		"client_id_in_the_place_of_aud":                  {clientID, claims{"client_id": "app", "aud": nil}, policy.Allow},
		"another_client_id_in_the_place_of_aud":          {clientID, claims{"client_id": "evil", "aud": nil}, policy.Unauthenticated},
		"aud_does_not_stand_in_for_the_configured_claim": {clientID, claims{"aud": "app"}, policy.Unauthenticated},
		"all_required_claims":                            {required, good, policy.Allow},
		"another_accepted_number":                        {required, with(good, "level", 3), policy.Allow},
		"a_number_with_a_point":                          {required, with(good, "level", 2.0), policy.Allow},
		"a_required_claim_missing":                       {required, with(good, "email_verified", nil), policy.Unauthenticated},
		"a_required_claim_false":                         {required, with(good, "email_verified", false), policy.Unauthenticated},
		"a_required_claim_as_text":                       {required, with(good, "email_verified", "true"), policy.Unauthenticated},
		"a_required_number_as_text":                      {required, with(good, "level", "2"), policy.Unauthenticated},
		"a_required_item_that_is_not_in_the_list":        {required, with(good, "groups", []string{"x"}), policy.Unauthenticated},
		"a_required_text_by_itself":                      {required, with(good, "groups", "staff"), policy.Allow},
		"a_required_text_as_a_member_of_an_object":       {required, with(good, "groups", map[string]any{"staff": true}), policy.Unauthenticated},
		"a_required_text_in_a_list_within_the_list":      {required, with(good, "groups", []any{[]string{"staff"}}), policy.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			p := tokentest.New(issuer, keyOf("ES256", 1))
			j := inline(t, p, c.config)
			expect(t, j, bearer(p.Mint(c.claims)), c.want)
			expect(t, Choose(inline(t, tokentest.New("https://other.test", keyOf("ES256", 2))), j), bearer(p.Mint(c.claims)), c.want)
		})
	}
}

func TestATokenIsNotAcceptedPastItsMaximumAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := inline(t, p, func(c *Config) { c.MaxAge = 10 * time.Minute })
		issued := claims{"iat": time.Now().Unix(), "exp": time.Now().Add(24 * time.Hour).Unix()}
		token := p.Mint(issued)
		expect(t, j, bearer(token), policy.Allow)
		id, err := j.Verify(t.Context(), bearer(token))
		if err != nil || !id.Expires.Equal(time.Now().Add(10*time.Minute)) {
			t.Errorf("the identity ends at %v, want the maximum age", id.Expires)
		}
		time.Sleep(10 * time.Minute)
		expect(t, j, bearer(token), policy.Allow) // within the skew
		time.Sleep(31 * time.Second)
		expect(t, j, bearer(token), policy.Unauthenticated) // in the cache too
		expect(t, j, bearer(p.Mint(issued, claims{"jti": "new"})), policy.Unauthenticated)
		expect(t, j, bearer(p.Mint(claims{"iat": nil, "exp": time.Now().Add(time.Hour).Unix()})), policy.Unauthenticated)
	})
}
