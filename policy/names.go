package policy

import (
	"fmt"
	"slices"
	"strings"
)

// What a policy names for its own expressions: variables are constants, conditions are expressions.

const (
	variablePrefix  = "variables."
	conditionPrefix = "conditions."
)

// condition is a named expression that gives a bool.
type condition struct {
	name  string
	index int         // of the memo in a scope
	value *expression // nil if it does not compile
	uses  []string    // the conditions that it names
	depth int         // of those that need each other, this one included
}

// conditionSet is a set of conditions, by index.
type conditionSet [maxConditions / 64]uint64

func (s *conditionSet) add(k *condition) {
	s[k.index/64] |= 1 << (k.index % 64)
	for i, more := range k.value.conditions {
		s[i] |= more
	}
}

// expressions are those of a set's conditions.
func (n *vocabulary) expressions(set conditionSet) (out []*expression) {
	if set == (conditionSet{}) {
		return nil
	}
	for _, k := range n.list {
		if set[k.index/64]&(1<<(k.index%64)) != 0 {
			out = append(out, k.value)
		}
	}
	return out
}

// vocabulary is the variables and conditions of one policy. Once compiled it does not change, and is safe for concurrent use.
type vocabulary struct {
	variables  map[string]Tree
	conditions map[string]*condition
	list       []*condition               // by index
	values     constants                  // by full name: what is no literal in an expression
	used       map[string]bool            // full names, at load only
	sizes      map[string]uint64          // of paths into variables, at load only
	indexes    map[*Member]map[string]int // of objects with many members, by their first one; at load only
	spent      struct{ expressions, bytes, instructions int }
}

// celWords are the words that CEL keeps to itself, so that they cannot stand after a dot (CEL specification, "Syntax").
var celWords = []string{
	"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop", "package",
	"namespace", "null", "return", "true", "var", "void", "while",
}

// checkName demands a name that can stand after `variables.` or `conditions.`.
func checkName(what string, name Text) *Problem {
	const want = "letters, digits and underscores, not first a digit"
	switch {
	case slices.Contains(celWords, name.Text):
		return &Problem{Pos: name.Pos, Found: fmt.Sprintf("%s %q, which is a word of CEL's own", what, name.Text), Want: "another name"}
	case isName(name.Text):
		return nil
	}
	p := &Problem{Pos: name.Pos, Found: fmt.Sprintf("%s %q", what, name.Text), Want: want}
	for _, c := range name.Text {
		if c >= 0x80 {
			p.Hint = fmt.Sprintf("%q is %U: a letter of another alphabet can look like a Latin one", string(c), c)
			break
		}
	}
	if strings.Contains(name.Text, "-") {
		p.Hint = "a hyphen is a minus sign to CEL; write an underscore"
	}
	return p
}

// forPolicy returns the compiler of one policy's expressions, which sees its variables and conditions.
func (c *compiler) forPolicy(source Source) (*compiler, Problems) {
	n := &vocabulary{variables: map[string]Tree{}, conditions: map[string]*condition{}, used: map[string]bool{}}
	out := &compiler{env: c.env, names: n, answers: c.answers}
	if len(source.Variables) == 0 && len(source.Conditions) == 0 {
		return out, nil
	}
	var problems Problems
	for _, m := range source.Variables {
		if p := checkName("variable", m.Name); p != nil {
			problems = append(problems, *p)
			continue
		}
		if m.Value.IsNull {
			problems = append(problems, Problem{Pos: m.Value.Pos, Found: fmt.Sprintf("variable %q without a value", m.Name.Text), Want: "a text, a number, true, false, a list or an object"})
		}
		n.variables[m.Name.Text] = m.Value
	}
	texts := map[string]Text{}
	for _, s := range source.Conditions {
		if p := checkName("condition", s.Name); p != nil {
			problems = append(problems, *p)
			continue
		}
		k := &condition{name: s.Name.Text, index: len(n.list)}
		n.conditions[k.name], texts[k.name] = k, s.Value
		n.list = append(n.list, k)
	}
	if err := out.declare(); err != nil {
		return out, append(problems, Problem{Pos: source.Pos, Found: "variables and conditions cannot be declared: " + err.Error()})
	}
	return out, append(problems, out.compileConditions(texts)...)
}

// compileConditions compiles each condition after those that it uses.
func (c *compiler) compileConditions(texts map[string]Text) Problems {
	n := c.names
	for _, k := range n.list {
		k.uses = c.conditionsIn(texts[k.name])
	}
	var problems Problems
	const visiting, done = 1, 2
	state := map[string]int{}
	var path []string
	var visit func(k *condition)
	visit = func(k *condition) {
		switch state[k.name] {
		case done:
			return
		case visiting:
			cycle := append(slices.Clone(path[slices.Index(path, k.name):]), k.name)
			problems = append(problems, Problem{
				Pos: texts[k.name].Pos, Found: fmt.Sprintf("condition %q depends on itself: %s", k.name, strings.Join(cycle, " -> ")),
				Want: "conditions that do not need themselves",
			})
			return
		}
		state[k.name], path = visiting, append(path, k.name)
		for _, name := range k.uses {
			if next := n.conditions[name]; next != nil {
				visit(next)
			}
		}
		state[k.name], path = done, path[:len(path)-1]
		for _, name := range k.uses {
			if next := n.conditions[name]; next != nil {
				k.depth = max(k.depth, next.depth)
			}
		}
		if k.depth++; k.depth == maxChain+1 { // those that need this one are not compiled either, and not reported once more
			problems = append(problems, Problem{Pos: texts[k.name].Pos, Found: fmt.Sprintf("condition %q, which needs others %d deep", k.name, k.depth), Want: fmt.Sprintf("at most %d", maxChain), Hint: "write what the first of them say into one expression"})
		}
		if k.depth > maxChain {
			return
		}
		e, ps := c.compile(texts[k.name], wantBool, false)
		k.value, problems = e, append(problems, ps...)
	}
	for _, k := range n.list {
		visit(k)
	}
	clear(n.used) // by a rule is what counts
	return problems
}

