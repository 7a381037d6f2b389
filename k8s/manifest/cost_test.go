package manifest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// An object of the cluster is one line of JSON, which whoever may write one makes as large as etcd takes. What is here took
// minutes, hours or all memory: no test looks at a clock, as one that is slow again never ends.

// items are n of what f gives, with commas.
func items(n int, f func(int) string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(f(i))
	}
	return b.String()
}

func costKeeper() *Keeper {
	return NewKeeper(map[string]policy.Preset{"langgraph": langgraph.Preset()})
}

func costProvider(name, more string) [2]string {
	return [2]string{"IdentityProvider a/" + name, fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: IdentityProvider, metadata: {name: %s, namespace: a}, spec: {issuer: 'https://%s.example.com', audiences: [x]%s}}", name, name, more)}
}

func costPolicy(name, spec string) [2]string {
	return [2]string{"AuthPolicy a/" + name, fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: AuthPolicy, metadata: {name: %s, namespace: a}, spec: {%s}}", name, spec)}
}

const costRoute = "hosts: [a.test], providers: [idp], api: {routes: [{method: GET, path: /x, on: 'r:read'}]}, "

// TestThe_place_of_each_character is what counts characters once for a line, compared with what counts them each time.
func TestThe_place_of_each_character(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var b strings.Builder
		for range random.IntN(400) {
			b.WriteString([]string{"a", "{", "é", "漢", "😀"}[random.IntN(1+random.IntN(5))])
		}
		s, _, problem := read("a.yaml", []byte("first\n"+b.String()+"\n"))
		if problem != nil || b.Len() == 0 {
			continue
		}
		n := 0
		for want := range b.String() {
			if got := s.offset(1, n); got != want {
				t.Fatalf("%q: character %d begins at %d, want %d", b.String(), n, got, want)
			}
			n++
		}
		for _, past := range []int{n, n + 1, n + 1000} {
			if got := s.offset(1, past); got != b.Len() {
				t.Fatalf("%q: character %d begins at %d, want its end", b.String(), past, got)
			}
		}
	}
}

// TestA_line_of_a_megabyte_is_read: the place of each value was counted from the beginning of its line.
func TestA_line_of_a_megabyte_is_read(t *testing.T) {
	for name, text := range map[string]string{"of_ASCII": "a", "of_anything_else": "漢"} {
		t.Run(name, func(t *testing.T) {
			variables := map[string]any{"last": text}
			for i := range 900 {
				list := make([]any, 200)
				for j := range list {
					list[j] = text
				}
				variables[fmt.Sprintf("k%d", i)] = list
			}
			line, err := json.Marshal(map[string]any{
				"apiVersion": "usher.dev/v1alpha1", "kind": "AuthPolicy", "metadata": map[string]any{"name": "a", "namespace": "a"},
				"spec": map[string]any{"hosts": []any{"a.test"}, "providers": []any{"idp"}, "variables": variables, "api": map[string]any{"routes": []any{map[string]any{"method": "GET", "path": "/x", "public": true}}}, "zz": 1},
			})
			if err != nil {
				t.Fatal(err)
			}
			_, problems := Parse("AuthPolicy a/a", line)
			if len(problems) != 1 || problems[0].Found != `found unknown field "zz"` || problems[0].Pos.Column != strings.Index(string(line), `"zz"`)+2 {
				t.Errorf("%d bytes: %v, want column %d", len(line), problems, strings.Index(string(line), `"zz"`)+2)
			}
		})
	}
}

// TestLong_names_are_not_repeated: the path of each value had the names above it, however long.
func TestLong_names_are_not_repeated(t *testing.T) {
	long, deep := strings.Repeat("n", 1000), 40
	objects, problems := Parse("AuthPolicy a/a", []byte(costPolicy("a", "variables: {v: "+strings.Repeat("{"+long+": ", deep)+"{"+items(50_000, func(i int) string { return fmt.Sprintf("k%d: 1", i) })+"}"+strings.Repeat("}", deep)+"}")[1]))
	tree, ok := objects[0].find("spec", "variables", "v")
	for range deep {
		m, _ := member(tree, long)
		tree = m.Value
	}
	if !ok || len(tree.Members) != 50_000 {
		t.Fatalf("%d members, %v", len(tree.Members), problems)
	}
	for _, m := range tree.Members {
		if len(m.Name.Pos.Path) > 2*maxPath {
			t.Fatalf("a path of %d bytes", len(m.Name.Pos.Path))
		}
	}
}

