package edit

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policy"
)

// node is a place in the body that an edit is about: a leaf is set, any other must be an object, or a list on the way.
// The nodes of all edits make one tree, so that a body is read once for all of them.
type node struct {
	name     string
	quoted   []byte // as JSON
	place    string // for errors, such as "0/metadata"
	leaf     bool
	value    []byte // with leaf: its JSON
	deep     int    // with leaf: how many levels the value has itself
	children []*node
	index    map[string]int // name -> position in children
}

// plan makes the tree of the edits.
func plan(edits []policy.Edit) (*node, error) {
	root := &node{}
	for _, e := range edits {
		place := root
		for _, name := range e.At {
			next, err := place.child(name)
			if err != nil {
				return nil, err
			}
			if next.leaf {
				return nil, next.errorf("an edit sets it whole, another one a part of it")
			}
			place = next
		}
		for _, m := range e.Set {
			leaf, err := place.child(m.Name)
			if err != nil {
				return nil, err
			}
			if len(leaf.children) > 0 {
				return nil, leaf.errorf("an edit sets it whole, another one a part of it")
			}
			leaf.leaf = true
			if leaf.value, leaf.deep, err = appendValue(nil, m.Value, maxDepth); err != nil {
				return nil, leaf.errorf("%w", err)
			}
		}
	}
	return root, nil
}

// child returns the node of that name, made if there is none.
func (n *node) child(name string) (*node, error) {
	if i, ok := n.index[name]; ok {
		return n.children[i], nil
	}
	quoted, err := jsontext.AppendQuote(nil, name)
	if err != nil {
		return nil, n.errorf("a name that is no valid UTF-8")
	}
	c := &node{name: name, quoted: quoted, place: name}
	if n.place != "" {
		c.place = n.place + "/" + name
	}
	if n.index == nil {
		n.index = map[string]int{}
	}
	n.index[name] = len(n.children)
	n.children = append(n.children, c)
	return c, nil
}

// errorf makes an error that names the place. Its names come from the policy, not from the body.
func (n *node) errorf(format string, a ...any) error {
	return fmt.Errorf("edit %q: %w", n.place, fmt.Errorf(format, a...))
}

// appendObject writes the node as an object that is nested in so many others.
func (n *node) appendObject(out []byte, depth int) ([]byte, error) {
	if depth >= maxDepth {
		return nil, errDepth
	}
	out, err := n.appendMembers(append(out, '{'), nil, depth+1)
	return append(out, '}'), err
}

// appendMembers writes the children that were not seen, as members of an object at that depth.
func (n *node) appendMembers(out []byte, seen []bool, depth int) ([]byte, error) {
	start := len(out)
	for i, c := range n.children {
		if seen != nil && seen[i] {
			continue
		}
		if len(out) > start {
			out = append(out, ',')
		}
		out = append(append(out, c.quoted...), ':')
		if !c.leaf {
			var err error
			if out, err = c.appendObject(out, depth); err != nil {
				return nil, err
			}
			continue
		}
		if depth+c.deep >= maxDepth {
			return nil, errDepth
		}
		out = append(out, c.value...)
	}
	return out, nil
}

// appendValue writes a policy.Value as JSON, names sorted, so that equal values are equal bytes. It returns how many
// levels the value has: 0 for a scalar. What is no such value, or no JSON, is an error.
func appendValue(out []byte, value policy.Value, room int) (_ []byte, deep int, err error) {
	if room == 0 {
		return nil, 0, errDepth
	}
	switch v := value.(type) {
	case nil:
		return append(out, "null"...), 0, nil
	case bool:
		return strconv.AppendBool(out, v), 0, nil
	case int64:
		return strconv.AppendInt(out, v, 10), 0, nil
	case uint64:
		return strconv.AppendUint(out, v, 10), 0, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, 0, errors.New("a number that JSON does not have")
		}
		return appendFloat(out, v), 0, nil
	case string:
		if out, err = jsontext.AppendQuote(out, v); err != nil {
			return nil, 0, errors.New("a text that is no valid UTF-8")
		}
		return out, 0, nil
	case []any:
		out = append(out, '[')
		for i, element := range v {
			if i > 0 {
				out = append(out, ',')
			}
			var inner int
			if out, inner, err = appendValue(out, element, room-1); err != nil {
				return nil, 0, err
			}
			deep = max(deep, inner+1)
		}
		return append(out, ']'), deep, nil
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		out = append(out, '{')
		for i, name := range names {
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = jsontext.AppendQuote(out, name); err != nil {
				return nil, 0, errors.New("a name that is no valid UTF-8")
			}
			var inner int
			if out, inner, err = appendValue(append(out, ':'), v[name], room-1); err != nil {
				return nil, 0, err
			}
			deep = max(deep, inner+1)
		}
		return append(out, '}'), deep, nil
	}
	return nil, 0, fmt.Errorf("a %T is no JSON value", value)
}

// appendFloat writes a float so that it stays one: 1.0 is not 1 to a backend that tells them apart.
func appendFloat(out []byte, f float64) []byte {
	start := len(out)
	out = strconv.AppendFloat(out, f, 'g', -1, 64)
	if !strings.ContainsAny(string(out[start:]), ".e") {
		out = append(out, ".0"...)
	}
	return out
}
