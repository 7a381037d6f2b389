package edit

import (
	"math"
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
)

// set is an edit of one member. at is a path with slashes.
func set(at, name string, value policy.Value) policy.Edit {
	e := policy.Edit{Set: []policy.EditMember{{Name: name, Value: value}}}
	if at != "" {
		e.At = strings.Split(at, "/")
	}
	return e
}

var owner = set("metadata", "owner", "alice")

func TestApply(t *testing.T) {
	nested := func(n int, inner string) string { return strings.Repeat(`{"a":`, n) + inner + strings.Repeat("}", n) }
	for _, c := range []struct {
		name, body string
		edits      []policy.Edit
		want       string
	}{
		{"empty_body", ``, []policy.Edit{owner}, `{"metadata":{"owner":"alice"}}`},
		{"white_space_only", " \r\n\t", []policy.Edit{owner}, `{"metadata":{"owner":"alice"}}`},
		{"null_body", ` null `, []policy.Edit{owner}, ` {"metadata":{"owner":"alice"}} `},
		{"empty_object", `{ }`, []policy.Edit{owner}, `{"metadata":{"owner":"alice"} }`},
		{"missing_parent", `{ "a" : 1 }`, []policy.Edit{owner}, `{"metadata":{"owner":"alice"}, "a" : 1 }`},
		{"null_parent", `{"metadata": null,"z":1}`, []policy.Edit{owner}, `{"metadata": {"owner":"alice"},"z":1}`},
		{"empty_parent", `{"metadata": { },"z":1}`, []policy.Edit{owner}, `{"metadata": {"owner":"alice" },"z":1}`},
		{"member_is_added_first", `{"metadata": { "k":1 },"z":1}`, []policy.Edit{owner}, `{"metadata": {"owner":"alice", "k":1 },"z":1}`},
		{"member_is_replaced_in_place", `{"metadata":{"z":1,"owner":"bob","a":2}}`, []policy.Edit{owner}, `{"metadata":{"z":1,"owner":"alice","a":2}}`},
		{"white_space_stays", "{ \"metadata\" :\n\t{ \"owner\" :\r\n \"bob\" , \"a\" : 2 } }\n", []policy.Edit{owner}, "{ \"metadata\" :\n\t{ \"owner\" :\r\n \"alice\" , \"a\" : 2 } }\n"},
		{"big_numbers_stay", `{"metadata":{"n":12345678901234567890123.10,"owner":1E400,"m":-0.0e-5}}`, []policy.Edit{owner}, `{"metadata":{"n":12345678901234567890123.10,"owner":"alice","m":-0.0e-5}}`},
		{"escapes_stay", `{"\u00e9\/":"\u0041\ud83d\ude00","metadata":{}}`, []policy.Edit{owner}, `{"\u00e9\/":"\u0041\ud83d\ude00","metadata":{"owner":"alice"}}`},
		{"an_escaped_name_is_the_same_name", `{"metadata":{"\u006fwner":"bob"}}`, []policy.Edit{owner}, `{"metadata":{"\u006fwner":"alice"}}`},
		{"an_escaped_parent_is_the_same_parent", `{"met\u0061data":{"owner":"bob"}}`, []policy.Edit{owner}, `{"met\u0061data":{"owner":"alice"}}`},
		{"another_case_is_another_name", `{"metadata":{"Owner":"bob"}}`, []policy.Edit{owner}, `{"metadata":{"owner":"alice","Owner":"bob"}}`},
		{"the_name_elsewhere_is_left_alone", `{"owner":"bob","input":{"metadata":{"owner":"bob"}}}`, []policy.Edit{owner}, `{"metadata":{"owner":"alice"},"owner":"bob","input":{"metadata":{"owner":"bob"}}}`},
		{"an_object_is_replaced_whole", `{"metadata":{"owner":{"$eq":{"x":["}"]}} , "x":[]}}`, []policy.Edit{owner}, `{"metadata":{"owner":"alice" , "x":[]}}`},
		{"a_list_is_replaced_whole", `{"metadata":{"owner":[["bob"],{}]}}`, []policy.Edit{owner}, `{"metadata":{"owner":"alice"}}`},
		{"at_the_root", `{"a":1}`, []policy.Edit{set("", "owner", "alice")}, `{"owner":"alice","a":1}`},
		{"parents_are_made", `{"a":null}`, []policy.Edit{set("a/b/c", "d", true)}, `{"a":{"b":{"c":{"d":true}}}}`},
		{"in_a_list", `[{"a":1}, {"metadata":{}} ,3]`, []policy.Edit{set("1/metadata", "owner", "alice")}, `[{"a":1}, {"metadata":{"owner":"alice"}} ,3]`},
		{"null_in_a_list", `[null]`, []policy.Edit{set("0", "a", int64(1))}, `[{"a":1}]`},
		{"every_run_of_a_batch", `[{},{"metadata":null},{"metadata":{"owner":"bob"}}]`, []policy.Edit{
			set("2/metadata", "owner", "alice"), set("0/metadata", "owner", "alice"), set("1/metadata", "owner", "alice"),
		}, `[{"metadata":{"owner":"alice"}},{"metadata":{"owner":"alice"}},{"metadata":{"owner":"alice"}}]`},
		{"a_digit_is_a_name_in_an_object", `{"0":{}}`, []policy.Edit{set("0", "a", "b")}, `{"0":{"a":"b"}}`},
		{"several_edits", `{"b":{"y":1},"a":{"x":1}}`, []policy.Edit{set("a", "x", int64(2)), set("b", "z", int64(3)), set("c", "w", int64(4)), set("", "v", int64(5))},
			`{"c":{"w":4},"v":5,"b":{"z":3,"y":1},"a":{"x":2}}`},
		{"two_edits_of_one_object", `{"metadata":{"b":1}}`, []policy.Edit{set("metadata", "a", "1"), set("metadata", "b", "2"), set("metadata", "c", "3")},
			`{"metadata":{"a":"1","c":"3","b":"2"}}`},
		{"the_later_edit_holds", `{}`, []policy.Edit{set("m", "a", "1"), set("m", "a", "2")}, `{"m":{"a":"2"}}`},
		{"no_edits", ` {"a":[1, 2]}`, nil, ` {"a":[1, 2]}`},
		{"values", `{}`, []policy.Edit{{Set: []policy.EditMember{
			{Name: "null", Value: nil}, {Name: "uint", Value: uint64(math.MaxUint64)}, {Name: "int", Value: int64(math.MinInt64)}, {Name: "float", Value: 1.0},
			{Name: "small", Value: 1e-7}, {Name: "list", Value: []any{}}, {Name: "object", Value: map[string]any{"b": []any{1.5, nil}, "a": map[string]any{}}},
			{Name: "te\"xt", Value: "</\u2028\x00é"},
		}}}, `{"null":null,"uint":18446744073709551615,"int":-9223372036854775808,"float":1.0,"small":1e-07,"list":[],` +
			`"object":{"a":{},"b":[1.5,null]},"te\"xt":"</` + "\u2028" + `\u0000é"}`},
		{"as_deep_as_allowed", nested(199, `{}`), []policy.Edit{set("", "b", "c")}, `{"b":"c",` + nested(199, `{}`)[1:]},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := strings.Clone(c.body)
			body := []byte(c.body)
			got, err := Apply(body, c.edits)
			if err != nil || string(got) != c.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
			}
			if string(body) != before {
				t.Errorf("the caller's body was changed to %s", body)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	one := []policy.Edit{owner}
	deep := strings.Repeat("[", 200) + "1" + strings.Repeat("]", 200)
	tail := strings.Split(strings.Repeat("a/", 199)+"a", "/")
	for _, c := range []struct {
		name, body string
		edits      []policy.Edit
	}{
		{"text_as_parent", `{"metadata":"x"}`, one},
		{"list_as_parent", `{"metadata":[]}`, one},
		{"number_as_parent", `{"metadata":1}`, one},
		{"false_as_parent", `{"metadata":false}`, one},
		{"list_as_body", `[]`, one},
		{"text_as_body", `"metadata"`, one},
		{"parent_twice", `{"metadata":{},"metadata":{}}`, one},
		{"parent_twice_by_escapes", `{"metadata":{},"metadat\u0061":{}}`, one},
		{"member_twice", `{"metadata":{"owner":1,"owner":1}}`, one},
		{"member_twice_by_escapes", `{"metadata":{"owner":1,"\u006fwner":1}}`, one},
		{"another_name_twice", `{"x":{"a":[{"b":1,"b":2}]}}`, one},
		{"more_text", `{} {}`, one},
		{"a_comma_behind", `{},`, one},
		{"a_zero_byte_behind", "{}\x00", one},
		{"cut_off", `{"metadata":{`, one},
		{"cut_off_in_a_value", `{"metadata":{"owner":"b`, one},
		{"comma_before_the_end", `{"metadata":{"owner":1,}}`, one},
		{"colon_missing", `{"metadata" {"owner":1}}`, one},
		{"comma_missing", `{"a":1 "metadata":{}}`, one},
		{"comma_for_a_colon", `{"metadata",{}}`, one},
		{"a_comment", `{/**/}`, one},
		{"single_quotes", `{'a':1}`, one},
		{"NaN", `{"a":NaN}`, one},
		{"leading_zero", `{"a":01}`, one},
		{"bad_UTF-8", "{\"a\":\"\xff\"}", one},
		{"bad_UTF-8_in_a_name", "{\"\xff\":1}", one},
		{"lone_surrogate", `{"a":"\ud800"}`, one},
		{"byte_order_mark", "\ufeff{}", one},
		{"UTF-16", "{\x00}\x00", one},
		{"control_character", "{\"a\":\"\n\"}", one},
		{"too_deep", `{"a":` + deep + `}`, one},
		{"too_deep_by_the_edit", `{}`, []policy.Edit{{At: tail, Set: owner.Set}}},
		{"index_past_the_end", `[{}]`, []policy.Edit{set("1", "a", 1.0)}},
		{"index_of_an_empty_list", `[]`, []policy.Edit{set("0", "a", 1.0)}},
		{"index_with_a_zero", `[{},{}]`, []policy.Edit{set("01", "a", 1.0)}},
		{"index_with_a_sign", `[{},{}]`, []policy.Edit{set("+1", "a", 1.0)}},
		{"name_in_a_list", `[{}]`, []policy.Edit{set("a", "b", 1.0)}},
		{"text_in_the_list", `["x"]`, []policy.Edit{set("0", "a", 1.0)}},
		{"set_in_a_list", `[1]`, []policy.Edit{set("", "x", 1.0)}},
		{"whole_and_part", `{}`, []policy.Edit{set("", "a", nil), set("a", "b", nil)}},
		{"part_and_whole", `{}`, []policy.Edit{set("a", "b", nil), set("", "a", nil)}},
		{"a_value_that_is_bad_UTF-8", `{}`, []policy.Edit{set("", "a", "\xff")}},
		{"a_name_that_is_bad_UTF-8", `{}`, []policy.Edit{set("", "\xff", "a")}},
		{"a_value_that_is_no_number", `{}`, []policy.Edit{set("", "a", math.NaN())}},
		{"a_value_that_is_no_JSON", `{}`, []policy.Edit{set("", "a", struct{}{})}},
		{"an_int_is_not_a_Value", `{}`, []policy.Edit{set("", "a", []any{1})}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Apply([]byte(c.body), c.edits)
			if err == nil || got != nil {
				t.Fatalf("got %s, %v, want an error", got, err)
			}
		})
	}
	t.Run("without_showing_the_body", func(t *testing.T) {
		for _, body := range []string{`{"secret":secret}`, `{"secret":1,"secret":2}`, `{"secret`, `{"metadata":"secret"}`} {
			if _, err := Apply([]byte(body), one); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v", body, err)
			}
		}
	})
}

func TestMetadataCarriesThePathAndTheBody(t *testing.T) {
	m := Metadata("/threads?x=1", []byte(`{"a":1}`))
	if got := m.AsMap(); len(got) != 2 || got[PathKey] != "/threads?x=1" || got[BodyKey] != `{"a":1}` {
		t.Errorf("got %v", got)
	}
	if !strings.HasPrefix(ParkingPath, policy.ReservedPrefix) {
		t.Errorf("%s is not reserved", ParkingPath)
	}
}
