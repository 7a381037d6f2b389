package manifest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// parts are objects by file, in order of age.
type parts [][2]string

func (p parts) parse(t *testing.T) []Object {
	t.Helper()
	var out []Object
	for _, part := range p {
		objects, _ := Parse(part[0], []byte(part[1]))
		out = append(out, objects...)
	}
	return out
}

func TestKeeper(t *testing.T) {
	provider := func(name, more string) [2]string {
		return [2]string{"IdentityProvider a/" + name, fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: IdentityProvider, metadata: {name: %s, namespace: a}, spec: {issuer: 'https://%s.example.com', audiences: [x]%s}}", name, name, more)}
	}
	guard := func(name, host, more string) [2]string {
		return [2]string{"AuthPolicy a/" + name, fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: AuthPolicy, metadata: {name: %s, namespace: a}, spec: {hosts: [%s], providers: [idp], api: {preset: langgraph}%s}}", name, host, more)}
	}
	secret := func(value string) [2]string {
		return [2]string{"Secret a/s", fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: a}, stringData: {sharedSecret: '%s'}}", value)}
	}
	document := func(paths string) [2]string {
		return [2]string{"ConfigMap a/docs", fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: docs, namespace: a}, data: {openapi.yaml: '{openapi: 3.1.0, paths: {%s}}'}}", paths)}
	}
	described := func(name, host, more string) [2]string {
		return [2]string{"AuthPolicy a/" + name, fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: AuthPolicy, metadata: {name: %s, namespace: a}, spec: {hosts: [%s], providers: [idp], api: {openapi: {configMapRef: {name: docs}}}%s}}", name, host, more)}
	}
	const read, strange = "/items: {get: {operationId: items.read}}", "/items: {get: {operationId: getItems}}"
	const rules, broken = ", rules: [{on: '*'}]", ", rules: [{on: '*', allow: 'no such name'}]"
	const long, short = "0123456789abcdef0123456789abcdef", "short"
	withSecret := ", jwt: {sharedSecretRef: {name: s}}"
	type step struct {
		objects parts
		want    string // hosts and what guards them, then the files with problems
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"a_bad_policy_takes_no_other_down", []step{
			{parts{provider("idp", ""), guard("one", "one.test", rules), guard("two", "two.test", broken)}, "one.test=one two.test=503 other.test=none; bad: AuthPolicy a/two"},
		}},
		{"nor_does_its_host_fall_to_a_wildcard", []step{
			{parts{provider("idp", ""), guard("all", "'*'", rules), guard("two", "two.test", broken)}, "one.test=all two.test=503 other.test=all; bad: AuthPolicy a/two"},
		}},
		{"the_last_good_version_stays", []step{
			{parts{provider("idp", ""), guard("two", "two.test", rules)}, "one.test=none two.test=two other.test=none"},
			{parts{provider("idp", ""), guard("two", "one.test", broken)}, "one.test=none two.test=two other.test=none; bad: AuthPolicy a/two (last good)"},
			{parts{provider("idp", ""), guard("two", "one.test", rules)}, "one.test=two two.test=none other.test=none"},
		}},
		{"what_cannot_be_read_stays_too", []step{
			{parts{provider("idp", ""), guard("two", "two.test", rules)}, "one.test=none two.test=two other.test=none"},
			{parts{provider("idp", ""), guard("two", "two.test", ", unknown: 1")}, "one.test=none two.test=two other.test=none; bad: AuthPolicy a/two (last good)"},
		}},
		{"a_provider_that_breaks_keeps_its_last_good_version", []step{
			{parts{provider("idp", ""), guard("one", "one.test", rules)}, "one.test=one two.test=none other.test=none"},
			{parts{provider("idp", ", clockSkew: 1h"), guard("one", "one.test", rules)}, "one.test=one two.test=none other.test=none; bad: IdentityProvider a/idp (last good)"},
		}},
		{"a_provider_that_never_was_good_closes_its_policies", []step{
			{parts{provider("idp", ", clockSkew: 1h"), guard("one", "one.test", rules)}, "one.test=503 two.test=none other.test=none; bad: AuthPolicy a/one, IdentityProvider a/idp"},
		}},
		{"a_provider_that_is_deleted_closes_them_as_well", []step{
			{parts{provider("idp", ""), guard("one", "one.test", rules)}, "one.test=one two.test=none other.test=none"},
			{parts{guard("one", "one.test", rules)}, "one.test=503 two.test=none other.test=none; bad: AuthPolicy a/one"},
		}},
		{"of_two_policies_with_one_host_the_older_stays", []step{
			{parts{provider("idp", ""), guard("one", "one.test", rules), guard("new", "one.test, two.test", rules)}, "one.test=one two.test=503 other.test=none; bad: AuthPolicy a/new (conflict)"},
		}},
		{"even_if_it_is_broken", []step{
			{parts{provider("idp", ""), guard("one", "one.test", broken), guard("new", "one.test", rules)}, "one.test=503 two.test=none other.test=none; bad: AuthPolicy a/new (conflict), AuthPolicy a/one"},
		}},
		{"a_Secret_that_goes_bad_or_away_leaves_the_last_good_one", []step{
			{parts{secret(long), provider("idp", withSecret), guard("one", "one.test", rules)}, "one.test=one two.test=none other.test=none"},
			{parts{secret(short), provider("idp", withSecret), guard("one", "one.test", rules)}, "one.test=one two.test=none other.test=none; bad: IdentityProvider a/idp (last good)"},
			{parts{provider("idp", withSecret), guard("one", "one.test", rules)}, "one.test=one two.test=none other.test=none; bad: IdentityProvider a/idp (last good)"},
			{parts{secret(long), provider("idp", withSecret), guard("one", "one.test", rules)}, "one.test=one two.test=none other.test=none"},
		}},
		{"a_document_that_goes_bad_or_away_leaves_the_last_good_one", []step{
			{parts{document(read), provider("idp", ""), described("one", "one.test", rules), guard("two", "two.test", rules)}, "one.test=one two.test=two other.test=none"},
			{parts{document(strange), provider("idp", ""), described("one", "one.test", rules), guard("two", "two.test", rules)}, "one.test=one two.test=two other.test=none; bad: AuthPolicy a/one (last good)"},
			{parts{provider("idp", ""), described("one", "one.test", rules), guard("two", "two.test", rules)}, "one.test=one two.test=two other.test=none; bad: AuthPolicy a/one (last good)"},
			{parts{document(read), provider("idp", ""), described("one", "one.test", rules), guard("two", "two.test", rules)}, "one.test=one two.test=two other.test=none"},
		}},
		{"a_document_that_never_was_good_closes_its_policy", []step{
			{parts{document(strange), provider("idp", ""), described("one", "one.test", rules), guard("two", "two.test", rules)}, "one.test=503 two.test=two other.test=none; bad: AuthPolicy a/one"},
		}},
		{"of_two_policies_with_one_document_only_the_one_that_is_wrong_about_it_is_refused", []step{
			{parts{document(read), provider("idp", ""), described("one", "one.test", ", rules: [{on: items, filter: {owner: user.identity}}]"), described("two", "two.test", rules)}, "one.test=503 two.test=two other.test=none; bad: AuthPolicy a/one"},
		}},
		{"everything_gone_guards_nothing", []step{
			{parts{provider("idp", ""), guard("one", "one.test", rules)}, "one.test=one two.test=none other.test=none"},
			{nil, "one.test=none two.test=none other.test=none"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := NewKeeper(map[string]policy.Preset{"langgraph": langgraph.Preset()})
			for i, s := range c.steps {
				objects := s.objects.parse(t)
				compiled, verdicts := k.Compile(objects)
				var got []string
				for _, host := range []string{"one.test", "two.test", "other.test"} {
					switch p := compiled.Snapshot.Match(host, ""); {
					case p == nil:
						got = append(got, host+"=none")
					case p.Unavailable:
						got = append(got, host+"=503")
					default:
						got = append(got, host+"="+strings.TrimPrefix(p.Name, "a/"))
					}
				}
				text := strings.Join(got, " ")
				var bad []string
				for _, file := range sorted(verdicts) {
					v := verdicts[file]
					if len(v.Problems) == 0 && !v.LastGood && !brokenIn(objects, file) {
						continue
					}
					if v.LastGood {
						file += " (last good)"
					}
					if v.Conflicted {
						file += " (conflict)"
					}
					bad = append(bad, file)
				}
				if len(bad) > 0 {
					text += "; bad: " + strings.Join(bad, ", ")
				}
				if text != s.want {
					t.Errorf("step %d:\n got %s\nwant %s\n%v", i+1, text, s.want, verdicts)
				}
			}
		})
	}
}

