package manifest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

// FuzzParse reads any text as a manifest: nothing panics, every problem has a place in the text, and what is compiled
// had no problem.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range txtar.Parse(data).Files {
			f.Add(file.Data)
		}
	}
	known := presets()
	f.Fuzz(func(t *testing.T, text []byte) {
		objects, problems := manifest.Parse("f", text)
		if len(objects) == 0 && len(problems) == 0 {
			t.Fatal("neither objects nor problems")
		}
		var more policy.Problems
		if len(problems) == 0 { // otherwise it would mostly measure how long CEL takes to begin
			var compiled *manifest.Compiled
			if compiled, more = manifest.Compile(objects, known); (compiled != nil) != (len(more) == 0) {
				t.Fatalf("compiled %v beside %v", compiled != nil, more)
			}
		}
		for _, p := range append(problems, more...) {
			_ = p.Long()
			if len(objects) > 0 && (p.Pos.File != "f" || p.Pos.Line < 1) {
				t.Fatalf("no place: %#v", p)
			}
		}
	})
}
