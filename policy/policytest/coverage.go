package policytest

import (
	"github.com/usher-authz/usher/policy"
)

// Coverage says which rules the cases reached: the most specific rule of an operation is reached when it is asked.
type Coverage struct {
	Policies []PolicyCoverage
}

// PolicyCoverage is that of one policy, its rules in the order of the manifest.
type PolicyCoverage struct {
	Policy string
	Rules  []RuleCoverage
}

// RuleCoverage is how often a rule was reached, and how often it let an operation pass or denied it. The rest was ended by
// another operation of the same request.
type RuleCoverage struct {
	Rule                     policy.RuleRef
	Reached, Allowed, Denied int
}

func newCoverage(policies []*policy.Policy) Coverage {
	var out Coverage
	for _, p := range policies {
		if p.Shadow {
			continue // no request reaches it
		}
		c := PolicyCoverage{Policy: p.Name}
		for _, r := range p.RuleRefs() {
			c.Rules = append(c.Rules, RuleCoverage{Rule: r})
		}
		out.Policies = append(out.Policies, c)
	}
	return out
}

func (c *Coverage) add(a *Answer) {
	for _, o := range a.Operations {
		r := c.find(a.Policy, o.Rule)
		if r == nil {
			continue
		}
		r.Reached++
		switch o.Outcome {
		case policy.Allow:
			r.Allowed++
		case policy.Undecided:
		default:
			r.Denied++
		}
	}
}

func (c *Coverage) find(name string, rule policy.RuleRef) *RuleCoverage {
	for i := range c.Policies {
		if c.Policies[i].Policy != name {
			continue
		}
		for j := range c.Policies[i].Rules {
			if r := &c.Policies[i].Rules[j]; r.Rule == rule {
				return r
			}
		}
	}
	return nil
}

// Rules returns how many rules there are, and how many of them were reached.
func (c *Coverage) Rules() (all, reached int) {
	for _, p := range c.Policies {
		for _, r := range p.Rules {
			all++
			if r.Reached > 0 {
				reached++
			}
		}
	}
	return all, reached
}

// Percent is how many of a hundred rules were reached, rounded down; 100 if there are none.
func (c *Coverage) Percent() int {
	all, reached := c.Rules()
	if all == 0 {
		return 100
	}
	return reached * 100 / all
}
