package policy

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"math/big"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParseValue: what ParseValue accepts, encoding/json reads as the same value, without a name twice; and it accepts
// whatever has just one reading.
func FuzzParseValue(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-0,1.5,1e2,18446744073709551615,-9223372036854775808,1e308,1e999,true,null,"x"]}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`,
		`"\ud800"`, `"\ud83d\ude00"`, `"\ufffd"`, "\"\xff\"", "\ufeff{}", `{} {}`, `[1,]`, `{"a":1,}`, `01`, `1.`, `.5`, `+1`, `NaN`, `'a'`, `[[[[`, "\"\t\"", `""`, ` [ ] `, `"\u0000"`, `"\x"`, "nul",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ParseValue(text)
		want, plain := slowParse(text)
		if err != nil {
			if plain {
				t.Fatalf("%q has one reading: %v", text, err)
			}
			return
		}
		if !plain {
			t.Fatalf("%q is accepted, and has more than one reading", text)
		}
		if !same(got, want) {
			t.Fatalf("%q is %#v, and %#v to encoding/json", text, got, want)
		}
	})
}

// slowParse reads a text with encoding/json, and reports whether every reader must read it so.
func slowParse(text []byte) (any, bool) {
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var read func(depth int) (any, bool)
	read = func(depth int) (any, bool) {
		token, err := d.Token()
		if err != nil || depth > maxDepth {
			return nil, false
		}
		switch token {
		case json.Delim('['):
			list := []any{}
			for d.More() {
				v, ok := read(depth + 1)
				if !ok {
					return nil, false
				}
				list = append(list, v)
			}
			_, err := d.Token()
			return list, err == nil
		case json.Delim('{'):
			object := map[string]any{}
			for d.More() {
				name, err := d.Token()
				if err != nil {
					return nil, false
				}
				if _, twice := object[name.(string)]; twice {
					return nil, false
				}
				v, ok := read(depth + 1)
				if !ok {
					return nil, false
				}
				object[name.(string)] = v
			}
			_, err := d.Token()
			return object, err == nil
		}
		if n, ok := token.(json.Number); ok {
			if f, err := strconv.ParseFloat(string(n), 64); err != nil || math.IsInf(f, 0) {
				return nil, false
			}
		}
		return token, true
	}
	v, ok := read(1)
	if !ok || lonely(text) {
		return nil, false
	}
	_, err := d.Token()
	return v, err == io.EOF
}

// lonely reports whether a valid JSON text holds the escape of half a surrogate pair.
func lonely(text []byte) bool {
	high := false
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			if high {
				return true
			}
			continue
		}
		if text[i+1] != 'u' {
			if high {
				return true
			}
			i++
			continue
		}
		n, _ := strconv.ParseUint(string(text[i+2:i+6]), 16, 32)
		low := n >= 0xdc00 && n < 0xe000
		if high != low {
			return true
		}
		high = n >= 0xd800 && n < 0xdc00
		i += 5
	}
	return high
}

// same compares a Value with what encoding/json made of it.
func same(got Value, want any) bool {
	switch want := want.(type) {
	case json.Number:
		if r, ok := new(big.Int).SetString(string(want), 10); ok {
			switch got := got.(type) {
			case int64:
				return r.IsInt64() && r.Int64() == got
			case uint64:
				return r.IsUint64() && !r.IsInt64() && r.Uint64() == got
			}
			if r.IsInt64() || r.IsUint64() {
				return false
			}
		}
		f, _ := strconv.ParseFloat(string(want), 64)
		return got == any(f)
	case []any:
		got, ok := got.([]any)
		return ok && slices.EqualFunc(got, want, same)
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok || len(got) != len(want) {
			return false
		}
		for k := range want {
			if v, ok := got[k]; !ok || !same(v, want[k]) {
				return false
			}
		}
		return true
	}
	return got == want
}

// FuzzRoute compares the tree with every template tried one by one.
func FuzzRoute(f *testing.F) {
	f.Add("/orders/{id}\n/orders/new\n/orders/{id}/lines/{line}\n/{rest=**}\n/a/{rest=**}", "/orders/new")
	f.Add("/a/{x}/c\n/a/b/{y}\n/a/b/d\n/a/{rest=**}", "/a/b/c")
	f.Add("/\n/{a}\n/{a}/", "/x/")
	f.Add("/a/{r=**}\n/a", "/a")
	f.Add("/orders/{id}\n/orders/Export\n/{r=**}", "/orders/export")
	f.Add("/a/{r=**}\n/a/b", "/a/b/")
	f.Add("/{r=**}\n/a/", "/A")
	f.Fuzz(func(t *testing.T, templates, path string) {
		if !strings.HasPrefix(path, "/") || len(templates) > 400 || strings.Count(path, "/") > 12 {
			return
		}
		var tree routeTree
		var routes []*compiledRoute
		for _, template := range strings.Split(templates, "\n") {
			r := &compiledRoute{method: "GET", path: template}
			if tree.add(r) == nil {
				routes = append(routes, r)
			}
		}
		slow := func(path string, same func(a, b string) bool) (want *compiledRoute, wanted []string) {
			segments := strings.Split(path[1:], "/")
			for _, r := range routes {
				if v, ok := slowMatch(r.path, segments, same); ok && (want == nil || moreSpecific(r.path, want.path)) {
					want, wanted = r, v
				}
			}
			return want, wanted
		}
		want, wanted := slow(path, func(a, b string) bool { return a == b })
		if other, _ := slow(path, strings.EqualFold); other != want {
			want = nil // another spelling of another route's path
		}
		if want != nil && want.rest {
			toggled, ok := strings.CutSuffix(path, "/")
			if !ok {
				toggled += "/"
			}
			if toggled != "" {
				if other, _ := slow(toggled, strings.EqualFold); other != nil && other != want {
					want = nil
				}
			}
		}
		var values [maxParams]string
		got := tree.match(&values, "GET", path)
		if got != want {
			t.Fatalf("%q of %q: %v, want %v", path, templates, got, want)
		}
		if got != nil && (!slices.Equal(values[:len(got.names)], wanted) || len(wanted) != len(got.names)) {
			t.Fatalf("%q of %q: %q with values %q, want %q", path, templates, got.path, values, wanted)
		}
		if r := tree.match(&values, "POST", path); r != nil {
			t.Fatalf("%q: another method's route", path)
		}
	})
}

// slowMatch reports whether a template matches the segments, and the values of its parameters.
func slowMatch(template string, segments []string, same func(a, b string) bool) ([]string, bool) {
	var values []string
	parts := strings.Split(template[1:], "/")
	for i, part := range parts {
		if strings.HasSuffix(part, "=**}") {
			if i > len(segments) {
				return nil, false
			}
			return append(values, strings.Join(segments[i:], "/")), true
		}
		if i >= len(segments) {
			return nil, false
		}
		if part != "" && part[0] == '{' {
			if segments[i] == "" {
				return nil, false
			}
			values = append(values, segments[i])
		} else if !same(part, segments[i]) {
			return nil, false
		}
	}
	return values, len(parts) == len(segments)
}

// moreSpecific compares two templates that match one path, segment by segment: a literal before a parameter before the
// rest; where one ends and the other has the rest, the one that ends.
func moreSpecific(a, b string) bool {
	x, y := strings.Split(a[1:], "/"), strings.Split(b[1:], "/")
	kind := func(parts []string, i int) int {
		switch {
		case i >= len(parts):
			return 0
		case strings.HasSuffix(parts[i], "=**}"):
			return 3
		case parts[i] != "" && parts[i][0] == '{':
			return 2
		}
		return 1
	}
	for i := range max(len(x), len(y)) {
		if j, k := kind(x, i), kind(y, i); j != k {
			return j < k
		}
	}
	return false
}

// FuzzFilter compares Match with a slow and obvious reading of LangGraph's rules.
func FuzzFilter(f *testing.F) {
	text, err := os.ReadFile("testdata/filter-vectors.json")
	if err != nil {
		f.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors {
		f.Add([]byte(v.Filters), []byte(v.Metadata))
	}
	f.Add([]byte(`{"a":9007199254740993}`), []byte(`{"a":9007199254740992.0}`))
	f.Add([]byte(`{"a":[1,{"b":true}]}`), []byte(`{"a":[1.0,{"b":1}]}`))
	c, err := ruleCompiler()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, filter, metadata []byte) {
		if len(filter) > 400 {
			return
		}
		fv, err := ParseValue(filter)
		if err != nil {
			return
		}
		mv, err := ParseValue(metadata)
		if err != nil {
			return
		}
		object, ok := fv.(map[string]any)
		m, isObject := mv.(map[string]any)
		if !ok || !isObject {
			return
		}
		source, problems := c.compileFilter(treeOf(object))
		if len(problems) > 0 {
			return
		}
		bound, err := source.bind(&scope{})
		if err != nil {
			return // what JSON can say and CEL cannot, such as a number past its range
		}
		want := slowFilter(object, m)
		if got := bound.Match(m); got != want {
			t.Fatalf("filter %s on %s: %v, want %v", filter, metadata, got, want)
		}
		if eq, ok := bound.Equalities(); ok {
			// Whoever has exactly these members is selected, and nobody who lacks one of them.
			plain := map[string]any{}
			for k, v := range eq {
				plain[k] = v
			}
			if !slowFilter(object, plain) && !inexactIn(plain) {
				t.Fatalf("filter %s does not select its own equalities %v", filter, eq)
			}
			for k := range eq {
				less := map[string]any{}
				for l, v := range eq {
					if l != k {
						less[l] = v
					}
				}
				if bound.Match(less) {
					t.Fatalf("filter %s selects %v", filter, less)
				}
			}
		}
	})
}

func inexactIn(m map[string]any) bool {
	for _, v := range m {
		if f, ok := v.(float64); ok && math.Abs(f) >= 1<<53 {
			return true
		}
	}
	return false
}

// slowFilter is LangGraph's filter, by its description.
func slowFilter(filter, metadata map[string]any) bool {
	for name, want := range filter {
		ok := false
		switch operator, isOperator := want.(map[string]any); {
		case name == "$or":
			for _, sub := range want.([]any) {
				ok = ok || slowFilter(sub.(map[string]any), metadata)
			}
		case name == "$and":
			ok = true
			for _, sub := range want.([]any) {
				ok = ok && slowFilter(sub.(map[string]any), metadata)
			}
		case isOperator:
			if operand, eq := operator["$eq"]; eq {
				v, there := metadata[name]
				ok = there && slowEqual(v, operand)
				break
			}
			list, isList := metadata[name].([]any)
			wanted, many := operator["$contains"].([]any)
			if !many {
				wanted = []any{operator["$contains"]}
			}
			ok = isList
			for _, w := range wanted {
				ok = ok && slices.ContainsFunc(list, func(v any) bool { return slowEqual(v, w) })
			}
		default:
			v, there := metadata[name]
			ok = there && slowEqual(v, want)
		}
		if !ok {
			return false
		}
	}
	return true
}

// slowEqual is Python's ==, except that a float past 2^53 equals nothing.
func slowEqual(a, b any) bool {
	x, isNumber := rational(a)
	y, other := rational(b)
	if isNumber || other {
		return x != nil && y != nil && x.Cmp(y) == 0
	}
	switch a := a.(type) {
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, slowEqual)
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k := range a {
			if v, ok := b[k]; !ok || !slowEqual(a[k], v) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case []any, map[string]any:
		return false
	}
	return a == b
}

// rational is a number, nil where it is too large to be one.
func rational(v any) (*big.Rat, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return big.NewRat(1, 1), true
		}
		return new(big.Rat), true
	case int64:
		return new(big.Rat).SetInt64(v), true
	case uint64:
		return new(big.Rat).SetUint64(v), true
	case float64:
		if math.Abs(v) >= 1<<53 {
			return nil, true
		}
		return new(big.Rat).SetFloat64(v), true
	}
	return nil, false
}

// FuzzHeaderValue: no two texts become one header value, and no value can split a header.
func FuzzHeaderValue(f *testing.F) {
	f.Add("a%", "a%25")
	f.Add("ë", "%C3%AB")
	f.Add("a b", "a\tb")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, err := headerValue(a)
		if err != nil {
			return
		}
		for i := 0; i < len(x); i++ {
			if x[i] < ' ' || x[i] > '~' {
				t.Fatalf("%q gives %q", a, x)
			}
		}
		if strings.TrimSpace(x) != x {
			t.Fatalf("%q gives %q", a, x)
		}
		if y, err := headerValue(b); err == nil && x == y && a != b {
			t.Fatalf("%q and %q both give %q", a, b, x)
		}
	})
}
