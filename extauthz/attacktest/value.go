package attacktest

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Value is one JSON value as the file writes it: members in their order, numbers as their text. An object whose first
// member begins with a dollar sign is a generator, see [Lab.Text]. The zero Value is absent. A Value never changes.
type Value struct {
	kind    jsontext.Kind
	text    string // of a string: its content; of a number: as written
	members []member
	items   []Value
}

type member struct {
	name  string
	value Value
}

func textValue(s string) Value { return Value{kind: '"', text: s} }

func (v Value) absent() bool { return v.kind == 0 }
func (v Value) isNull() bool { return v.kind == 'n' }

// UnmarshalJSONFrom reads the next value.
func (v *Value) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var err error
	*v, err = readValue(d)
	return err
}

// parseValue reads a text that holds one value, strictly (RFC 7493).
func parseValue(text []byte) (Value, error) {
	d := jsontext.NewDecoder(strings.NewReader(string(text)))
	v, err := readValue(d)
	if err != nil {
		return Value{}, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return Value{}, errors.New("more text after the JSON value")
	}
	return v, nil
}

func readValue(d *jsontext.Decoder) (Value, error) {
	t, err := d.ReadToken()
	if err != nil {
		return Value{}, err
	}
	v := Value{kind: t.Kind()}
	switch v.kind {
	case '"', '0':
		v.text = t.String()
	case 't', 'f', 'n':
	case '{':
		for d.PeekKind() != '}' {
			name, err := d.ReadToken()
			if err != nil {
				return Value{}, err
			}
			m := member{name: name.String()}
			if m.value, err = readValue(d); err != nil {
				return Value{}, err
			}
			v.members = append(v.members, m)
		}
		_, err = d.ReadToken()
	case '[':
		for d.PeekKind() != ']' {
			item, err := readValue(d)
			if err != nil {
				return Value{}, err
			}
			v.items = append(v.items, item)
		}
		_, err = d.ReadToken()
	}
	return v, err
}

// get returns a member, absent if there is none.
func (v Value) get(name string) Value {
	for _, m := range v.members {
		if m.name == name {
			return m.value
		}
	}
	return Value{}
}

// str returns the content of a string.
func (v Value) str() (string, error) {
	if v.kind != '"' {
		return "", fmt.Errorf("%s stands where a string is expected", v)
	}
	return v.text, nil
}

// number returns an integer.
func (v Value) number() (int64, error) {
	n, err := strconv.ParseInt(v.text, 10, 64)
	if v.kind != '0' || err != nil {
		return 0, fmt.Errorf("%s stands where an integer is expected", v)
	}
	return n, nil
}

// list returns the items of an array.
func (v Value) list() ([]Value, error) {
	if v.kind != '[' {
		return nil, fmt.Errorf("%s stands where a list is expected", v)
	}
	return v.items, nil
}

// pair returns the items of an array of two.
func (v Value) pair() (Value, Value, error) {
	if v.kind != '[' || len(v.items) != 2 {
		return Value{}, Value{}, fmt.Errorf("%s stands where a list of two is expected", v)
	}
	return v.items[0], v.items[1], nil
}

// only reports the first member that is none of the names.
func (v Value) only(names ...string) error {
	if v.kind != '{' {
		return fmt.Errorf("%s stands where an object is expected", v)
	}
next:
	for _, m := range v.members {
		for _, n := range names {
			if m.name == n {
				continue next
			}
		}
		return fmt.Errorf("unknown member %q, expected one of %q", m.name, names)
	}
	return nil
}

// equal compares as JSON does: the order of members says nothing, numbers are compared by their text.
func (v Value) equal(w Value) bool {
	if v.kind != w.kind || v.text != w.text || len(v.items) != len(w.items) || len(v.members) != len(w.members) {
		return false
	}
	for i := range v.items {
		if !v.items[i].equal(w.items[i]) {
			return false
		}
	}
	for _, m := range v.members {
		if other := w.get(m.name); other.absent() || !m.value.equal(other) {
			return false
		}
	}
	return true
}

// at returns what an RFC 6901 pointer names, absent if nothing stands there.
func (v Value) at(pointer string) (Value, error) {
	if pointer == "" {
		return v, nil
	}
	if pointer[0] != '/' {
		return Value{}, fmt.Errorf("JSON pointer %q does not begin with a slash", pointer)
	}
	for step := range strings.SplitSeq(pointer[1:], "/") {
		step = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
		switch v.kind {
		case '{':
			v = v.get(step)
		case '[':
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v.items) {
				return Value{}, nil
			}
			v = v.items[i]
		default:
			return Value{}, nil
		}
	}
	return v, nil
}

// strings calls f for every string within, names of members excepted.
func (v Value) strings(f func(string)) {
	if v.kind == '"' {
		f(v.text)
	}
	for _, m := range v.members {
		m.value.strings(f)
	}
	for _, i := range v.items {
		i.strings(f)
	}
}

// holds reports whether a string within has the text.
func (v Value) holds(text string) bool {
	found := false
	v.strings(func(s string) { found = found || strings.Contains(s, text) })
	return found
}

// String returns the value as compact JSON, generators as they are written.
func (v Value) String() string {
	var b strings.Builder
	v.write(&b)
	return b.String()
}

func (v Value) write(b *strings.Builder) {
	switch v.kind {
	case 0:
		b.WriteString("nothing")
	case '"':
		b.Write(quoted(v.text))
	case '0':
		b.WriteString(v.text)
	case 't':
		b.WriteString("true")
	case 'f':
		b.WriteString("false")
	case 'n':
		b.WriteString("null")
	case '{':
		b.WriteByte('{')
		for i, m := range v.members {
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(quoted(m.name))
			b.WriteByte(':')
			m.value.write(b)
		}
		b.WriteByte('}')
	case '[':
		b.WriteByte('[')
		for i, item := range v.items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.write(b)
		}
		b.WriteByte(']')
	}
}

// quoted returns s as a JSON string; bytes that are no UTF-8 become U+FFFD.
func quoted(s string) []byte {
	out, err := jsontext.AppendQuote(nil, s)
	if err != nil {
		out, _ = jsontext.AppendQuote(nil, strings.ToValidUTF8(s, "\uFFFD"))
	}
	return out
}
