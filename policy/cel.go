package policy

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
)

// This file and its cel_*.go are the only ones that import CEL. What an expression sees is typed, so that a misspelt `user.identty` is a
// problem at load and not a denial at run time.

// Request is what an expression sees as `request`.
type Request struct {
	Method, Path, Host, RemoteAddress string
	Query                             string
	// Headers returns the request's headers, lower-case names, equal names joined by a comma, without credentials.
	// It is called only by an expression that reads them.
	Headers func() map[string]string
}

// Scope is what one evaluation sees. Its zero fields are absent.
type scope struct {
	user             *Identity
	claims           map[string]any
	value            Value
	body             Value // of a backend's answer
	resource, action string
	request          *Request
	now              time.Time
	trace            *OperationTrace // nil: nobody asks why
	names            *vocabulary     // of the policy; nil: none
	memo             []ref.Val       // what conditions gave, by index; made when the first one is evaluated
	spent            uint64          // what expressions that are counted have cost so far
}

func (s *scope) ResolveName(name string) (any, bool) {
	switch name {
	case "user":
		return s.user, s.user != nil
	case "claims":
		return s.claims, s.claims != nil
	case "value":
		if s.value == nil {
			return map[string]any{}, true
		}
		return s.value, true
	case "body":
		return s.body, true
	case "resource":
		return s.resource, true
	case "action":
		return s.action, true
	case "request":
		return s.request, s.request != nil
	case "now":
		return s.now, true
	}
	if s.names != nil {
		if v, ok := s.names.values[name]; ok {
			return v, true
		}
		if name, ok := strings.CutPrefix(name, conditionPrefix); ok {
			if k := s.names.conditions[name]; k != nil {
				return s.condition(k), true
			}
		}
	}
	return nil, false
}

func (s *scope) Parent() cel.Activation { return nil }

const (
	userType    = "usher.User"
	requestType = "usher.Request"
)

// field describes one field of a typed variable.
type field struct {
	typ *types.Type
	get func(any) any
}

var fields = map[string]map[string]field{
	userType: {
		"identity":        {types.StringType, func(v any) any { return orMissing(v.(*Identity), v.(*Identity).Name) }},
		"displayName":     {types.StringType, func(v any) any { return orMissing(v.(*Identity), v.(*Identity).DisplayName) }},
		"permissions":     {types.NewListType(types.StringType), func(v any) any { return v.(*Identity).Permissions }},
		"isAuthenticated": {types.BoolType, func(v any) any { return v.(*Identity).Name != "" }},
		"claims":          {types.NewMapType(types.StringType, types.DynType), func(v any) any { return v.(*Identity).Claims }},
	},
	requestType: {
		"method":        {types.StringType, func(v any) any { return v.(*Request).Method }},
		"path":          {types.StringType, func(v any) any { return v.(*Request).Path }},
		"host":          {types.StringType, func(v any) any { return v.(*Request).Host }},
		"remoteAddress": {types.StringType, func(v any) any { return v.(*Request).RemoteAddress }},
		"headers": {types.NewMapType(types.StringType, types.StringType), func(v any) any {
			if h := v.(*Request).Headers; h != nil {
				return h()
			}
			return map[string]string{}
		}},
	},
}

// orMissing is nil for a user who is not authenticated, whose name equals nothing.
func orMissing(id *Identity, text string) any {
	if id.Name == "" {
		return nil
	}
	return text
}

// typed adds the types of `user` and `request` to CEL's registry.
type typed struct{ *types.Registry }

