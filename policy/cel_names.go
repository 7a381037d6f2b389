package policy

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// constants are the lists and objects of a policy's variables as CEL sees them, converted once.
type constants map[string]ref.Val

// declare makes the names known to the policy's environment. A text, number or boolean becomes a literal of each
// expression that names it; a list or an object exists once, whoever names it.
func (c *compiler) declare() error {
	var options []cel.EnvOption
	c.names.values = constants{}
	for _, name := range names(c.names.variables) {
		t := c.names.variables[name]
		full, v := variablePrefix+name, constant(t)
		if t.IsList || t.IsObject {
			options = append(options, cel.Variable(full, typeOf(t)))
			c.names.values[full] = v
		} else {
			options = append(options, cel.Constant(full, typeOf(t), v))
		}
	}
	for _, k := range c.names.list {
		options = append(options, cel.Variable(conditionPrefix+k.name, cel.BoolType))
	}
	env, err := c.env.Extend(options...)
	if err != nil {
		return fmt.Errorf("extend the CEL environment: %w", err)
	}
	c.env = env
	return nil
}

// typeOf is the CEL type of a piece of a manifest. What differs within one list or object is dyn.
func typeOf(t Tree) *types.Type {
	switch {
	case t.IsList:
		return types.NewListType(commonType(len(t.Items), func(i int) Tree { return t.Items[i] }))
	case t.IsObject:
		return types.NewMapType(types.StringType, commonType(len(t.Members), func(i int) Tree { return t.Members[i].Value }))
	}
	switch t.Scalar.(type) {
	case string:
		return types.StringType
	case bool:
		return types.BoolType
	case int64:
		return types.IntType
	case float64:
		return types.DoubleType
	}
	return types.DynType
}

func commonType(n int, at func(int) Tree) *types.Type {
	if n == 0 {
		return types.DynType
	}
	first := typeOf(at(0))
	for i := 1; i < n; i++ {
		if !typeOf(at(i)).IsExactType(first) {
			return types.DynType
		}
	}
	return first
}

// constant converts a piece of a manifest to CEL's own value.
func constant(t Tree) ref.Val {
	adapter := types.DefaultTypeAdapter
	switch {
	case t.IsList:
		items := make([]ref.Val, len(t.Items))
		for i, item := range t.Items {
			items[i] = constant(item)
		}
		return newSet(types.NewRefValList(adapter, items), items)
	case t.IsObject:
		members := make(map[ref.Val]ref.Val, len(t.Members))
		for _, m := range t.Members {
			members[types.String(m.Name.Text)] = constant(m.Value)
		}
		return types.NewRefValMap(adapter, members)
	case t.IsNull:
		return types.NullValue
	}
	switch t.Scalar.(type) {
	case string, bool, int64, float64:
		return adapter.NativeToValue(t.Scalar)
	}
	return types.NullValue // what could not be read is a problem already
}

// set is a list that also knows its texts and integers by hash, so that `in` does not depend on its length.
type set struct {
	traits.Lister
	items map[ref.Val]struct{}
}

// newSet returns the list as a set, or as it is where it holds something else than texts, or than integers.
func newSet(list traits.Lister, items []ref.Val) ref.Val {
	if len(items) == 0 {
		return list
	}
	s := &set{list, make(map[ref.Val]struct{}, len(items))}
	for _, v := range items {
		switch v.(type) {
		case types.String, types.Int:
		default:
			return list
		}
		if v.Type() != items[0].Type() {
			return list
		}
		s.items[v] = struct{}{}
	}
	return s
}

// Contains is what `in` and the sets functions ask. A number of another type may equal an integer: the list knows.
func (s *set) Contains(v ref.Val) ref.Val {
	switch v.(type) {
	case types.String, types.Int:
		_, ok := s.items[v]
		return types.Bool(ok)
	}
	return s.Lister.Contains(v)
}

