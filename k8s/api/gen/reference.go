package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reference is docs/reference.md.
const reference = "../../../docs/reference.md"

// schema is what a definition says of a value.
type schema struct {
	Description   string             `yaml:"description"`
	Properties    map[string]*schema `yaml:"properties"`
	Required      []string           `yaml:"required"`
	Items         *schema            `yaml:"items"`
	Values        *schema            `yaml:"additionalProperties"`
	Enum          []string           `yaml:"enum"`
	Pattern       string             `yaml:"pattern"`
	MinLength     int                `yaml:"minLength"`
	MaxLength     int                `yaml:"maxLength"`
	MinItems      int                `yaml:"minItems"`
	MaxItems      int                `yaml:"maxItems"`
	MinProperties int                `yaml:"minProperties"`
	MaxProperties int                `yaml:"maxProperties"`
	Validations   []struct {
		Message string `yaml:"message"`
		Reason  string `yaml:"reason"`
		Field   string `yaml:"fieldPath"`
	} `yaml:"x-kubernetes-validations"`
}

// definition is a CustomResourceDefinition as controller-gen writes it.
type definition struct {
	Spec struct {
		Names struct {
			Kind       string   `yaml:"kind"`
			ShortNames []string `yaml:"shortNames"`
		} `yaml:"names"`
		Versions []struct {
			Schema struct {
				Root schema `yaml:"openAPIV3Schema"`
			} `yaml:"schema"`
		} `yaml:"versions"`
	} `yaml:"spec"`
}

// writer writes the reference.
type writer struct {
	strings.Builder
	types  map[string]goType
	used   map[string]int // how often a struct is the type of a field
	shared []part         // what is written once, at the end
}

// part is an object within the manifests.
type part struct {
	kind, path string // such as AuthPolicy and spec.api; a shared one has its type's name, and no path
	name       string // of its type
	schema     *schema
}

func (p part) title() string  { return strings.TrimSpace(p.kind + " " + p.path) }
func (p part) anchor() string { return anchorOf(p.kind, p.path) }

// anchorOf is the place of a field in the page.
func anchorOf(kind, path string) string {
	return strings.ToLower(strings.NewReplacer("[]", "", " ", ".").Replace(strings.TrimSpace(kind + " " + path)))
}

// writeReference writes a page about every field of the definitions.
func writeReference(definitions [][]byte, types map[string]goType) error {
	w := &writer{types: types, used: map[string]int{}}
	for _, t := range types {
		for _, f := range t.fields {
			w.used[element(f.kind)]++
		}
	}
	w.WriteString(`# Reference

Generated from k8s/api/v1alpha1 by ` + "`make generate`" + `: every field of the manifests, the same in files and in a cluster. A field
that is left out has its default, which nothing writes into the object. What is said here of a field is what the API server checks;
` + "`usher validate`" + `, the webhook and the status conditions know more. ` + "`kubectl explain authpolicy.spec`" + ` shows the same.

Durations are texts such as 30s, 5m or 1h30m. A field that is not here is refused, wherever it stands.

`)
	for _, text := range definitions {
		var d definition
		if err := yaml.Unmarshal(text, &d); err != nil {
			return err
		}
		w.kind(&d)
	}
	w.WriteString("## Shared by several fields\n\n")
	for i := 0; i < len(w.shared); i++ {
		w.section(w.shared[i])
	}
	return os.WriteFile(reference, []byte(strings.TrimSuffix(w.String(), "\n")), 0o644) //nolint:gosec // public
}

// kind writes the chapter of one kind.
func (w *writer) kind(d *definition) {
	names, root := d.Spec.Names, &d.Spec.Versions[0].Schema.Root
	fmt.Fprintf(w, "## %s\n\n%s\n\n", names.Kind, root.Description)
	fmt.Fprintf(w, "`apiVersion: usher.dev/v1alpha1`, `kind: %s`, `metadata` with a `name`", names.Kind)
	if len(names.ShortNames) > 0 {
		fmt.Fprintf(w, "; `kubectl get %s`, or `kubectl get usher` for all kinds", names.ShortNames[0])
	} else {
		w.WriteString("; in files only")
	}
	w.WriteString(".\n\n")
	w.table(part{kind: names.Kind, name: names.Kind, schema: root})
}

// section writes what there is to say about an object within a manifest.
func (w *writer) section(p part) {
	fmt.Fprintf(w, "### %s\n\n<a id=%q></a>%s\n\n", p.title(), p.anchor(), plain(w.types[p.name].doc))
	if list := rules(p.schema, ""); len(list) > 0 {
		fmt.Fprintf(w, "- %s\n\n", strings.Join(list, "\n- "))
	}
	w.table(p)
}

