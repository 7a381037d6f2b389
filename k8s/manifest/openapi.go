package manifest

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/usher-authz/usher/policy"
)

// kindOpenAPI is the Kind of an OpenAPI document, which is no manifest but serves references by its file's name.
const kindOpenAPI = "OpenAPI"

// isOpenAPI reports whether a document is one of OpenAPI (or of its forerunner Swagger, which is refused with a hint).
func isOpenAPI(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode {
		return false
	}
	has := func(name string) bool { return mappingValue(n, name) != nil }
	return (has("openapi") || has("swagger")) && !has("kind") && !has("apiVersion")
}

func mappingValue(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Kind == yaml.ScalarNode && n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// openAPI reads a document as the object of its file's name. What it means is found when a policy refers to it.
func (b *builder) openAPI(n *yaml.Node) (Object, policy.Problems) {
	b.own = true
	tree := b.tree(prune(n, documentShape()), "", 0)
	o := Object{Pos: tree.Pos, Kind: kindOpenAPI, Name: path.Base(strings.ReplaceAll(b.source.file, "\\", "/")), tree: tree}
	checkVersion(&o, b)
	o.broken = len(b.problems) > 0
	return o, b.problems
}

// checkVersion demands a version of OpenAPI whose paths are read as this package reads them.
func checkVersion(o *Object, b *builder) {
	const want = `a text such as "3.1.0": version 3.0 or 3.1`
	t, given := o.find("openapi")
	version, isText := t.Scalar.(string)
	switch {
	case !given:
		b.add(o.at("swagger"), "found a Swagger document", "an OpenAPI document of version 3.0 or 3.1", "convert it: most tools for OpenAPI do")
	case !isText:
		if _, reported := t.Scalar.(unread); !reported {
			b.add(t.Pos, "found "+found(t), want, "put it in quotes")
		}
	case !strings.HasPrefix(version, "3.0.") && !strings.HasPrefix(version, "3.1."):
		b.add(t.Pos, fmt.Sprintf("found version %q", version), want, "")
	}
}

// shape says what of a document is looked at. The rest, such as schemas and examples, decides nothing and is not even checked:
// nobody should have to put a response's 200 in quotes for the gate.
type shape struct {
	all     bool             // as it is
	members map[string]shape // by name
	others  *shape           // members of any other name; nil: left out
}

func documentShape() shape {
	whole := shape{all: true}
	name := shape{} // the name alone
	parameter := shape{members: map[string]shape{"$ref": whole, "name": whole, "in": whole, "style": whole}}
	servers := shape{members: map[string]shape{
		"url":       whole,
		"variables": {others: &shape{members: map[string]shape{"default": whole, "enum": whole}}},
	}}
	operation := shape{
		members: map[string]shape{"operationId": whole, "parameters": parameter, "servers": servers, extensionName: whole},
		others:  &name,
	}
	item := shape{members: map[string]shape{"$ref": whole, "parameters": parameter, "servers": servers, extensionName: whole}, others: &name}
	for _, method := range openAPIMethods() {
		item.members[method] = operation
	}
	return shape{
		members: map[string]shape{
			"openapi": whole, "swagger": whole, "servers": servers, "paths": {others: &item},
			"components": {members: map[string]shape{"parameters": {others: &parameter}}},
		},
		others: &name,
	}
}

// openAPIMethods are the members of a path item that are operations (OpenAPI 3.1, section 4.8.9.1).
func openAPIMethods() []string {
	return []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}
}

// prune returns what of a node is looked at; the node stays as it is. A value that is no object stays where an object was
// expected, to be reported; so does a merge key, which could bring members.
func prune(n *yaml.Node, s shape) *yaml.Node {
	if s.all || n.Kind == yaml.AliasNode {
		return n
	}
	if s.members == nil && s.others == nil {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Line: n.Line, Column: n.Column}
	}
	out := *n
	out.Content = nil
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			out.Content = append(out.Content, prune(item, s))
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			m, known := s.members[key.Value]
			switch {
			case key.Kind != yaml.ScalarNode:
				if s.others == nil {
					continue
				}
			case key.Value == "<<" && key.Style == 0:
				m = shape{all: true}
			case known:
			case s.others == nil:
				continue
			default:
				m = *s.others
			}
			out.Content = append(out.Content, key, prune(value, m))
		}
	default:
		return n
	}
	return &out
}

