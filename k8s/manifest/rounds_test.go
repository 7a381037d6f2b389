package manifest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestA_chain_of_last_good_versions_ends: each policy wants the host that the last good version of the one before has, so that each
// round of a compilation made one more of them bad.
func TestA_chain_of_last_good_versions_ends(t *testing.T) {
	const n = 200
	spec := func(host string) string {
		return fmt.Sprintf("hosts: ['%s'], providers: [], api: {routes: [{method: GET, path: /x, public: true}]}", host)
	}
	var first, second parts
	for i := range n {
		name := fmt.Sprintf("p%d", i)
		host := fmt.Sprintf("h%d.test", i-1)
		if i == 0 {
			host = "no host"
		}
		first, second = append(first, costPolicy(name, spec(fmt.Sprintf("h%d.test", i)))), append(second, costPolicy(name, spec(host)))
	}
	k := costKeeper()
	k.Compile(first.parse(t))
	compiled, verdicts := k.Compile(second.parse(t))
	last, bad := 0, 0
	for i := range n {
		v := verdicts[fmt.Sprintf("AuthPolicy a/p%d", i)]
		if v.LastGood {
			last++
		}
		if len(v.Problems) > 0 {
			bad++
		}
		if i < n-1 && compiled.Snapshot.Match(fmt.Sprintf("h%d.test", i), "") == nil {
			t.Errorf("nothing guards h%d.test", i)
		}
	}
	if last != maxRounds || bad != maxRounds+1 {
		t.Errorf("%d last good versions, %d policies with problems; want %d and one more", last, bad, maxRounds)
	}
	if p := compiled.Snapshot.Match(fmt.Sprintf("h%d.test", n-2), ""); p == nil || p.Name != fmt.Sprintf("a/p%d", n-1) {
		t.Errorf("the end of the chain is not in force: %v", p)
	}
}

// TestA_document_is_read_once, however many policies have it and however often they are compiled; and each says for itself what
// is wrong in it.
func TestA_document_is_read_once(t *testing.T) {
	document := func(operation string) [2]string {
		text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "docs", "namespace": "a"}, "data": map[string]any{"openapi.yaml": "openapi: 3.1.0\npaths:\n  /x:\n    get: {operationId: " + operation + "}\n"}})
		if err != nil {
			t.Fatal(err)
		}
		return [2]string{"ConfigMap a/docs", string(text)}
	}
	objects := parts{costProvider("idp", "")}
	for i := range 20 {
		objects = append(objects, costPolicy(fmt.Sprintf("p%d", i), fmt.Sprintf("hosts: [a%d.test], providers: [idp], api: {openapi: {configMapRef: {name: docs}}}, rules: [{on: '*'}]", i)))
	}
	k := costKeeper()
	for range 3 {
		_, verdicts := k.Compile(append(objects, document("x.read")).parse(t))
		for file, v := range verdicts {
			if len(v.Problems) > 0 {
				t.Fatalf("%s: %v", file, v.Problems)
			}
		}
	}
	if k.documents.reads != 1 {
		t.Errorf("it was read %d times", k.documents.reads)
	}
	_, verdicts := k.Compile(append(objects, document("getX")).parse(t))
	for i := range 20 {
		file := fmt.Sprintf("AuthPolicy a/p%d", i)
		if text := verdicts[file].Problems.Error(); !strings.HasPrefix(text, file+`[OpenAPI]:4:24: paths./x.get.operationId: found operationId "getX"`) || strings.Contains(text, "\n") {
			t.Errorf("%s says %s", file, text)
		}
	}
	k.Compile(append(objects, document("x.read")).parse(t))
	k.Compile(objects.parse(t))
	k.Compile(parts{costProvider("idp", "")}.parse(t))
	k.Compile(parts{costProvider("idp", "")}.parse(t))
	if n := len(k.documents.now) + len(k.documents.earlier); n != 0 {
		t.Errorf("%d documents are kept that nobody has", n)
	}
}

// TestReferences_are_names_of_objects: the API server would be asked for something else.
func TestReferences_are_names_of_objects(t *testing.T) {
	keys := func(names ...string) [2]string {
		for i, name := range names {
			names[i] = "{name: '" + name + "'}"
		}
		return costPolicy("a", costRoute+"rules: [{on: '*'}], assertion: {header: x-a, issuer: i, audience: a, keyRefs: ["+strings.Join(names, ", ")+"]}")
	}
	many := func(n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprintf("s%d", i))
		}
		return names
	}
	for _, c := range []struct {
		name, want string // the one problem of reading; empty: none
		object     [2]string
	}{
		{"a_name", "", keys("s.1-2")},
		{"a_slash", `found name "kube-system/s", expected lower-case letters, digits, hyphens and dots`, keys("kube-system/s")},
		{"dots_that_lead_away", `found name "../../x", expected lower-case`, keys("../../x")},
		{"a_slash_of_a_provider", `found name "a/b", expected lower-case`, costProvider("idp", ", jwt: {sharedSecretRef: {name: a/b}}")},
		{"a_slash_of_a_ConfigMap", `found name "a/b", expected lower-case`, costPolicy("a", "hosts: [a.test], providers: [], api: {openapi: {configMapRef: {name: a/b}}}")},
		{"what_only_looks_like_a_reference", "", costPolicy("a", costRoute+"rules: [{on: '*'}], variables: {v: {keyRefs: [{name: a/b}]}}")},
		{"as_many_as_there_may_be", "", keys(many(maxReferences)...)},
		{"one_more", "found more than 32 Secrets and ConfigMaps, expected at most 32", keys(many(maxReferences + 1)...)},
		{"one_again_and_again", "", keys(strings.Split(strings.Repeat("s ", 100)+"s", " ")...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			objects, problems := Parse(c.object[0], []byte(c.object[1]))
			switch text := problems.Error(); {
			case c.want == "" && len(problems) > 0:
				t.Error(text)
			case c.want != "" && (!strings.Contains(text, c.want) || strings.Contains(text, "\n")):
				t.Errorf("got %s\nwant %s", text, c.want)
			}
			if refs := objects[0].SecretRefs(); len(refs) > maxReferences {
				t.Errorf("%d Secrets are read", len(refs))
			}
		})
	}
}
