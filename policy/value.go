package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Value is a JSON value: nil, bool, string, int64, uint64, float64, []any or map[string]any, and nothing else.
type Value = any

// maxDepth bounds how deep arrays and objects may nest: deeper than any metadata or agent state, and shallow enough
// that no reader behind Usher overflows.
const maxDepth = 200

// maxValues bounds how many values one text holds: a picture is one, and a body of nothing but small ones would take
// fifty times its size in memory.
const maxValues = 200_000

// ParseValue reads one strict JSON text (I-JSON, RFC 7493: UTF-8 without a byte order mark, no duplicate names, no
// lone surrogates, nothing after the value), so that no other reader can understand it differently. Numbers become
// int64 or uint64 where they are integers of that range and written as such, else float64.
func ParseValue(text []byte) (Value, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(text), // read in place, and not changed
		jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))
	left := maxValues
	v, err := readValue(d, maxDepth, &left)
	if err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("more text after the JSON value")
		}
		return nil, err
	}
	return v, nil
}

func readValue(d *jsontext.Decoder, depth int, left *int) (Value, error) {
	if *left--; *left < 0 {
		return nil, fmt.Errorf("more than %d values", maxValues)
	}
	if depth == 0 {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	t, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch t.Kind() {
	case 'n':
		return nil, nil
	case 't':
		return true, nil
	case 'f':
		return false, nil
	case '"':
		return t.String(), nil
	case '0':
		return parseNumber(t.String())
	case '[':
		list := []any{}
		for d.PeekKind() != ']' {
			v, err := readValue(d, depth-1, left)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.ReadToken()
		return list, err
	case '{':
		object := map[string]any{}
		for d.PeekKind() != '}' {
			name, err := d.ReadToken()
			if err != nil {
				return nil, err
			}
			key := name.String()
			v, err := readValue(d, depth-1, left)
			if err != nil {
				return nil, err
			}
			object[key] = v
		}
		_, err := d.ReadToken()
		return object, err
	}
	return nil, fmt.Errorf("unexpected JSON token %v", t.Kind())
}

func parseNumber(text string) (Value, error) {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(text, 10, 64); err == nil {
		return u, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, fmt.Errorf("number out of range")
	}
	return f, nil
}
