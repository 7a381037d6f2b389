package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

// goType is a struct of package v1alpha1.
type goType struct {
	doc    string
	fields []field // in the order of the source, which is the order to read about them in: a schema has none
}

type field struct {
	name string // in manifests
	kind string // its Go type without pointers, such as []string or metav1.Duration
}

// readTypes returns the structs of the package by name.
func readTypes(dir string) (map[string]goType, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	out := map[string]goType{}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range decl.Specs {
				if spec, ok := s.(*ast.TypeSpec); ok {
					if s, ok := spec.Type.(*ast.StructType); ok {
						out[spec.Name.Name] = goType{withoutMarkers(decl.Doc.Text()), fieldsOf(s)}
					}
				}
			}
		}
	}
	return out, nil
}

// withoutMarkers returns what a comment says to people.
func withoutMarkers(doc string) string {
	var lines []string
	for line := range strings.Lines(doc) {
		if !strings.HasPrefix(line, "+") {
			lines = append(lines, line)
		}
	}
	return strings.TrimSpace(joined(strings.Join(lines, "")))
}

func fieldsOf(s *ast.StructType) (out []field) {
	for _, f := range s.Fields.List {
		if len(f.Names) == 0 || f.Tag == nil {
			continue // of Kubernetes' own
		}
		tag, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			continue // the compiler says so
		}
		name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		out = append(out, field{name, typeText(f.Type)})
	}
	return out
}

// typeText writes a type as the source has it, without pointers.
func typeText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return typeText(e.X)
	case *ast.ArrayType:
		return "[]" + typeText(e.Elt)
	case *ast.MapType:
		return "map[" + typeText(e.Key) + "]" + typeText(e.Value)
	case *ast.SelectorExpr:
		return typeText(e.X) + "." + e.Sel.Name
	}
	return "any"
}

// element is what a list or map holds in the end.
func element(kind string) string {
	for {
		rest, ok := strings.CutPrefix(kind, "[]")
		if !ok {
			if rest, ok = strings.CutPrefix(kind, "map[string]"); !ok {
				return kind
			}
		}
		kind = rest
	}
}

// typeName says what values a field has.
func typeName(kind string) string {
	if rest, ok := strings.CutPrefix(kind, "[]"); ok {
		return "list of " + several(rest)
	}
	if rest, ok := strings.CutPrefix(kind, "map[string]"); ok {
		return "map of " + several(rest)
	}
	switch kind {
	case "bool":
		return "boolean"
	case "int32":
		return "integer"
	case "metav1.Duration":
		return "duration"
	case "metav1.Time":
		return "time"
	case "metav1.Condition":
		return "condition"
	case "any":
		return "value"
	case "string", "Mode":
		return "string"
	}
	return "object"
}

// several says what a list of such values holds.
func several(kind string) string {
	word, rest, _ := strings.Cut(typeName(kind), " ")
	return strings.TrimSpace(word + "s " + rest)
}
