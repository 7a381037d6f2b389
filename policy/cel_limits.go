package policy

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// What keeps an expression from taking long, whatever a request brings: an estimate when it is loaded, for inputs as large as
// sensible ones are; and for larger ones, a count of what it costs while it runs. Operations whose cost is a product of their
// operands, or that make a text longer than them, look at their operands first, as the count only sees what is done.

const (
	// costLimit bounds what one expression may cost, in CEL's units (about one per visited element), as estimated and as
	// counted. It is only counted for expressions that can loop or that make texts, as the others are bounded by their length.
	costLimit = 1_000_000
	// requestCost bounds what the counted expressions of one request may cost in all.
	requestCost = 2 * costLimit
	// maxExpression bounds one expression, in bytes.
	maxExpression = 8192
	// maxProgram bounds a pattern, in instructions of its program: `a{500}` is a short pattern and a long program.
	maxProgram = 1000
	// maxMatching bounds bytes of text times instructions of one match: RE2 takes time in proportion.
	maxMatching = 10_000_000
	// maxText bounds a text that replace or join makes, in bytes.
	maxText = 64 << 10
	// maxMade bounds what expressions in a loop may compare with each other, more than any body holds; maxResult bounds what a
	// stamp or a filter can be. Each value counts one, nested ones too, and 16 bytes of text as well.
	maxMade, maxResult = 1_000_000, maxValues
	// assumed sizes, for the estimate: of what a request brings, and of what a token brings.
	assumedItems, assumedClaims, assumedText = 256, 100, 256
)

var (
	errCost = errors.New("cost limit exceeded")
	errLong = errors.New("text too long")
	errMade = errors.New("more values than there may be")
)

// cheap are the functions that cost no more than a look at their operands.
var cheap = map[string]bool{
	operators.Equals: true, operators.NotEquals: true, operators.In: true, operators.LogicalAnd: true, operators.LogicalOr: true,
	operators.LogicalNot: true, operators.Conditional: true, operators.Index: true, operators.OptIndex: true, operators.OptSelect: true,
	operators.Less: true, operators.LessEquals: true, operators.Greater: true, operators.GreaterEquals: true, operators.Negate: true,
	operators.Subtract: true, operators.Multiply: true, operators.Divide: true, operators.Modulo: true,
	"size": true, "startsWith": true, "endsWith": true, "contains": true, "orValue": true, "or": true, "hasValue": true, "value": true,
	"string": true, "int": true, "double": true, "bool": true, "timestamp": true, "duration": true, "matches": true,
	"ip": true, "cidr": true, "isIP": true, "isCIDR": true, "containsIP": true, "containsCIDR": true,
	"getHours": true, "getMinutes": true, "getDayOfWeek": true, "getDate": true, "getMonth": true, "getFullYear": true,
}

// isCheap reports whether a call needs no counting.
func isCheap(x ast.Expr, native *ast.AST) bool {
	name := x.AsCall().FunctionName()
	if name == operators.Add {
		switch native.GetType(x.ID()).Kind() {
		case types.IntKind, types.DoubleKind, types.UintKind, types.TimestampKind, types.DurationKind:
			return true
		}
	}
	return cheap[name]
}

// estimate bounds what the expression may cost, with the conditions that it uses.
func (c *compiler) estimate(checked *cel.Ast, e *expression, t Text) *Problem {
	found, err := c.env.EstimateCost(checked, estimator{c.names})
	if err != nil {
		return &Problem{Pos: t.Pos, Found: "expression whose cost cannot be told: " + oneLine(err.Error())}
	}
	e.cost = found.Max
	total := e.cost
	for _, k := range c.names.expressions(e.conditions) {
		total = cost.SafeAdd(total, k.cost) // each is evaluated once, however often it is named
	}
	if total <= costLimit {
		return nil
	}
	costs := fmt.Sprintf("up to %d", total)
	if total > math.MaxUint64/2 {
		costs = "without bound"
	}
	return &Problem{
		Pos: t.Pos, Found: fmt.Sprintf("expression that costs %s, for lists of %d items from a request and of %d from a token", costs, assumedItems, assumedClaims),
		Want: fmt.Sprintf("at most %d, about one for each item that is looked at", costLimit),
		Hint: "a loop within a loop costs their product: look items up with `in`, in a variable or a claim",
	}
}