func (t typed) FindStructType(name string) (*types.Type, bool) {
	if _, ok := fields[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return t.Registry.FindStructType(name)
}

func (t typed) FindStructFieldNames(name string) ([]string, bool) {
	if fs, ok := fields[name]; ok {
		names := make([]string, 0, len(fs))
		for n := range fs {
			names = append(names, n)
		}
		return names, true
	}
	return t.Registry.FindStructFieldNames(name)
}

func (t typed) FindStructFieldType(name, fieldName string) (*types.FieldType, bool) {
	fs, ok := fields[name]
	if !ok {
		return t.Registry.FindStructFieldType(name, fieldName)
	}
	f, ok := fs[fieldName]
	if !ok {
		return nil, false
	}
	return &types.FieldType{
		Type:  f.typ,
		IsSet: func(v any) bool { return v != nil && f.get(v) != nil },
		GetFrom: func(v any) (any, error) {
			if got := f.get(v); got != nil {
				return got, nil
			}
			return nil, fmt.Errorf("no such key: %s of a user who is not authenticated", fieldName)
		},
	}, true
}

// compiler compiles the expressions of one kind of place, for one goroutine at a time.
type compiler struct {
	env     *cel.Env
	names   *vocabulary   // nil: there are none, as in an identity mapping
	answers *answerReader // for what reads a backend's answer; nil where nothing does
}

// answerReader compiles what reads a backend's answer, each text once.
type answerReader struct {
	compiler *compiler                   // made when it is needed
	readers  map[[2]string]*ObjectReader // by their texts
}

func newEnv(variables ...cel.EnvOption) (*cel.Env, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, fmt.Errorf("make the CEL types: %w", err)
	}
	options := append([]cel.EnvOption{
		cel.CustomTypeProvider(typed{registry}),
		cel.CustomTypeAdapter(registry),
		cel.OptionalTypes(),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateComprehensionNestingLimit(2)),
		ext.Strings(),
		ext.Sets(),
		ext.Network(),
	}, variables...)
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("make the CEL environment: %w", err)
	}
	return env, nil
}

// Each kind of place has one environment, made once, as that takes longer than to compile an expression. An environment never
// changes and is safe for concurrent use; that of a policy with names of its own is another one, made from it.
var (
	ruleEnv = sync.OnceValues(func() (*cel.Env, error) {
		return newEnv(
			cel.Variable("user", cel.ObjectType(userType)),
			cel.Variable("value", cel.MapType(cel.StringType, cel.DynType)),
			cel.Variable("resource", cel.StringType),
			cel.Variable("action", cel.StringType),
			cel.Variable("request", cel.ObjectType(requestType)),
			cel.Variable("now", cel.TimestampType),
		)
	})
	claimEnv = sync.OnceValues(func() (*cel.Env, error) {
		return newEnv(cel.Variable("claims", cel.MapType(cel.StringType, cel.DynType)))
	})
	answerEnv = sync.OnceValues(func() (*cel.Env, error) { return newEnv(cel.Variable("body", cel.DynType)) })
)

// ruleCompiler compiles what rules and identity headers say.
func ruleCompiler() (*compiler, error) {
	env, err := ruleEnv()
	return &compiler{env: env, answers: &answerReader{}}, err
}

// claimCompiler compiles the identity mapping of a provider.
func claimCompiler() (*compiler, error) {
	env, err := claimEnv()
	return &compiler{env: env}, err
}

// answerCompiler compiles what reads a backend's answer.
func answerCompiler() (*compiler, error) {
	env, err := answerEnv()
	return &compiler{env: env}, err
}

// expression is one compiled CEL expression.
type expression struct {
	program  cel.Program
	pos      Position
	reads    reads    // of `value`, with its conditions
	own      reads    // without them
	text     string   // as the manifest writes it
	scopes   []string // the constants that it looks for in user.permissions; at most maxScopes, each once
	scope    string   // it looks for this one there, and does nothing else
	userOnly bool     // it depends on nothing but `user`
	// perOperation: it depends on what differs between the operations of one request.
	perOperation bool
	counted      bool         // what it costs is counted
	cost         uint64       // as estimated, without the conditions that it uses
	names        []string     // the full names of variables and conditions that it uses, each once
	conditions   conditionSet // that it uses, by way of others too
}

// result is the type that an expression must give.
type result uint8

const (
	wantAny result = iota
	wantBool
	wantString
	wantStrings
	wantObject
	wantIDs  // a string or an integer, or a list of them
	wantText // a scalar, or optional.none()
)

func (r result) celType() *cel.Type {
	switch r {
	case wantBool:
		return cel.BoolType
	case wantString:
		return cel.StringType
	case wantStrings:
		return cel.ListType(cel.StringType)
	case wantObject:
		return cel.MapType(cel.StringType, cel.DynType)
	}
	return cel.AnyType
}

// accepts reports whether an expression of type out can give r; a type that is known only at run time (dyn) where dynamic.
func (r result) accepts(out *cel.Type, dynamic bool) bool {
	scalar := func(t *cel.Type) bool {
		return t.IsExactType(cel.DynType) || t.IsExactType(cel.StringType) || t.IsExactType(cel.IntType) || t.IsExactType(cel.UintType)
	}
	switch r {
	case wantObject:
		return out.IsExactType(cel.DynType) || out.Kind() == types.MapKind && (out.Parameters()[0].IsExactType(cel.StringType) || out.Parameters()[0].IsExactType(cel.DynType))
	case wantIDs:
		return scalar(out) || out.Kind() == types.ListKind && scalar(out.Parameters()[0])
	case wantText:
		if out.Kind() == types.OpaqueKind && out.TypeName() == "optional_type" {
			out = out.Parameters()[0]
		}
		return scalar(out) || out.IsExactType(cel.BoolType)
	}
	want := r.celType()
	return want == cel.AnyType || out.IsExactType(want) || dynamic && (out.IsExactType(cel.DynType) || out.IsAssignableType(want))
}

