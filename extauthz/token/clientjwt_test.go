package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/policy"
)

// strict is an introspection endpoint as RFC 7523, section 3, and draft-ietf-oauth-rfc7523bis describe it: it verifies the
// client's assertion in full, and takes each only once. Every token is active.
type strict struct {
	public   crypto.PublicKey
	alg      string
	audience string

	mu      sync.Mutex
	seen    map[string]bool // by jti
	refused []string        // why
}

func (s *strict) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(r, form); err != nil {
		s.refused = append(s.refused, err.Error())
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"invalid_client"}`)
	} else {
		_, _ = io.WriteString(w, `{"active":true,"sub":"alice","aud":"api"}`)
	}
	response := w.Result()
	response.Request = r
	return response, nil
}

func (s *strict) check(r *http.Request, form url.Values) error {
	if r.Header.Get("Authorization") != "" || form.Has("client_secret") {
		return errors.New("another credential beside the assertion")
	}
	if form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || form.Get("client_id") != "usher" {
		return errors.New("client_assertion_type or client_id")
	}
	parts := strings.Split(form.Get("client_assertion"), ".")
	if len(parts) != 3 {
		return errors.New("no compact token")
	}
	var raw [3][]byte
	for i := range parts {
		var err error
		if raw[i], err = decodeSegment(parts[i]); err != nil {
			return err
		}
	}
	var header map[string]any
	var c struct {
		Iss, Sub, Jti string
		Aud           any
		Iat, Exp      int64
	}
	if json.Unmarshal(raw[0], &header) != nil || json.Unmarshal(raw[1], &c) != nil {
		return errors.New("no JSON")
	}
	now := time.Now().Unix()
	switch {
	case header["alg"] != s.alg || header["typ"] != "client-authentication+jwt":
		return errors.New("the header")
	case !s.signed([]byte(parts[0]+"."+parts[1]), raw[2]):
		return errors.New("the signature")
	case c.Iss != "usher" || c.Sub != "usher":
		return errors.New("iss or sub")
	case c.Aud != any(s.audience): // the sole value, and no list
		return errors.New("aud")
	case c.Iat > now || c.Exp <= now || c.Exp-c.Iat > 60:
		return errors.New("iat or exp")
	case len(c.Jti) < 20 || s.seen[c.Jti]: // 128 bits or more
		return errors.New("jti")
	}
	s.seen[c.Jti] = true
	return nil
}

func (s *strict) signed(input, signature []byte) bool {
	sum := sha256.Sum256(input)
	switch s.alg {
	case "ES256":
		r, x := new(big.Int).SetBytes(signature[:len(signature)/2]), new(big.Int).SetBytes(signature[len(signature)/2:])
		return len(signature) == 64 && ecdsa.Verify(s.public.(*ecdsa.PublicKey), sum[:], r, x)
	case "EdDSA":
		return ed25519.Verify(s.public.(ed25519.PublicKey), input, signature)
	case "RS256":
		return rsa.VerifyPKCS1v15(s.public.(*rsa.PublicKey), crypto.SHA256, sum[:], signature) == nil
	}
	return false
}

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func byKey(t testing.TB, s *strict, key []byte, change func(*Config)) *Asker {
	t.Helper()
	s.seen = map[string]bool{}
	c := Config{
		Name: "idp", Issuer: issuer, Audiences: []string{"api"}, Identity: mapping(t), Transport: s,
		Introspection: &Introspection{Endpoint: issuer + "/introspect", ClientID: "usher", Method: "private_key_jwt", PrivateKey: key},
	}
	if change != nil {
		change(&c)
	}
	i, err := NewIntrospector(c)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestIntrospectionByPrivateKeyJWT(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for alg, key := range map[string]crypto.Signer{"ES256": ec, "EdDSA": ed, "RS256": rsaKey} {
		t.Run("signs_by_"+alg, func(t *testing.T) {
			s := &strict{public: key.Public(), alg: alg, audience: issuer}
			if got := verify(byKey(t, s, pkcs8(t, key), nil), bearer("opaque")); got != policy.Allow {
				t.Errorf("got %v: %v", got, s.refused)
			}
		})
	}
	t.Run("the_manifest_may_name_another_audience", func(t *testing.T) {
		s := &strict{public: ec.Public(), alg: "ES256", audience: issuer + "/introspect"}
		i := byKey(t, s, pkcs8(t, ec), func(c *Config) { c.Introspection.AssertionAudience = issuer + "/introspect" })
		if got := verify(i, bearer("opaque")); got != policy.Allow {
			t.Errorf("got %v: %v", got, s.refused)
		}
	})
	t.Run("no_assertion_is_sent_twice", func(t *testing.T) {
		// The endpoint takes each once: 50 tokens, from 50 goroutines at once, and again when the answers have aged.
		synctest.Test(t, func(t *testing.T) {
			s := &strict{public: ec.Public(), alg: "ES256", audience: issuer}
			i := byKey(t, s, pkcs8(t, ec), nil)
			for range 3 {
				var group sync.WaitGroup
				for n := range 50 {
					group.Go(func() {
						if got := verify(i, bearer("opaque"+string(rune('a'+n)))); got != policy.Allow {
							t.Errorf("got %v", got)
						}
					})
				}
				group.Wait()
				time.Sleep(time.Hour) // an assertion of before would be long expired
			}
			if len(s.seen) != 150 || len(s.refused) > 0 {
				t.Errorf("%d assertions, %v", len(s.seen), s.refused)
			}
		})
	})
	t.Run("another_key_at_the_provider_is_our_fault_and_said_so", func(t *testing.T) {
		s := &strict{public: ed.Public(), alg: "EdDSA", audience: issuer}
		i := byKey(t, s, pkcs8(t, ec), nil)
		_, err := i.Verify(context.Background(), bearer("opaque"))
		if got := outcome(nil, err); got != policy.Unavailable {
			t.Errorf("got %v", got)
		}
		if p := i.Status().Problem; !strings.Contains(p, "401 invalid_client: the client id is wrong, or the provider has another key for it") || strings.Contains(p, "eyJ") {
			t.Errorf("problem %q", p)
		}
	})
}

func TestClientAuthenticationThatMakesNoSense(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key := pkcs8(t, ec)
	for name, in := range map[string]Introspection{
		"private_key_jwt_without_a_key":    {ClientID: "usher", Method: "private_key_jwt"},
		"private_key_jwt_with_no_key":      {ClientID: "usher", Method: "private_key_jwt", PrivateKey: []byte("hunter2")},
		"private_key_jwt_with_a_secret":    {ClientID: "usher", Method: "private_key_jwt", PrivateKey: key, ClientSecret: "hunter2"},
		"private_key_jwt_without_a_client": {Method: "private_key_jwt", PrivateKey: key},
		"a_secret_with_a_key":              {ClientID: "usher", ClientSecret: "hunter2", PrivateKey: key},
		"a_secret_with_an_audience":        {ClientID: "usher", ClientSecret: "hunter2", AssertionAudience: "x"},
		"client_secret_jwt":                {ClientID: "usher", ClientSecret: "hunter2", Method: "client_secret_jwt"},
	} {
		t.Run(name, func(t *testing.T) {
			in.Endpoint = issuer + "/introspect"
			_, err := NewIntrospector(Config{Name: "idp", Issuer: issuer, Audiences: []string{"api"}, Identity: mapping(t), Introspection: &in})
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v", err)
			}
		})
	}
}
