package attacktest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// jwk returns the key as RFC 7517 and RFC 8037 write it; kid, alg and use only where the environment gives them.
func (k *namedKey) jwk(private bool) ([]member, error) {
	var ms []member
	add := func(name, value string) {
		if value != "" {
			ms = append(ms, member{name, textValue(value)})
		}
	}
	number := func(n *big.Int) string { return b64u(n.Bytes()) }
	add("kty", k.Kty)
	switch key := k.private.(type) {
	case *rsa.PrivateKey:
		add("n", number(key.N))
		add("e", number(big.NewInt(int64(key.E))))
		if private {
			key.Precompute()
			add("d", number(key.D))
			add("p", number(key.Primes[0]))
			add("q", number(key.Primes[1]))
			add("dp", number(key.Precomputed.Dp))
			add("dq", number(key.Precomputed.Dq))
			add("qi", number(key.Precomputed.Qinv))
		}
	case *ecdsa.PrivateKey:
		point, err := key.PublicKey.Bytes()
		if err != nil {
			return nil, err
		}
		size := (len(point) - 1) / 2
		add("crv", k.Crv)
		add("x", b64u(point[1:1+size]))
		add("y", b64u(point[1+size:]))
		if private {
			d, err := key.Bytes()
			if err != nil {
				return nil, err
			}
			add("d", b64u(d))
		}
	case ed25519.PrivateKey:
		add("crv", k.Crv)
		add("x", b64u(key.Public().(ed25519.PublicKey)))
		if private {
			add("d", b64u(key.Seed()))
		}
	default:
		return nil, fmt.Errorf("no JWK of a %T", key)
	}
	add("kid", k.Kid)
	add("alg", k.Alg)
	add("use", k.Use)
	return ms, nil
}

// thumbprint is RFC 7638: the hash of the required members in alphabetical order, without white space.
func (k *namedKey) thumbprint() ([]byte, error) {
	ms, err := k.jwk(false)
	if err != nil {
		return nil, err
	}
	required := map[string][]string{"RSA": {"e", "kty", "n"}, "EC": {"crv", "kty", "x", "y"}, "OKP": {"crv", "kty", "x"}}[k.Kty]
	whole, thumb := Value{kind: '{', members: ms}, Value{kind: '{'}
	for _, name := range required {
		thumb.members = append(thumb.members, member{name, whole.get(name)})
	}
	sum := sha256.Sum256([]byte(thumb.String()))
	return []byte(b64u(sum[:])), nil
}

// jwkOf writes the JWK of a named key, with extra members.
func (g *lab) jwkOf(name Value, private bool, set Value) ([]byte, error) {
	n, err := name.str()
	if err != nil {
		return nil, err
	}
	k, err := g.suite.keys.key(n)
	if err != nil {
		return nil, err
	}
	ms, err := k.jwk(private)
	if err != nil {
		return nil, err
	}
	return g.object(setMembers(ms, set.members))
}

func (g *lab) jwkMember(arg Value) (generated, error) {
	name, which, err := arg.pair()
	if err != nil {
		return generated{}, err
	}
	text, err := g.jwkOf(name, false, Value{})
	if err != nil {
		return generated{}, err
	}
	jwk, err := parseValue(text)
	if err != nil {
		return generated{}, err
	}
	v := jwk.get(which.text)
	if v.kind != '"' {
		return generated{}, fmt.Errorf("no member %s", which)
	}
	return asString(v.text)
}