// name says what an expression must give.
func (r result) name() string {
	switch r {
	case wantObject:
		return "an object: map(string, dyn)"
	case wantIDs:
		return "a string, or a list of strings"
	case wantText:
		return "a string"
	}
	return typeName(r.celType())
}

// compile compiles the text. A value whose type is only known at run time (dyn) is accepted where dynamic is true, and
// then checked when it is used.
func (c *compiler) compile(t Text, gives result, dynamic bool) (*expression, Problems) {
	if len(t.Text) > maxExpression {
		return nil, Problems{{Pos: t.Pos, Found: fmt.Sprintf("expression of %d bytes", len(t.Text)), Want: fmt.Sprintf("at most %d", maxExpression), Hint: "variables hold lists, conditions hold parts of an expression"}}
	}
	if p, ok := c.names.spend(t); !ok {
		return nil, p
	}
	parsed, issues := c.env.Parse(t.Text)
	if issues.Err() != nil {
		return nil, t.issues(issues)
	}
	if p := checkNesting(parsed.NativeRep(), t); p != nil {
		return nil, Problems{*p}
	}
	if ps := c.checkNames(parsed, t); len(ps) > 0 {
		return nil, ps
	}
	if parsed, issues = c.env.Check(parsed); issues.Err() != nil {
		return nil, t.issues(issues)
	}
	out := parsed.OutputType()
	if !gives.accepts(out, dynamic) {
		p := Problem{Pos: t.Pos, Found: fmt.Sprintf("expression gives %s", typeName(out)), Want: gives.name()}
		if gives == wantBool && out.IsExactType(cel.DynType) {
			p.Hint = "its type is known only at run time: compare it, such as " + strings.TrimSpace(t.Text) + " == true"
		}
		return nil, Problems{p}
	}
	e := &expression{text: t.Text, userOnly: true, pos: t.Pos}
	e.own.visit(parsed.NativeRep().Expr())
	loops := false
	native := parsed.NativeRep()
	e.scope, _ = scopeTest(native.Expr())
	denied := negated(native.Expr())
	scopes, names := newUnion(nil), newUnion(nil)
	ast.PreOrderVisit(native.Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		switch x.Kind() {
		case ast.ComprehensionKind:
			loops = true
		case ast.IdentKind:
			switch name := x.AsIdent(); name {
			case "value", "resource", "action":
				e.userOnly, e.perOperation = false, true
			case "request", "now":
				e.userOnly = false
			default:
				if c.inherit(e, name, denied[x.ID()], scopes) {
					names.add([]string{name})
				}
			}
		case ast.CallKind:
			if !isCheap(x, native) {
				e.counted = true
			}
			if s, ok := scopeTest(x); ok && !denied[x.ID()] {
				scopes.add([]string{s})
			}
		}
	}))
	e.scopes, e.names = scopes.list[:min(len(scopes.list), maxScopes)], names.list
	e.reads = e.own
	e.reads.join(c.names.expressions(e.conditions))
	if n := len(e.reads.names); n > maxNames {
		return nil, Problems{{Pos: t.Pos, Found: fmt.Sprintf("expression that looks for %d names and texts in a request, with the conditions that it uses", n), Want: fmt.Sprintf("at most %d", maxNames), Hint: "variables hold lists"}}
	}
	if ps := c.checkCalls(native, t); len(ps) > 0 {
		return nil, ps
	}
	if p := c.estimate(parsed, e, t); p != nil {
		return nil, Problems{*p}
	}
	e.counted = e.counted || loops
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize), cel.CustomDecoratorV2(guard(loops))}
	if e.counted {
		options = append(options, cel.CostTracking(counter{}), cel.CostLimit(costLimit))
	}
	program, err := c.env.Program(parsed, options...)
	if err != nil {
		return nil, Problems{{Pos: t.Pos, Found: "expression cannot be planned: " + oneLine(err.Error())}}
	}
	e.program = program
	return e, nil
}

