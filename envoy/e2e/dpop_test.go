package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
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
					r := until(ctx, t, http.StatusUnauthorized, bad, http.StatusServiceUnavailable) // the provider may be asked again meanwhile
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

func TestAServerNonceIsAskedForInEachProof(t *testing.T) {
	ctx := begin(t)
	o := startOAuth(ctx, t, "nonce", strings.Replace(oauthManifests, "  jwt: {typ", "  proofOfPossession: {nonces: true}\n  jwt: {typ", 1))
	key := newDPoPKey(t)
	target := "http://" + jwtHost + "/me"
	token := o.token(ctx, t, "jwt", "machine", http.Header{"Dpop": {key.proof(t, http.MethodPost, o.provider.Issuer+"/token", "", "")}})
	call := func(proof string) func() (reply, error) {
		header := http.Header{"Authorization": {"DPoP " + token}, "Dpop": {proof}}
		return func() (reply, error) { return askMe(ctx, client, o.gate.URL, jwtHost, header) }
	}
	// As RFC 9449, section 9, has it: 401 with a nonce, which the client puts into its next proof.
	asked := func(r reply) string {
		t.Helper()
		challenge := strings.Join(r.header.Values("WWW-Authenticate"), ", ")
		if !strings.Contains(challenge, `DPoP `) || !strings.Contains(challenge, `error="use_dpop_nonce"`) {
			t.Errorf("the challenge is %q", challenge)
		}
		nonces := r.header.Values("DPoP-Nonce")
		if len(nonces) != 1 || nonces[0] == "" {
			t.Fatalf("%d nonces, want one", len(nonces))
		}
		if v := r.header.Get("Cache-Control"); !strings.Contains(v, "no-store") {
			t.Errorf("Cache-Control is %q", v)
		}
		return nonces[0]
	}
	nonce := asked(until(ctx, t, http.StatusUnauthorized, call(key.proof(t, http.MethodGet, target, token, "")), http.StatusServiceUnavailable))
	used := key.proof(t, http.MethodGet, target, token, nonce)
	until(ctx, t, http.StatusOK, call(used), http.StatusServiceUnavailable)
	until(ctx, t, http.StatusUnauthorized, call(used)) // replayed
	// The nonce is good for more proofs.
	until(ctx, t, http.StatusOK, call(key.proof(t, http.MethodGet, target, token, nonce)), http.StatusServiceUnavailable)
	for name, bad := range map[string]string{
		"one of the client's own": "hello",
		"one with a wrong letter": spoil(nonce),
	} {
		t.Run(name+" is asked for anew", func(t *testing.T) {
			next := asked(until(ctx, t, http.StatusUnauthorized, call(key.proof(t, http.MethodGet, target, token, bad))))
			until(ctx, t, http.StatusOK, call(key.proof(t, http.MethodGet, target, token, next)), http.StatusServiceUnavailable)
		})
	}
	// Stateless as they are, the next process of Usher makes its own key and asks for a nonce of its own.
	o.gate.Usher.Stop()
	if err := errors.Join(o.gate.Usher.Start(ctx), o.gate.Ready(ctx)); err != nil {
		t.Fatal(err)
	}
	next := asked(until(ctx, t, http.StatusUnauthorized, call(key.proof(t, http.MethodGet, target, token, nonce)), http.StatusServiceUnavailable))
	until(ctx, t, http.StatusOK, call(key.proof(t, http.MethodGet, target, token, next)), http.StatusServiceUnavailable)
}

// A nonce of a minute ago is still good, and the next one comes with the answer (RFC 9449, section 8.2), through Envoy.
func TestTheNextNonceComesWithAGoodAnswer(t *testing.T) {
	ctx := begin(t)
	const secret = "0123456789abcdef0123456789abcdef"
	o := startOAuth(ctx, t, "next-nonce", strings.NewReplacer(
		"stringData: {", "stringData: {nonceKey: "+secret+", ",
		"  jwt: {typ", "  proofOfPossession: {nonces: true, nonceKeyRef: {name: client}}\n  jwt: {typ").Replace(oauthManifests))
	key := newDPoPKey(t)
	token := o.token(ctx, t, "jwt", "machine", http.Header{"Dpop": {key.proof(t, http.MethodPost, o.provider.Issuer+"/token", "", "")}})
	// As another replica with the same key made it.
	made := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Unix()/60-1))
	h := hmac.New(sha256.New, []byte(secret))
	h.Write(append([]byte("usher dpop nonce\x00"), made...))
	old := base64.RawURLEncoding.EncodeToString(append(made, h.Sum(nil)[:16]...))
	call := func(nonce string) func() (reply, error) {
		return func() (reply, error) {
			proof := key.proof(t, http.MethodGet, "http://"+jwtHost+"/me", token, nonce)
			return askMe(ctx, client, o.gate.URL, jwtHost, http.Header{"Authorization": {"DPoP " + token}, "Dpop": {proof}})
		}
	}
	r := until(ctx, t, http.StatusOK, call(old), http.StatusServiceUnavailable)
	next := r.header.Get("DPoP-Nonce")
	if next == "" || next == old || r.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("the next nonce is %q, Cache-Control %q", next, r.header.Get("Cache-Control"))
	}
	until(ctx, t, http.StatusOK, call(next), http.StatusServiceUnavailable)
}

// spoil changes a letter near the end: of a compact JWS, in its signature.
func spoil(text string) string {
	b := []byte(text)
	i := len(b) - 10
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}
