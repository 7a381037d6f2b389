package token

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/usher-authz/usher/policy"
)

// Credential is what a request shows of its sender. The zero Credential is nothing.
type Credential struct {
	Scheme         string   // "Bearer" or "DPoP"
	Token          string   // a b64token (RFC 6750, section 2.1)
	Proofs         []string // values of the DPoP header, one for each header line
	Method         string   // for DPoP: as the client sent it
	URL            string   // for DPoP: as the client saw it, without query and fragment
	Certificate    []byte   // DER of the client's certificate as Envoy saw it; nil if none
	CertificateSum []byte   // its SHA-256, where only that is known; not looked at beside Certificate

	// NextNonce, unless nil, is where Verify puts the nonce for the client's next DPoP proof, if it should take another
	// one than it has now (RFC 9449, section 8.2).
	NextNonce *string
}

// Verifier verifies credentials. It is safe for concurrent use. The error is a *policy.Refusal, or our own fault. A nil
// error comes with an identity that is not nil.
type Verifier interface {
	Verify(context.Context, Credential) (*policy.Identity, error)
}

// Provider is the verifier of one IdentityProvider, with what runs in the background for it.
type Provider interface {
	Verifier
	// Run keeps what Verify needs up to date until ctx ends.
	Run(ctx context.Context)
	// Status says how the provider is.
	Status() Status
}

// New returns the verifier that c asks for. It does no I/O; the error names what is wrong in c.
func New(c Config) (Provider, error) {
	if c.Introspection != nil && c.Userinfo != nil {
		return nil, fmt.Errorf("provider %q: introspection and userinfo, expected one of them", c.Name)
	}
	if c.Userinfo != nil {
		i, err := NewUserinfo(c)
		if err != nil {
			return nil, err
		}
		return i, nil
	}
	if c.Introspection != nil {
		i, err := NewIntrospector(c)
		if err != nil {
			return nil, err
		}
		return i, nil
	}
	j, err := NewJWT(c)
	if err != nil {
		return nil, err
	}
	return j, nil
}

// Config is the specification of one provider's tokens.
type Config struct {
	Name           string            // of the IdentityProvider
	Issuer         string            // exact `iss`; with Tenants it has {tenantid} in the place of the tenant
	Tenants        []string          // accepted `tid`; empty: the issuer has no tenants
	Audiences      []string          // one of them must be named; not empty
	AudienceClaim  string            // by this claim; empty: `aud`
	Clients        []string          // accepted `client_id`, `azp`, `cid` or `appid`; empty: any
	RequiredClaims map[string][]any  // each must be there with one of the values
	MaxAge         time.Duration     // since `iat`; 0: any
	JWKSURI        string            // keys are fetched there; empty: by discovery
	JWKS           []byte            // a JWK set; nothing is fetched
	SharedSecret   []byte            // for HMAC; nothing is fetched
	MaxStale       time.Duration     // how long fetched keys are good without another fetch; 0: 24 h
	Algorithms     []string          // accepted `alg`; empty: the asymmetric ones, or HS256 with a SharedSecret
	Typ            []string          // accepted `typ`; empty: any
	ClockSkew      *time.Duration    // nil: 30 s; not negative
	AllowHTTP      bool              // ask the provider over plain http
	Tenant         string            // whose it is: see policy.Source. Nothing is shared between tenants
	NoLocal        bool              // connect to no address of this machine or its link: see package egress
	CA             []byte            // PEM of the only roots that the provider is trusted by; empty: the usual ones
	Identity       *policy.Mapping   // claims -> identity; not nil
	Introspection  *Introspection    // opaque tokens, instead of JWTs
	Userinfo       *Userinfo         // opaque tokens, instead of JWTs
	Proof          ProofOfPossession // what is asked of every token
	Revocation     *Revocation       // the list of what was revoked; nil: none
	Fingerprint    string            // of the specification: a running verifier of an equal one can be kept

	Cache     *Cache            `json:"-"` // shared with other providers; nil: one of its own
	Now       func() time.Time  `json:"-"` // nil: time.Now
	Transport http.RoundTripper `json:"-"` // nil: one of its own, without a proxy from the environment
	Logger    *zap.Logger       `json:"-"` // nil: no log
}

// Introspection is an RFC 7662 endpoint, and how Usher authenticates there.
type Introspection struct {
	Endpoint, ClientID string
	Method             string        // of client authentication; empty: client_secret_basic
	ClientSecret       string        // for client_secret_basic and client_secret_post
	PrivateKey         []byte        // for private_key_jwt, as JWK or PEM: see signing.Parse
	AssertionAudience  string        // for private_key_jwt, the `aud` of client assertions; empty: the provider's issuer
	CacheFor           time.Duration // how long an active answer is good; 0: 30 s
}

// Userinfo is an endpoint that answers with the claims of the user whose token it is shown.
type Userinfo struct {
	Endpoint       string
	Headers        map[string]string // sent beside the token; they may hold secrets
	TokenParameter string            // post the token as this form parameter; empty: in an Authorization header
	AnyAudience    bool              // accept an answer that does not say whom the token is for
	CacheFor       time.Duration     // how long an answer is good; 0: 30 s
}

// ProofOfPossession is what is asked of every token of a provider, beyond the proofs that it is bound to.
type ProofOfPossession struct {
	Required bool   // refuse bearer tokens
	Nonces   bool   // ask for a nonce in each DPoP proof (RFC 9449, section 9)
	NonceKey []byte // that nonces are made by; empty: one of this process
}

// Status is how a provider is.
type Status struct {
	Ready   bool      `json:"ready"`             // it can verify tokens
	Keys    int       `json:"keys"`              // that it holds
	Fetched time.Time `json:"fetched,omitzero"`  // the last success
	Problem string    `json:"problem,omitempty"` // of the last attempt, if it failed

	Fetches    *FetchStatus `json:"fetches,omitempty"`    // of a provider whose keys are fetched
	Revocation any          `json:"revocation,omitempty"` // how the revocation list is, where there is one

	Asked *AskedStatus `json:"asked,omitempty"` // of a provider that is asked about each token
}

// check refuses what shows no token, or one of a length that none has.
func (c *Credential) check() error {
	switch {
	case c.Token == "":
		return bad("no token")
	case len(c.Token) > maxToken:
		return bad("token is too long")
	case c.Scheme != "Bearer" && c.Scheme != "DPoP":
		return bad("the scheme is neither Bearer nor DPoP")
	}
	return nil
}

func invalid(description string, err error) error {
	return &policy.Refusal{
		Outcome: policy.Unauthenticated, Detail: description, Err: err,
		Challenge: fmt.Sprintf(`error="invalid_token", error_description=%q`, description),
	}
}

// bad refuses a token; the reason goes to the log, and holds no value of the token.
func bad(reason string) error {
	return invalid("The access token is not valid.", errors.New(reason))
}

func unavailable(provider string, err error) error {
	return &policy.Refusal{
		Outcome: policy.Unavailable, Detail: "The identity provider cannot be asked now.", RetryAfter: time.Second,
		Err: fmt.Errorf("provider %q: %w", provider, err),
	}
}

// isRefused reports whether err says that the token is bad, and not that nobody could tell.
func isRefused(err error) bool {
	var r *policy.Refusal
	return errors.As(err, &r) && r.Outcome == policy.Unauthenticated
}
