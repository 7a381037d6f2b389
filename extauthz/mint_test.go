package extauthz

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.Hash
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

const testIssuer = "https://issuer.test"

// minter signs tokens for tests and benchmarks, with one key.
type minter struct {
	alg string
	key crypto.Signer
}

func newMinter(t testing.TB, alg string) *minter {
	m := &minter{alg: alg}
	var err error
	switch alg {
	case "ES256", "ES384", "ES512":
		curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[alg]
		m.key, err = ecdsa.GenerateKey(curve, rand.Reader)
	case "EdDSA":
		_, m.key, err = ed25519.GenerateKey(rand.Reader)
	default:
		m.key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var b64 = base64.RawURLEncoding.EncodeToString

// jwks is the public key as a JWK set.
func (m *minter) jwks(t testing.TB) []byte {
	jwk := map[string]any{"kid": "k", "use": "sig", "alg": m.alg}
	switch k := m.key.Public().(type) {
	case *rsa.PublicKey:
		jwk["kty"], jwk["n"], jwk["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		size := (k.Curve.Params().BitSize + 7) / 8
		jwk["kty"], jwk["crv"] = "EC", k.Curve.Params().Name
		jwk["x"], jwk["y"] = b64(k.X.FillBytes(make([]byte, size))), b64(k.Y.FillBytes(make([]byte, size)))
	case ed25519.PublicKey:
		jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", b64(k)
	}
	text, err := json.Marshal(map[string]any{"keys": []any{jwk}})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// claims are those of a good token; change sets, or with nil removes, some of them.
func claims(change map[string]any) map[string]any {
	now := time.Now().Unix()
	out := map[string]any{
		"iss": testIssuer, "aud": "langgraph", "sub": "alice", "scope": "items:read threads:write",
		"iat": now - 10, "exp": now + 3600, "jti": rand.Text(),
	}
	for k, v := range change {
		if out[k] = v; v == nil {
			delete(out, k)
		}
	}
	return out
}

func (m *minter) mint(t testing.TB, change map[string]any) string {
	payload, err := json.Marshal(claims(change))
	if err != nil {
		t.Fatal(err)
	}
	input := b64([]byte(fmt.Sprintf(`{"alg":%q,"typ":"JWT","kid":"k"}`, m.alg))) + "." + b64(payload)
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[m.alg[2:]]
	sum := []byte(input)
	if hash != 0 { // EdDSA signs the text itself
		h := hash.New()
		h.Write(sum)
		sum = h.Sum(nil)
	}
	var options crypto.SignerOpts = hash
	if m.alg[:2] == "PS" {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	var signature []byte
	if k, ok := m.key.(*ecdsa.PrivateKey); ok {
		r, s, err := ecdsa.Sign(rand.Reader, k, sum)
		if err != nil {
			t.Fatal(err)
		}
		size := (k.Curve.Params().BitSize + 7) / 8
		signature = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	} else if signature, err = m.key.Sign(rand.Reader, sum, options); err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(signature)
}

// testState guards api.test with a policy of two routes, and verifies the minter's tokens without any network.
func testState(t testing.TB, m *minter) *State { return testStateFor(t, m.jwks(t)) }

func testStateFor(t testing.TB, jwks []byte) *State {
	mapping, err := policy.NewMapping(policy.MappingSource{Permissions: policy.Text{Text: `claims.scope.split(" ")`}})
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string) policy.Text { return policy.Text{Text: s} }
	allow, never := text("'items:read' in user.permissions"), text("false")
	snapshot, err := policy.New(policy.Set{Policies: []policy.Source{{
		Name: "api", Hosts: []policy.Text{text("api.test")}, Providers: []string{"p"},
		API: policy.APISource{Routes: []policy.RouteSource{
			{Method: text("GET"), Path: text("/healthz"), Public: true},
			{Method: text("GET"), Path: text("/v1/items"), On: text("items:read")},
			{Method: text("GET"), Path: text("/v1/items/{id}"), On: text("items:read")},
		}},
		Rules:           []policy.RuleSource{{On: text("*"), Allow: &never}, {On: text("items:read"), Allow: &allow}},
		IdentityHeaders: []policy.HeaderSource{{Name: text("x-user-id"), Value: text("user.identity")}},
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	state, err := Build(nil, snapshot, map[string]token.Config{
		"p": {Name: "p", Issuer: testIssuer, Audiences: []string{"langgraph"}, JWKS: jwks, Identity: mapping, Fingerprint: rand.Text()},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return state
}
