package manifest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// world is a cluster in which one thing changes after the other; what did not change is the same Object again.
type world struct {
	random *rand.Rand
	texts  map[string]string // by file
	parsed map[string]Object // by file and text
	order  []string
}

func (w *world) pick(of ...string) string { return of[w.random.IntN(len(of))] }

// change makes an object anew, or takes it away.
func (w *world) change() {
	ns, n := w.pick("a", "b"), w.random.IntN(3)
	var file, text string
	switch w.random.IntN(5) {
	case 0:
		file = fmt.Sprintf("IdentityProvider %s/p%d", ns, n)
		text = fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: IdentityProvider, metadata: {name: p%d, namespace: %s}, spec: {issuer: 'https://%s.example.com/realms/x', audiences: [x]%s}}",
			n, ns, w.pick("one", "two"), w.pick("", ", allowedNamespaces: ['*']", ", preset: keycloak", ", clockSkew: 1h", ", jwt: {sharedSecretRef: {name: s}}", ", revocation: {redis: {url: 'redis://r'}}"))
	case 1:
		file = "Secret " + ns + "/s"
		text = fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: %s}, stringData: {%s}}", ns, w.pick("sharedSecret: "+strings.Repeat("x", 40), "sharedSecret: "+strings.Repeat("y", 40), "sharedSecret: short", "other: x"))
	default:
		file = fmt.Sprintf("AuthPolicy %s/g%d", ns, n)
		text = fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: AuthPolicy, metadata: {name: g%d, namespace: %s}, spec: {hosts: [%s], providers: [%s], api: {routes: [{method: GET, path: /x, on: 'x:read'}]}, rules: [{on: '*'%s}]%s}}",
			n, ns, w.pick("one.test", "two.test", "'*.test'", "'*'", "one.test, three.test", "a.test", "b.test", "c.test", "d.test"), w.pick("p0", "p1", "p0, p1", "b/p2"),
			w.pick("", "", ", allow: 'user.identity == \"a\"'", ", allow: '1'"),
			w.pick("", "", ", mode: Shadow", ", identityHeaders: {x-user: user.identity}", ", protectedResource: {resource: 'https://x.example.com'}", ", revocation: {onUnavailable: Allow}"))
	}
	if _, there := w.texts[file]; there && w.random.IntN(4) == 0 {
		delete(w.texts, file)
		w.order = slices.DeleteFunc(w.order, func(f string) bool { return f == file })
		return
	}
	if w.texts[file] == "" {
		w.order = slices.Insert(w.order, w.random.IntN(len(w.order)+1), file)
	}
	w.texts[file] = text
}

func (w *world) objects() []Object {
	var out []Object
	for _, file := range w.order {
		id := file + w.texts[file]
		if _, known := w.parsed[id]; !known {
			objects, _ := Parse(file, []byte(w.texts[file]))
			w.parsed[id] = objects[0]
		}
		out = append(out, w.parsed[id])
	}
	return out
}

// shown is all that can be seen of what was compiled.
func shown(c *Compiled, verdicts map[string]Verdict) []string {
	var out []string
	for file, v := range verdicts {
		out = append(out, fmt.Sprintf("%s %+v", file, v))
	}
	for name, p := range c.Providers {
		out = append(out, name+" "+p.Fingerprint+" "+p.Issuer+" "+p.JWKSURI)
	}
	for _, p := range c.Snapshot.Policies() {
		out = append(out, fmt.Sprintf("%s %v %v %v %v %v %v %v %v %q %v", p.Name, p.Hosts(), p.Providers, p.Shadow, p.Unavailable, p.RevocationMayLag, p.HeaderNames(), p.RemovedAlways(), p.RuleRefs(), p.ResourceURL, p.Anonymous()))
		body, _ := p.Document("GET", "/.well-known/oauth-protected-resource")
		out = append(out, body)
	}
	for _, host := range []string{"one.test", "two.test", "three.test", "other.test", "else.example.com"} {
		if p := c.Snapshot.Match(host, ""); p != nil {
			out = append(out, host+" "+p.Name)
		}
	}
	out = append(out, fmt.Sprint(c.Snapshot.Warnings()))
	slices.Sort(out)
	return out
}

// TestWhatIsKnownChangesNothing: a Keeper that remembers what objects were turned into says and does the same as one that
// forgets it each time.
func TestWhatIsKnownChangesNothing(t *testing.T) {
	tries := 0
	for seed := range uint64(3) {
		w := &world{random: rand.New(rand.NewPCG(seed, 7)), texts: map[string]string{}, parsed: map[string]Object{}}
		knows, forgets := NewKeeper(map[string]policy.Preset{"langgraph": langgraph.Preset()}), NewKeeper(map[string]policy.Preset{"langgraph": langgraph.Preset()})
		knows.Provider = func(token.Config) error { tries++; return nil }
		taken := 0
		for step := range 200 {
			w.change()
			if forgets.prev != nil {
				forgets.prev.memos = newMemos()
			}
			objects := w.objects()
			compiled, verdicts := knows.Compile(objects)
			want, wantVerdicts := forgets.Compile(objects)
			if got, want := shown(compiled, verdicts), shown(want, wantVerdicts); !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d, step %d: with what was known\n%s\nwithout\n%s", seed, step, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			taken += len(compiled.memos.policies)
		}
		if taken < 100 {
			t.Errorf("seed %d: nothing was ever taken over, so that nothing is shown", seed)
		}
	}
	if tries == 0 {
		t.Error("no provider was ever tried")
	}
}

// TestAProviderThatCannotBeUsed: what only the verifiers can tell is a problem of the provider, and of nobody else.
func TestAProviderThatCannotBeUsed(t *testing.T) {
	k := NewKeeper(map[string]policy.Preset{"langgraph": langgraph.Preset()})
	k.Provider = func(c token.Config) error {
		if c.Issuer == "https://bad.example.com" {
			return fmt.Errorf("no key")
		}
		return nil
	}
	provider := func(name string) [2]string {
		return [2]string{"IdentityProvider a/" + name, fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: IdentityProvider, metadata: {name: %s, namespace: a}, spec: {issuer: 'https://%s.example.com', audiences: [x]}}", name, name)}
	}
	guard := func(name, provider string) [2]string {
		return [2]string{"AuthPolicy a/" + name, fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: AuthPolicy, metadata: {name: %s, namespace: a}, spec: {hosts: [%s.test], providers: [%s], api: {preset: langgraph}, rules: [{on: '*'}]}}", name, name, provider)}
	}
	objects := parts{provider("good"), provider("bad"), guard("one", "good"), guard("two", "bad")}.parse(t)
	for range 2 { // and so it stays
		compiled, verdicts := k.Compile(objects)
		if p := compiled.Snapshot.Match("one.test", ""); p == nil || p.Unavailable {
			t.Error("another policy was taken down")
		}
		if p := compiled.Snapshot.Match("two.test", ""); p == nil || !p.Unavailable {
			t.Error("its own policy is not closed")
		}
		if ps := verdicts["IdentityProvider a/bad"].Problems; len(ps) != 1 || !strings.Contains(ps.Error(), "spec: found what tokens cannot be verified by: no key") {
			t.Errorf("the provider's problems: %v", ps)
		}
	}
	if ps := k.Review(objects[1], objects[:1], nil); len(ps) != 1 {
		t.Errorf("a review finds %v", ps)
	}
}
