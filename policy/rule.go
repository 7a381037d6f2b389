package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// rule is one compiled rule.
type rule struct {
	ref     RuleRef
	require []string
	allow   *expression // nil: true
	login   *Login      // nil: any
	filter  filterSource
	// unfiltered lifts the filter; nil: never.
	unfiltered *expression
	stamp      []memberSource
	message    string
	reads      *ruleReads // at load only; nil: not worked out yet
}

// rules finds the one rule for an operation: the most specific, as LangGraph's @auth.on does.
type rules struct {
	exact    map[[2]string]*rule // resource, action
	resource map[string]*rule
	action   map[string]*rule
	all      *rule
	refs     []RuleRef // of all, in the order of the manifest
}

// levels are the precedences of rules, the most specific first.
const levels = 4

// at returns the rule of one level for resource:action, or nil if there is none.
func (rs *rules) at(level int, resource, action string) *rule {
	switch level {
	case 0:
		return rs.exact[[2]string{resource, action}]
	case 1:
		return rs.resource[resource]
	case 2:
		return rs.action[action]
	}
	return rs.all
}

// find returns the rule for resource:action, or nil if there is none.
func (rs *rules) find(resource, action string) *rule {
	for level := range levels {
		if r := rs.at(level, resource, action); r != nil {
			return r
		}
	}
	return nil
}

// compileRules compiles the rules of one policy against the events that its API can fire.
func (c *compiler) compileRules(sources []RuleSource, events map[string]map[string]Event) (*rules, Problems, Problems) {
	rs := &rules{exact: map[[2]string]*rule{}, resource: map[string]*rule{}, action: map[string]*rule{}}
	var problems, warnings Problems
	seen := map[string]Position{}
	known := actionsOf(events)
	for _, source := range sources {
		resource, action, p := parseOn(source.On, events, known)
		if p != nil {
			problems = append(problems, *p)
		}
		r, ps := c.compileRule(source)
		problems = append(problems, ps...)
		if p != nil {
			continue
		}
		key := resource + ":" + action
		if first, ok := seen[key]; ok {
			problems = append(problems, Problem{Pos: source.On.Pos, Found: fmt.Sprintf("a second rule for %q", source.On.Text), Hint: "the first one is at " + first.String() + "; exactly one rule applies to an operation, so join them"})
			continue
		}
		seen[key] = source.On.Pos
		rs.refs = append(rs.refs, r.ref)
		ps, ws := checkEvents(source, r, resource, action, events)
		problems, warnings = append(problems, ps...), append(warnings, ws...)
		switch {
		case resource == "*" && action == "*":
			rs.all = r
		case action == "*":
			rs.resource[resource] = r
		case resource == "*":
			rs.action[action] = r
		default:
			rs.exact[[2]string{resource, action}] = r
		}
	}
	warnings = append(warnings, rs.searches(sources, events)...)
	warnings = append(warnings, rs.covered(sources, events, known)...)
	return rs, problems, warnings
}

func (c *compiler) compileRule(source RuleSource) (*rule, Problems) {
	r := &rule{ref: RuleRef{On: source.On.Text, Position: source.Pos.String()}, require: source.Require}
	if l := source.Login; len(l.ACRValues) > 0 || l.MaxAge > 0 {
		r.login = &l
	}
	var problems Problems
	if source.Allow != nil {
		e, ps := c.compile(*source.Allow, wantBool, false)
		r.allow, problems = e, append(problems, ps...)
	}
	if source.Filter != nil {
		f, ps := c.compileFilter(*source.Filter)
		r.filter, problems = f, append(problems, ps...)
	}
	if source.Unfiltered != nil {
		e, ps := c.compile(*source.Unfiltered, wantBool, false)
		r.unfiltered, problems = e, append(problems, ps...)
		if source.Filter == nil {
			problems = append(problems, Problem{Pos: source.Unfiltered.Pos, Found: "unfiltered without a filter", Want: "a filter that it lifts", Hint: "without a filter nothing is filtered"})
		} else if strings.TrimSpace(source.Unfiltered.Text) == "true" {
			problems = append(problems, Problem{Pos: source.Unfiltered.Pos, Found: "unfiltered: true, with which the filter is never applied", Want: "an expression that says who may go past the filter", Hint: "leave the filter out"})
		}
	}
	if p := checkMessage(source.Message); p != nil {
		problems = append(problems, *p)
	}
	r.message = source.Message.Text
	if source.Stamp != nil {
		if !source.Stamp.IsObject {
			return r, append(problems, Problem{Pos: source.Stamp.Pos, Found: "stamp is not an object", Want: "names and values, such as {owner: user.identity}"})
		}
		for _, m := range source.Stamp.Members {
			if m.Name.Text == "" || m.Name.Text[0] == '$' {
				problems = append(problems, Problem{Pos: m.Name.Pos, Found: fmt.Sprintf("stamp of %q", m.Name.Text), Want: "a metadata name without $"})
			}
			v, ps := c.compileValue(m.Value)
			r.stamp, problems = append(r.stamp, memberSource{m.Name.Text, v}), append(problems, ps...)
		}
	}
	if len(problems) == 0 && len(r.summary().names) > maxNames {
		problems = append(problems, Problem{Pos: source.Pos, Found: fmt.Sprintf("rule that looks for more than %d names and texts in a request", maxNames), Want: "fewer", Hint: "variables hold lists"})
	}
	return r, problems
}

