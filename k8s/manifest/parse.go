package manifest

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// Parse reads the documents of one file, YAML or JSON, and finds all that is wrong with each by itself. Objects with
// problems are among those returned, so that [Compile] can find what is wrong between objects in the same run; it
// compiles nothing as long as one of them has a problem. file is used in positions only.
func Parse(file string, text []byte) ([]Object, policy.Problems) {
	return parse(source{file: file}, text)
}

// ParseStored is [Parse] of an object as an API server has it. file is what the object is called: its problems name that and the
// field, and no line of a text that nobody sees.
func ParseStored(file string, text []byte) ([]Object, policy.Problems) {
	return parse(source{file: file, stored: true}, text)
}

func parse(of source, text []byte) ([]Object, policy.Problems) {
	src, chunks, problem := readInto(of, text)
	if problem != nil {
		return []Object{{Pos: problem.Pos, broken: true}}, policy.Problems{*problem}
	}
	var objects []Object
	var problems policy.Problems
	for _, c := range chunks {
		os, ps := parseChunk(&src, c)
		objects, problems = append(objects, os...), append(problems, ps...)
	}
	if len(objects) == 0 && len(problems) == 0 {
		problems = policy.Problems{{Pos: src.top(), Found: "found no manifests", Want: oneOf(kinds()), Hint: "every document has apiVersion, kind, metadata and spec"}}
	}
	return objects, problems.Sort()
}

// parseChunk reads the documents of a chunk up to the first syntax error.
func parseChunk(src *source, c chunk) (objects []Object, problems policy.Problems) {
	secret := secretive(c.text)
	decoder := yaml.NewDecoder(strings.NewReader(c.text))
	for {
		var document yaml.Node
		err := decode(decoder, &document)
		if errors.Is(err, io.EOF) {
			return objects, problems
		}
		if err != nil {
			p := syntaxProblem(src, c, err, secret)
			return append(objects, Object{Pos: p.Pos, broken: true}), append(problems, p)
		}
		if document.Kind != yaml.DocumentNode || len(document.Content) != 1 || isNull(document.Content[0]) {
			continue
		}
		b := builder{source: src, first: c.first, secret: secret}
		if kind := mappingValue(document.Content[0], "kind"); kind != nil {
			b.own = kind.Value == v1alpha1.KindPolicyTest
		}
		if isOpenAPI(document.Content[0]) {
			o, ps := b.openAPI(document.Content[0])
			objects, problems = append(objects, o), append(problems, ps...)
			continue
		}
		tree := b.tree(document.Content[0], "", 0)
		o, ps := newObject(tree)
		o.broken = len(b.problems)+len(ps) > 0
		if o.ConfigMap != nil {
			o.texts = innerTexts(src, c, document.Content[0])
		}
		objects, problems = append(objects, o), append(append(problems, b.problems...), ps...)
	}
}

// decode reads one document; a panic of the reader is a text that cannot be read, not the end of the process.
func decode(d *yaml.Decoder, into *yaml.Node) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("yaml: the text cannot be read")
		}
	}()
	return d.Decode(into)
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style == 0 && n.Anchor == "" && n.ShortTag() == "!!null"
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxProblem gives a syntax error its place.
func syntaxProblem(src *source, c chunk, err error, secret bool) policy.Problem {
	text, line := err.Error(), 1
	if m := yamlError.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	if n := firstBroken(c.text); n > 0 {
		line = n
	}
	line = min(c.first+line, len(src.lines))
	if i := tab(src.lines[line-1]); i >= 0 {
		return policy.Problem{Pos: src.position(line, i+1, secret), Found: "found a tab in the indentation", Want: "spaces"}
	}
	hint := ""
	switch {
	case strings.Contains(text, "mapping values are not allowed"):
		hint = "a text that holds \": \" needs quotes; and the names of one object stand in one column"
	case strings.Contains(text, "did not find expected key"), strings.Contains(text, "could not find expected ':'"):
		hint = "look at the indentation and the quotes of this line and the one before"
		if n := above(src.lines[c.first:line]); n > 0 {
			hint += fmt.Sprintf("; by its indentation it belongs to line %d", c.first+n)
		}
	case strings.Contains(text, "cannot start any token"):
		hint = "a text that starts with @, ` or % needs quotes"
	case strings.Contains(text, "unknown anchor"):
		text = "unknown anchor" // its name may be the beginning of a secret
		hint = "write the value out; a text that starts with * needs quotes"
	}
	return policy.Problem{Pos: src.position(line, 0, secret), Found: "found what is not YAML: " + text, Hint: hint}
}

// maxSearch bounds the bytes that firstBroken reads in all: it reads a text once for each of its lines.
const maxSearch = 8 << 20

// firstBroken returns the line, from 1, after the longest part of the text that can be read: the reader itself often
// names the line where the broken object begins, or the one before. 0 if it cannot tell.
func firstBroken(text string) int {
	lines := strings.SplitAfter(text, "\n")
	if len(lines)*len(text) > maxSearch {
		return 0
	}
	end := len(text)
	for n := len(lines); n > 0; n-- {
		end -= len(lines[n-1])
		decoder := yaml.NewDecoder(strings.NewReader(text[:end]))
		for {
			var document yaml.Node
			err := decode(decoder, &document)
			if errors.Is(err, io.EOF) {
				return n
			}
			if err != nil {
				break
			}
		}
	}
	return 0
}

// above returns the line, from 1, that the last one is indented below, 0 if there is none.
func above(lines []string) int {
	indent := func(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
	for n := len(lines) - 1; n > 0; n-- {
		text := strings.TrimSpace(lines[n-1])
		if text != "" && text[0] != '#' && indent(lines[n-1]) < indent(lines[len(lines)-1]) {
			return n
		}
	}
	return 0
}

// tab returns where a tab stands in the indentation of a line, -1 if nowhere.
func tab(line string) int {
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	return strings.IndexByte(indent, '\t')
}

// found says what kind of value stands somewhere, without showing it.
func found(t policy.Tree) string {
	switch {
	case t.IsObject:
		return "an object"
	case t.IsList:
		return "a list"
	case t.IsNull:
		return "nothing"
	}
	switch t.Scalar.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64, float64:
		return "a number"
	}
	return fmt.Sprintf("a %T", t.Scalar)
}
