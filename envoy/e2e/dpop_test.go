package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dpopKey signs DPoP proofs (RFC 9449) as a client does, with none of Usher's code.
type dpopKey struct{ *ecdsa.PrivateKey }

func newDPoPKey(t *testing.T) dpopKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return dpopKey{key}
}

// proof returns one for a request. Without a token it has no ath, without a nonce no nonce.
func (k dpopKey) proof(t *testing.T, method, target, token, nonce string) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	point, err := k.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	part := func(value map[string]any) string {
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return encode(b)
	}
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": target, "iat": time.Now().Unix()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		claims["ath"] = encode(sum[:])
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	input := part(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": map[string]any{
		"kty": "EC", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:]),
	}}) + "." + part(claims)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, k.PrivateKey, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + encode(signature)
}

func TestATokenBoundToADPoPKeyNeedsItsProof(t *testing.T) {
	ctx := begin(t)
	o := startOAuth(ctx, t, "dpop", oauthManifests)
	for _, c := range []struct{ format, host string }{{"jwt", jwtHost}, {"opaque", opaqueHost}} {
		t.Run(c.format, func(t *testing.T) {
			key, other := newDPoPKey(t), newDPoPKey(t)
			token := o.token(ctx, t, c.format, "machine", http.Header{"Dpop": {key.proof(t, http.MethodPost, o.provider.Issuer+"/token", "", "")}})
			target := "http://" + c.host + "/me"
			call := func(scheme string, proofs ...string) func() (reply, error) {
				header := http.Header{"Authorization": {scheme + " " + token}}
				if len(proofs) > 0 {
					header["Dpop"] = proofs
				}
				return func() (reply, error) { return askMe(ctx, client, o.gate.URL, c.host, header) }
			}
			good := func() string { return key.proof(t, http.MethodGet, target, token, "") }

			used := good()
			r := until(ctx, t, http.StatusOK, call("DPoP", used), http.StatusServiceUnavailable)
			if r.body != "machine" {
				t.Errorf("the backend was told of user %q", r.body)
			}
			for name, bad := range map[string]func() (reply, error){
				"the proof a second time":                 call("DPoP", used),
				"no proof":                                call("DPoP"),
				"as a bearer token":                       call("Bearer"),
				"as a bearer token, with a proof":         call("Bearer", good()),
				"two proofs":                              call("DPoP", good(), good()),
				"a proof of another key":                  call("DPoP", other.proof(t, http.MethodGet, target, token, "")),
				"a proof for another method":              call("DPoP", key.proof(t, http.MethodPost, target, token, "")),
				"a proof for another path":                call("DPoP", key.proof(t, http.MethodGet, target+"/x", token, "")),
				"a proof for another token":               call("DPoP", key.proof(t, http.MethodGet, target, token+"x", "")),
				"a proof without the hash of the token":   call("DPoP", key.proof(t, http.MethodGet, target, "", "")),
				"a proof whose signature has a wrong bit": call("DPoP", spoil(good())),
			} {
				t.Run(name+" is 401", func(t *testing.T) {
					r := until(ctx, t, http.StatusUnauthorized, bad)
					challenge := strings.Join(r.header.Values("WWW-Authenticate"), ", ")
					if !strings.Contains(challenge, "DPoP ") || !strings.Contains(challenge, `algs="`) {
						t.Errorf("the challenge is %q", challenge)
					}
				})
			}
			until(ctx, t, http.StatusOK, call("DPoP", good()), http.StatusServiceUnavailable)
		})
	}
}

// spoil changes a bit in the midst of a compact JWS's signature.
func spoil(jws string) string {
	b := []byte(jws)
	i := len(b) - 20
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}
