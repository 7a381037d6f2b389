package edit_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/edit"
	"github.com/usher-authz/usher/policy"
)

// places are where a stamp may be told to go, and the same as the members' names; "*" is each element of a list.
var places = map[string][]string{
	"labels": {"labels"}, "order.labels": {"order", "labels"}, "orders[].labels": {"orders", "*", "labels"}, "[].labels": {"*", "labels"},
	".": {}, "/x.y/a~1b": {"x.y", "a/b"},
}

// FuzzStampAt decides on a body as the gate does, for each place. What comes out is strict JSON, has the stamp at each of the
// place's objects and just once, says otherwise what the body said, and keeps byte for byte what is not stamped.
func FuzzStampAt(f *testing.F) {
	routes := map[string]*policy.Policy{}
	text := func(s string) policy.Text { return policy.Text{Text: s} }
	for at := range places {
		stampAt := text(at)
		snapshot, err := policy.New(policy.Set{Policies: []policy.Source{{
			Name: "p", Hosts: []policy.Text{text("*")}, Providers: []string{"idp"},
			API: policy.APISource{Routes: []policy.RouteSource{{Method: text("POST"), Path: text("/"), On: text("x:create"), StampAt: &stampAt}}},
			Rules: []policy.RuleSource{{On: text("x"), Stamp: &policy.Tree{IsObject: true, Members: []policy.Member{
				{Name: text("owner"), Value: policy.Tree{Scalar: "user.identity"}},
			}}}},
		}}}, nil)
		if err != nil {
			f.Fatal(err)
		}
		routes[at] = snapshot.Match("any", "")
	}
	for _, body := range []string{
		``, `{}`, `[]`, `[{}]`, `null`, `{"labels":{"owner":"bob"}}`, `{"labels":null,"n":1.0}`, `{"Labels":{}}`, `{"labels":{},"labels":{"owner":"bob"}}`,
		`{"order":{"labels":{"own\u0065r":"bob"}},"x.y":{"a/b":{"k":12345678901234567890}}}`, "{\"orders\": [ {\"labels\" :{}} ,\t{}, {\"labels\":{\"owner\":[\"}\"]}}]\n}",
		`[{"labels":{"owner":"gate-user"}},{}]`, `{"owner":{},"order":{},"x.y":{}}`, `{"labels":[]}`, `{"labels.owner":"bob"}`, `{"__proto__":{"labels":{}}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for at, names := range places {
			route, err := routes[at].Route("POST", "/")
			if err != nil {
				t.Fatal(err)
			}
			ops, err := route.Operations("", body)
			if err != nil {
				continue // refused: nothing goes out
			}
			d := routes[at].Decide(policy.Facts{Identity: &policy.Identity{Name: "gate-user"}, Request: &policy.Request{Method: "POST", Path: "/"}}, ops)
			if d.Outcome != policy.Allow {
				continue
			}
			got, err := edit.Apply(body, d.Edits)
			if err != nil {
				continue
			}
			result, err := policy.ParseValue(got)
			if err != nil {
				t.Fatalf("%s: %q became %q, which is not strict: %v", at, body, got, err)
			}
			want := any(map[string]any{})
			if len(bytes.TrimLeft(body, " \t\r\n")) > 0 {
				if want, err = policy.ParseValue(body); err != nil {
					t.Fatalf("%s: %q passed, and is not strict: %v", at, body, err)
				}
			}
			stamps := 0
			if want = stamped(t, want, names, &stamps); !policy.Equal(result, want) || stamps == 0 {
				t.Fatalf("%s: %q became %q", at, body, got)
			}
			if again, err := edit.Apply(got, d.Edits); err != nil || !bytes.Equal(again, got) {
				t.Fatalf("%s: %q becomes %q the second time", at, got, again)
			}
			if len(bytes.TrimLeft(body, " \t\r\n")) > 0 {
				kept(t, at, body, got)
			}
		}
	})
}

// stamped writes the stamp into a parsed body, in the plainest way.
func stamped(t *testing.T, v any, names []string, count *int) any {
	if len(names) > 0 && names[0] == "*" {
		list, ok := v.([]any)
		if !ok {
			t.Fatalf("%T has no elements", v)
		}
		for i := range list {
			list[i] = stamped(t, list[i], names[1:], count)
		}
		return list
	}
	object, ok := v.(map[string]any)
	if v == nil {
		object, ok = map[string]any{}, true
	}
	if !ok {
		t.Fatalf("%T has no members", v)
	}
	if len(names) > 0 {
		object[names[0]] = stamped(t, object[names[0]], names[1:], count)
		return object
	}
	object["owner"] = "gate-user"
	*count++
	return object
}

// kept demands that every token of the body stands in the result as it stood, in its order, but for values that the stamp took the
// place of; and that nothing was added but the stamp and the names that lead to it.
func kept(t *testing.T, at string, body, got []byte) {
	before, after := tokens(body), tokens(got)
	i := 0
	for _, token := range after {
		if i < len(before) && before[i] == token {
			i++
			continue
		}
		// Something was added, or a value was replaced: then what follows it in the body follows here too.
		switch token {
		case `"gate-user"`, `"owner"`, `"labels"`, `"order"`, `"x.y"`, `"a/b"`, "{", "}", ",", ":":
		default:
			// Of a value that was replaced, the tokens are gone; the next one that was kept comes later.
			j := i
			for j < len(before) && before[j] != token {
				j++
			}
			if j == len(before) {
				t.Fatalf("%s: %q became %q: %s was not there", at, body, got, token)
			}
			i = j + 1
		}
	}
	if !strings.Contains(string(body), `"owner"`) && !strings.Contains(string(body), `\u`) && !bytes.Contains(body, []byte("null")) && i < len(before) {
		t.Fatalf("%s: %q became %q: %q is gone", at, body, got, before[i:])
	}
}

// tokens are the raw pieces of strict JSON: strings, numbers and names as they are written, and each mark.
func tokens(text []byte) (out []string) {
	for i := 0; i < len(text); {
		start := i
		switch c := text[i]; {
		case c == '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			i++
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
			continue
		case strings.IndexByte("{}[],:", c) >= 0:
			i++
		default:
			for i < len(text) && strings.IndexByte(" \t\r\n{}[],:\"", text[i]) < 0 {
				i++
			}
		}
		out = append(out, string(text[start:min(i, len(text))]))
	}
	return out
}
