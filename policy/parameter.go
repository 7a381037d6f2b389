package policy

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// pair is one name=value of a query: as the client wrote it, and decoded.
type pair struct {
	raw         string
	name, value string
}

// readPairs reads a query so that it has one meaning: what backends read in different ways is refused. Those are broken
// escapes, bytes that are no UTF-8, a semicolon (which some take for an ampersand), control bytes, and a percent sign in a
// name (which a reader that decodes twice would decode again).
func readPairs(query string) ([]pair, error) {
	if query == "" {
		return nil, nil
	}
	malformed := func(what string) error {
		return &Refusal{Outcome: BadRequest, Detail: "The query string is malformed.", Err: errors.New(what + " in the query")}
	}
	if strings.IndexByte(query, ';') >= 0 {
		return nil, malformed("a semicolon")
	}
	if n := strings.Count(query, "&"); n >= maxPairs {
		return nil, malformed("too many parameters")
	}
	var out []pair
	for raw := range strings.SplitSeq(query, "&") {
		if raw == "" {
			continue
		}
		name, value, _ := strings.Cut(raw, "=")
		p := pair{raw: raw}
		var err1, err2 error
		p.name, err1 = url.QueryUnescape(name)
		p.value, err2 = url.QueryUnescape(value)
		switch {
		case err1 != nil || err2 != nil:
			return nil, malformed("a broken escape")
		case !utf8.ValidString(p.name) || !utf8.ValidString(p.value):
			return nil, malformed("bytes that are no UTF-8")
		case strings.ContainsFunc(p.name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '%' }):
			return nil, malformed("a control character or a percent sign")
		case strings.IndexByte(p.value, 0) >= 0:
			return nil, malformed("a NUL")
		}
		out = append(out, p)
	}
	return out, nil
}

// maxPairs bounds the parameters of a query where they count: PHP and Express read no more than 1,000.
const maxPairs = 256

// sameParameter reports whether some backend takes the name a for the parameter b: another case (ASP.NET), brackets and
// dots (Rails, PHP, Express: owner[], owner[$ne], owner.x), spaces, dots, hyphens and brackets for an underscore (PHP).
func sameParameter(a, b string) bool {
	if a == b {
		return true
	}
	a, b = fold(a), fold(b)
	if mangle(a) == mangle(b) {
		return true
	}
	x, y := parameterPath(a), parameterPath(b)
	n := min(len(x), len(y))
	return slices.Equal(x[:n], y[:n])
}

// mangle is what PHP makes of a name, and a little more.
func mangle(name string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch r {
		case ' ', '.', '[', ']', '-', '+':
			return '_'
		}
		return r
	}, name), "_")
}

// parameterPath splits owner[a].b into its names.
func parameterPath(name string) []string {
	parts := strings.FieldsFunc(name, func(r rune) bool { return r == '[' || r == ']' || r == '.' })
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// queryValue is `value.query`: names and texts. A name that is given twice, also in two spellings, and one that is just
// another spelling of a name that the policy asks for, are refused: which one counts would be the backend's choice.
func queryValue(pairs []pair, asked []*asked) (map[string]any, error) {
	out := make(map[string]any, len(pairs))
	seen := parameterSet{}
	for _, p := range pairs {
		if !seen.add(p.name) {
			return nil, &Refusal{Outcome: BadRequest, Detail: "A query parameter is given more than once.", Err: errors.New("a parameter stands in the query twice")}
		}
		if misspells(asked, p.name) {
			return nil, &Refusal{Outcome: BadRequest, Detail: "A query parameter is misspelt.", Err: errors.New("a parameter in another spelling than the policy's")}
		}
		out[p.name] = p.value
	}
	return out, nil
}

// parameterSet holds names, as sameParameter compares them.
type parameterSet map[string]uint8

const (
	isMangled uint8 = 1 << iota
	isWhole         // the path of a name
	isPrefix        // the beginning of such a path
)

// add puts a name into the set, and reports whether the set had no name like it.
func (s parameterSet) add(name string) bool {
	fresh := !s.has(name)
	name = fold(name)
	s["m"+mangle(name)] = isMangled
	key := "p"
	for _, part := range parameterPath(name) {
		s[key] |= isPrefix
		key += "\x00" + part
	}
	s[key] |= isWhole
	return fresh
}

// has reports whether the set has a name like this one.
func (s parameterSet) has(name string) bool {
	name = fold(name)
	if s["m"+mangle(name)] != 0 {
		return true
	}
	key := "p"
	for _, part := range parameterPath(name) {
		if s[key]&isWhole != 0 {
			return true
		}
		key += "\x00" + part
	}
	return s[key] != 0
}