// jwks writes the JWK set of an issuer: the keys it publishes, and what a case changes about them.
func (g *lab) jwks(arg, change Value) ([]byte, error) {
	issuer, err := arg.str()
	if err != nil {
		return nil, err
	}
	names := func(member string) ([]string, error) {
		var out []string
		v := change.get(member)
		if v.absent() {
			return nil, nil
		}
		items, err := v.list()
		for _, item := range items {
			out = append(out, item.text)
		}
		return out, err
	}
	removed, err := names("remove")
	if err != nil {
		return nil, err
	}
	private, err := names("private")
	if err != nil {
		return nil, err
	}
	added, err := names("add")
	if err != nil {
		return nil, err
	}
	var keys [][]member
	publish := func(name, kid string, times int) error {
		k, err := g.suite.keys.key(name)
		if err != nil {
			return err
		}
		ms, err := k.jwk(slices.Contains(private, k.Kid))
		if err != nil {
			return err
		}
		if kid != "" {
			ms = setMembers(ms, []member{{"kid", textValue(kid)}})
		}
		keys = append(keys, slices.Repeat([][]member{ms}, times)...)
		return nil
	}
	for _, name := range g.suite.keys.order {
		if k := g.suite.keys.named[name]; k.PublishedBy == issuer && !slices.Contains(removed, k.Kid) {
			if err := publish(name, "", 1); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range added {
		if err := publish(name, "", 1); err != nil {
			return nil, err
		}
	}
	for _, item := range change.get("add_as").items {
		name, kid, err := item.pair()
		if err != nil {
			return nil, err
		}
		if err := publish(name.text, kid.text, 1); err != nil {
			return nil, err
		}
	}
	for i, raw := range change.get("add_raw").items {
		if raw.kind != '{' {
			return nil, fmt.Errorf("add_raw[%d] is no JWK", i)
		}
		keys = append(keys, raw.members)
	}
	if v := change.get("repeat_key"); !v.absent() {
		if len(v.items) != 3 {
			return nil, fmt.Errorf("repeat_key %s, expected [key, n, kid]", v)
		}
		n, err := count(v.items[1])
		if err != nil {
			return nil, err
		}
		if err := publish(v.items[0].text, v.items[2].text, n); err != nil {
			return nil, err
		}
	}
	for _, m := range change.get("set_on").members {
		for i := range keys {
			if (Value{kind: '{', members: keys[i]}).get("kid").text == m.name {
				for _, change := range m.value.members {
					if change.value.isNull() {
						keys[i] = slices.DeleteFunc(slices.Clone(keys[i]), func(o member) bool { return o.name == change.name })
					} else {
						keys[i] = setMembers(keys[i], []member{change})
					}
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString(`{"keys":[`)
	for i, k := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		text, err := g.object(k)
		if err != nil {
			return nil, err
		}
		b.Write(text)
	}
	b.WriteString(`]}`)
	return []byte(b.String()), nil
}

// setMembers returns members with some replaced in place, or added at the end.
func setMembers(members, set []member) []member {
	out := slices.Clone(members)
	for _, m := range set {
		i := slices.IndexFunc(out, func(o member) bool { return o.name == m.name })
		if i < 0 {
			out = append(out, m)
		} else {
			out[i] = m
		}
	}
	return out
}

// discovery writes an issuer's metadata (OpenID Connect Discovery 1.0, section 3).
func (g *lab) discovery(arg, change Value) ([]byte, error) {
	issuer, err := arg.str()
	if err != nil {
		return nil, err
	}
	base, err := g.url("issuer." + issuer)
	if err != nil {
		return nil, err
	}
	list := func(items ...string) Value {
		v := Value{kind: '['}
		for _, item := range items {
			v.items = append(v.items, textValue(item))
		}
		return v
	}
	ms := []member{
		{"issuer", textValue(base)},
		{"authorization_endpoint", textValue(base + "/authorize")},
		{"token_endpoint", textValue(base + "/token")},
		{"introspection_endpoint", textValue(base + introspectPath)},
		{"jwks_uri", textValue(base + jwksPath)},
		{"response_types_supported", list("code")},
		{"subject_types_supported", list("public")},
		{"id_token_signing_alg_values_supported", list("RS256", "ES256", "EdDSA")},
	}
	ms = setMembers(ms, change.get("set").members)
	for _, name := range change.get("remove").items {
		ms = slices.DeleteFunc(ms, func(m member) bool { return m.name == name.text })
	}
	return g.object(ms)
}
