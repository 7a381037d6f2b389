package manifest_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

var update = flag.Bool("update", false, "rewrite what the cases want; read the diff")

func presets() map[string]policy.Preset {
	return map[string]policy.Preset{"langgraph": langgraph.Preset()}
}

// load does what every caller does: it parses each file and compiles the objects of all.
func load(files []txtar.File) (*manifest.Compiled, policy.Problems) {
	var objects []manifest.Object
	var problems policy.Problems
	for _, f := range files {
		os, ps := manifest.Parse(f.Name, f.Data)
		objects, problems = append(objects, os...), append(problems, ps...)
	}
	compiled, ps := manifest.Compile(objects, presets())
	return compiled, append(problems, ps...).Sort()
}

// describe writes what a case wants: every problem in full, or what was compiled.
func describe(compiled *manifest.Compiled, problems policy.Problems) string {
	var b strings.Builder
	if len(problems) > 0 {
		for _, p := range problems {
			fmt.Fprintf(&b, "%s\n\n", p.Long())
		}
		return strings.TrimSuffix(b.String(), "\n")
	}
	for _, p := range compiled.Snapshot.Policies() {
		fmt.Fprintf(&b, "policy %s: providers %v, shadow %v, headers %v, backend %q\n", p.Name, p.Providers, p.Shadow, p.HeaderNames(), compiled.Backends[p.Name].BackendURL)
	}
	names := make([]string, 0, len(compiled.Providers))
	for name := range compiled.Providers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c := compiled.Providers[name]
		fmt.Fprintf(&b, "provider %s: issuer %s, audiences %v, skew %s", c.Name, c.Issuer, c.Audiences, skewOf(c.ClockSkew))
		if c.JWKSURI != "" {
			fmt.Fprintf(&b, ", keys at %s", c.JWKSURI)
		}
		if len(c.JWKS) > 0 {
			fmt.Fprintf(&b, ", inline keys")
		}
		if len(c.SharedSecret) > 0 {
			fmt.Fprintf(&b, ", secret of %d bytes", len(c.SharedSecret))
		}
		if c.Introspection != nil {
			fmt.Fprintf(&b, ", asked at %s as %s, secret of %d bytes", c.Introspection.Endpoint, c.Introspection.ClientID, len(c.Introspection.ClientSecret))
		}
		b.WriteByte('\n')
	}
	for _, w := range compiled.Snapshot.Warnings() {
		fmt.Fprintf(&b, "warning: %s\n", w.Long())
	}
	return b.String()
}

// TestCases runs testdata: the first paragraph says what a case is about, "want" what comes out.
func TestCases(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var files []txtar.File
			want := -1
			for i, f := range archive.Files {
				if f.Name == "want" {
					want = i
				} else {
					files = append(files, f)
				}
			}
			compiled, problems := load(files)
			if (compiled == nil) != (len(problems) > 0) {
				t.Errorf("compiled %v beside %d problems", compiled != nil, len(problems))
			}
			got := describe(compiled, problems)
			if *update {
				if want < 0 {
					archive.Files = append(archive.Files, txtar.File{Name: "want"})
					want = len(archive.Files) - 1
				}
				archive.Files[want].Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 {
				t.Fatal("the case has no want; run with -update")
			}
			if string(archive.Files[want].Data) != got {
				t.Errorf("got:\n%s\nwant:\n%s", got, archive.Files[want].Data)
			}
		})
	}
}

