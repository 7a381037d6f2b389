package policytest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// Mismatch is one thing that was expected and did not come.
type Mismatch struct {
	Field    string `json:"field"`
	Expected string `json:"expected"`
	Got      string `json:"got"`
}

// Outcomes are the names that an expectation may have as its outcome.
func Outcomes() []string {
	out := []string{Allow, Deny, Empty, NoRoute, NoPolicy}
	for o := policy.Unauthenticated; o.String() != fmt.Sprintf("outcome(%d)", uint8(o)); o++ {
		out = append(out, o.String())
	}
	return out
}

// outcome names what became of a request as an expectation does.
func outcome(a *Answer) string {
	switch {
	case a.Outcome == policy.Answer:
		return Empty
	case a.Outcome == policy.NotFound && a.Policy == "":
		return NoPolicy
	case a.Outcome == policy.NotFound && a.Route == "":
		return NoRoute
	}
	return a.Outcome.String()
}

// denied reports whether the policy said no. What was wrong before it was asked does not count: a misspelt path or a token
// that is refused would hide that the rule is missing.
func denied(a *Answer, id *Identity) bool {
	switch outcome(a) {
	case policy.Forbidden.String(), policy.InsufficientScope.String(), policy.StepUp.String(), policy.Conflict.String(), policy.NotFound.String():
		return len(a.Operations) > 0
	case policy.Unauthenticated.String():
		return id.Anonymous
	}
	return false
}

// Compare returns what was expected and did not come; nothing if all did.
func Compare(c *Case, a *Answer) []Mismatch {
	var out []Mismatch
	add := func(field, expected, got string) { out = append(out, Mismatch{field, expected, Hide(got)}) }
	e := &c.Expect
	if a.Fault != "" {
		add("answer", "one that Envoy can carry out", a.Fault)
	}
	got := outcome(a)
	switch {
	case e.Outcome == Deny && denied(a, &c.Identity), e.Outcome != Deny && e.Outcome == got:
	default:
		add("outcome", e.Outcome, got)
	}
	if e.Status != 0 && e.Status != a.Status {
		add("status", strconv.Itoa(e.Status), strconv.Itoa(a.Status))
	}
	if e.Rule != "" && e.Rule != a.Rule.On {
		add("rule", e.Rule, orNone(a.Rule.On))
	}
	if e.Message != nil && *e.Message != a.Message {
		add("message", strconv.Quote(*e.Message), strconv.Quote(a.Message))
	}
	if e.Operations != nil {
		want, got := sortedSet(e.Operations), sortedSet(a.Asked)
		if !slices.Equal(want, got) {
			add("operations", strings.Join(want, " "), orNone(strings.Join(got, " ")))
		}
	}
	if a.Outcome != policy.Allow || a.Fault != "" {
		// What the backend gets is expected only together with allow.
		return out
	}
	return append(out, compareBackend(e, a)...)
}

// compareBackend compares what the backend gets.
func compareBackend(e *Expectation, a *Answer) []Mismatch {
	var out []Mismatch
	add := func(field, expected, got string) { out = append(out, Mismatch{field, expected, Hide(got)}) }
	for _, name := range names(e.Headers) {
		got, ok := header(a.Backend.Headers, name)
		switch {
		case !ok:
			add("headers."+name, strconv.Quote(e.Headers[name]), "none")
		case got != e.Headers[name]:
			add("headers."+name, strconv.Quote(e.Headers[name]), strconv.Quote(got))
		}
	}
	for _, name := range e.Removed {
		_, there := header(a.Backend.Headers, name)
		listed := slices.ContainsFunc(a.Removed, func(r string) bool { return strings.EqualFold(r, name) })
		if there || !listed {
			add("removed", name, "not removed")
		}
	}
	if e.Body != nil {
		got, err := policy.ParseValue(a.Backend.Body)
		if err != nil {
			add("body", text(*e.Body), "no JSON")
		} else if !same(got, *e.Body) {
			add("body", text(*e.Body), text(got))
		}
	}
	if len(e.Query) > 0 {
		_, raw, _ := strings.Cut(a.Backend.Path, "?")
		query, err := url.ParseQuery(raw)
		if err != nil {
			add("query", "parameters", "a malformed query")
		}
		for _, name := range names(e.Query) {
			got, want := query[name], e.Query[name]
			if want == "" && len(got) == 0 || want != "" && len(got) == 1 && got[0] == want {
				continue
			}
			if want == "" {
				want = "none"
			}
			add("query."+name, want, orNone(strings.Join(got, ", ")))
		}
	}
	return out
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func header(headers map[string]string, name string) (string, bool) {
	for k, v := range headers {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return "", false
}

func sortedSet(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

func names[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func text(v policy.Value) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "no JSON"
	}
	return string(b)
}

// same compares JSON values: numbers by their value, everything else by type and value. A boolean is no number, which
// policy.Equal has it be, as Python does.
func same(a, b policy.Value) bool {
	switch a := a.(type) {
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, same)
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			w, ok := b[k]
			if !ok || !same(v, w) {
				return false
			}
		}
		return true
	}
	_, x := a.(bool)
	_, y := b.(bool)
	return x == y && policy.Equal(a, b)
}