// condition evaluates a condition, or returns what it gave before; a failure is a CEL error, as that of any other operand.
func (s *scope) condition(k *condition) ref.Val {
	if s.memo == nil {
		s.memo = make([]ref.Val, len(s.names.list))
	}
	if v := s.memo[k.index]; v != nil {
		return v
	}
	var v ref.Val
	if ok, err := k.value.bool(s); err != nil {
		v = types.WrapErr(err)
	} else {
		v = types.Bool(ok)
	}
	s.memo[k.index] = v
	return v
}

// next makes s ready for another operation: what depends on the operation is forgotten.
func (s *scope) next(op *Operation) {
	s.value, s.resource, s.action = op.Value, op.Resource, op.Action
	for i, v := range s.memo {
		if v != nil && s.names.list[i].value.perOperation {
			s.memo[i] = nil
		}
	}
}

// conditionsIn are the names of the conditions that an expression uses; none where it cannot be parsed.
func (c *compiler) conditionsIn(t Text) []string {
	if len(t.Text) > maxExpression {
		return nil // compile says so
	}
	parsed, issues := c.env.Parse(t.Text)
	if issues.Err() != nil {
		return nil
	}
	out := newUnion(nil)
	ast.PreOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		if root, path := pathOf(x); root == "conditions" && len(path) == 1 {
			out.add(path)
		}
	}))
	return out.list
}

// checkNames finds names of variables and conditions that there are not, and loop variables that would hide what every
// expression sees.
func (c *compiler) checkNames(parsed *cel.Ast, t Text) Problems {
	if c.names == nil {
		return nil
	}
	var problems Problems
	info := parsed.NativeRep().SourceInfo()
	at := func(id int64) Position {
		l := info.GetStartLocation(id)
		return t.at(l.Line(), l.Column())
	}
	ast.PreOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() == ast.ComprehensionKind {
			loop := x.AsComprehension()
			for _, name := range []string{loop.IterVar(), loop.IterVar2()} {
				if slices.Contains(seen, name) {
					problems = append(problems, Problem{Pos: at(x.ID()), Found: fmt.Sprintf("loop variable %q, which would hide what every expression sees by that name", name), Want: "another name"})
				}
			}
			return
		}
		root, path := pathOf(x)
		if root != "variables" && root != "conditions" {
			return
		}
		selected := x.AsSelect()
		switch {
		case len(path) == 1:
			start := at(selected.Operand().ID())
			if p := c.names.lookUp(root, path[0], start); p != nil {
				problems = append(problems, *p)
			} else if selected.IsTestOnly() {
				problems = append(problems, Problem{Pos: start, Found: fmt.Sprintf("has(%s.%s)", root, path[0]), Want: "the name itself", Hint: "what the manifest names is always there"})
			}
		case root == "variables" && !selected.IsTestOnly():
			if missing, object, known := c.names.member(path[0], path[1:]); known && missing == path[len(path)-1] {
				members := make([]string, len(object.Members))
				for i, m := range object.Members {
					members[i] = m.Name.Text
				}
				p := Problem{Pos: at(x.ID()), Found: fmt.Sprintf("variable %q has no member %q", strings.Join(path[:len(path)-1], "."), missing), Hint: DidYouMean(missing, members)}
				if len(members) > 0 && len(members) <= 20 {
					p.Want = oneOf(members)
				}
				problems = append(problems, p)
			}
		}
	}))
	return problems
}

// seen are the names that expressions see.
var seen = []string{"user", "value", "resource", "action", "request", "now", "variables", "conditions"}

// pathOf reads a chain of selections from a name; root is empty if x is none.
func pathOf(x ast.Expr) (root string, path []string) {
	for x.Kind() == ast.SelectKind {
		path = append(path, x.AsSelect().FieldName())
		x = x.AsSelect().Operand()
	}
	if x.Kind() != ast.IdentKind || len(path) == 0 {
		return "", nil
	}
	slices.Reverse(path)
	return x.AsIdent(), path
}