// TestObjects_that_ask_for_too_much_are_refused_by_name, each with one problem that says what was found and what is expected.
func TestObjects_that_ask_for_too_much_are_refused_by_name(t *testing.T) {
	routes := func(n int) string {
		return "api: {routes: [" + items(n, func(i int) string { return fmt.Sprintf("{method: GET, path: /p%d, on: 'r%d:read'}", i, i) }) + "]}, "
	}
	rules := func(n int) string {
		return "rules: [" + items(n, func(i int) string { return fmt.Sprintf("{on: 'r%d:read', allow: 'user.identity == \"a\"'}", i) }) + "]"
	}
	const all = "rules: [{on: '*'}]"
	allow := func(text string) string { return costRoute + "rules: [{on: '*', allow: '" + text + "'}]" }
	for _, c := range []struct{ name, spec, want string }{
		{"hosts", "hosts: [" + items(60_000, func(i int) string { return fmt.Sprintf("a%d.test", i) }) + "], providers: [idp], " + routes(1) + all, "found 60000 hosts, expected at most 256"},
		{"providers", "hosts: [a.test], providers: [" + items(60_000, func(i int) string { return fmt.Sprintf("p%d", i) }) + "], " + routes(1) + all, "found 60000 providers, expected at most 32"},
		{"routes", "hosts: [a.test], providers: [idp], " + routes(12_000) + all, "found 12000 routes, expected at most 5000"},
		{"rules", "hosts: [a.test], providers: [idp], " + routes(4000) + rules(4000), "found 4000 rules, expected at most 2000"},
		{"variables", costRoute + all + ", variables: {" + items(60_000, func(i int) string { return fmt.Sprintf("v%d: 1", i) }) + "}", "found 60000 variables, expected at most 1000"},
		{"conditions", costRoute + all + ", conditions: {" + items(60_000, func(i int) string { return fmt.Sprintf("c%d: 'true'", i) }) + "}", "found 60000 conditions, expected at most 256"},
		{"identityHeaders", costRoute + all + ", identityHeaders: {" + items(60_000, func(i int) string { return fmt.Sprintf("x-%d: user.identity", i) }) + "}", "found 60000 identity headers, expected at most 64"},
		{"keyRefs", costRoute + all + ", assertion: {header: x-assertion, issuer: i, audience: a, keyRefs: [" + items(1500, func(i int) string { return fmt.Sprintf("{name: s%d}", i) }) + "]}", "found more than 32 Secrets and ConfigMaps, expected at most 32"},
		{"expressions", costRoute + "rules: [{on: '*', filter: {" + items(30_000, func(i int) string { return fmt.Sprintf("k%d: user.identity", i) }) + "}}]", "more than 5000 expressions in one policy"},
		{"bytes_of_expressions", costRoute + "rules: [{on: '*', filter: {" + items(150, func(i int) string { return fmt.Sprintf("k%d: 'user.identity + \"%s\"'", i, strings.Repeat("a", 8000)) }) + "}}]", "more than 262144 bytes of expressions in one policy"},
		{"one_long_expression", allow(strings.Repeat(`user.identity == "a" || `, 50_000) + "true"), "expression of 1200004 bytes, expected at most 8192"},
		{"one_long_condition", costRoute + "rules: [{on: '*', allow: conditions.c}], conditions: {c: '" + strings.Repeat(`user.identity == "a" || `, 50_000) + "true'}", "expression of 1200004 bytes, expected at most 8192"},
		{"loops_within_each_other", allow(strings.Repeat("user.permissions.exists(a, ", 200) + "true" + strings.Repeat(")", 200)), "expression with lists, objects or loops more than 8 deep within each other"},
		{"lists_within_each_other", allow(strings.Repeat("[", 125) + "1" + strings.Repeat("]", 125) + " == [1]"), "expression with lists, objects or loops more than 8 deep within each other"},
		{"objects_within_each_other", allow(strings.Repeat("{1: ", 125) + "1" + strings.Repeat("}", 125) + " == {}"), "expression with lists, objects or loops more than 8 deep within each other"},
		{"parentheses_within_each_other", allow(strings.Repeat("(", 4000) + "true" + strings.Repeat(")", 4000)), "expression does not compile: "},
		{"patterns", costRoute + "rules: [{on: '*', filter: {" + items(200, func(i int) string { return fmt.Sprintf("k%d: 'user.identity.matches(\"(a{30}){30}\")'", i) }) + "}}]", "a pattern, with which those of the policy have 100"},
		{"query_parameters", "hosts: [a.test], providers: [idp], api: {routes: [{method: GET, path: /x, on: 'r:list', narrow: {query: {" + items(30_000, func(i int) string { return fmt.Sprintf("q%d: user.identity", i) }) + "}}}]}, " + all, "narrow with 30000 query parameters, expected at most 64"},
		{"names_that_nothing_has", "hosts: [a.test], providers: [idp], " + routes(2000) + "rules: [" + items(2000, func(i int) string { return fmt.Sprintf("{on: 'r%d:reed'}", i) }) + "]", `rule can never apply: no route has action "reed" of resource "r0", expected read`},
		{"fields_that_there_are_not", costRoute + all + ", " + items(60_000, func(i int) string { return fmt.Sprintf("ruls%d: 1", i) }), `found unknown field "ruls0"`},
		{"files_that_there_are_not", "hosts: [a.test], providers: [idp], api: {openapi: {file: " + strings.Repeat("n", 1_000_000) + "}}, " + all, "found no OpenAPI document"},
		{"routes_that_cross", "hosts: [a.test], providers: [idp], api: {routes: [" + items(5000, func(i int) string {
			return fmt.Sprintf([]string{"{method: GET, path: '/{a}/p%d', on: 'r:read'}", "{method: GET, path: '/p%d/{b}', on: 'r:read'}"}[i%2], i)
		}) + "]}, " + all, "match paths in common"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := costKeeper()
			p := costPolicy("a", c.spec)
			objects, problems := Parse(p[0], []byte(p[1]))
			_, verdicts := k.Compile(append(parts{costProvider("idp", "")}.parse(t), objects...))
			if problems = append(problems, verdicts[p[0]].Problems...); len(problems) == 0 || !strings.Contains(problems.Error(), c.want) {
				t.Errorf("got %.500s\nwant %s", problems.Error(), c.want)
			}
		})
	}
}

