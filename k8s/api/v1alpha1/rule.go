package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Rule decides the operations that `on` selects.
//
// +kubebuilder:validation:XValidation:rule=`!has(self.unfiltered) || has(self.filter)`,message="unfiltered without a filter, expected a filter that it lifts",reason=FieldValueForbidden,fieldPath=".unfiltered"
// +kubebuilder:validation:XValidation:rule=`!has(self.unfiltered) || self.unfiltered != "true"`,message="unfiltered: true, with which the filter is never applied, expected an expression that says who may go past the filter",reason=FieldValueForbidden,fieldPath=".unfiltered"
type Rule struct {
	// On is "*", "resource", "resource:action" or "*:action".
	// +kubebuilder:validation:Pattern=`^[^:]+(:[^:]+)?$`
	On string `json:"on"`
	// Allow is a CEL expression that gives a bool. Default: true.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Allow string `json:"allow,omitempty"`
	// Require are the scopes that the user's permissions must hold, all of them; without one the answer is 403
	// insufficient_scope (RFC 6750, section 3.1).
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:items:Pattern=`^[!#-[\]-~]+$`
	Require []string `json:"require,omitempty"`
	// StepUp asks for a login that was strong or recent enough (RFC 9470).
	StepUp *StepUp `json:"stepUp,omitempty"`
	// Filter selects the objects that the operation may touch, by their metadata: members are CEL expressions, or
	// $eq, $contains, $or and $and.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:pruning:PreserveUnknownFields
	Filter Fields `json:"filter,omitempty"`
	// Unfiltered is a CEL expression: where it is true the filter is not applied, which the decision record says. The stamp
	// is then written only to what the request creates, so that an object that exists keeps its owner. Default: false.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Unfiltered string `json:"unfiltered,omitempty"`
	// Message is what the client reads where the rule denies (403). An object that is not the caller's is 404 all the same.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
	// Stamp is written into the metadata of what is created or updated: members are CEL expressions.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:pruning:PreserveUnknownFields
	Stamp Fields `json:"stamp,omitempty"`
}

// StepUp is what a token's login must have been. What it lacks is answered 401 insufficient_user_authentication.
//
// +kubebuilder:validation:XValidation:rule=`has(self.acrValues) || has(self.maxAge)`,message="expected acrValues or maxAge",reason=FieldValueRequired
type StepUp struct {
	// ACRValues are the values of `acr` of which the token must carry one.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:items:Pattern=`^[!#-[\]-~]+$`
	ACRValues []string `json:"acrValues,omitempty"`
	// MaxAge is how long ago the user may have logged in (`auth_time`).
	// +kubebuilder:validation:XValidation:rule=`duration(self) >= duration("1s")`,message="expected a duration of at least 1s in whole seconds, such as 15m"
	// +kubebuilder:validation:XValidation:rule=`duration(self).getMilliseconds() == 1000 * duration(self).getSeconds()`,message="expected whole seconds: clients are told it in seconds (RFC 9470, section 3)"
	MaxAge *metav1.Duration `json:"maxAge,omitempty"`
}
