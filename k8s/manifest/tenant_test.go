package manifest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// Two tenants, good and evil, and what evil tries. The gate's own namespace is usher.

func providerOf(ns, more string) [2]string {
	return [2]string{"IdentityProvider " + ns + "/idp", fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: IdentityProvider, metadata: {name: idp, namespace: %s}, spec: {issuer: 'https://idp.example.com', audiences: [x]%s}}", ns, more)}
}

// guardOf is a policy of the namespace's own provider.
func guardOf(ns, name, hosts, more string) [2]string {
	return [2]string{"AuthPolicy " + ns + "/" + name, fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: AuthPolicy, metadata: {name: %s, namespace: %s}, spec: {hosts: [%s], providers: [idp], api: {routes: [{method: GET, path: /items, on: items:read}]}, rules: [{on: items:read}]%s}}", name, ns, hosts, more)}
}

func tenantKeeper(t *testing.T, grants ...string) *Keeper {
	t.Helper()
	k := NewKeeper(map[string]policy.Preset{"langgraph": langgraph.Preset()})
	k.Own = "usher"
	for _, g := range grants {
		if err := k.Grants.Add(g); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// guardian is who guards a host.
func guardian(c *Compiled, host string) string {
	switch p := c.Snapshot.Match(host, ""); {
	case p == nil:
		return "none"
	case p.Unavailable:
		return "503"
	default:
		return p.Name
	}
}

func TestHosts_of_tenants(t *testing.T) {
	idps := parts{providerOf("usher", ""), providerOf("good", ""), providerOf("evil", "")}
	for _, c := range []struct {
		name     string
		grants   []string
		policies parts
		want     string // hosts and who guards them, then who is refused
	}{
		{"an_exact_host_under_an_older_wildcard_of_another", nil,
			parts{guardOf("good", "all", "'*.example.com'", ""), guardOf("evil", "grab", "admin.example.com", "")},
			"admin.example.com=good/all; conflict: evil/grab"},
		{"a_wildcard_under_an_older_one", nil,
			parts{guardOf("good", "all", "'*'", ""), guardOf("evil", "grab", "'*.example.com'", "")},
			"admin.example.com=good/all; conflict: evil/grab"},
		{"a_wildcard_over_an_older_host", nil,
			parts{guardOf("good", "agents", "a.agents.example.com", ""), guardOf("evil", "grab", "'*.example.com'", "")},
			"a.agents.example.com=good/agents admin.example.com=none; conflict: evil/grab"},
		{"everything_over_an_older_host", nil,
			parts{guardOf("good", "agents", "agents.example.com", ""), guardOf("evil", "grab", "'*'", "")},
			"agents.example.com=good/agents other.test=none; conflict: evil/grab"},
		{"a_broken_one_closes_nothing_of_another", nil,
			parts{guardOf("good", "all", "'*.example.com'", ""), guardOf("evil", "grab", "admin.example.com", ", unknown: 1")},
			"admin.example.com=good/all; conflict: evil/grab"},
		{"hosts_beside_each_other", nil,
			parts{guardOf("good", "a", "a.example.com, '*.a.example.com'", ""), guardOf("evil", "b", "b.example.com, example.com, xa.example.com", "")},
			"a.example.com=good/a x.a.example.com=good/a b.example.com=evil/b example.com=evil/b xa.example.com=evil/b"},
		{"within_one_namespace_the_most_specific_wins", nil,
			parts{guardOf("good", "all", "'*'", ""), guardOf("good", "some", "'*.example.com'", ""), guardOf("good", "one", "a.example.com", ""), guardOf("good", "wide", "'*.com'", "")},
			"a.example.com=good/one b.example.com=good/some c.com=good/wide d.test=good/all"},
		{"a_third_one_meets_whichever_of_two_is_in_its_way", nil,
			parts{guardOf("good", "a", "a.x.test", ""), guardOf("evil", "b", "b.x.test", ""), guardOf("good", "all", "'*.x.test'", ""), guardOf("evil", "all", "'*.x.test'", "")},
			"a.x.test=good/a b.x.test=evil/b c.x.test=none; conflict: evil/all, good/all"},
		{"what_was_not_granted", []string{"good=*.good.test", "evil=*.evil.test,evil.test"},
			parts{guardOf("evil", "mine", "evil.test, a.evil.test", ""), guardOf("evil", "old", "agents.good.test", ""), guardOf("evil", "everything", "'*'", ""), guardOf("good", "agents", "agents.good.test", "")},
			"evil.test=evil/mine a.evil.test=evil/mine agents.good.test=good/agents other.test=none; not granted: evil/everything, evil/old"},
		{"one_that_was_not_granted_closes_nothing", []string{"good=*.good.test"},
			parts{guardOf("evil", "old", "agents.good.test", ", unknown: 1"), guardOf("good", "agents", "agents.good.test", "")},
			"agents.good.test=good/agents; not granted: evil/old"},
		{"a_granted_host_under_the_wildcard_of_the_gates_own_namespace", []string{"good=app.example.com"},
			parts{guardOf("usher", "all", "'*.example.com', '*'", ""), guardOf("good", "app", "app.example.com", ""), guardOf("evil", "grab", "other.example.com", "")},
			"app.example.com=good/app other.example.com=usher/all other.test=usher/all; not granted: evil/grab"},
		{"and_the_wildcard_may_come_later", []string{"good=*.team.example.com"},
			parts{guardOf("good", "app", "app.team.example.com", ""), guardOf("usher", "all", "'*.example.com'", "")},
			"app.team.example.com=good/app other.example.com=usher/all"},
		{"a_host_is_for_whom_it_was_granted_in_particular", []string{"evil=*", "good=agents.example.com"},
			parts{guardOf("evil", "grab", "agents.example.com", ""), guardOf("evil", "all", "'*'", ""), guardOf("good", "agents", "agents.example.com", "")},
			"agents.example.com=good/agents other.test=evil/all; not granted: evil/grab"},
		{"of_two_with_one_grant_the_older_stays", []string{"good=*.example.com", "evil=*.example.com"},
			parts{guardOf("good", "all", "'*.example.com'", ""), guardOf("evil", "grab", "a.example.com", "")},
			"a.example.com=good/all; conflict: evil/grab"},
		{"a_Shadow_policy_claims_nothing", []string{"good=*"},
			parts{guardOf("good", "all", "'*'", ""), guardOf("evil", "watch", "'*'", ", mode: Shadow")},
			"a.example.com=good/all"},
	} {
		t.Run(c.name, func(t *testing.T) {
			compiled, verdicts := tenantKeeper(t, c.grants...).Compile(append(slices.Clone(idps), c.policies...).parse(t))
			hosts, _, _ := strings.Cut(c.want, ";")
			var got, conflicts, ungranted []string
			for _, host := range strings.Fields(hosts) {
				host, _, _ = strings.Cut(host, "=")
				got = append(got, host+"="+guardian(compiled, host))
			}
			for _, file := range sorted(verdicts) {
				switch name := strings.TrimPrefix(file, "AuthPolicy "); {
				case verdicts[file].NotGranted:
					ungranted = append(ungranted, name)
				case verdicts[file].Conflicted:
					conflicts = append(conflicts, name)
				}
				if text := verdicts[file].Problems.Error(); strings.Contains(file, "/grab") && (strings.Contains(text, "good") || strings.Contains(text, "usher/")) {
					t.Errorf("it learns whose the host is: %s", text)
				}
			}
			text := strings.Join(got, " ")
			if len(conflicts) > 0 {
				text += "; conflict: " + strings.Join(conflicts, ", ")
			}
			if len(ungranted) > 0 {
				text += "; not granted: " + strings.Join(ungranted, ", ")
			}
			if text != c.want {
				t.Errorf("\n got %s\nwant %s\n%v", text, c.want, verdicts)
			}
		})
	}
}

// A policy that did not change is compiled with what came beside it.
func TestHosts_of_tenants_are_looked_at_again(t *testing.T) {
	k := tenantKeeper(t)
	idps, good := parts{providerOf("good", ""), providerOf("evil", "")}.parse(t), parts{guardOf("good", "all", "'*.example.com'", "")}.parse(t)
	older := parts{guardOf("evil", "older", "a.example.com", "")}.parse(t)
	for i, c := range []struct {
		policies []Object
		a, b     string
	}{
		{good, "good/all", "good/all"}, {slices.Concat(older, good), "evil/older", "none"},
		{older, "evil/older", "none"}, {slices.Concat(good, older), "good/all", "good/all"},
	} {
		compiled, verdicts := k.Compile(slices.Concat(idps, c.policies))
		if a, b := guardian(compiled, "a.example.com"), guardian(compiled, "b.example.com"); a != c.a || b != c.b {
			t.Errorf("reading %d: a.example.com is guarded by %s, want %s; b.example.com by %s, want %s: %v", i+1, a, c.a, b, c.b, verdicts)
		}
	}
}

func TestGrants_are_read(t *testing.T) {
	for _, text := range []string{"", "good", "=a.test", "good=", "good=a.test,", "good=a b", "good=https://a.test", "go.od=a.test", "Good Team=a.test", "good=*.*.test", "good=a.test:80"} {
		if err := new(Grants).Add(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	var none, some Grants
	if !none.Allow("good", "a.test") {
		t.Error("without grants a host is not free")
	}
	if err := some.Add("good=A.test,*.b.test"); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"a.TEST": true, "x.b.test": true, "*.x.b.test": true, "b.test": false, "*": false, "x.a.test": false} {
		if some.Allow("good", host) != want || some.Allow("evil", host) || !some.Allow("", host) {
			t.Errorf("%s: good %v, want %v; evil %v, want false; the gate's own %v, want true", host, some.Allow("good", host), want, some.Allow("evil", host), some.Allow("", host))
		}
	}
}

// Finding who stands in a host's way takes no longer for 10,000 policies than for a few.
func BenchmarkHostsOfManyTenants(b *testing.B) {
	for b.Loop() {
		c := newCompiler(nil)
		c.apart = true
		for i := range 10_000 {
			o := &Object{Namespace: fmt.Sprintf("ns%d", i%100), AuthPolicy: nil}
			host := fmt.Sprintf("a%d.ns%d.example.com", i, i%100)
			if _, taken := c.holder(host, o); taken {
				b.Fatal(host)
			}
			c.take(host, o, policy.Position{})
		}
	}
}

func TestShadow_policy_of_a_tenant_watches_its_own_only(t *testing.T) {
	k := tenantKeeper(t)
	headers := ", mode: Shadow, identityHeaders: {x-csrf-token: user.identity, x-forwarded-client-cert: user.identity}"
	compiled, verdicts := k.Compile(parts{
		providerOf("good", ""), guardOf("good", "agents", "agents.example.com", ""),
		providerOf("evil", ""), guardOf("evil", "mine", "mine.test", ""), guardOf("evil", "watch", "agents.example.com", headers), guardOf("evil", "try", "'*'", headers),
	}.parse(t))
	agents, mine := compiled.Snapshot.Match("agents.example.com", ""), compiled.Snapshot.Match("mine.test", "")
	if got := compiled.Snapshot.Shadows("agents.example.com", agents); len(got) > 0 || agents.Removes("x-csrf-token") {
		t.Errorf("good/agents is watched by %v, and removes %v", got, agents.RemovedAlways())
	}
	if got := compiled.Snapshot.Shadows("mine.test", mine); len(got) != 1 || got[0].Name != "evil/try" || !mine.Removes("x-csrf-token") {
		t.Errorf("evil/mine is watched by %v, and removes %v", got, mine.RemovedAlways())
	}
	if got := compiled.Snapshot.Shadows("nobody.test", nil); len(got) > 0 {
		t.Errorf("what nobody guards is watched by %v", got)
	}
	if !verdicts["AuthPolicy evil/watch"].Idle || verdicts["AuthPolicy evil/try"].Idle || len(verdicts["AuthPolicy evil/watch"].Problems) > 0 {
		t.Errorf("who is told that it watches nothing: %+v", verdicts)
	}
}

// A kid is public: a tenant who takes another's must not close the other's policy.
func TestAssertion_keys_of_tenants_may_share_a_kid(t *testing.T) {
	secret := func(ns string) [2]string {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		public, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		e := base64.RawURLEncoding.EncodeToString
		return [2]string{"Secret " + ns + "/s", fmt.Sprintf(`{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: %s}, stringData: {privateKey: '{"kty":"EC","crv":"P-256","alg":"ES256","kid":"public","x":%q,"y":%q,"d":%q}'}}`, ns, e(public[1:33]), e(public[33:]), e(raw))}
	}
	const asserts = ", assertion: {header: usher-assertion, issuer: 'https://usher', audience: x, keyRefs: [{name: s}]}"
	compiled, verdicts := tenantKeeper(t).Compile(parts{
		secret("evil"), secret("good"),
		providerOf("evil", ""), guardOf("evil", "mine", "mine.test", asserts), providerOf("good", ""), guardOf("good", "agents", "agents.example.com", asserts),
	}.parse(t))
	if got := guardian(compiled, "agents.example.com"); got != "good/agents" {
		t.Errorf("agents.example.com is guarded by %s: %v", got, verdicts)
	}
}

func TestProvider_that_was_withdrawn_from_a_namespace(t *testing.T) {
	mine := [2]string{"AuthPolicy evil/mine", strings.Replace(guardOf("evil", "mine", "mine.test", "")[1], "[idp]", "[good/idp]", 1)}
	const allowed = ", allowedNamespaces: [evil]"
	for _, c := range []struct{ name, then, want string }{
		{"it_is_as_before", allowed, "evil/mine"},
		{"it_has_a_mistake_and_allows", allowed + ", clockSkew: 1h", "evil/mine"},
		{"it_allows_no_more", "", "503"},
		{"it_allows_no_more_and_has_a_mistake", ", clockSkew: 1h", "503"},
		{"it_allows_others_and_has_an_unknown_field", ", allowedNamespaces: [good], unknown: 1", "503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := tenantKeeper(t)
			policies := parts{mine}.parse(t) // the same object in both readings: it did not change
			if compiled, v := k.Compile(append(parts{providerOf("good", allowed)}.parse(t), policies...)); guardian(compiled, "mine.test") != "evil/mine" {
				t.Fatalf("%v", v)
			}
			compiled, verdicts := k.Compile(append(parts{providerOf("good", c.then)}.parse(t), policies...))
			if got := guardian(compiled, "mine.test"); got != c.want {
				t.Errorf("mine.test is guarded by %s, want %s: %v", got, c.want, verdicts)
			}
		})
	}
}

// Which keys a Secret or ConfigMap has, a status must not tell.
func TestKeys_of_Secrets_and_ConfigMaps_are_not_listed(t *testing.T) {
	k := tenantKeeper(t)
	_, verdicts := k.Compile(parts{
		{"Secret evil/payment", "{apiVersion: v1, kind: Secret, metadata: {name: payment, namespace: evil}, stringData: {stripe-live-key: x}, data: {rotation-2026: eA==}}"},
		{"ConfigMap evil/app", "{apiVersion: v1, kind: ConfigMap, metadata: {name: app, namespace: evil}, data: {database-of-acme.yaml: x}}"},
		providerOf("evil", ", jwt: {sharedSecretRef: {name: payment, key: guess}}"),
		{"AuthPolicy evil/a", "{apiVersion: usher.dev/v1alpha1, kind: AuthPolicy, metadata: {name: a, namespace: evil}, spec: {hosts: [a.test], providers: [], api: {openapi: {configMapRef: {name: app, key: guess}}}, rules: [{on: '*'}]}}"},
	}.parse(t))
	text := verdicts["IdentityProvider evil/idp"].Problems.Error() + verdicts["AuthPolicy evil/a"].Problems.Error()
	if strings.Count(text, `found no key "guess"`) != 2 || strings.Contains(text, "stripe") || strings.Contains(text, "rotation") || strings.Contains(text, "acme") {
		t.Error(text)
	}
}

// An object that is gone leaves no last good version to another of its name.
func TestKeeper_forgets_what_was_replaced(t *testing.T) {
	k := tenantKeeper(t)
	k.Compile(parts{providerOf("good", ""), guardOf("good", "a", "a.test", "")}.parse(t))
	k.Forget("AuthPolicy good/a")
	compiled, _ := k.Compile(parts{providerOf("good", ""), guardOf("good", "a", "a.test", ", unknown: 1")}.parse(t))
	if got := guardian(compiled, "a.test"); got != "503" {
		t.Errorf("a.test is guarded by %s, want 503", got)
	}
}

// What a tenant's object makes Usher connect to is bounded: of a provider, its revocation list and a backend alike, and what
// is bounded shares nothing with what is not.
func TestConfigurations_of_tenants_connect_to_nothing_local(t *testing.T) {
	const backend = ", backend: {url: 'http://backend.test:8000'}"
	objects := parts{providerOf("usher", ""), guardOf("usher", "a", "a.test", backend), providerOf("good", ""), guardOf("good", "b", "b.test", backend)}
	prints := map[string]bool{}
	for _, allow := range []bool{false, true} {
		k := tenantKeeper(t)
		k.AllowLocal = allow
		c, v := k.Compile(objects.parse(t))
		for name, want := range map[string]bool{"usher": false, "good": !allow} {
			if got := c.Providers[name+"/idp"].NoLocal; got != want {
				t.Errorf("provider of %s: %v, want %v: %v", name, got, want, v)
			}
		}
		if c.Backends["usher/a"].NoLocal || c.Backends["good/b"].NoLocal == allow {
			t.Errorf("backends: %+v", c.Backends)
		}
		prints[c.Providers["good/idp"].Fingerprint] = true
	}
	if len(prints) != 2 || prints[""] {
		t.Errorf("fingerprints %v, want two: a running verifier must not outlive the flag", prints)
	}
	compiled, problems := Compile(objects.parse(t), nil)
	if compiled == nil || compiled.Providers["good/idp"].NoLocal || compiled.Backends["good/b"].NoLocal {
		t.Errorf("files are of one owner: %v", problems)
	}
}
