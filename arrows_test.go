package usher_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/usher-authz/usher/"

// arrows says which of our packages each of them may import, itself and its own parts aside. A pattern that ends in
// /... takes in everything below.
var arrows = map[string][]string{
	"policy":              {},
	"policy/langgraph":    {"policy"},
	"policy/policytest":   {"policy"},
	"envoy/edit":          {"policy"},
	"extauthz/signing":    {},
	"extauthz/egress":     {},
	"extauthz/fair":       {},
	"extauthz/assertion":  {"policy", "extauthz/signing"},
	"extauthz/token":      {"policy", "extauthz/signing", "extauthz/egress"},
	"extauthz/lookup":     {"policy", "extauthz/egress", "extauthz/fair"},
	"extauthz/revocation": {"policy", "extauthz/egress", "extauthz/fair"},
	"extauthz":            {"extauthz/token", "extauthz/assertion", "extauthz/lookup", "extauthz/revocation", "extauthz/fair", "envoy/edit", "policy"},
	"k8s/api/v1alpha1":    {},
	"k8s/api/gen":         {}, // a module of its own, which generates
	"extauthz/dryrun":     {"extauthz", "extauthz/token", "extauthz/lookup", "envoy/edit", "policy", "policy/policytest"},
	"k8s/manifest":        {"k8s/api/v1alpha1", "policy", "policy/policytest", "extauthz/token", "extauthz/lookup", "extauthz/signing", "extauthz/assertion"},
	"k8s/watch":           {"k8s/manifest", "k8s/api/v1alpha1", "policy", "extauthz/token", "extauthz/lookup"},
	"envoy":               {"k8s/api/v1alpha1"},
	"cmd/usher":           {"..."},
	"examples/orders":     {"examples/orders/shop"}, // a backend that knows nothing of Usher
	"extauthz/attacktest": {"..."},                  // only tests import it
	"envoy/e2e/...":       {"..."},                  // a module of its own, and no part of the product
	"k8s/e2e/...":         {"..."},                  // likewise
	"extauthz/token/...":  {"extauthz/token", "extauthz/signing", "extauthz/egress", "policy"},
	"extauthz/lookup/...": {"extauthz/lookup", "extauthz/egress", "extauthz/fair", "policy"},
}

// testOnly are packages that no part of the product may import.
var testOnly = []string{"extauthz/attacktest", "extauthz/token/tokentest", "envoy/e2e", "k8s/e2e"}

// barred says what a package may not import directly, whatever else it needs. A prefix takes in what is below it.
var barred = map[string][]string{
	"policy": {"net", "os", "google.golang.org/grpc", "k8s.io", "github.com/lestrrat-go", "go.uber.org/zap"},
}

// single are libraries that only these files may import, tests aside, so that they can be replaced.
var single = map[string][]string{
	"github.com/lestrrat-go/jwx/v2": {"extauthz/token/jose.go"},
	"cel.dev/cel-go":                {"policy/cel.go", "policy/cel_eval.go", "policy/cel_names.go", "policy/cel_limits.go", "policy/reads.go"},
}

// goFile is one file and what it imports.
type goFile struct {
	path    string
	test    bool
	imports []string
}

func files(t *testing.T) []goFile {
	t.Helper()
	var out []goFile
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(parsed.Comments, func(g *ast.CommentGroup) bool { return strings.HasPrefix(g.List[0].Text, "//go:build deps") }) {
			return nil // keeps go.mod stable; never built
		}
		f := goFile{path: filepath.ToSlash(name), test: strings.HasSuffix(name, "_test.go")}
		for _, spec := range parsed.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, p)
		}
		out = append(out, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// below reports whether p is the prefix or a path below it.
func below(p, prefix string) bool { return p == prefix || strings.HasPrefix(p, prefix+"/") }

// matches reports whether one of the patterns is about the package.
func matches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if pattern == "..." {
			return true
		}
		if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
			return below(pkg, prefix)
		}
		return pkg == pattern
	})
}

// allowed returns what a package may import: of the patterns that are about it, the longest.
func allowed(pkg string) ([]string, bool) {
	best := ""
	for pattern := range arrows {
		if matches([]string{pattern}, pkg) && len(pattern) > len(best) {
			best = pattern
		}
	}
	return arrows[best], best != ""
}

func TestImportArrows(t *testing.T) {
	found := false
	for _, f := range files(t) {
		pkg := path.Dir(f.path)
		for _, p := range f.imports {
			own, isOurs := strings.CutPrefix(p, module)
			if isOurs && !f.test {
				found = true
				list, known := allowed(pkg)
				switch {
				case !known:
					t.Errorf("%s: package %s is not in the table of arrows", f.path, pkg)
				case !matches(list, own):
					t.Errorf("%s imports %s; %s may import %v", f.path, own, pkg, list)
				case slices.ContainsFunc(testOnly, func(x string) bool {
					return below(own, x) && !below(pkg, x) && !slices.ContainsFunc(testOnly, func(y string) bool { return below(pkg, y) })
				}):
					t.Errorf("%s imports %s, which is for tests", f.path, own)
				}
			}
			if f.test {
				continue
			}
			for owner, list := range barred {
				for _, prefix := range list {
					// net/url is text; net itself, and net/http, are the network.
					if below(pkg, owner) && below(p, prefix) && p != "net/url" {
						t.Errorf("%s imports %s, which %s may not", f.path, p, owner)
					}
				}
			}
			for library, only := range single {
				if below(p, library) && !slices.Contains(only, f.path) {
					t.Errorf("%s imports %s; only %v may", f.path, p, only)
				}
			}
		}
	}
	if !found {
		t.Error("found none of our imports")
	}
}

// TestPolicyIsPure: nothing that the policy packages are built from, at whatever distance, can reach the network.
func TestPolicyIsPure(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./policy/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "cel.dev/cel-go/cel") {
		t.Fatalf("go list knows too little: %d packages", len(deps))
	}
	for _, p := range deps {
		for _, prefix := range []string{"net/http", "google.golang.org/grpc", "k8s.io", "github.com/lestrrat-go"} {
			if below(p, prefix) || p == "net" {
				t.Errorf("policy depends on %s", p)
			}
		}
	}
}
