package manifest_test

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"github.com/usher-authz/usher/k8s/manifest"
)

// A value that cannot be read, wherever it stands, is a problem and not the end of the process: what is given and what was
// decoded must not differ. A number out of range is one in YAML as in JSON.
func TestA_value_that_cannot_be_read_is_a_problem_everywhere(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	known, tried := presets(), map[string]bool{}
	try := func(place string, document any) {
		text, err := json.Marshal(document)
		if err != nil || tried[string(text)] {
			return
		}
		tried[string(text)] = true
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("%s: %v in %s", place, p, text)
			}
		}()
		objects, problems := manifest.Parse("f", text)
		if compiled, more := manifest.Compile(objects, known); compiled != nil || len(problems)+len(more) == 0 {
			t.Errorf("%s: no problem in %s", place, text)
		}
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range archive.Files {
			for _, text := range strings.Split("\n"+string(file.Data), "\n---") {
				var document map[string]any
				if yaml.Unmarshal([]byte(text), &document) != nil {
					continue
				}
				spec, ok := document["spec"].(map[string]any)
				if !ok {
					continue
				}
				unreadable(spec, file.Name+": spec", func(place string) { try(place, document) })
			}
		}
	}
	if len(tried) < 1000 {
		t.Errorf("only %d places were tried", len(tried))
	}
}

// unreadable puts a number out of range in the place of each value in turn.
func unreadable(v any, place string, try func(place string)) {
	const number = json.Number("1e300")
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			was := v[name]
			v[name] = number
			try(place + "." + name)
			v[name] = was
			unreadable(was, place+"."+name, try)
		}
	case []any:
		for i, was := range v {
			v[i] = number
			try(place + "[]")
			v[i] = was
			unreadable(was, place+"[]", try)
		}
	}
}