// inner is a text within a file, such as a value of a ConfigMap.
type inner struct {
	source *source
	text   string
	first  int // lines before it
	indent int
	secret bool
}

// innerTexts returns the data of a ConfigMap. One that is written as a literal block has its places in the file; any other one
// counts its own lines.
func innerTexts(src *source, c chunk, n *yaml.Node) map[string]inner {
	out := map[string]inner{}
	data := mappingValue(n, "data")
	if data == nil || data.Kind != yaml.MappingNode {
		return out
	}
	for i := 0; i+1 < len(data.Content); i += 2 {
		key, value := data.Content[i], data.Content[i+1]
		if value.Kind != yaml.ScalarNode {
			continue
		}
		t := inner{source: src, text: value.Value, first: c.first + value.Line, secret: secretive(c.text)}
		var ok bool
		if t.indent, ok = indentOf(src.lines, t.first, value); !ok {
			t = inner{source: &source{file: fmt.Sprintf("%s[%s]", src.file, key.Value)}, text: value.Value, secret: t.secret}
		}
		out[key.Value] = t
	}
	return out
}

// indentOf returns how far the lines of a literal block are indented; false if they do not stand in the file as they are.
func indentOf(lines []string, first int, n *yaml.Node) (int, bool) {
	if n.Style&yaml.LiteralStyle == 0 {
		return 0, false
	}
	indent := -1
	for i, line := range strings.Split(strings.TrimRight(n.Value, "\n"), "\n") {
		if first+i >= len(lines) {
			return 0, false
		}
		written := lines[first+i]
		if line == "" && strings.TrimSpace(written) == "" {
			continue
		}
		spaces := len(written) - len(line)
		if indent < 0 {
			indent = spaces
		}
		if spaces != indent || spaces < 0 || written[:spaces] != strings.Repeat(" ", spaces) || written[spaces:] != line {
			return 0, false
		}
	}
	return max(indent, 0), true
}

// document reads the text as one OpenAPI document.
func (t inner) document() (Object, policy.Problems) {
	c := chunk{text: t.text, first: t.first}
	src := *t.source
	if src.lines == nil {
		var problem *policy.Problem
		if src, _, problem = read(src.file, []byte(t.text)); problem != nil {
			return Object{Pos: problem.Pos, broken: true}, policy.Problems{*problem}
		}
		if len(src.lines) == 0 {
			src.lines = []string{""}
		}
	}
	start := src.position(t.first+1, 1+t.indent, t.secret)
	decoder := yaml.NewDecoder(strings.NewReader(t.text))
	var document, more yaml.Node
	if err := decode(decoder, &document); err != nil {
		p := policy.Problem{Pos: start, Found: "found an empty text"}
		if t.text != "" {
			p = syntaxProblem(&src, c, err, t.secret)
		}
		return Object{Pos: p.Pos, broken: true}, policy.Problems{p}
	}
	b := builder{source: &src, first: t.first, indent: t.indent, secret: t.secret}
	switch {
	case document.Kind != yaml.DocumentNode || len(document.Content) != 1 || !isOpenAPI(document.Content[0]):
		b.add(start, "found what is no OpenAPI document", "a document with openapi, info and paths", "")
	case decode(decoder, &more) == nil:
		b.add(start, "found more than one document", "one OpenAPI document", "")
	default:
		return b.openAPI(document.Content[0])
	}
	return Object{Pos: start, broken: true}, b.problems
}

// misspelt reports whether a name was probably meant to be the extension's.
func misspelt(name string) bool {
	plain := strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
	return name != extensionName && slices.Contains([]string{"xusher", "usher", "xushr", "xusehr"}, plain)
}