// TestLarge_policies_within_the_bounds_compile: nothing is a product of two of them.
func TestLarge_policies_within_the_bounds_compile(t *testing.T) {
	for name, spec := range map[string]string{
		"5000_routes_and_2000_rules": "hosts: [" + items(256, func(i int) string { return fmt.Sprintf("a%d.test", i) }) + "], providers: [idp], api: {routes: [" +
			items(5000, func(i int) string { return fmt.Sprintf("{method: POST, path: '/p%d/{id}', on: 'r%d:read'}", i, i%2000) }) + "]}, rules: [" +
			items(2000, func(i int) string { return fmt.Sprintf("{on: 'r%d:read', allow: 'value.body.n%d == \"a\"'}", i, i) }) + "]",
		"5000_routes_and_one_rule_of_many_names": "hosts: [a.test], providers: [idp], api: {routes: [" +
			items(5000, func(i int) string { return fmt.Sprintf("{method: POST, path: '/p%d/{id}', on: 'r:read'}", i) }) + "]}, rules: [{on: '*', allow: 'value.body.x in [" +
			items(1000, func(i int) string { return fmt.Sprintf(`"%d"`, i) }) + "]'}]",
		"an_object_of_many_members": "hosts: [a.test], providers: [idp], api: {routes: [{method: GET, path: '/x/{id}', on: 'r:read', object: {get: '/x/{id}'}}]}, variables: {v: {" + items(40_000, func(i int) string { return fmt.Sprintf("k%d: 1", i) }) + "}}, rules: [{on: '*', filter: {" +
			items(1000, func(i int) string { return fmt.Sprintf("n%d: variables.v.k%d", i, 39_999-i) }) + "}}], backend: {url: 'http://x'}",
	} {
		t.Run(name, func(t *testing.T) {
			_, verdicts := costKeeper().Compile(parts{costProvider("idp", ""), costPolicy("a", spec)}.parse(t))
			if problems := verdicts["AuthPolicy a/a"].Problems; len(problems) > 0 {
				t.Fatalf("%.300s", problems.Error())
			}
		})
	}
}
