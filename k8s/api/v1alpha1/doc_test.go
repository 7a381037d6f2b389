package v1alpha1_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// What kubectl explain and docs/reference.md show are the comments of the fields, so each field has one, and each type.
func TestEach_type_and_field_is_documented(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "zz_generated") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GenDecl:
				for _, s := range n.Specs {
					if s, ok := s.(*ast.TypeSpec); ok && s.Name.IsExported() && !says(n.Doc) && !says(s.Doc) {
						t.Errorf("%v: type %s has no comment", set.Position(s.Pos()), s.Name)
					}
				}
			case *ast.StructType:
				for _, f := range n.Fields.List {
					if len(f.Names) == 0 {
						continue // of Kubernetes' own
					}
					if fields++; !says(f.Doc) {
						t.Errorf("%v: field %s has no comment", set.Position(f.Pos()), f.Names[0])
					}
				}
			}
			return true
		})
	}
	if fields < 150 {
		t.Errorf("%d fields were found", fields)
	}
}

// says reports whether a comment has words of its own, beside markers.
func says(doc *ast.CommentGroup) bool {
	for line := range strings.Lines(doc.Text()) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '+' {
			return true
		}
	}
	return false
}
