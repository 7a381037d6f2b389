package token

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

const issuer = "https://idp.test"

// keyOf makes a test key once for each algorithm and number: RSA keys take a while.
var keyOf = func() func(alg string, n int) *tokentest.Key {
	var mu sync.Mutex
	made := map[string]*tokentest.Key{}
	return func(alg string, n int) *tokentest.Key {
		mu.Lock()
		defer mu.Unlock()
		id := fmt.Sprintf("%s-%d", alg, n)
		if made[id] == nil {
			made[id] = tokentest.NewKey(id, alg)
		}
		return made[id]
	}
}()

func mapping(t testing.TB) *policy.Mapping {
	t.Helper()
	m, err := policy.NewMapping(policy.MappingSource{Permissions: policy.Text{Text: `claims.?scope.orValue("").split(" ")`}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// config is for a provider whose keys are fetched by discovery.
func config(t testing.TB, p *tokentest.Provider) Config {
	t.Helper()
	return Config{Name: "idp", Issuer: p.Issuer, Audiences: []string{tokentest.Audience}, Identity: mapping(t), Transport: tokentest.Transport(p)}
}

// inline is for a provider whose keys are given: nothing is fetched.
func inline(t testing.TB, p *tokentest.Provider, change ...func(*Config)) *JWT {
	t.Helper()
	c := config(t, p)
	c.Transport, c.JWKS = nil, p.Set()
	for _, f := range change {
		f(&c)
	}
	j, err := NewJWT(c)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func bearer(token string) Credential { return Credential{Scheme: "Bearer", Token: token} }

func verify(v Verifier, c Credential) policy.Outcome {
	id, err := v.Verify(context.Background(), c)
	return outcome(id, err)
}

// outcome folds what a Verifier returned: Allow only for an identity without an error.
func outcome(id *policy.Identity, err error) policy.Outcome {
	var r *policy.Refusal
	switch {
	case err == nil && id != nil && id.Name != "":
		return policy.Allow
	case errors.As(err, &r) && id == nil:
		return r.Outcome
	}
	return policy.Undecided
}

func expect(t *testing.T, v Verifier, c Credential, want policy.Outcome) {
	t.Helper()
	id, err := v.Verify(context.Background(), c)
	if got := outcome(id, err); got != want {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}
