package envoy

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

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
