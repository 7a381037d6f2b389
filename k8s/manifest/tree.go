package manifest

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/usher-authz/usher/policy"
)

// maxDepth bounds how deep a document may nest: no manifest needs more.
const maxDepth = 64

// builder makes a policy.Tree of YAML nodes and refuses whatever YAML has beyond JSON's data.
type builder struct {
	source   *source
	first    int // lines before the document
	indent   int // characters before each line
	secret   bool
	own      bool // kubectl reads no names in it: a PolicyTest, an OpenAPI document
	problems policy.Problems
}

func (b *builder) add(pos policy.Position, found, want, hint string) {
	b.problems = append(b.problems, policy.Problem{Pos: pos, Found: found, Want: want, Hint: hint})
}

// position is the place of a node: of the first character of its text where that stands in the source as it is, so
// that an offset into the text can be added to the column.
func (b *builder) position(n *yaml.Node, path string) policy.Position {
	line := b.first + n.Line
	pos := b.source.position(line, n.Column+b.indent, b.secret)
	pos.Path = path
	if n.Kind != yaml.ScalarNode || pos.Column == 0 {
		return pos
	}
	rest := b.source.lines[line-1][pos.Column-1:]
	switch n.Style {
	case 0:
		pos.Inexact = !strings.HasPrefix(rest, n.Value)
	case yaml.DoubleQuotedStyle, yaml.SingleQuotedStyle:
		quote := rest[:min(1, len(rest))]
		if strings.HasPrefix(rest, quote+n.Value+quote) {
			pos.Column++
		} else {
			pos.Inexact = true
		}
	default:
		pos.Inexact = true
	}
	return pos
}

// unread is the scalar of what was reported already, so that it is not reported again as something else.
type unread struct{}

// tree converts a node. What is wrong becomes a problem and unread, so that the rest is looked at all the same.
func (b *builder) tree(n *yaml.Node, path string, depth int) policy.Tree {
	t := policy.Tree{Pos: b.position(n, path)}
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		b.add(t.Pos, "found an anchor or alias", "the value itself", "write it out; a text that starts with * or & needs quotes")
	case n.Style&yaml.TaggedStyle != 0:
		b.add(t.Pos, "found a tag", "a plain value", "leave the tag out; a text that starts with ! needs quotes")
	case depth > maxDepth:
		b.add(t.Pos, "found a value nested too deep", fmt.Sprintf("at most %d levels", maxDepth), "")
	case n.Kind == yaml.MappingNode:
		t.IsObject = true
		b.members(n, &t, path, depth)
		return t
	case n.Kind == yaml.SequenceNode:
		t.IsList = true
		for i, item := range n.Content {
			t.Items = append(t.Items, b.tree(item, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
		return t
	case n.Kind == yaml.ScalarNode:
		if b.scalar(n, &t) {
			return t
		}
	default:
		b.add(t.Pos, "found what is no value", "an object, a list or a scalar", "")
	}
	t.Scalar = unread{}
	return t
}

// members converts the members of an object; names are strings, each there once.
func (b *builder) members(n *yaml.Node, t *policy.Tree, path string, depth int) {
	first := make(map[string]policy.Position, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := policy.Text{Text: key.Value, Pos: b.position(key, join(path, key.Value))}
		switch {
		case key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0:
			b.add(name.Pos, "found a name that is no string", "a name", "")
			continue
		case key.Style == 0 && key.Value == "<<":
			b.add(name.Pos, "found a merge key", "the members themselves", "write them out")
			continue
		case key.Style == 0 && b.plainName(path, key.Value):
		case key.Style == 0 && ambiguous(key):
			b.add(name.Pos, fmt.Sprintf("found a name that not every reader of YAML takes for a string: %s", key.Value), "a name", "put it in quotes")
			continue
		}
		if at, twice := first[key.Value]; twice {
			b.add(name.Pos, fmt.Sprintf("found %q twice", key.Value), "each name once", "the first one is at "+at.String())
			continue
		}
		first[key.Value] = name.Pos
		t.Members = append(t.Members, policy.Member{Name: name, Value: b.tree(value, name.Pos.Path, depth+1)})
	}
}

// plainPlaces are where a name may stand without quotes although kubectl, like every reader of YAML 1.1, takes it for a boolean:
// on of rules and routes, and n and y of JWKs (RFC 7518, section 6). What kubectl makes of them is known there, so that a
// cluster gives them their names back. Elsewhere files and a cluster would read two names. What kubectl does not read has them anywhere.
var plainPlaces = map[string]*regexp.Regexp{
	"on": regexp.MustCompile(`^spec\.(rules|api\.routes)\[[0-9]+\]$`),
	"n":  regexp.MustCompile(`^spec\.jwt\.keys\.keys\[[0-9]+\]$`),
	"y":  regexp.MustCompile(`^spec\.jwt\.keys\.keys\[[0-9]+\]$`),
}

// plainName reports whether a name without quotes is one of an object at that path.
func (b *builder) plainName(path, name string) bool {
	places := plainPlaces[name]
	return places != nil && (b.own || places.MatchString(path))
}

// ambiguous reports whether a plain scalar is something else than a string to a reader of YAML 1.1 or of YAML 1.2.
func ambiguous(n *yaml.Node) bool {
	return n.ShortTag() != "!!str" || yaml11Bool(n.Value)
}

func yaml11Bool(s string) bool {
	switch strings.ToLower(s) {
	case "y", "yes", "on", "n", "no", "off":
		return true
	}
	return false
}

// jsonNumber is JSON's grammar (RFC 8259, section 6): YAML's own octal, hexadecimal, sexagesimal and underscored numbers
// mean different things to different readers.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// scalar converts a scalar; false if it is none that JSON has.
func (b *builder) scalar(n *yaml.Node, t *policy.Tree) bool {
	if n.Style != 0 {
		t.Scalar = n.Value
		return true
	}
	switch tag := n.ShortTag(); {
	case tag == "!!null":
		t.IsNull = true
		return true
	case tag == "!!bool":
		t.Scalar = strings.EqualFold(n.Value, "true")
		return true
	case jsonNumber.MatchString(n.Value):
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
			t.Scalar = i
			return true
		}
		f, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || math.Abs(f) >= 1<<53 {
			b.add(t.Pos, "found a number out of range", "an integer of 64 bits, or a fraction below 2^53", "a text needs quotes")
			return false
		}
		if t.Scalar = f; f == math.Trunc(f) {
			t.Scalar = int64(f) // 1.0 is 1 once kubectl has read it
		}
		return true
	case tag == "!!int" || tag == "!!float":
		b.add(t.Pos, "found a number as JSON does not write it", "a decimal number", "a text needs quotes")
		return false
	case tag == "!!str" && !yaml11Bool(n.Value), tag == "!!timestamp":
		t.Scalar = n.Value
		return true
	}
	b.add(t.Pos, fmt.Sprintf("found a value that not every reader of YAML takes for the same: %s", n.Value), "true, false or a text in quotes", "")
	return false
}