// issues are what CEL found, at its places in the manifest.
func (t Text) issues(issues *cel.Issues) Problems {
	var ps Problems
	for _, e := range issues.Errors() {
		ps = append(ps, Problem{
			Pos:   t.at(e.Location.Line(), e.Location.Column()),
			Found: "expression does not compile: " + oneLine(e.Message),
			Hint:  celHint(e.Message),
		})
	}
	return ps
}

// inherit takes over what follows from the use of a variable or a condition; false if the name is neither.
func (c *compiler) inherit(e *expression, name string, denied bool, scopes *union) bool {
	condition, isCondition := strings.CutPrefix(name, conditionPrefix)
	if !isCondition && !strings.HasPrefix(name, variablePrefix) {
		return false
	}
	if k := c.names.conditions[condition]; isCondition && k.value != nil {
		e.userOnly = e.userOnly && k.value.userOnly
		e.perOperation = e.perOperation || k.value.perOperation
		e.conditions.add(k)
		if !denied {
			scopes.add(k.value.scopes)
		}
	}
	return true
}

// negated are the ids of what stands below a `!`: who lacks such a scope must not be told to get it.
func negated(x ast.Expr) map[int64]bool {
	out := map[int64]bool{}
	ast.PreOrderVisit(x, ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() == ast.CallKind && x.AsCall().FunctionName() == "!_" {
			ast.PreOrderVisit(x, ast.NewExprVisitor(func(below ast.Expr) { out[below.ID()] = true }))
		}
	}))
	return out
}

// scopeTest recognises `'scope' in user.permissions`.
func scopeTest(x ast.Expr) (string, bool) {
	call := x.AsCall()
	if call.FunctionName() != "@in" || len(call.Args()) != 2 {
		return "", false
	}
	left, right := call.Args()[0], call.Args()[1]
	if left.Kind() != ast.LiteralKind || right.Kind() != ast.SelectKind || right.AsSelect().FieldName() != "permissions" {
		return "", false
	}
	if o := right.AsSelect().Operand(); o.Kind() != ast.IdentKind || o.AsIdent() != "user" {
		return "", false
	}
	s, ok := left.AsLiteral().Value().(string)
	return s, ok
}

// at moves a CEL location (line from 1, column from 0, in characters) to its place in the manifest.
func (t Text) at(line, column int) Position {
	p := t.Pos
	if p.Line == 0 || p.Column == 0 || p.Inexact || line != 1 || column < 0 {
		return p
	}
	runes := []rune(t.Text)
	if column > len(runes) {
		column = len(runes)
	}
	p.Column += len(string(runes[:column]))
	return p
}

// fault says why an evaluation failed without the values that it saw: they may be claims.
func fault(err error) string {
	text := err.Error()
	if strings.HasPrefix(text, "expression gave ") {
		return text // our own, which names types alone
	}
	for _, known := range faults {
		if strings.Contains(text, known[0]) {
			return known[1]
		}
	}
	return "evaluation error"
}

// faults are what CEL's errors contain, and what is said of them.
var faults = [][2]string{
	{"no such key", "no such key"},
	{"no such attribute", "no such attribute"},
	{"no such overload", "no such overload"},
	{"index out of bounds", "index out of bounds"},
	{"division by zero", "division by zero"},
	{"modulus by zero", "division by zero"},
	{"overflow", "number out of range"},
	{"cost limit exceeded", "cost limit exceeded"},
	{errLong.Error(), errLong.Error()},
	{errMade.Error(), errMade.Error()},
	{"IP Address ", "not an IP address"},
	{"CIDR ", "not an address range"},
	{"expected iterable type", "neither list nor object"},
	{"optional", "optional"},
}

func typeName(t *cel.Type) string {
	if t.IsExactType(cel.DynType) {
		return "a value of any type"
	}
	return t.String()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func celHint(message string) string {
	switch {
	case strings.Contains(message, "undefined field"):
		return "user has identity, displayName, permissions, isAuthenticated and claims; request has method, path, host, headers and remoteAddress"
	case strings.Contains(message, "undeclared reference to 'variables'"), strings.Contains(message, "undeclared reference to 'conditions'"):
		return "it is no value of its own: write variables.NAME or conditions.NAME, with a name of spec.variables or spec.conditions"
	case strings.Contains(message, "undeclared reference"):
		return "an expression sees user, value, resource, action, request, now, variables and conditions; put a text in quotes, such as \"'system'\""
	case strings.Contains(message, "Syntax error"):
		return "this is a CEL expression; a text needs quotes of its own, such as \"'system'\""
	}
	return ""
}
