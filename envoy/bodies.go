package envoy

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// watchedWithoutBody reports whether neither the policy that guards the hosts nor a Shadow one that watches any of them can need
// a body. A Shadow policy that gets none where it needs one would say 413 of what the policy after it would allow.
func watchedWithoutBody(guard *v1alpha1.AuthPolicySpec, policies []v1alpha1.AuthPolicy) bool {
	return noBody(guard) && !slices.ContainsFunc(policies, func(p v1alpha1.AuthPolicy) bool {
		return p.Spec.Mode == v1alpha1.Shadow && !noBody(&p.Spec) && slices.ContainsFunc(p.Spec.Hosts, func(watched string) bool {
			return slices.ContainsFunc(guard.Hosts, func(guarded string) bool { return overlap(watched, guarded) })
		})
	})
}

// overlap reports whether a host may be of both patterns.
func overlap(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	covers := func(pattern, host string) bool {
		suffix, ok := strings.CutPrefix(pattern, "*")
		return ok && strings.HasSuffix(host, suffix)
	}
	return a == b || covers(a, b) || covers(b, a)
}

// noBody reports whether no decision of the policy can depend on a body, so that Envoy need not hold one back. Where it
// errs it errs towards reading: without the body Usher refuses a request that it is needed for.
func noBody(spec *v1alpha1.AuthPolicySpec) bool {
	if spec.API.Preset != "" || spec.API.OpenAPI != nil { // what a document asks for is not known here
		return false
	}
	if slices.ContainsFunc(spec.API.Routes, func(r v1alpha1.Route) bool {
		return r.StampAt != "" || r.Narrow != nil || r.Object != nil && r.Object.ID != ""
	}) {
		return false
	}
	// An expression that reads the body names `value`.
	text, err := json.Marshal([]any{spec.Rules, spec.Conditions})
	return err == nil && !strings.Contains(string(text), "value")
}
