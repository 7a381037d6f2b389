package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/dryrun"
	"github.com/usher-authz/usher/k8s/watch"
	"github.com/usher-authz/usher/policy"
)

// tellStory writes a story for people: a line for each step, in the order of a request's way.
func tellStory(t *terminal, s *dryrun.Story, q *question, place func(policy string) string) {
	line := func(name, format string, args ...any) { t.step(name, 0, format, args...) }
	line("request", "%s %s%s", s.Request.Method, s.Request.Host, s.Request.Path)
	if q.then != nil {
		line("recorded", "%s, %d", q.then.Outcome, q.then.Status)
		if len(q.missing) > 0 {
			line("", "the record does not hold %s: flags can give them", strings.Join(q.missing, ", "))
		}
	}
	switch {
	case s.Policy == nil && s.Stage == extauthz.StageDecode:
		line("policy", "not asked: the request could be read in two ways")
	case s.Policy == nil:
		line("policy", "none guards this host")
	default:
		line("policy", "%s at %s guards %s", s.Policy.Name, place(s.Policy.Name), strings.Join(s.Policy.Hosts, ", "))
	}
	if s.Policy != nil {
		tellRoute(t, s)
		tellIdentity(t, s, q)
	}
	for i := range s.Operations {
		tellOperation(t, &s.Operations[i])
	}
	for _, o := range s.Objects {
		if !o.Found && len(q.objects) == 0 && s.Answer.Outcome != policy.Unavailable.String() {
			line("", "%s %s was not supposed to exist; --object '%s:%s={...}' does", o.Resource, o.ID, o.Resource, o.ID)
		}
	}
	if s.Backend != nil {
		tellBackend(t, s)
	}
	tellAnswer(t, s)
}

// policyPlaces says where a policy stands.
func policyPlaces(r watch.Reading) func(name string) string {
	return func(name string) string {
		for _, o := range r.Compiled.Objects {
			if o.AuthPolicy != nil && (o.Name == name || o.Namespace+"/"+o.Name == name) {
				return o.Pos.String()
			}
		}
		return "an unknown place"
	}
}

func tellRoute(t *terminal, s *dryrun.Story) {
	switch {
	case s.Route == nil && s.Answer.Outcome == policy.Answer.String():
		t.step("route", 0, "a document that Usher serves itself")
	case s.Route == nil:
		t.step("route", 0, "none matches")
	case s.Route.Public:
		t.step("route", 0, "%s is public: no token is looked at", s.Route.Pattern)
	default:
		t.step("route", 0, "%s", s.Route.Pattern)
	}
}

func tellIdentity(t *terminal, s *dryrun.Story, q *question) {
	how := "supposed"
	if q.identity.Token != "" {
		how = "the token is good"
	}
	i := s.Identity
	switch {
	case i == nil && s.Route != nil && s.Route.Public || i == nil && s.Stage != extauthz.StageToken:
	case i == nil && q.identity.Anonymous:
		t.step("identity", 0, "none: no token was given; --user or --claims supposes one")
	case i == nil:
		t.step("identity", 0, "none: %s", s.Answer.Reason)
	case i.Anonymous:
		t.step("identity", 0, "nobody, which the policy lets in: no token was given")
	default:
		t.step("identity", 0, "%s (%s), permissions %s, by provider %s: %s", i.Identity, i.DisplayName, dryrun.JSON(i.Permissions), i.Provider, how)
	}
}

func tellOperation(t *terminal, o *dryrun.StoryOperation) {
	t.step("operation", 0, "%s", o.Operation)
	line := func(name, format string, args ...any) { t.step(name, 1, format, args...) }
	if o.Value != nil {
		line("value", "%s", dryrun.JSON(o.Value))
	}
	if o.Unruled {
		line("rule", "none is asked: a verified token is enough")
		return
	}
	if len(o.Rules) == 0 {
		line("rule", "none is for it")
	}
	for _, r := range o.Rules {
		verb := "applies"
		if !r.Applies {
			verb = "does not apply"
		}
		line("rule", "%s at %s %s: %s", r.On, r.At, verb, r.Why)
	}
	for _, s := range o.Steps {
		tellStep(t, &s)
	}
	if o.Reason != "" {
		line("denied", "%s: %s", o.Outcome, o.Reason)
	} else {
		line(o.Outcome, "%s", map[bool]string{true: "", false: "another operation ended the request"}[o.Outcome != policy.Undecided.String()])
	}
}

// tellStep writes what a rule looked at, and what came of it.
func tellStep(t *terminal, s *dryrun.StoryStep) {
	var parts []string
	if s.Object != "" {
		parts = append(parts, s.Object)
	}
	if s.Text != "" {
		parts = append(parts, s.Text)
	}
	if s.Metadata != nil {
		parts = append(parts, dryrun.JSON(s.Metadata))
	}
	for _, name := range sortedNames(s.Set) {
		parts = append(parts, name+" = "+dryrun.JSON(s.Set[name]))
	}
	compared := s.Object != "" || s.Metadata != nil
	switch {
	case s.Filter != "" && compared && s.OK:
		parts = append(parts, "matches "+s.Filter)
	case s.Filter != "" && compared:
		parts = append(parts, "against "+s.Filter)
	case s.Filter != "":
		parts = append(parts, s.Filter)
	}
	text := strings.Join(parts, " ")
	switch {
	case s.Detail != "":
		text += ": " + s.Detail
	case s.Kind == string(policy.StepAllow), s.Kind == string(policy.StepUnfiltered):
		text += ": true"
	case s.Kind == string(policy.StepRequired):
		text += ": exists"
	case s.Kind == string(policy.StepRequire), s.Kind == string(policy.StepLogin):
		text += ": yes"
	}
	t.step(s.Kind, 1, "%s", text)
}

func tellBackend(t *terminal, s *dryrun.Story) {
	for _, e := range s.Edits {
		at := strings.Join(e.At, ".")
		if at != "" {
			at += "."
		}
		for _, name := range sortedNames(e.Set) {
			t.step("edit", 0, "%s%s = %s", at, name, dryrun.JSON(e.Set[name]))
		}
	}
	for _, name := range s.Backend.Set {
		if value, ok := s.Backend.Headers[name]; ok {
			t.step("header", 0, "%s: %s", name, value)
		}
	}
	if len(s.Backend.Removed) > 0 {
		t.step("removed", 0, "%s", strings.Join(s.Backend.Removed, ", "))
	}
	t.step("backend", 0, "%s %s", s.Backend.Method, s.Backend.Path)
	if s.Backend.Body != "" {
		t.step("body", 0, "%s", s.Backend.Body)
	}
}

func tellAnswer(t *terminal, s *dryrun.Story) {
	a := &s.Answer
	by := ""
	if a.Rule != "" {
		by = fmt.Sprintf(", by rule %s at %s", a.Rule, a.RuleAt)
	}
	switch {
	case a.Fault != "":
		t.step("answer", 0, "503: Envoy could not carry it out: %s", a.Fault)
	case s.Backend != nil:
		t.step("answer", 0, "%s%s", a.Outcome, by)
	default:
		t.step("answer", 0, "%d %s%s", a.Status, a.Outcome, by)
		if a.Reason != "" {
			t.step("reason", 0, "%s", a.Reason)
		}
		for _, name := range sortedNames(a.Headers) {
			t.step("header", 0, "%s: %s", name, a.Headers[name])
		}
		t.step("body", 0, "%s", a.Body)
	}
}

func sortedNames[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
