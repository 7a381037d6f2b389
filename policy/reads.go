package policy

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// This file and cel.go are the only ones that know CEL: what an expression reads of a request decides at load whether
// its body is needed at all.

// reads is what an expression reads of `value`, each name once.
type reads struct {
	all    bool     // value as a whole, or by a name that is known only at run time
	fields []string // value.body, value.query, value.path
	params []string // value.path.NAME
	others []string // user, request, now and what the manifest names
	names  []string // every name and text of an expression that reads value: whatever it may look for in a body or a query
}

// join adds what the conditions read by themselves, that an expression uses. Each is joined once, however often it is
// named on the way: conditions that name each other twice would else double what is read with every one of them.
func (r *reads) join(conditions []*expression) {
	if len(conditions) == 0 {
		return
	}
	fields, params, others, names := newUnion(r.fields), newUnion(r.params), newUnion(r.others), newUnion(r.names)
	for _, k := range conditions {
		r.all = r.all || k.own.all
		fields.add(k.own.fields)
		params.add(k.own.params)
		others.add(k.own.others)
		names.add(k.own.names)
	}
	r.fields, r.params, r.others, r.names = fields.list, params.list, others.list, names.list
}

// union is a list whose items are there once, in the order in which they came.
type union struct {
	list []string
	has  map[string]bool
}

func newUnion(list []string) *union {
	u := &union{has: make(map[string]bool, len(list))}
	u.add(list)
	return u
}

func (u *union) add(list []string) {
	for _, s := range list {
		if !u.has[s] {
			u.has[s] = true
			u.list = append(u.list, s)
		}
	}
}

func (r *reads) field(name string) bool {
	return r != nil && (r.all || slices.Contains(r.fields, name))
}

// visit notes what the expression reads. It takes in rather too much: a variable of a macro that is called value counts.
func (r *reads) visit(root ast.Expr) {
	known := []string{"resource", "action", "claims", "body", "@result"}
	outside := []string{"user", "request", "now"}
	consumed := map[int64]bool{} // identifiers that a select has dealt with
	var names []string
	ast.PreOrderVisit(root, ast.NewExprVisitor(func(x ast.Expr) {
		operand, name, ok := selection(x)
		if ok {
			names = append(names, name)
			switch o := operand; {
			case isIdent(o, "value"):
				consumed[o.ID()] = true
				r.fields = append(r.fields, name)
			default:
				if inner, field, ok := selection(o); ok && isIdent(inner, "value") && field == "path" {
					r.params = append(r.params, name)
				}
			}
		}
		switch x.Kind() {
		case ast.LiteralKind:
			if s, ok := x.AsLiteral().(types.String); ok {
				names = append(names, string(s))
			}
		case ast.ComprehensionKind:
			c := x.AsComprehension()
			known = append(known, c.IterVar(), c.IterVar2(), c.AccuVar())
		case ast.IdentKind:
			switch name := x.AsIdent(); {
			case consumed[x.ID()] || slices.Contains(known, name):
			case slices.Contains(outside, name), strings.HasPrefix(name, variablePrefix), strings.HasPrefix(name, conditionPrefix):
				r.others = append(r.others, name) // what a condition reads is joined
			default:
				r.all = true // value as a whole; and what is not known here may stand for anything
			}
		}
	}))
	if !r.all && len(r.fields) == 0 {
		names = nil
	}
	for _, list := range []struct{ of, to *[]string }{{&r.fields, &r.fields}, {&r.params, &r.params}, {&r.others, &r.others}, {&names, &r.names}} {
		*list.to = newUnion(*list.of).list
	}
}

// selection reads x.name, x["name"] and their optional forms, and "name" in x.
func selection(x ast.Expr) (operand ast.Expr, name string, ok bool) {
	switch x.Kind() {
	case ast.SelectKind:
		return x.AsSelect().Operand(), x.AsSelect().FieldName(), true
	case ast.CallKind:
		call := x.AsCall()
		args := call.Args()
		if len(args) != 2 {
			return nil, "", false
		}
		from, by := args[0], args[1]
		switch call.FunctionName() {
		case "_[_]", "_[?_]", "_?._":
		case "@in":
			from, by = by, from
		default:
			return nil, "", false
		}
		if by.Kind() == ast.LiteralKind {
			if s, isString := by.AsLiteral().(types.String); isString {
				return from, string(s), true
			}
		}
	}
	return nil, "", false
}

func isIdent(x ast.Expr, name string) bool { return x.Kind() == ast.IdentKind && x.AsIdent() == name }
