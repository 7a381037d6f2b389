package policytest

import (
	"strings"

	"github.com/usher-authz/usher/policy"
)

// Result is what became of one case.
type Result struct {
	Suite, Case string
	Pos         policy.Position
	Identity    string
	Request     Request
	Answer      Answer
	Mismatches  []Mismatch // none: it passed
}

// Passed reports whether everything that the case expects came.
func (r *Result) Passed() bool { return len(r.Mismatches) == 0 }

// Said says in a few words what was expected and what came; "" of a case that passed.
func (r *Result) Said() string {
	parts := make([]string, len(r.Mismatches))
	for i, m := range r.Mismatches {
		field := ""
		if m.Field != "outcome" {
			field = m.Field + " "
		}
		parts[i] = "expected " + field + m.Expected + ", got " + m.Got
	}
	return strings.Join(parts, "; ")
}

// Report is what became of all cases.
type Report struct {
	Results  []Result
	Failed   int
	Coverage Coverage
}

// Run asks each case of the gate that world makes of its suite. policies are those whose rules should be reached. The error
// is that of world.
func Run(suites []Suite, policies []*policy.Policy, world func(*Suite) (Gate, error)) (*Report, error) {
	out := &Report{Coverage: newCoverage(policies)}
	for i := range suites {
		s := &suites[i]
		gate, err := world(s)
		if err != nil {
			return nil, err
		}
		for j := range s.Cases {
			c := &s.Cases[j]
			r := Result{Suite: s.Name, Case: c.Name, Pos: c.Pos, Identity: c.Identity.Name, Request: c.Request, Answer: gate.Ask(c.Identity, c.Request)}
			if r.Mismatches = Compare(c, &r.Answer); !r.Passed() {
				out.Failed++
			}
			out.Coverage.add(&r.Answer)
			out.Results = append(out.Results, r)
		}
	}
	return out, nil
}

// Why says in a few words how the answer came about.
func (r *Result) Why() string {
	a := &r.Answer
	by := ""
	if a.Rule.On != "" {
		by = " by rule " + a.Rule.On + " at " + a.Rule.Position
	}
	switch outcome(a) {
	case Allow:
		switch {
		case len(a.Operations) == 0:
			return "route " + a.Route + " is public"
		case by == "":
			return "no rule is asked on route " + a.Route
		}
		return "allowed" + by
	case NoPolicy:
		return "no policy guards host " + r.Request.Host
	case NoRoute:
		return "no route of policy " + a.Policy + " matches " + r.Request.Method + " " + r.Request.Path
	}
	return a.Reason + by
}