// table writes the fields of an object, and the sections of the objects that only it has.
func (w *writer) table(p part) {
	w.WriteString("| field | type | default | meaning |\n|---|---|---|---|\n")
	var below []part
	for _, f := range w.types[p.name].fields {
		s := p.schema.Properties[f.name]
		if s == nil {
			continue
		}
		path := strings.TrimPrefix(p.path+"."+f.name, ".")
		inner := part{p.kind, path, element(f.kind), s}
		for inner.schema.Items != nil || inner.schema.Values != nil {
			if inner.schema.Items != nil {
				inner.path, inner.schema = inner.path+"[]", inner.schema.Items
			} else {
				inner.path, inner.schema = inner.path+".NAME", inner.schema.Values
			}
		}
		kind := typeName(f.kind)
		if _, ours := w.types[inner.name]; ours && len(inner.schema.Properties) > 0 {
			if w.used[inner.name] > 1 {
				inner.kind, inner.path = inner.name, ""
				if !slices.ContainsFunc(w.shared, func(q part) bool { return q.name == inner.name }) {
					w.shared = append(w.shared, inner)
				}
			} else {
				below = append(below, inner)
			}
			kind = fmt.Sprintf("[%s](#%s)", kind, inner.anchor())
		}
		name := fmt.Sprintf("<a id=%q></a>`%s`", anchorOf(p.kind, path), f.name)
		if anchorOf(p.kind, path) == inner.anchor() && kind != typeName(f.kind) {
			name = "`" + f.name + "`" // the place is that of its section
		}
		text, standard, _ := strings.Cut(s.Description, "Default: ")
		standard = strings.TrimSuffix(standard, ".")
		switch {
		case slices.Contains(p.schema.Required, f.name):
			standard = "*required*"
		case standard == "" && f.kind == "bool":
			standard = "false"
		}
		list := append(values(s), rules(p.schema, "."+f.name)...)
		if s != inner.schema || kind == typeName(f.kind) { // else they stand in its section
			list = append(list, rules(s, "")...)
		}
		if s.Items != nil {
			for _, v := range values(s.Items) {
				list = append(list, "Each: "+strings.ToLower(v[:1])+v[1:])
			}
		}
		if len(list) > 0 {
			text = strings.TrimSpace(text) + "<br>" + strings.Join(list, "<br>")
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", name, kind, cell(standard), cell(text))
	}
	w.WriteString("\n")
	for _, b := range below {
		w.section(b)
	}
}

// cell escapes what would end the cell of a table.
func cell(text string) string {
	return plain(strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(text), "|", "\\|"), "\n", " "))
}

// plain escapes what would be markup: an asterisk outside of code.
func plain(text string) string {
	parts := strings.Split(text, "`")
	for i := 0; i < len(parts); i += 2 {
		if parts[i] != "*required*" {
			parts[i] = strings.ReplaceAll(parts[i], "*", "\\*")
		}
	}
	return strings.Join(parts, "`")
}

// values says which values a schema takes.
func values(s *schema) (out []string) {
	var words []string
	for _, v := range s.Enum {
		if v != "" { // as if it were left out
			words = append(words, "`"+v+"`")
		}
	}
	if len(words) > 0 {
		out = append(out, "One of "+strings.Join(words, ", ")+".")
	}
	if s.Pattern != "" {
		out = append(out, "Matches `"+s.Pattern+"`.")
	}
	for _, size := range []struct {
		least, most int
		what        string
	}{{s.MinLength, s.MaxLength, "character"}, {s.MinItems, s.MaxItems, "item"}, {s.MinProperties, s.MaxProperties, "member"}} {
		if size.least > 0 {
			out = append(out, fmt.Sprintf("At least %d %s.", size.least, size.what))
		}
		if size.most > 0 {
			out = append(out, fmt.Sprintf("At most %d %ss.", size.most, size.what))
		}
	}
	return out
}

// rules says what a schema refuses at a path within it; empty: in the whole.
func rules(s *schema, at string) (out []string) {
	for _, v := range s.Validations {
		if v.Field != at {
			continue
		}
		text := strings.TrimPrefix(v.Message, "expected ")
		switch {
		case v.Reason == "FieldValueRequired" && text != v.Message:
			out = append(out, "Where required: "+text+".")
		case text != v.Message:
			out = append(out, "Must be "+text+".")
		default:
			out = append(out, "Refused: "+text+".")
		}
	}
	return out
}
