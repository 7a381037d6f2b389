package main

import (
	"bytes"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readable reads a definition, and makes its descriptions what people read.
func readable(file string) ([]byte, error) {
	text, err := os.ReadFile(file) //nolint:gosec // ours
	if err != nil {
		return nil, err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	descriptions(&document)
	return yaml.Marshal(&document)
}

// rewrite writes a definition, with what controller-gen cannot say.
func rewrite(file string, text []byte) error {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return err
	}
	unquotedOn(&document)
	unpruned(&document)
	var b bytes.Buffer
	b.WriteString("# Generated from k8s/api/v1alpha1 by `make generate`.\n---\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&document); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644) //nolint:gosec // public
}

// descriptions makes what kubectl explain shows of the comments of Go: lines are joined, as whoever shows them breaks them
// anew, and a text begins with the name as manifests have it.
func descriptions(n *yaml.Node) {
	for _, child := range n.Content {
		descriptions(child)
	}
	if d := member(n, "description"); d != nil && d.Kind == yaml.ScalarNode {
		d.Value, d.Style = joined(d.Value), 0
	}
	properties := member(n, "properties")
	for i := 0; properties != nil && i+1 < len(properties.Content); i += 2 {
		if d := member(properties.Content[i+1], "description"); d != nil {
			d.Value = named(d.Value, properties.Content[i].Value)
		}
	}
}

// joined returns the text with each paragraph on one line.
func joined(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = strings.Join(strings.Fields(p), " ")
	}
	return strings.Join(paragraphs, "\n\n")
}

// named returns a description that begins with the Go name of a field so that it begins with the field's own.
func named(description, name string) string {
	end := strings.IndexAny(description, " .,:")
	if end < 0 || !strings.EqualFold(description[:end], strings.ReplaceAll(name, "_", "")) {
		return description
	}
	return name + description[end:]
}

// unquotedOn lets a property `on` be written without quotes. YAML 1.1 readers, kubectl among them, take an unquoted on for
// the boolean true, which becomes the name "true" in JSON: that name is another spelling of the property then, and rules
// about the one are rules about the other.
func unquotedOn(n *yaml.Node) {
	for _, child := range n.Content {
		unquotedOn(child)
	}
	properties := member(n, "properties")
	if properties == nil || member(properties, "on") == nil {
		return
	}
	alias := *member(properties, "on")
	alias.Content = slices.Clone(alias.Content)
	for i := 0; i+1 < len(alias.Content); i += 2 {
		if alias.Content[i].Value == "description" {
			alias.Content[i+1] = text("true is on, written without quotes: kubectl reads it so.", 0)
		}
	}
	properties.Content = append(properties.Content, text("true", yaml.DoubleQuotedStyle), &alias)
	list := member(n, "x-kubernetes-validations")
	if list == nil {
		list = &yaml.Node{Kind: yaml.SequenceNode}
		n.Content = append(n.Content, text("x-kubernetes-validations", 0), list)
	}
	for _, rule := range list.Content {
		expression := member(rule, "rule")
		expression.Value = strings.ReplaceAll(expression.Value, `self.?on.orValue("")`, `self.?on.orValue(self.?__true__.orValue(""))`)
	}
	list.Content = append(list.Content, validation("!has(self.on) || !has(self.__true__)", "found on twice, once without quotes, expected it once", "FieldValueForbidden"))
	required := member(n, "required")
	if required == nil {
		return
	}
	without := slices.DeleteFunc(required.Content, func(name *yaml.Node) bool { return name.Value == "on" })
	if len(without) < len(required.Content) {
		list.Content = append(list.Content, validation("has(self.on) || has(self.__true__)", "expected what it is for, such as threads or threads:create", "FieldValueRequired"))
	}
	if required.Content = without; len(without) == 0 {
		remove(n, "required")
	}
}

// unpruned makes the API server keep fields that the definition does not have, at the top and everywhere in spec. It prunes them
// otherwise, and whoever reads the object sees a rule without its misspelt filter, which is open to all; only clients that ask
// for fieldValidation=Strict, as kubectl does and others do not, are told. Kept, they reach Usher, which refuses them by name.
func unpruned(n *yaml.Node) {
	if root := member(n, "openAPIV3Schema"); root != nil {
		keepUnknown(root)
		keepUnknownBelow(member(member(root, "properties"), "spec"))
		return
	}
	for _, child := range n.Content {
		unpruned(child)
	}
}

// keepUnknownBelow keeps the unknown fields of a schema, and those of all objects in it.
func keepUnknownBelow(schema *yaml.Node) {
	if member(schema, "properties") != nil {
		keepUnknown(schema)
	}
	for _, child := range schema.Content {
		keepUnknownBelow(child)
	}
}

func keepUnknown(schema *yaml.Node) {
	const key = "x-kubernetes-preserve-unknown-fields"
	if member(schema, key) == nil {
		schema.Content = append(schema.Content, text(key, 0), &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"})
	}
}

// validation is a rule about `on`.
func validation(rule, message, reason string) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
		text("fieldPath", 0), text(".on", 0), text("message", 0), text(message, 0), text("reason", 0), text(reason, 0), text("rule", 0), text(rule, 0),
	}}
}

func text(s string, style yaml.Style) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: style}
}

func member(n *yaml.Node, name string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func remove(n *yaml.Node, name string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			n.Content = append(n.Content[:i], n.Content[i+2:]...)
			return
		}
	}
}