// maxMessage bounds a rule's message in bytes: it is one or two sentences.
const maxMessage = 512

// checkMessage demands plain text of one line. Clients show it to people and write it to logs: what moves the cursor, or
// turns the direction of writing, could make it look like something else.
func checkMessage(t Text) *Problem {
	const want = "a sentence or two on one line"
	if len(t.Text) > maxMessage {
		return &Problem{Pos: t.Pos, Found: fmt.Sprintf("a message of %d bytes", len(t.Text)), Want: fmt.Sprintf("at most %d", maxMessage)}
	}
	if !utf8.ValidString(t.Text) {
		return &Problem{Pos: t.Pos, Found: "a message that is not UTF-8", Want: want}
	}
	for _, c := range t.Text {
		if unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) || c == '\u2028' || c == '\u2029' || c == '\ufeff' {
			return &Problem{Pos: t.Pos, Found: fmt.Sprintf("a message with %U", c), Want: want}
		}
	}
	if strings.TrimSpace(t.Text) != t.Text {
		return &Problem{Pos: t.Pos, Found: "a message with white space at an end", Want: want}
	}
	return nil
}

// parseOn reads "*", "resource", "resource:action", "resource:*" or "*:action".
func parseOn(on Text, events map[string]map[string]Event, known *eventNames) (resource, action string, problem *Problem) {
	const want = `*, resource, resource:action or *:action`
	resource, action, found := strings.Cut(on.Text, ":")
	if !found {
		action = "*"
	}
	if resource == "" || action == "" || strings.Contains(action, ":") {
		return "", "", &Problem{Pos: on.Pos, Found: fmt.Sprintf("on: %q", on.Text), Want: want}
	}
	if resource != "*" {
		if _, ok := events[resource]; !ok {
			hint := ""
			if resource == "runs" {
				hint = "LangGraph has no resource runs: a run is threads:create_run"
			}
			return "", "", &Problem{Pos: on.Pos, Found: fmt.Sprintf("rule can never apply: no route is about resource %q", resource), Want: known.resources, Hint: hint}
		}
	}
	if action == "*" {
		return resource, action, nil
	}
	actions, ok := known.actions, known.any[action]
	if resource != "*" {
		if _, ok = events[resource][action]; !ok {
			actions = known.of(resource, events[resource])
		}
	}
	if !ok {
		return "", "", &Problem{Pos: on.Pos, Found: fmt.Sprintf("rule can never apply: no route has action %q of resource %q", action, resource), Want: actions}
	}
	return resource, action, nil
}

// eventNames are the names of events, as problems list them.
type eventNames struct {
	any                map[string]bool // actions of whatever resource
	resources, actions string
	by                 map[string]string // actions of one resource
}

func actionsOf(events map[string]map[string]Event) *eventNames {
	n := &eventNames{any: map[string]bool{}, by: map[string]string{}}
	for _, actions := range events {
		for action := range actions {
			n.any[action] = true
		}
	}
	n.resources, n.actions = oneOf(names(events)), oneOf(names(n.any))
	return n
}

func (n *eventNames) of(resource string, actions map[string]Event) string {
	if n.by[resource] == "" {
		n.by[resource] = oneOf(names(actions))
	}
	return n.by[resource]
}

// checkEvents finds a filter or a stamp that has no effect on any event that the rule names.
func checkEvents(source RuleSource, r *rule, resource, action string, events map[string]map[string]Event) (problems, warnings Problems) {
	var filters, stamps bool
	about := events
	if resource != "*" {
		about = map[string]map[string]Event{resource: events[resource]}
	}
	for _, actions := range about {
		for act, e := range actions {
			if action == "*" || action == act {
				filters, stamps = filters || e.Filters, stamps || e.Stamps
			}
		}
	}
	if source.Filter != nil {
		problems = append(problems, foreign(*source.Filter, r, resource, action, about)...)
	}
	if source.Filter != nil && len(r.filter.terms) > 0 && !filters {
		problems = append(problems, Problem{Pos: source.Filter.Pos, Found: fmt.Sprintf("filter on %q, whose objects have no metadata to look up", source.On.Text), Hint: "decide with `allow` over value"})
	}
	if source.Stamp != nil && len(r.stamp) > 0 && !stamps {
		problems = append(problems, Problem{Pos: source.Stamp.Pos, Found: fmt.Sprintf("stamp on %q, which writes no metadata", source.On.Text), Want: "a rule for create, update or create_run"})
	}
	return problems, warnings
}

