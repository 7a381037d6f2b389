package token

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/usher-authz/usher/extauthz/signing"
)

// clientAssertionLifetime is how long a client assertion is good: it is made for one request, and the rest is room for
// clocks that differ. Auth0 takes at most five minutes, and asks for one at most.
const clientAssertionLifetime = time.Minute

// clientSignature makes the assertions of private_key_jwt (OpenID Connect Core 1.0, section 9; RFC 7523, section 2.2). It is
// immutable and safe for concurrent use.
//
// Each request has an assertion of its own, with an identifier of its own: none is kept or sent twice, as a provider may
// refuse a second use (RFC 7523, section 3, number 7), and as whoever sees one could use it until it expires.
type clientSignature struct {
	key              *signing.Key
	header           string
	client, audience string
	now              func() time.Time
}

// newClientSignature reads the private key. The audience is the provider's issuer, alone and as a string, unless the
// manifest names another one: RFC 7523, section 3, number 3, leaves it open what identifies the authorization server, which
// let a hostile one pass an assertion on (draft-ietf-oauth-rfc7523bis); that draft settles on the issuer, and on the explicit
// typ too.
func newClientSignature(spec *Introspection, issuer string, now func() time.Time) (*clientSignature, error) {
	key, err := signing.Parse(spec.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("its private key: %w", err)
	}
	s := &clientSignature{key: key, client: spec.ClientID, audience: cmp.Or(spec.AssertionAudience, issuer), now: now}
	if s.audience == "" {
		return nil, errors.New("no audience for client assertions")
	}
	if s.now == nil {
		s.now = time.Now
	}
	// A kid is sent only if the manifest gives one: a provider that numbers keys itself would not find a thumbprint.
	s.header, err = key.Header("client-authentication+jwt", key.ID())
	return s, err
}

// form adds a fresh assertion. client_id beside it is optional (RFC 7521, section 4.2), and some providers need it.
func (s *clientSignature) form(f url.Values) error {
	now := s.now().Unix()
	claims, err := json.Marshal(map[string]any{
		"iss": s.client, "sub": s.client, "aud": s.audience, "jti": rand.Text(),
		"iat": now, "exp": now + int64(clientAssertionLifetime/time.Second),
	})
	if err != nil {
		return errors.New("the client assertion cannot be written")
	}
	assertion, err := s.key.Sign(s.header, claims)
	if err != nil {
		return fmt.Errorf("client assertion: %w", err)
	}
	f.Set("client_id", s.client)
	f.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	f.Set("client_assertion", assertion)
	return nil
}
