package extauthz

import (
	"testing"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

func TestA_nonce_is_told_in_a_header_that_pages_may_read(t *testing.T) {
	a, _ := refusal(&policy.Refusal{Outcome: policy.Unauthenticated, Scheme: "DPoP", Challenge: `error="use_dpop_nonce", ` + token.ProofAlgs, Nonce: "n1"})
	encoded, err := a.encode()
	if err != nil {
		t.Fatal(err)
	}
	headers := readResponse(encoded).GetDeniedResponse().GetHeaders()
	for name, want := range map[string]string{
		"www-authenticate": `DPoP error="use_dpop_nonce", ` + token.ProofAlgs, "dpop-nonce": "n1", "cache-control": "no-store",
		"access-control-expose-headers": "DPoP-Nonce, WWW-Authenticate",
	} {
		if got := headerOf(headers, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