func brokenIn(objects []Object, file string) bool {
	for _, o := range objects {
		if o.Pos.File == file && o.broken {
			return true
		}
	}
	return false
}

// TestKeeperSecrets: who leaked a key and replaced it must not go on with the old one because some object beside it is broken.
func TestKeeperSecrets(t *testing.T) {
	provider := func(name, more string) [2]string {
		return [2]string{"IdentityProvider a/" + name, fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: IdentityProvider, metadata: {name: %s, namespace: a}, spec: {issuer: 'https://%s.example.com', audiences: [x], jwt: {sharedSecretRef: {name: s}}%s}}", name, name, more)}
	}
	secret := func(value string) [2]string {
		return [2]string{"Secret a/s", fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: a}, stringData: {%s}}", value)}
	}
	const broken = ", clockSkew: 1h"
	old, replaced, unfit := "first456789abcdef0123456789abcdef", "second56789abcdef0123456789abcdef", "third456789abcdef0123456789abcdef"
	oldSecret, replacedSecret := secret("sharedSecret: "+old), secret("sharedSecret: "+replaced)
	two := [2]string{"IdentityProvider a/two", strings.Replace(provider("two", "")[1], "{name: s}", "{name: s, key: other}", 1)}
	type step struct {
		objects parts
		want    map[string]string // the beginning of each provider's key
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"a_broken_provider_and_its_neighbour_read_the_new_one", []step{
			{parts{provider("one", ""), provider("two", ""), oldSecret}, map[string]string{"a/one": "first", "a/two": "first"}},
			{parts{provider("one", broken), provider("two", ""), oldSecret}, map[string]string{"a/one": "first", "a/two": "first"}},
			{parts{provider("one", broken), provider("two", ""), replacedSecret}, map[string]string{"a/one": "second", "a/two": "second"}},
			{parts{provider("one", broken), provider("two", "")}, map[string]string{"a/one": "second", "a/two": "second"}},
		}},
		{"the_old_one_is_only_for_whom_the_new_one_does_not_fit", []step{
			{parts{provider("one", ""), two, secret("sharedSecret: " + old + ", other: " + old)}, map[string]string{"a/one": "first", "a/two": "first"}},
			{parts{provider("one", ""), two, secret("sharedSecret: short, other: " + replaced)}, map[string]string{"a/one": "first", "a/two": "second"}},
			{parts{provider("one", ""), two, secret("other: " + unfit)}, map[string]string{"a/one": "first", "a/two": "third"}},
			{parts{provider("one", ""), two, secret("sharedSecret: " + unfit + ", other: " + unfit)}, map[string]string{"a/one": "third", "a/two": "third"}},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := NewKeeper(map[string]policy.Preset{"langgraph": langgraph.Preset()})
			for i, s := range c.steps {
				compiled, _ := k.Compile(s.objects.parse(t))
				for name, want := range s.want {
					if got := string(compiled.Providers[name].SharedSecret); !strings.HasPrefix(got, want) {
						t.Errorf("step %d: provider %s has the key %.6q, want %q", i+1, name, got, want)
					}
				}
			}
		})
	}
}

