package manifest_test

import (
	"strings"
	"testing"

	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

// A manifest that uncovers a fault of Usher's is refused, and takes nobody down.
func TestA_panic_is_a_problem_of_the_object_that_made_it(t *testing.T) {
	read := func(file, text string) manifest.Object {
		t.Helper()
		objects, problems := manifest.Parse(file, []byte(text))
		if len(problems) > 0 || len(objects) != 1 {
			t.Fatal(problems)
		}
		return objects[0]
	}
	const head = "apiVersion: usher.dev/v1alpha1\nkind: "
	provider := func(name string) manifest.Object {
		return read(name, head+"IdentityProvider\nmetadata: {name: "+name+", namespace: a}\nspec: {issuer: https://"+name+".test, audiences: [a]}\n")
	}
	guard := func(name, more string) manifest.Object {
		return read(name, head+"AuthPolicy\nmetadata: {name: "+name+", namespace: a}\nspec: {hosts: ["+name+".test], providers: [p], rules: [{on: '*'}], "+more+"}\n")
	}
	const routes = "api: {routes: [{method: GET, path: /, on: 'a:read'}]}"
	var nothing []int
	k := manifest.NewKeeper(map[string]policy.Preset{"langgraph": {Configure: func(policy.Tree) (policy.Preset, policy.Problems) { panic(nothing[1]) }}})
	k.Provider = func(c token.Config) error {
		if strings.Contains(c.Issuer, "bad") {
			panic(c.Issuer)
		}
		return nil
	}
	k.Backend = func(c lookup.Config) error { panic(nothing[1]) }
	compiled, verdicts := k.Compile([]manifest.Object{
		provider("p"), guard("good", routes), provider("bad"), guard("backend", routes+", backend: {url: http://b.test}"),
		guard("preset", "api: {preset: langgraph, langgraph: {webSocket: Allow}}"),
	})
	for file, want := range map[string]string{"p": "", "good": "", "bad": "a panic of type string", "backend": "index out of range", "preset": "index out of range"} {
		if got := verdicts[file].Problems; (len(got) == 0) != (want == "") || want != "" && !strings.Contains(got.Error(), want) {
			t.Errorf("%s: %v, want %q", file, got, want)
		}
	}
	if p := compiled.Snapshot.Match("good.test", ""); p == nil || p.Unavailable {
		t.Errorf("the good policy is %+v", p)
	}
	for _, host := range []string{"backend.test", "preset.test"} {
		if p := compiled.Snapshot.Match(host, ""); p == nil || !p.Unavailable {
			t.Errorf("%s is guarded by %+v", host, p)
		}
	}
}
