package main

import (
	"encoding/xml"
	"fmt"
	"time"

	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// showReport writes the report in the form that is asked for.
func showReport(t *terminal, r *policytest.Report, o testOptions, took time.Duration) error {
	switch o.output {
	case "json":
		return t.json(newTestReport(r, o.minCoverage))
	case "junit":
		text, err := junit(r, took)
		if err != nil {
			return failed(fmt.Errorf("write the report: %w", err))
		}
		return t.raw(text)
	}
	for i := range r.Results {
		c := &r.Results[i]
		switch {
		case !c.Passed():
			t.bad("%s: %s: %s: %s: %s", c.Pos, c.Suite, c.Case, c.Said(), c.Why())
		case o.verbose:
			t.good("%s: %s: %s: %s", c.Pos, c.Suite, c.Case, c.Why())
		}
	}
	for _, p := range r.Coverage.Policies {
		for _, rule := range p.Rules {
			switch {
			case rule.Reached == 0:
				t.result("not reached: rule %s of policy %s at %s", oneLine(rule.Rule.On), oneLine(p.Policy), oneLine(rule.Rule.Position))
			case o.verbose && rule.Allowed == 0:
				t.result("never allows: rule %s of policy %s at %s", oneLine(rule.Rule.On), oneLine(p.Policy), oneLine(rule.Rule.Position))
			case o.verbose && rule.Denied == 0:
				t.result("never denies: rule %s of policy %s at %s", oneLine(rule.Rule.On), oneLine(p.Policy), oneLine(rule.Rule.Position))
			}
		}
	}
	all, reached := r.Coverage.Rules()
	summary := fmt.Sprintf("%s passed, %d of %s reached (%d %%)", count(len(r.Results)-r.Failed, "case"), reached, count(all, "rule"), r.Coverage.Percent())
	switch {
	case r.Failed > 0:
		t.bad("%s failed, %s", count(r.Failed, "case"), summary)
	case r.Coverage.Percent() < o.minCoverage:
		t.bad("%s, expected at least %d %%", summary, o.minCoverage)
	default:
		t.good("%s", summary)
	}
	return nil
}

// testReport is what test writes as JSON. Fields are only ever added.
type testReport struct {
	Passed   int            `json:"passed"`
	Failed   int            `json:"failed"`
	Good     bool           `json:"good"` // what exit code 0 says
	Cases    []testResult   `json:"cases"`
	Coverage coverageReport `json:"coverage"`
}

type testResult struct {
	Test       string                `json:"test"`
	Name       string                `json:"name"`
	File       string                `json:"file"`
	Line       int                   `json:"line,omitempty"`
	Column     int                   `json:"column,omitempty"`
	Passed     bool                  `json:"passed"`
	Identity   string                `json:"identity,omitempty"`
	Method     string                `json:"method"`
	Host       string                `json:"host"`
	Path       string                `json:"path"`
	Outcome    string                `json:"outcome"` // as decision records name it
	Status     int                   `json:"status"`
	Policy     string                `json:"policy,omitempty"`
	Route      string                `json:"route,omitempty"`
	Rule       string                `json:"rule,omitempty"`
	RuleAt     string                `json:"ruleAt,omitempty"`
	Why        string                `json:"why"`
	Mismatches []policytest.Mismatch `json:"mismatches"`
}

type coverageReport struct {
	Rules    int              `json:"rules"`
	Reached  int              `json:"reached"`
	Percent  int              `json:"percent"`
	Expected int              `json:"expected"` // --min-coverage
	Policies []policyCoverage `json:"policies"`
}

type policyCoverage struct {
	Policy string         `json:"policy"`
	Rules  []ruleCoverage `json:"rules"`
}

type ruleCoverage struct {
	Rule    string `json:"rule"`
	RuleAt  string `json:"ruleAt"`
	Reached int    `json:"reached"`
	Allowed int    `json:"allowed"`
	Denied  int    `json:"denied"`
}

func newTestReport(r *policytest.Report, minCoverage int) testReport {
	out := testReport{Passed: len(r.Results) - r.Failed, Failed: r.Failed, Cases: []testResult{}}
	for i := range r.Results {
		c := &r.Results[i]
		a := &c.Answer
		one := testResult{
			Test: c.Suite, Name: c.Case, File: c.Pos.File, Line: c.Pos.Line, Column: c.Pos.Column, Passed: c.Passed(), Identity: c.Identity,
			Method: c.Request.Method, Host: c.Request.Host, Path: c.Request.Path, Outcome: a.Outcome.String(), Status: a.Status,
			Policy: a.Policy, Route: a.Route, Rule: a.Rule.On, RuleAt: a.Rule.Position, Why: c.Why(), Mismatches: c.Mismatches,
		}
		if one.Mismatches == nil {
			one.Mismatches = []policytest.Mismatch{}
		}
		out.Cases = append(out.Cases, one)
	}
	cover := &out.Coverage
	cover.Rules, cover.Reached = r.Coverage.Rules()
	cover.Percent, cover.Expected, cover.Policies = r.Coverage.Percent(), minCoverage, []policyCoverage{}
	for _, p := range r.Coverage.Policies {
		one := policyCoverage{Policy: p.Policy, Rules: []ruleCoverage{}}
		for _, rule := range p.Rules {
			one.Rules = append(one.Rules, ruleCoverage{rule.Rule.On, rule.Rule.Position, rule.Reached, rule.Allowed, rule.Denied})
		}
		cover.Policies = append(cover.Policies, one)
	}
	out.Good = r.Failed == 0 && cover.Percent >= minCoverage
	return out
}

// The elements of JUnit's report, as CI systems read them.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		File     string      `xml:"file,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr"`
		Line    int           `xml:"line,attr"`
		Failure *junitFailure `xml:"failure,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// junit writes the report as JUnit XML; characters that XML does not have are replaced.
func junit(r *policytest.Report, took time.Duration) ([]byte, error) {
	out := junitSuites{Tests: len(r.Results), Failures: r.Failed, Time: fmt.Sprintf("%.3f", took.Seconds())}
	for i := range r.Results {
		c := &r.Results[i]
		if n := len(out.Suites); n == 0 || out.Suites[n-1].Name != c.Suite {
			out.Suites = append(out.Suites, junitSuite{Name: c.Suite, File: c.Pos.File})
		}
		s := &out.Suites[len(out.Suites)-1]
		s.Tests++
		one := junitCase{Name: c.Case, Class: c.Suite, File: c.Pos.File, Line: c.Pos.Line}
		if !c.Passed() {
			s.Failures++
			one.Failure = &junitFailure{Message: c.Said(), Text: place(c.Pos) + c.Why()}
		}
		s.Cases = append(s.Cases, one)
	}
	text, err := xml.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, err
	}
	return append([]byte(xml.Header), append(text, '\n')...), nil
}

func place(p policy.Position) string {
	if s := p.String(); s != "" {
		return s + ": "
	}
	return ""
}