// unused warns of what no rule and no identity header needs, not even by way of another condition.
func (n *vocabulary) unused(source Source) Problems {
	var warnings Problems
	reached := map[string]bool{}
	var reach func(string)
	reach = func(full string) {
		if reached[full] {
			return
		}
		reached[full] = true
		name, isCondition := strings.CutPrefix(full, conditionPrefix)
		if k := n.conditions[name]; isCondition && k != nil && k.value != nil {
			for _, other := range k.value.names {
				reach(other)
			}
		}
	}
	for full := range n.used {
		reach(full)
	}
	for _, m := range source.Variables {
		if !reached[variablePrefix+m.Name.Text] {
			warnings = append(warnings, Problem{Pos: m.Name.Pos, Found: fmt.Sprintf("variable %q is used by no rule", m.Name.Text)})
		}
	}
	for _, s := range source.Conditions {
		if !reached[conditionPrefix+s.Name.Text] {
			warnings = append(warnings, Problem{Pos: s.Name.Pos, Found: fmt.Sprintf("condition %q is used by no rule", s.Name.Text)})
		}
	}
	return warnings
}

// lookUp checks `variables.NAME` or `conditions.NAME` in an expression.
func (n *vocabulary) lookUp(kind, name string, pos Position) *Problem {
	what := strings.TrimSuffix(kind, "s")
	_, ok := n.variables[name]
	if kind == "conditions" {
		_, ok = n.conditions[name]
	}
	if ok {
		n.used[kind+"."+name] = true
		return nil
	}
	known := names(n.variables)
	if kind == "conditions" {
		known = names(n.conditions)
	}
	p := &Problem{Pos: pos, Found: fmt.Sprintf("unknown %s %q", what, name), Want: oneOf(known), Hint: DidYouMean(name, known)}
	switch {
	case len(known) == 0:
		p.Want = fmt.Sprintf("a name of spec.%s, which has none", kind)
	case len(known) > 20:
		p.Want = fmt.Sprintf("one of the %d names of spec.%s", len(known), kind)
	}
	if _, other := n.conditions[name]; other && kind == "variables" {
		p.Hint = "it is a condition: write conditions." + name
	}
	if _, other := n.variables[name]; other && kind == "conditions" {
		p.Hint = "it is a variable: write variables." + name
	}
	return p
}

// member finds the member of a variable that is an object; known is false where that cannot be told at load.
func (n *vocabulary) member(variable string, path []string) (missing string, object Tree, known bool) {
	t, ok := n.variables[variable]
	for _, name := range path {
		if !ok || !t.IsObject {
			return "", Tree{}, false
		}
		i := n.index(t, name)
		if i < 0 {
			return name, t, true
		}
		t = t.Members[i].Value
	}
	return "", Tree{}, false
}

// index finds a member of an object, whose members are looked through once.
func (n *vocabulary) index(t Tree, name string) int {
	const few = 16
	if len(t.Members) <= few {
		return slices.IndexFunc(t.Members, func(m Member) bool { return m.Name.Text == name })
	}
	first := &t.Members[0]
	known := n.indexes[first]
	if known == nil {
		known = make(map[string]int, len(t.Members))
		for i, m := range t.Members {
			known[m.Name.Text] = i
		}
		if n.indexes == nil {
			n.indexes = map[*Member]map[string]int{}
		}
		n.indexes[first] = known
	}
	if i, ok := known[name]; ok {
		return i
	}
	return -1
}

// size is the largest size that a path into a variable can have: of a list or object the number of items, of a text its bytes.
func (n *vocabulary) size(t Tree, path []string) uint64 {
	key := strings.Join(path, "\x00")
	if size, known := n.sizes[key]; known {
		return size
	}
	size := n.largest(t, path[1:])
	if n.sizes == nil {
		n.sizes = map[string]uint64{}
	}
	n.sizes[key] = size
	return size
}

func (n *vocabulary) largest(t Tree, path []string) uint64 {
	if len(path) == 0 {
		text, _ := t.Scalar.(string)
		return uint64(len(t.Items) + len(t.Members) + len(text))
	}
	var most uint64
	for _, item := range t.Items {
		most = max(most, n.largest(item, path[1:]))
	}
	if !t.IsObject {
		return most
	}
	switch path[0] {
	case "@keys":
		for _, m := range t.Members {
			most = max(most, uint64(len(m.Name.Text)))
		}
	case "@values", "@items":
		for _, m := range t.Members {
			most = max(most, n.largest(m.Value, path[1:]))
		}
	default:
		if i := n.index(t, path[0]); i >= 0 {
			most = max(most, n.largest(t.Members[i].Value, path[1:]))
		}
	}
	return most
}
