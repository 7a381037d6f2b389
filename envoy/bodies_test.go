package envoy

import (
	"testing"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

func TestEnvoy_sends_the_body_where_a_decision_may_depend_on_it(t *testing.T) {
	plain := v1alpha1.Route{Method: "POST", Path: "/a", On: "a:write", Object: &v1alpha1.RouteObject{Get: "/a"}}
	for name, c := range map[string]struct {
		change func(*v1alpha1.AuthPolicySpec)
		none   bool
	}{
		"uploads":     {func(*v1alpha1.AuthPolicySpec) {}, true},
		"a preset":    {func(s *v1alpha1.AuthPolicySpec) { s.API.Preset = "langgraph" }, false},
		"a stamp":     {func(s *v1alpha1.AuthPolicySpec) { s.API.Routes[0].StampAt = "labels" }, false},
		"a list":      {func(s *v1alpha1.AuthPolicySpec) { s.API.Routes[0].Narrow = &v1alpha1.Narrow{} }, false},
		"an id":       {func(s *v1alpha1.AuthPolicySpec) { s.API.Routes[0].Object.ID = "value.body.id" }, false},
		"a document":  {func(s *v1alpha1.AuthPolicySpec) { s.API.OpenAPI = &v1alpha1.OpenAPI{File: "a.yaml"} }, false},
		"a rule":      {func(s *v1alpha1.AuthPolicySpec) { s.Rules[0].Allow = "value.body.x == 1" }, false},
		"a filter":    {func(s *v1alpha1.AuthPolicySpec) { s.Rules[0].Filter = map[string]any{"a": "value.body.x"} }, false},
		"a condition": {func(s *v1alpha1.AuthPolicySpec) { s.Conditions = map[string]string{"a": "value.body.x == 1"} }, false},
	} {
		spec := v1alpha1.AuthPolicySpec{API: v1alpha1.API{Routes: []v1alpha1.Route{plain}}, Rules: []v1alpha1.Rule{{On: "a", Allow: "true"}}}
		object := *plain.Object
		spec.API.Routes[0].Object = &object
		if c.change(&spec); noBody(&spec) != c.none {
			t.Errorf("%s: noBody %v, want %v", name, !c.none, c.none)
		}
	}
}

func TestEnvoy_sends_the_body_where_a_Shadow_policy_that_watches_the_host_needs_it(t *testing.T) {
	policyFor := func(mode v1alpha1.Mode, allow string, hosts ...string) v1alpha1.AuthPolicy {
		return v1alpha1.AuthPolicy{Spec: v1alpha1.AuthPolicySpec{
			Mode: mode, Hosts: hosts, Rules: []v1alpha1.Rule{{On: "*", Allow: allow}},
			API: v1alpha1.API{Routes: []v1alpha1.Route{{Method: "POST", Path: "/a", On: "a:write"}}},
		}}
	}
	const body = "value.body.x == 1"
	for _, c := range []struct {
		watcher v1alpha1.AuthPolicy
		none    bool
	}{
		{policyFor(v1alpha1.Shadow, "true", "a.example.com"), true},
		{policyFor(v1alpha1.Shadow, body, "A.example.com"), false},
		{policyFor(v1alpha1.Shadow, body, "*"), false},
		{policyFor(v1alpha1.Shadow, body, "b.example.com", "*.example.com"), false},
		{policyFor(v1alpha1.Shadow, body, "x.wild.test"), false},
		{policyFor(v1alpha1.Shadow, body, "b.example.com", "*.other.example.com", "wild.test"), true},
		{policyFor(v1alpha1.Shadow, body), true},
		{policyFor(v1alpha1.Enforce, body, "b.example.com"), true},
	} {
		guard := policyFor(v1alpha1.Enforce, "true", "a.example.com", "*.wild.test")
		if got := watchedWithoutBody(&guard.Spec, []v1alpha1.AuthPolicy{guard, c.watcher}); got != c.none {
			t.Errorf("watched by %s at %v: without body %v, want %v", c.watcher.Spec.Mode, c.watcher.Spec.Hosts, got, c.none)
		}
	}
}
