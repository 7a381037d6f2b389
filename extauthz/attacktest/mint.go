package attacktest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
)

// lab makes what a case needs: texts, tokens, documents. It belongs to one run of one case.
type lab struct {
	suite *Suite
	urls  map[string]string
	// vars gives {{name}}; nil where there is no request.
	vars func(name string) (string, error)
	// caseToken is the token of the case, for same_as_case_token.
	caseToken *minted
	// made is told of every token, so that no answer and no log may hold one.
	made func(minted)
}

// minted is a token: its text, and what it was made of.
type minted struct {
	text           string
	header, claims []byte // JSON or what the case put in its place; nil for a raw token
	signature      []byte
	input          string // what was signed
}

// maxMint bounds how often a token is made anew until an operation can be applied to it.
const maxMint = 500

// errAgain says that an operation needs another token.
var errAgain = errors.New("the token has not what the operation needs")

// mintNamed mints a recipe that is given by name, or inline.
func (g *lab) mintNamed(v Value) (string, error) {
	if v.kind != '"' {
		return "", fmt.Errorf("%s is no name of a recipe", v)
	}
	m, err := g.mint(&Recipe{base: v.text})
	return m.text, err
}

// mint makes a token. It is another one each time (jti), unless the recipe says all.
func (g *lab) mint(r *Recipe) (minted, error) {
	full, err := r.resolve(g.suite)
	if err != nil {
		return minted{}, err
	}
	for range maxMint {
		m, err := g.mintOnce(full)
		if errors.Is(err, errAgain) {
			continue
		}
		if err == nil && g.made != nil {
			g.made(m)
		}
		return m, err
	}
	return minted{}, fmt.Errorf("mint %d times: %w", maxMint, errAgain)
}

func (g *lab) mintOnce(r *Recipe) (minted, error) {
	if !r.raw.absent() {
		text, err := g.text(r.raw)
		return minted{text: text}, err
	}
	m, err := g.sign(r)
	if err != nil {
		return minted{}, err
	}
	for _, op := range r.sig {
		if m.signature, err = g.bend(op, m, r); err != nil {
			return minted{}, fmt.Errorf("sig %q: %w", op.Op, err)
		}
	}
	payload := string(m.claims)
	if !r.unencoded {
		payload = b64u(m.claims)
	}
	if r.payloadFrom != nil {
		other, err := g.mint(r.payloadFrom)
		if err != nil {
			return minted{}, err
		}
		payload, m.claims = b64u(other.claims), other.claims
	}
	segments := []string{b64u(m.header), payload, b64u(m.signature)}
	m.text = strings.Join(segments, ".")
	for _, op := range r.form {
		if m.text, err = op.apply(m.text); err != nil {
			return minted{}, fmt.Errorf("form %q: %w", op.Op, err)
		}
	}
	return m, nil
}

// sign writes header and claims, and signs them as the recipe says.
func (g *lab) sign(r *Recipe) (m minted, err error) {
	if r.sameAsCaseToken {
		if g.caseToken == nil || g.caseToken.header == nil {
			return m, errors.New("same_as_case_token, but the case has no minted token")
		}
		return *g.caseToken, nil
	}
	if m.header, err = g.part(r.header); err != nil {
		return m, fmt.Errorf("header: %w", err)
	}
	if m.claims, err = g.part(r.claims); err != nil {
		return m, fmt.Errorf("claims: %w", err)
	}
	payload := b64u(m.claims)
	if r.unencoded { // RFC 7797, section 3
		payload = string(m.claims)
	}
	m.input = b64u(m.header) + "." + payload
	algorithm, err := g.algorithm(r)
	if err != nil {
		return m, err
	}
	switch r.key.kind {
	case '{':
		secret, err := g.bytes(r.key.get("hmac"))
		if err != nil {
			return m, err
		}
		m.signature, err = signHMAC(algorithm, secret, m.input)
		return m, err
	case '"':
		if r.key.text == "none" {
			return m, nil
		}
		k, err := g.suite.keys.key(r.key.text)
		if err != nil {
			return m, err
		}
		m.signature, err = signWith(algorithm, k.private, m.input)
		return m, err
	}
	return m, errors.New("no key")
}

// algorithm is the one that is really used: sign_with, or the header's alg.
func (g *lab) algorithm(r *Recipe) (string, error) {
	if !r.signWith.absent() {
		return g.text(r.signWith)
	}
	// Where a case has alg twice, its own is what it means to be signed with.
	for _, list := range [][]member{r.header.set, r.header.prepend, r.header.append} {
		for _, m := range list {
			if m.name == "alg" && m.value.kind == '"' {
				return m.value.text, nil
			}
		}
	}
	return "", nil
}

// part writes the text of a header or of claims.
func (g *lab) part(p part) ([]byte, error) {
	var text []byte
	var err error
	switch {
	case !p.rawBytes.absent():
		text, err = g.bytes(p.rawBytes)
	case !p.raw.absent():
		text, err = g.bytes(p.raw)
	default:
		all := append(append(append([]member(nil), p.prepend...), p.set...), p.append...)
		text, err = g.object(all)
	}
	if err != nil {
		return nil, err
	}
	prefix, err := g.bytes(p.prefix)
	if err != nil {
		return nil, err
	}
	suffix, err := g.bytes(p.suffix)
	if err != nil {
		return nil, err
	}
	text = append(append(prefix, text...), suffix...)
	if !p.inEncoding.absent() {
		return encodeText(p.inEncoding.text, text)
	}
	return text, nil
}

// accessTokenHash is a proof's ath (RFC 9449, section 4.2).
func accessTokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return b64u(sum[:])
}
