package manifest

import (
	"testing"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// TestASecretThatIsNoTextIsSeenToChange: Secrets hold bytes.
func TestASecretThatIsNoTextIsSeenToChange(t *testing.T) {
	of := func(secret, password string) string {
		return fingerprint(&token.Config{
			Introspection: &token.Introspection{ClientSecret: secret}, Revocation: &token.Revocation{Password: password},
		}, &v1alpha1.IdentityProviderSpec{})
	}
	first := of("\xfe", "\xfe")
	if first == "" || first != of("\xfe", "\xfe") || first == of("\xff", "\xfe") || first == of("\xfe", "\xff") {
		t.Error("a changed secret has the same fingerprint")
	}
}
