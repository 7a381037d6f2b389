package attacktest

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// generated is what a generator made: text, or JSON that is put as it is where JSON is written.
type generated struct {
	data []byte
	json bool
}

func asText(b []byte) (generated, error)            { return generated{data: b}, nil }
func asString(s string) (generated, error)          { return generated{data: []byte(s)}, nil }
func asJSON(b []byte, err error) (generated, error) { return generated{b, true}, err }

// generator is one `$name` of the format: the members that may stand beside it, and what it makes.
type generator struct {
	members []string
	make    func(g *lab, arg, whole Value) (generated, error)
}

// generators is a function and not a variable, as what it holds calls it.
func generators(name string) (generator, bool) {
	simple := func(f func(g *lab, arg Value) (generated, error)) (generator, bool) {
		return generator{make: func(g *lab, arg, _ Value) (generated, error) { return f(g, arg) }}, true
	}
	bytesOf := func(f func([]byte) (generated, error)) (generator, bool) {
		return simple(func(g *lab, arg Value) (generated, error) {
			b, err := g.bytes(arg)
			if err != nil {
				return generated{}, err
			}
			return f(b)
		})
	}
	named := func(f func(g *lab, name string) (generated, error)) (generator, bool) {
		return simple(func(g *lab, arg Value) (generated, error) {
			name, err := arg.str()
			if err != nil {
				return generated{}, err
			}
			return f(g, name)
		})
	}
	switch name {
	case "$now", "$now_text", "$now_millis", "$now_fraction":
		return simple(func(g *lab, arg Value) (generated, error) { return g.clock(name, arg) })
	case "$raw":
		return simple(func(_ *lab, arg Value) (generated, error) {
			text, err := arg.str()
			return asJSON([]byte(text), err)
		})
	case "$repeat":
		return simple((*lab).repeat)
	case "$nest":
		return simple(func(_ *lab, arg Value) (generated, error) {
			n, err := count(arg)
			return asJSON([]byte(strings.Repeat("[", n)+strings.Repeat("]", n)), err)
		})
	case "$list":
		return simple((*lab).uuids)
	case "$uuid":
		return simple(func(_ *lab, arg Value) (generated, error) {
			if arg.kind != 't' {
				return generated{}, errors.New("expected true")
			}
			return asString(newUUID())
		})
	case "$hex":
		return bytesOf(func(b []byte) (generated, error) {
			out, err := hex.DecodeString(string(b))
			return generated{data: out}, err
		})
	case "$concat":
		return simple(func(g *lab, arg Value) (generated, error) {
			parts, err := arg.list()
			if err != nil {
				return generated{}, err
			}
			var out []byte
			for _, p := range parts {
				b, err := g.bytes(p)
				if err != nil {
					return generated{}, err
				}
				out = append(out, b...)
			}
			return asText(out)
		})
	case "$json":
		return simple(func(g *lab, arg Value) (generated, error) {
			b, err := g.json(arg)
			return generated{data: b}, err
		})
	case "$b64":
		return bytesOf(func(b []byte) (generated, error) { return asString(base64.StdEncoding.EncodeToString(b)) })
	case "$b64u":
		return bytesOf(func(b []byte) (generated, error) { return asString(b64u(b)) })
	case "$gzip":
		return bytesOf(func(b []byte) (generated, error) {
			var out bytes.Buffer
			w := gzip.NewWriter(&out)
			if _, err := w.Write(b); err != nil {
				return generated{}, err
			}
			err := w.Close()
			return generated{data: out.Bytes()}, err
		})
	case "$utf16le", "$utf32be":
		return bytesOf(func(b []byte) (generated, error) {
			out, err := encodeText(strings.TrimPrefix(name, "$"), b)
			return generated{data: out}, err
		})
	case "$upper":
		return bytesOf(func(b []byte) (generated, error) { return asText(bytes.ToUpper(b)) })
	case "$token":
		return simple(func(g *lab, arg Value) (generated, error) {
			t, err := g.mintNamed(arg)
			return generated{data: []byte(t)}, err
		})
	case "$ath_of":
		// The text of the case's own token, or of a recipe's.
		return named(func(g *lab, name string) (generated, error) {
			text, err := g.fill(name)
			if err == nil && text == name {
				text, err = g.mintNamed(textValue(name))
			}
			return generated{data: []byte(accessTokenHash(text))}, err
		})
	case "$jwk", "$jwk_private":
		return generator{members: []string{"set"}, make: func(g *lab, arg, whole Value) (generated, error) {
			return asJSON(g.jwkOf(arg, name == "$jwk_private", whole.get("set")))
		}}, true
	case "$jwk_text":
		return simple(func(g *lab, arg Value) (generated, error) {
			b, err := g.jwkOf(arg, false, Value{})
			return generated{data: b}, err
		})
	case "$jwk_member":
		return simple((*lab).jwkMember)
	case "$jkt", "$spki_pem", "$spki_pem_trimmed", "$spki_der", "$modulus":
		return named(func(g *lab, key string) (generated, error) {
			b, err := g.suite.keys.form(key, name)
			return generated{data: b}, err
		})
	case "$x5t", "$cert_sha256_hex", "$cert_pem_url", "$cert_der_b64":
		return named(func(g *lab, cert string) (generated, error) {
			b, err := g.suite.keys.certForm(cert, name)
			return generated{data: b}, err
		})
	case "$jwks":
		return generator{members: []string{"add", "add_as", "add_raw", "remove", "private", "set_on", "repeat_key"}, make: func(g *lab, arg, whole Value) (generated, error) {
			return asJSON(g.jwks(arg, whole))
		}}, true
	case "$discovery":
		return generator{members: []string{"set", "remove"}, make: func(g *lab, arg, whole Value) (generated, error) {
			return asJSON(g.discovery(arg, whole))
		}}, true
	}
	return generator{}, false
}