// estimator knows how large things are: variables exactly, other things as they should be at most.
type estimator struct{ names *vocabulary }

func (e estimator) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	path := n.Path()
	if len(path) > 0 && e.names != nil {
		if t, ok := e.names.variables[strings.TrimPrefix(path[0], variablePrefix)]; ok && strings.HasPrefix(path[0], variablePrefix) {
			return &cost.SizeEstimate{Max: e.names.size(t, path)}
		}
	}
	size := &cost.SizeEstimate{Max: assumedItems}
	switch {
	case n.Type().Kind() == types.StringKind || n.Type().Kind() == types.BytesKind:
		size.Max = assumedText
	case len(path) > 0 && (path[0] == "user" || path[0] == "claims"):
		size.Max = assumedClaims
	}
	return size
}

// EstimateCallCost says that `in` does not depend on the length of a variable's set, and how large what is optional can be.
func (e estimator) EstimateCallCost(function, _ string, target *cost.AstNode, args []cost.AstNode) *cost.CallEstimate {
	if target != nil && (function == "orValue" || function == "value") {
		return cost.NewCallEstimate(cost.FixedCostEstimate(1), &cost.SizeEstimate{Max: itemsOf((*target).Expr())})
	}
	if function == operators.In && len(args) == 2 && e.names != nil {
		if path := args[1].Path(); len(path) == 1 {
			if _, ok := e.names.values[path[0]].(*set); ok {
				return cost.NewCallEstimate(cost.FixedCostEstimate(1), nil)
			}
		}
	}
	return nil
}

// itemsOf is the assumed length of a list by where it is from.
func itemsOf(x ast.Expr) uint64 {
	for {
		switch {
		case x.Kind() == ast.SelectKind:
			x = x.AsSelect().Operand()
		case x.Kind() == ast.CallKind && x.AsCall().IsMemberFunction():
			x = x.AsCall().Target()
		case x.Kind() == ast.CallKind && len(x.AsCall().Args()) > 0:
			x = x.AsCall().Args()[0]
		case x.Kind() == ast.IdentKind && (x.AsIdent() == "user" || x.AsIdent() == "claims"):
			return assumedClaims
		default:
			return assumedItems
		}
	}
}

// counter counts what CEL's own count does not know: that `in` does not depend on the length of a variable's set, and what a
// call costs whose overload is chosen at run time, as the types of claims and values are. CEL counts one for such a call.
type counter struct{}

func (counter) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	units := uint64(1)
	if function == operators.In && len(args) == 2 {
		units += items(args[1])
		return &units
	}
	if overload != "" {
		return nil
	}
	for _, v := range args {
		units += items(v)
	}
	units += items(result)
	return &units
}

// items is how much there is to look at in a value, in CEL's units: ten bytes of a text are one.
func items(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v)) / 10
	case types.Bytes:
		return uint64(len(v)) / 10
	case *set:
		return 0
	case traits.Lister:
		if n, ok := v.Size().(types.Int); ok && n > 0 {
			return uint64(n)
		}
	}
	return 0
}

// eval evaluates e, within what the request may still cost.
func (e *expression) eval(s *scope) (ref.Val, error) {
	if !e.counted {
		v, _, err := e.program.Eval(s)
		return v, err
	}
	if s.spent >= requestCost {
		return nil, errCost
	}
	v, details, err := e.program.Eval(s)
	if spent := details.ActualCost(); spent != nil {
		s.spent += *spent
	} else {
		s.spent += costLimit
	}
	return v, err
}

// checkNesting looks at an expression before its types are.
func checkNesting(parsed *ast.AST, t Text) *Problem {
	var deepest func(x ast.NavigableExpr, at int) int
	deepest = func(x ast.NavigableExpr, at int) int {
		switch x.Kind() {
		case ast.ListKind, ast.MapKind, ast.ComprehensionKind:
			at++
		}
		most := at
		for _, child := range x.Children() {
			if most <= maxNesting {
				most = max(most, deepest(child, at))
			}
		}
		return most
	}
	if deepest(ast.NavigateAST(parsed), 0) <= maxNesting {
		return nil
	}
	return &Problem{Pos: t.Pos, Found: fmt.Sprintf("expression with lists, objects or loops more than %d deep within each other", maxNesting), Want: fmt.Sprintf("at most %d", maxNesting), Hint: "variables hold lists and objects of any shape"}
}

