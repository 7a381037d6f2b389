package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"slices"
	"strings"
	"testing"
)

// signingKey makes a private key in PEM.
func signingKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// asserts makes the manifests' policy assert by the first of the keys.
func (w *world) asserts(t *testing.T, keys ...string) {
	t.Helper()
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	manifests, _, _ := strings.Cut(string(text), "  assertion:")
	secret, refs := map[string]string{}, []string{}
	for i, k := range keys {
		name := "k" + string(rune('0'+i))
		secret[name] = k
		refs = append(refs, "{name: keys, key: "+name+"}")
	}
	data, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	manifests += "  assertion: {header: usher-assertion, issuer: https://usher.test, audience: https://backend.test, keyRefs: [" + strings.Join(refs, ", ") + "]}\n" +
		"---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: " + string(data) + "\n"
	if err := os.WriteFile(w.config+".next", []byte(manifests), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(w.config+".next", w.config); err != nil {
		t.Fatal(err)
	}
}

// signedBy returns the kid of the assertion that a request is passed on with.
func (p *process) signedBy(token string) string {
	p.t.Helper()
	r, err := p.check("GET", "/assistants/"+thread, token)
	if err != nil || r.GetOkResponse() == nil {
		p.t.Fatalf("not allowed: %v %v", err, r)
	}
	for _, h := range r.GetOkResponse().GetHeaders() {
		if h.GetHeader().GetKey() != "usher-assertion" {
			continue
		}
		head, _, _ := strings.Cut(h.GetHeader().GetValue(), ".")
		text, err := base64.RawURLEncoding.DecodeString(head)
		if err != nil {
			p.t.Fatal(err)
		}
		var header struct{ Kid string }
		if err := json.Unmarshal(text, &header); err != nil {
			p.t.Fatal(err)
		}
		return header.Kid
	}
	p.t.Fatal("no assertion")
	return ""
}

// published returns the kids that a path of the admin server has.
func (p *process) published(path string) (kids []string) {
	p.t.Helper()
	code, body := p.get(path)
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal([]byte(body), &set); code != 200 || err != nil || !strings.Contains(body, `"keys":[`) {
		p.t.Fatalf("%s: %d %s", path, code, body)
	}
	for _, k := range set.Keys {
		if k["d"] != "" || k["kty"] != "EC" || k["use"] != "sig" || k["alg"] != "ES256" {
			p.t.Errorf("published %v", k)
		}
		kids = append(kids, k["kid"])
	}
	return kids
}

func TestAssertionKeysAreRotatedByAChangedFile(t *testing.T) {
	noLeaks(t)
	w := newWorld(t)
	one, two := signingKey(t), signingKey(t)
	p := start(t, w.config).ready()
	defer p.stop()
	if kids := p.published("/assertion/jwks.json"); len(kids) != 0 {
		t.Errorf("without an assertion %v is published", kids)
	}
	if code, _ := p.get("/assertion/conversations/jwks.json"); code != 404 {
		t.Errorf("status %d", code)
	}
	step := func(keys ...string) (string, []string) {
		t.Helper()
		w.asserts(t, keys...)
		p.logged("manifests are in force")
		kids := p.published("/assertion/jwks.json")
		if own := p.published("/assertion/conversations/jwks.json"); !slices.Equal(kids, own) {
			t.Errorf("of all: %v, of the policy: %v", kids, own)
		}
		return p.signedBy(w.provider.Mint()), kids
	}
	first, kids := step(one)
	if !slices.Equal(kids, []string{first}) {
		t.Errorf("signed by %s, published %v", first, kids)
	}
	still, kids := step(one, two)
	if still != first || len(kids) != 2 || !slices.Contains(kids, first) {
		t.Errorf("the next key is published: signed by %s, published %v", still, kids)
	}
	second, kids := step(two, one)
	if second == first || len(kids) != 2 || !slices.Contains(kids, first) || !slices.Contains(kids, second) {
		t.Errorf("the next key signs, the older one is published: signed by %s, published %v", second, kids)
	}
	last, kids := step(two)
	if last != second || !slices.Equal(kids, []string{second}) {
		t.Errorf("the older key is gone: signed by %s, published %v", last, kids)
	}

	w.asserts(t, "no key at all")
	p.logged("manifests are invalid")
	if got := p.signedBy(w.provider.Mint()); got != second {
		t.Errorf("after a broken key it is signed by %s", got)
	}
	for _, path := range []string{"/assertion/", "/assertion/other/jwks.json", "/assertion/conversations"} {
		if code, body := p.get(path); code == 200 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}