// TestSecretRefs: all places where a reference belongs, and no place where something looks like one.
func TestSecretRefs(t *testing.T) {
	for _, c := range []struct{ object, want string }{
		{"IdentityProvider spec: {caRef: {name: a}, jwt: {sharedSecretRef: {name: b}}, proofOfPossession: {nonceKeyRef: {name: c}}, revocation: {redis: {passwordRef: {name: d}, caRef: {name: e}}}}", "a b c d e"},
		{"IdentityProvider spec: {introspection: {clientSecretRef: {name: a}, privateKeyRef: {name: b}}}", "a b"},
		{"IdentityProvider spec: {userinfo: {headers: {apikey: {secretRef: {name: a}}}}}", "a"},
		{"AuthPolicy spec: {backend: {caRef: {name: a}, headers: {x: {secretRef: {name: b}}}}, assertion: {keyRefs: [{name: c}, {name: a}]}}", "a b c"},
		{"AuthPolicy spec: {variables: {xRef: {name: a}, xRefs: [{name: b}]}, rules: [{on: x, filter: {yRef: {name: c}}}], api: {openapi: {configMapRef: {name: d}}}}", ""},
	} {
		kind, spec, _ := strings.Cut(c.object, " ")
		objects, _ := Parse("x", []byte("apiVersion: usher.dev/v1alpha1\nkind: "+kind+"\nmetadata: {name: x, namespace: a}\n"+spec))
		if got := strings.Join(objects[0].SecretRefs(), " "); got != c.want {
			t.Errorf("%s: found %q, want %q", c.object, got, c.want)
		}
	}
}