// checkCalls finds what no limit at run time can make safe: patterns that a request brings, patterns whose program is
// long, and `format`, which can write a list as often as it likes.
func (c *compiler) checkCalls(native *ast.AST, t Text) Problems {
	var problems Problems
	at := func(x ast.Expr) Position {
		l := native.SourceInfo().GetStartLocation(x.ID())
		return t.at(l.Line(), l.Column())
	}
	ast.PreOrderVisit(native.Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() != ast.CallKind {
			return
		}
		call := x.AsCall()
		args := call.Args()
		switch {
		case call.FunctionName() == "format" && call.IsMemberFunction():
			problems = append(problems, Problem{Pos: at(x), Found: "format, which expressions here do not have", Want: "texts joined with +, or a list with join"})
		case call.FunctionName() == "matches" && len(args) > 0:
			if p := c.checkPattern(args[len(args)-1], native); p != nil {
				p.Pos = at(args[len(args)-1])
				problems = append(problems, *p)
			}
		}
	}))
	return problems
}

func (c *compiler) checkPattern(x ast.Expr, native *ast.AST) *Problem {
	var pattern string
	isText := false
	switch reference := native.ReferenceMap()[x.ID()]; {
	case x.Kind() == ast.LiteralKind:
		pattern, isText = x.AsLiteral().Value().(string)
	case reference != nil && reference.Value != nil:
		pattern, isText = reference.Value.Value().(string)
	}
	if !isText {
		return &Problem{Found: "a pattern that is known only at run time", Want: "a pattern in quotes, or a variable", Hint: "who chooses a pattern chooses what it costs; compare with ==, startsWith or endsWith"}
	}
	size, err := types.RegexProgramSize(pattern)
	switch {
	case err != nil:
		return &Problem{Found: "a pattern that does not compile: " + err.Error(), Want: "RE2 syntax"}
	case size > maxProgram:
		return &Problem{Found: fmt.Sprintf("a pattern of %d instructions", size), Want: fmt.Sprintf("at most %d", maxProgram), Hint: "{n,m} repeats what stands before it in the program"}
	case c.names != nil:
		if c.names.spent.instructions += size; c.names.spent.instructions > maxPrograms {
			return &Problem{Found: fmt.Sprintf("a pattern, with which those of the policy have %d instructions", c.names.spent.instructions), Want: fmt.Sprintf("at most %d", maxPrograms), Hint: "{n,m} repeats what stands before it in the program"}
		}
	}
	return nil
}

// guard replaces the operations whose operands must be looked at first.
func guard(loops bool) interpreter.InterpretableDecoratorV2 {
	return func(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		call, ok := i.(interpreter.InterpretableCall)
		if !ok {
			return i, nil
		}
		args := call.Args()
		with := func(impl func(...ref.Val) ref.Val) (interpreter.InterpretableV2, error) {
			return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), args, impl), nil
		}
		switch call.Function() {
		case "replace":
			return with(replace)
		case "join":
			return with(join)
		case "sets.contains":
			return with(func(v ...ref.Val) ref.Val { return compareSets(v[0], v[1], containsAll) })
		case "sets.equivalent":
			return with(func(v ...ref.Val) ref.Val {
				return compareSets(v[0], v[1], func(a, b traits.Lister) types.Bool { return containsAll(a, b) && containsAll(b, a) })
			})
		case "sets.intersects":
			return with(func(v ...ref.Val) ref.Val { return compareSets(v[0], v[1], containsAny) })
		case operators.Equals, operators.NotEquals:
			if loops {
				want := call.Function() == operators.Equals
				return with(func(v ...ref.Val) ref.Val {
					if !bounded(v[0]) || !bounded(v[1]) {
						return types.WrapErr(errMade)
					}
					return types.Bool((types.Equal(v[0], v[1]) == types.True) == want)
				})
			}
		case operators.In:
			if _, constant := args[1].(interpreter.InterpretableConst); loops && !constant {
				return with(in)
			}
		case "matches":
			pattern, ok := args[1].(interpreter.InterpretableConst)
			if !ok {
				return nil, errors.New("pattern known only at run time")
			}
			return compilePattern(call, pattern.Value())
		}
		return i, nil
	}
}

