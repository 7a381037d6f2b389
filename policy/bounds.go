package policy

import "fmt"

// Bounds of one policy, far beyond what people write: one policy must not hold up those that are compiled beside it, and what a
// request costs depends on some of them. docs/policies.md names them.
const (
	// maxRoutes bounds the routes of a policy, those of an OpenAPI document too.
	maxRoutes = 5000
	// maxConditions bounds the conditions of a policy, and maxChain how many need each other in a row.
	maxConditions, maxChain = 256, 32
	// maxExpressions bounds the expressions of a policy, and maxExpressionBytes what they are together.
	maxExpressions, maxExpressionBytes = 5000, 256 << 10
	// maxNesting bounds how deep lists, objects and loops of an expression stand within each other: CEL's checker takes time in
	// proportion to the third power, and 250 bytes of brackets took half a second.
	maxNesting = 8
	// maxPrograms bounds the patterns of a policy, in instructions of their programs.
	maxPrograms = 100 * maxProgram
	// maxNames bounds the names and texts that an expression looks for in a request, and so does a route with its rule.
	maxNames = 4096
	// maxNarrow bounds the query parameters that narrow a list.
	maxNarrow = 64
	// maxScopes bounds the scopes that a client is told it lacks: past that no header could say them.
	maxScopes = 64
)

// bounds finds of what a policy has too much to look at the rest.
func bounds(source *Source) (problems Problems) {
	if n := len(source.API.Routes); n > maxRoutes {
		problems = append(problems, Problem{Pos: source.API.Routes[maxRoutes].Pos, Found: fmt.Sprintf("%d routes", n), Want: fmt.Sprintf("at most %d", maxRoutes), Hint: "{name=**} takes in all below; or write a policy for some of the hosts"})
	}
	if n := len(source.Conditions); n > maxConditions {
		problems = append(problems, Problem{Pos: source.Conditions[maxConditions].Name.Pos, Found: fmt.Sprintf("%d conditions", n), Want: fmt.Sprintf("at most %d", maxConditions), Hint: "variables hold lists"})
	}
	return problems
}

// spend counts an expression of a policy; false if it is one too many, which is a problem once.
func (n *vocabulary) spend(t Text) (Problems, bool) {
	if n == nil {
		return nil, true
	}
	before := n.spent
	n.spent.expressions++
	n.spent.bytes += len(t.Text)
	switch {
	case before.expressions > maxExpressions || before.bytes > maxExpressionBytes:
		return nil, false
	case n.spent.expressions > maxExpressions:
		return Problems{{Pos: t.Pos, Found: fmt.Sprintf("more than %d expressions in one policy", maxExpressions), Want: "fewer", Hint: "conditions and variables are written once; or write a policy for some of the hosts"}}, false
	case n.spent.bytes > maxExpressionBytes:
		return Problems{{Pos: t.Pos, Found: fmt.Sprintf("more than %d bytes of expressions in one policy", maxExpressionBytes), Want: "fewer", Hint: "variables hold lists, conditions hold what several expressions say"}}, false
	}
	return nil, true
}