// generatorOf returns the generator that an object is, if it is one.
func generatorOf(v Value) (string, Value, bool) {
	if v.kind == '{' {
		for _, m := range v.members {
			if strings.HasPrefix(m.name, "$") {
				return m.name, m.value, true
			}
		}
	}
	return "", Value{}, false
}

// checkGenerators finds generators that do not exist, and members that they do not have.
func checkGenerators(v Value) error {
	if name, _, ok := generatorOf(v); ok {
		gen, known := generators(name)
		if !known {
			return fmt.Errorf("unknown generator %q", name)
		}
		if err := v.only(append([]string{name}, gen.members...)...); err != nil {
			return fmt.Errorf("generator %q: %w", name, err)
		}
	}
	for _, m := range v.members {
		if err := checkGenerators(m.value); err != nil {
			return err
		}
	}
	for _, item := range v.items {
		if err := checkGenerators(item); err != nil {
			return err
		}
	}
	return nil
}

func (g *lab) generate(v Value) (generated, bool, error) {
	name, arg, ok := generatorOf(v)
	if !ok {
		return generated{}, false, nil
	}
	gen, known := generators(name)
	if !known {
		return generated{}, true, fmt.Errorf("unknown generator %q", name)
	}
	out, err := gen.make(g, arg, v)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return out, true, err
}

// bytes returns a text or what a generator makes of it; placeholders and templates are filled in.
func (g *lab) bytes(v Value) ([]byte, error) {
	if out, ok, err := g.generate(v); ok {
		return out.data, err
	}
	switch v.kind {
	case '"':
		s, err := g.fill(v.text)
		return []byte(s), err
	case 0:
		return nil, nil
	}
	return nil, fmt.Errorf("%s is neither a text nor a generator", v)
}

func (g *lab) text(v Value) (string, error) {
	b, err := g.bytes(v)
	return string(b), err
}

// json writes a value as compact JSON, its members in their order, with what its generators make.
func (g *lab) json(v Value) ([]byte, error) {
	out, ok, err := g.generate(v)
	switch {
	case err != nil:
		return nil, err
	case ok && out.json:
		return out.data, nil
	case ok:
		return quoted(string(out.data)), nil
	}
	switch v.kind {
	case '"':
		s, err := g.fill(v.text)
		return quoted(s), err
	case '{':
		return g.object(v.members)
	case '[':
		b := []byte{'['}
		for i, item := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			text, err := g.json(item)
			if err != nil {
				return nil, err
			}
			b = append(b, text...)
		}
		return append(b, ']'), nil
	}
	return []byte(v.String()), nil
}