// foreign finds a filter's names that no object of an event has: the rule would deny it always. A rule for everything, or
// for an action of several resources, is not asked.
func foreign(filter Tree, r *rule, resource, action string, events map[string]map[string]Event) Problems {
	if resource == "*" && action == "*" {
		return nil
	}
	about := map[string]map[string]Event{}
	for res, actions := range events {
		if _, has := actions[action]; has || action == "*" {
			about[res] = actions
		}
	}
	for _, res := range names(about) {
		if resource != "*" && resource != res {
			continue
		}
		for _, act := range names(events[res]) {
			e := events[res][act]
			if action != "*" && action != act {
				continue
			}
			if resource == "*" && e.Names == nil {
				return nil
			}
			for _, name := range r.filter.names() {
				if e.Names != nil && !slices.Contains(e.Names, name) {
					return Problems{{
						Pos: filter.Pos, Found: fmt.Sprintf("filter by %q, which nothing of %s:%s has", name, res, act), Want: oneOf(e.Names),
						Hint: fmt.Sprintf("decide with `allow` over value, or give %s:%s a rule of its own", res, act),
					}}
				}
			}
		}
	}
	return nil
}

// covered warns of a rule that never applies, as each operation that it is for has a more specific rule. The rule for all is
// left out: it is there for operations to come.
func (rs *rules) covered(sources []RuleSource, events map[string]map[string]Event, known *eventNames) (warnings Problems) {
	applies := map[string]bool{}
	for resource, actions := range events {
		for action := range actions {
			if r := rs.find(resource, action); r != nil {
				applies[r.ref.On] = true
			}
		}
	}
	for _, source := range sources {
		resource, action, p := parseOn(source.On, events, known)
		if forAll := resource == "*" && action == "*"; p == nil && !forAll && !applies[source.On.Text] {
			warnings = append(warnings, Problem{
				Pos: source.On.Pos, Found: fmt.Sprintf("rule %q never applies: each operation that it is for has a more specific rule", source.On.Text),
				Hint: "leave it out, or leave one of those out",
			})
		}
	}
	return warnings
}

// searches warns of a search whose rule has a filter that cannot narrow it: such a search is denied.
func (rs *rules) searches(sources []RuleSource, events map[string]map[string]Event) Problems {
	var warnings Problems
	for _, resource := range names(events) {
		for _, action := range names(events[resource]) {
			if !events[resource][action].Search {
				continue
			}
			r := rs.find(resource, action)
			if r == nil || r.filter.narrows() {
				continue
			}
			for _, source := range sources {
				if source.On.Text == r.ref.On && source.Filter != nil {
					warnings = append(warnings, Problem{
						Pos:   source.Filter.Pos,
						Found: fmt.Sprintf("%s:%s is denied, as this filter cannot narrow it: a search compares for equality only", resource, action),
						Hint:  fmt.Sprintf("give %s:%s a rule of its own", resource, action),
					})
				}
			}
		}
	}
	return warnings
}

// forStrangers warns of the rules that let whoever has no token do something without saying so, as allow is true where it is
// not given.
func forStrangers(sources []RuleSource) (warnings Problems) {
	for _, source := range sources {
		filters := source.Filter != nil && len(source.Filter.Members) > 0
		logs := len(source.Login.ACRValues) > 0 || source.Login.MaxAge > 0
		if source.Allow == nil && !filters && len(source.Require) == 0 && !logs {
			warnings = append(warnings, Problem{
				Pos:   source.On.Pos,
				Found: fmt.Sprintf("rule %q has no allow, filter or require, and the policy has anonymous: Allow: strangers may do it", source.On.Text),
				Hint:  "write allow: user.isAuthenticated, or allow: \"true\" where that is meant",
			})
		}
	}
	return warnings
}

func names[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// maxListed is how many alternatives a problem lists: nobody reads more of them, and each problem has its own.
const maxListed = 50

func oneOf(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	if len(list) > maxListed {
		return fmt.Sprintf("%s or one of %d more", strings.Join(list[:maxListed], ", "), len(list)-maxListed)
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}