// TestSecrets plants a secret in every place that a problem may point at and looks for it in what is reported.
func TestSecrets(t *testing.T) {
	const secret = "hunter2hunter2"
	provider := "apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: a}\nspec:\n  issuer: https://a.example.com\n  audiences: [a]\n"
	for name, text := range map[string]string{
		"too_short":                    provider + "  jwt: {sharedSecret: " + secret + "}\n",
		"of_another_kind":              provider + "  jwt: {sharedSecret: [" + secret + "]}\n",
		"beside_an_unknown_field":      provider + "  jwt: {sharedsecret: " + secret + "}\n",
		"in_a_broken_line":             provider + "  jwt: {sharedSecret: " + secret + "\n",
		"as_an_alias":                  provider + "  jwt: {sharedSecret: *" + secret + "}\n",
		"as_an_anchor":                 provider + "  jwt: {sharedSecret: &" + secret + " x}\n",
		"as_a_tag":                     provider + "  jwt: {sharedSecret: !" + secret + " x}\n",
		"in_a_private_key":             provider + "  jwt: {keys: {keys: [{kty: RSA, n: AQAB, e: AQAB, d: " + secret + "}]}}\n",
		"in_a_symmetric_key":           provider + "  jwt: {keys: {keys: [{kty: oct, k: " + secret + "}]}}\n",
		"in_a_Secret":                  "apiVersion: v1\nkind: Secret\nmetadata: {name: A}\nstringData: {a: [" + secret + "]}\n",
		"in_a_Secret_as_bad_base64":    "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: " + secret + "!}\n",
		"in_a_misspelt_Secret":         "apiVersion: v1\nkind: Secrets\nmetadata: {name: a}\nstringData: {a: " + secret + "}\n",
		"in_a_Secret_with_a_bad_field": "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringdata: {a: " + secret + "}\n",
		"in_a_Secret_that_is_no_YAML":  "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: " + secret + ": b}}\n",
		"in_a_Secret_with_a_bad_byte":  "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: " + secret + "\x01}\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := load([]txtar.File{{Name: "x.yaml", Data: []byte(text)}})
			if len(problems) == 0 {
				t.Fatal("no problem")
			}
			for _, p := range problems {
				if strings.Contains(p.Long(), secret) {
					t.Errorf("shown: %s", p.Long())
				}
			}
		})
	}
}

// TestFingerprint changes one thing at a time: whatever a verifier depends on must count, and nothing else.
func TestFingerprint(t *testing.T) {
	const text = `{"apiVersion": "usher.dev/v1alpha1", "kind": "IdentityProvider", "metadata": {"name": "a"},
"spec": {"issuer": "https://a.example.com", "audiences": ["a"], "jwt": {"sharedSecretRef": {"name": "s"}}, "identity": {"identity": "claims.sub"}}}
---
{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"sharedSecret": "0123456789abcdef0123456789abcdef"}}
`
	fingerprint := func(text string) string {
		compiled, problems := load([]txtar.File{{Name: "x.yaml", Data: []byte(text)}})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		for _, c := range compiled.Providers {
			return c.Fingerprint
		}
		t.Fatal("no provider")
		return ""
	}
	first := fingerprint(text)
	for _, change := range [][2]string{
		{`"name": "a"`, `"name": "b"`},
		{`https://a.example.com`, `https://b.example.com`},
		{`["a"]`, `["b"]`},
		{`claims.sub`, `claims.email`},
		{`0123456789abcdef0123456789abcdef`, `0123456789abcdef0123456789abcdeg`},
		{`"sharedSecretRef": {"name": "s"}`, `"sharedSecretRef": {"name": "s"}, "typ": ["at+jwt"]`},
		{`"audiences"`, `"clockSkew": "10s", "audiences"`},
	} {
		changed := strings.Replace(text, change[0], change[1], 1)
		if changed == text || fingerprint(changed) == first {
			t.Errorf("%s -> %s: same fingerprint", change[0], change[1])
		}
	}
	same := strings.Replace(text, `"metadata": {"name": "a"}`, `"metadata": {"name": "a", "labels": {"x": "y"}}`, 1)
	if same == text || fingerprint(same) != first {
		t.Error("a label changes the fingerprint: its verifier would lose keys and cache")
	}
}

func TestCompile(t *testing.T) {
	t.Run("nothing_is_a_problem", func(t *testing.T) {
		if compiled, problems := manifest.Compile(nil, presets()); compiled != nil || len(problems) != 1 {
			t.Errorf("got %v, %v", compiled, problems)
		}
	})
	t.Run("a_problem_of_Parse_alone_compiles_nothing", func(t *testing.T) {
		objects, problems := manifest.Parse("x.yaml", []byte("apiVersion: v1\nkind: Secret\nmetadata: {name: a, labels: {a: 1}}\n"))
		if len(problems) != 1 {
			t.Fatal(problems)
		}
		if compiled, problems := manifest.Compile(objects, presets()); compiled != nil || len(problems) > 0 {
			t.Errorf("got %v, %v", compiled, problems)
		}
	})
	t.Run("an_object_of_no_kind_compiles_nothing", func(t *testing.T) {
		if compiled, _ := manifest.Compile([]manifest.Object{{}}, presets()); compiled != nil {
			t.Error("compiled")
		}
	})
}

func skewOf(d *time.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return *d
}
