package wycheproof

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io/fs"
	"math/big"
	"testing"

	"github.com/c2sp/wycheproof"
)

// file is what the files have in common that are used here.
type file struct {
	NumberOfTests int     `json:"numberOfTests"`
	Groups        []group `json:"testGroups"`
}

type group struct {
	Comment      string          `json:"comment"`
	PublicKeyPEM string          `json:"publicKeyPem"`
	Private      json.RawMessage `json:"private"` // a JWK or a JWK set, also where a secret is meant
	Public       json.RawMessage `json:"public"`
	Tests        []vector        `json:"tests"`
}

type vector struct {
	ID      int      `json:"tcId"`
	Comment string   `json:"comment"`
	Flags   []string `json:"flags"`
	Result  string   `json:"result"` // valid, invalid or acceptable

	Msg string     `json:"msg"` // hex
	Sig string     `json:"sig"` // hex
	JWS serialised `json:"jws"`
	JWE serialised `json:"jwe"`
}

// serialised is a JWS or JWE: its compact text, or its JSON as it stands.
type serialised string

func (s *serialised) UnmarshalJSON(text []byte) error {
	if text[0] != '"' {
		*s = serialised(text)
		return nil
	}
	return json.Unmarshal(text, (*string)(s))
}

func read(t *testing.T, name string) file {
	t.Helper()
	text, err := fs.ReadFile(wycheproof.TestVectors, name)
	if err != nil {
		t.Fatal(err)
	}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	n := 0
	for _, g := range f.Groups {
		n += len(g.Tests)
	}
	if n == 0 || n != f.NumberOfTests {
		t.Fatalf("%s: read %d vectors, expected %d", name, n, f.NumberOfTests)
	}
	return f
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// publicSet is the JWK set of a PEM key; not every group has a JWK of its own.
func publicSet(t *testing.T, text string) []byte {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatal("no PEM")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	var jwk map[string]string
	switch k := public.(type) {
	case *rsa.PublicKey:
		jwk = map[string]string{"kty": "RSA", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := k.Bytes() // 4, x, y
		if err != nil {
			t.Fatal(err)
		}
		half := (len(point) - 1) / 2
		jwk = map[string]string{"kty": "EC", "crv": k.Curve.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
	case ed25519.PublicKey:
		jwk = map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64(k)}
	default:
		t.Fatalf("key of type %T", public)
	}
	set, err := json.Marshal(map[string]any{"keys": []any{jwk}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// keysOf returns the group's keys as a verifier would be given them: the public half where there is one, and a secret by
// itself.
func keysOf(t *testing.T, g group) (set, secret []byte) {
	t.Helper()
	text := g.Public
	if text == nil {
		text = g.Private
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	if _, isSet := members["keys"]; isSet {
		return text, nil
	}
	if members["kty"] == "oct" {
		k, _ := members["k"].(string)
		secret, err := base64.RawURLEncoding.DecodeString(k)
		if err != nil {
			t.Fatal(err)
		}
		return nil, secret
	}
	set, err := json.Marshal(map[string]any{"keys": []any{members}})
	if err != nil {
		t.Fatal(err)
	}
	return set, nil
}