// compilePattern compiles a pattern once. The name is another one so that CEL does not compile it again, unguarded.
func compilePattern(call interpreter.InterpretableCall, pattern ref.Val) (interpreter.InterpretableV2, error) {
	text, _ := pattern.Value().(string)
	size, err := types.RegexProgramSize(text)
	if err != nil {
		return nil, err
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	match := func(v ...ref.Val) ref.Val {
		s, ok := v[0].(types.String)
		switch {
		case !ok:
			return types.MaybeNoSuchOverloadErr(v[0])
		case len(s)*size > maxMatching:
			return types.WrapErr(errLong)
		}
		return types.Bool(re.MatchString(string(s)))
	}
	return interpreter.NewCall(call.ID(), "usher.matches", "usher_matches", call.Args()[:1], match), nil
}

func replace(v ...ref.Val) ref.Val {
	s, ok := v[0].(types.String)
	from, ok1 := v[1].(types.String)
	to, ok2 := v[2].(types.String)
	n := types.Int(-1)
	ok3 := true
	if len(v) > 3 {
		n, ok3 = v[3].(types.Int)
	}
	if !ok || !ok1 || !ok2 || !ok3 {
		return types.NewErr("no such overload")
	}
	times := strings.Count(string(s), string(from))
	if n >= 0 && n < types.Int(times) {
		times = int(n)
	}
	if longer := len(to) - len(from); len(s) > maxText && longer > 0 || longer > 0 && times > (maxText-len(s))/longer {
		return types.WrapErr(errLong)
	}
	return types.String(strings.Replace(string(s), string(from), string(to), times))
}

func join(v ...ref.Val) ref.Val {
	list, ok := v[0].(traits.Lister)
	separator := types.String("")
	ok1 := true
	if len(v) > 1 {
		separator, ok1 = v[1].(types.String)
	}
	if !ok || !ok1 {
		return types.NewErr("no such overload")
	}
	var b strings.Builder
	for it := list.Iterator(); it.HasNext() == types.True; {
		text, ok := it.Next().(types.String)
		if !ok {
			return types.NewErr("no such overload")
		}
		if b.Len()+len(separator)+len(text) > maxText {
			return types.WrapErr(errLong)
		}
		b.WriteString(string(text))
		if it.HasNext() == types.True {
			b.WriteString(string(separator))
		}
	}
	return types.String(b.String())
}

func compareSets(a, b ref.Val, compare func(a, b traits.Lister) types.Bool) ref.Val {
	x, ok := a.(traits.Lister)
	y, ok1 := b.(traits.Lister)
	if !ok || !ok1 {
		return types.NewErr("no such overload")
	}
	n, _ := x.Size().(types.Int)
	m, _ := y.Size().(types.Int)
	_, hashed := a.(*set)
	if n > 0 && m > costLimit/n && !hashed {
		return types.WrapErr(errCost)
	}
	if !bounded(a) || !bounded(b) {
		return types.WrapErr(errMade)
	}
	return compare(x, y)
}

func containsAll(list, items traits.Lister) types.Bool {
	for it := items.Iterator(); it.HasNext() == types.True; {
		if list.Contains(it.Next()) != types.True {
			return false
		}
	}
	return true
}

func containsAny(a, b traits.Lister) types.Bool {
	for it := b.Iterator(); it.HasNext() == types.True; {
		if a.Contains(it.Next()) == types.True {
			return true
		}
	}
	return false
}

func in(v ...ref.Val) ref.Val {
	container, ok := v[1].(traits.Container)
	switch {
	case !ok:
		return types.MaybeNoSuchOverloadErr(v[1])
	case !bounded(v[0]) || !bounded(v[1]):
		return types.WrapErr(errMade)
	}
	return container.Contains(v[0])
}

// bounded reports whether a value holds no more values than a request can bring. What a loop makes can: each of its items
// may be the same large list.
func bounded(v ref.Val) bool { return within(v, maxMade) }

func within(v ref.Val, left int) bool { return countValues(v, &left) }

func countValues(v ref.Val, left *int) bool {
	if *left--; *left < 0 {
		return false
	}
	switch v := v.(type) {
	case types.String:
		*left -= len(v) / 16
	case *set:
		*left -= len(v.items)
	case traits.Lister:
		for it := v.Iterator(); it.HasNext() == types.True; {
			if !countValues(it.Next(), left) {
				return false
			}
		}
	case traits.Mapper:
		for it := v.Iterator(); it.HasNext() == types.True; {
			if !countValues(v.Get(it.Next()), left) {
				return false
			}
		}
	}
	return *left >= 0
}
