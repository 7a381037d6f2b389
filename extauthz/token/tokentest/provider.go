package tokentest

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The endpoints of a Provider, for Hits and Answer.
const (
	Discovery     = "/.well-known/openid-configuration"
	JWKS          = "/jwks"
	Introspection = "/introspect"
)

// The client that may introspect.
const (
	ClientID     = "usher"
	ClientSecret = "a secret with: a colon"
)

// Audience is the aud of minted tokens.
const Audience = "api"

// Answer is what an endpoint answers instead of the truth.
type Answer struct {
	Status  int         // 0: 200
	Header  http.Header // such as Location
	Body    string
	Stall   bool            // answer nothing until the caller gives up
	Release <-chan struct{} // with Stall: go on with the rest of the Answer once it is closed; may be nil
}

// Provider is the identity provider. It is safe for concurrent use.
type Provider struct {
	Issuer string // an https URL

	mu      sync.Mutex
	keys    []*Key
	raw     []any // further members of "keys"
	answers map[string]Answer
	hits    map[string]int
	opaque  map[string]Claims
}

// New returns a provider that publishes the keys; the last one signs.
func New(issuer string, keys ...*Key) *Provider {
	return &Provider{Issuer: issuer, keys: keys, answers: map[string]Answer{}, hits: map[string]int{}, opaque: map[string]Claims{}}
}

// Publish adds a key, which signs from now on.
func (p *Provider) Publish(k *Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, k)
}

// PublishRaw adds a member of the JWK set's keys, as it is.
func (p *Provider) PublishRaw(jwk any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.raw = append(p.raw, jwk)
}

// Withdraw takes every key of that name out of the JWK set.
func (p *Provider) Withdraw(kid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left []*Key
	for _, k := range p.keys {
		if k.ID != kid {
			left = append(left, k)
		}
	}
	p.keys = left
}

// Say makes an endpoint answer something else; the zero Answer has an empty body. Truth ends it.
func (p *Provider) Say(endpoint string, a Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[endpoint] = a
}

// Truth makes an endpoint answer the truth again.
func (p *Provider) Truth(endpoint string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.answers, endpoint)
}

// Hits is how often an endpoint was asked.
func (p *Provider) Hits(endpoint string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits[endpoint]
}

// Opaque makes an opaque token that introspection says the claims of; nil claims end it.
func (p *Provider) Opaque(token string, claims Claims) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opaque[token] = claims
}

// Good are the claims of a good token of this provider: for alice, five minutes from now.
func (p *Provider) Good(changes ...Claims) Claims {
	now := time.Now()
	return With(Claims{
		"iss": p.Issuer, "aud": Audience, "sub": "alice", "scope": "read write", "jti": rand.Text(),
		"iat": now.Unix() - 10, "exp": now.Unix() + 300,
	}, changes...)
}

// Token is a good token, to be changed or minted.
func (p *Provider) Token(changes ...Claims) Token {
	p.mu.Lock()
	key := p.keys[len(p.keys)-1]
	p.mu.Unlock()
	return Token{Header: Claims{"alg": key.Alg, "typ": "JWT", "kid": key.ID}, Claims: p.Good(changes...), Key: key}
}

// Mint is a good token with changed claims.
func (p *Provider) Mint(changes ...Claims) string { return p.Token(changes...).String() }

// Set is the JWK set that is published.
func (p *Provider) Set() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	keys := []any{}
	for _, k := range p.keys {
		keys = append(keys, k.JWK())
	}
	return must(json.Marshal(map[string]any{"keys": append(keys, p.raw...)}))
}

// ServeHTTP serves the endpoints.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	endpoint := r.URL.Path
	p.mu.Lock()
	p.hits[endpoint]++
	answer, lie := p.answers[endpoint]
	p.mu.Unlock()
	if lie {
		if answer.Stall {
			select {
			case <-r.Context().Done():
				return
			case <-answer.Release: // nil: for ever
			}
		}
		for name, values := range answer.Header {
			w.Header()[name] = values
		}
		if answer.Status != 0 {
			w.WriteHeader(answer.Status)
		}
		_, _ = strings.NewReader(answer.Body).WriteTo(w)
		return
	}
	switch endpoint {
	case Discovery:
		reply(w, map[string]any{"issuer": p.Issuer, "jwks_uri": p.Issuer + JWKS})
	case JWKS:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(p.Set())
	case Introspection:
		p.introspect(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (p *Provider) introspect(w http.ResponseWriter, r *http.Request) {
	id, secret, ok := r.BasicAuth()
	if !ok || id != ClientID || secret != "a+secret+with%3A+a+colon" || r.Method != http.MethodPost {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	p.mu.Lock()
	claims := p.opaque[r.PostFormValue("token")]
	p.mu.Unlock()
	if claims == nil {
		reply(w, map[string]any{"active": false})
		return
	}
	reply(w, With(claims, Claims{"active": true}))
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(must(json.Marshal(v)))
}