func (g *lab) object(members []member) ([]byte, error) {
	b := []byte{'{'}
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		text, err := g.json(m.value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, quoted(m.name)...), ':'), text...)
	}
	return append(b, '}'), nil
}

// fill replaces ${...}, the base URL of a server, and {{...}}, a value of the request.
func (g *lab) fill(s string) (string, error) {
	for _, mark := range []struct {
		open, end string
		value     func(string) (string, error)
	}{{"${", "}", g.url}, {"{{", "}}", g.variable}} {
		if !strings.Contains(s, mark.open) {
			continue
		}
		var b strings.Builder
		for {
			before, rest, ok := strings.Cut(s, mark.open)
			b.WriteString(before)
			if !ok {
				break
			}
			name, after, ok := strings.Cut(rest, mark.end)
			if !ok {
				return "", fmt.Errorf("%q has no end", mark.open+rest)
			}
			text, err := mark.value(name)
			if err != nil {
				return "", err
			}
			b.WriteString(text)
			s = after
		}
		s = b.String()
	}
	return s, nil
}

func (g *lab) url(name string) (string, error) {
	if u, ok := g.urls[name]; ok {
		return u, nil
	}
	return "", fmt.Errorf("unknown placeholder ${%s}", name)
}

func (g *lab) variable(name string) (string, error) {
	if g.vars == nil {
		return "", fmt.Errorf("{{%s}} stands where there is no request", name)
	}
	return g.vars(name)
}

func (g *lab) clock(name string, arg Value) (generated, error) {
	now := time.Now()
	if name == "$now_fraction" {
		n, err := strconv.ParseFloat(arg.text, 64)
		whole, fraction := math.Modf(n)
		if err != nil || arg.kind != '0' || fraction < 0 {
			return generated{}, fmt.Errorf("%s is no offset in seconds", arg)
		}
		digits := strings.TrimPrefix(strconv.FormatFloat(fraction, 'f', -1, 64), "0")
		return asJSON(append(strconv.AppendInt(nil, now.Unix()+int64(whole), 10), digits...), nil)
	}
	n, err := arg.number()
	if err != nil {
		return generated{}, err
	}
	n += now.Unix()
	if name == "$now_millis" {
		n *= 1000
	}
	return generated{data: strconv.AppendInt(nil, n, 10), json: name != "$now_text"}, nil
}

func count(arg Value) (int, error) {
	n, err := arg.number()
	if err == nil && (n < 0 || n > 1<<28) {
		err = fmt.Errorf("%d is no count", n)
	}
	return int(n), err
}

func (g *lab) repeat(arg Value) (generated, error) {
	what, times, err := arg.pair()
	if err != nil {
		return generated{}, err
	}
	n, err := count(times)
	if err != nil {
		return generated{}, err
	}
	if what.kind == '"' {
		s, err := g.fill(what.text)
		return generated{data: []byte(strings.Repeat(s, n))}, err
	}
	var out []byte
	for range n {
		b, err := g.bytes(what)
		if err != nil {
			return generated{}, err
		}
		out = append(out, b...)
	}
	return asText(out)
}

// uuids makes a list of as many fresh UUIDs.
func (g *lab) uuids(arg Value) (generated, error) {
	times, of, err := arg.pair()
	if err != nil {
		return generated{}, err
	}
	n, err := count(times)
	if err != nil {
		return generated{}, err
	}
	if of.kind != '"' || of.text != "uuid" {
		return generated{}, fmt.Errorf("a list of %s, expected \"uuid\"", of)
	}
	b := []byte{'['}
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, quoted(newUUID())...)
	}
	return asJSON(append(b, ']'), nil)
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func b64u(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// encodeText writes UTF-8 text in another encoding, without a byte order mark.
func encodeText(encoding string, text []byte) ([]byte, error) {
	var out []byte
	switch encoding {
	case "utf-8":
		return text, nil
	case "utf16le", "utf-16le":
		for _, u := range utf16.Encode([]rune(string(text))) {
			out = binary.LittleEndian.AppendUint16(out, u)
		}
	case "utf32be", "utf-32be":
		for _, r := range string(text) {
			out = binary.BigEndian.AppendUint32(out, uint32(r))
		}
	default:
		return nil, fmt.Errorf("unknown text encoding %q", encoding)
	}
	return out, nil
}
