package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PolicyTest says what the policies beside it must answer. `usher test` runs it, by the code that serves, without network;
// whatever else reads it checks its form only.
//
// +kubebuilder:object:generate=false
type PolicyTest struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// Spec has what is supposed, and what must come of it.
	Spec PolicyTestSpec `json:"spec"`
}

// PolicyTestSpec has what is supposed, and what must come of it. It needs at least one table or case.
//
// +kubebuilder:object:generate=false
type PolicyTestSpec struct {
	// Now is the time of every request. Default: when the test runs.
	Now *metav1.Time `json:"now,omitempty"`
	// Defaults complete every request.
	Defaults TestDefaults `json:"defaults,omitempty"`
	// Identities are who asks, by a name of the test's own.
	Identities map[string]TestIdentity `json:"identities,omitempty"`
	// Objects are those that the backend has. One that is not listed does not exist.
	Objects []TestObject `json:"objects,omitempty"`
	// Requests by a name of the test's own, for tables and cases.
	Requests map[string]TestRequest `json:"requests,omitempty"`
	// Tables ask every request of every identity. What a table does not list must be denied.
	Tables []TestTable `json:"tables,omitempty"`
	// Cases ask one request each, and can say more of the answer.
	Cases []TestCase `json:"cases,omitempty"`
}

// TestDefaults are for requests that say nothing else.
//
// +kubebuilder:object:generate=false
type TestDefaults struct {
	// Host of the requests.
	Host string `json:"host,omitempty"`
	// Headers of the requests; one that a request has too is the request's.
	Headers map[string]string `json:"headers,omitempty"`
	// RemoteAddress is where the client's connection comes from. Default: 192.0.2.1.
	RemoteAddress string `json:"remoteAddress,omitempty"`
}

// TestIdentity is just one of claims, user and anonymous.
//
// +kubebuilder:object:generate=false
type TestIdentity struct {
	// Claims of a token that is well signed and proved. They pass the checks of the provider and become the user by its
	// `identity` expressions. What every token of the provider has (iss, aud, exp, its client, required claims) need not be
	// written; what is written counts.
	// +kubebuilder:validation:Schemaless
	Claims map[string]any `json:"claims,omitempty"`
	// User is what the rules see, without any mapping.
	User *TestUser `json:"user,omitempty"`
	// Anonymous sends no token. Default: false.
	Anonymous bool `json:"anonymous,omitempty"`
	// Provider is the IdentityProvider that vouches: policies that do not name it refuse the token. Default: the only one.
	Provider string `json:"provider,omitempty"`
}

// TestUser is LangGraph's user, as rules see it.
//
// +kubebuilder:object:generate=false
type TestUser struct {
	// Identity is the user's name, not empty.
	Identity string `json:"identity"`
	// DisplayName of the user. Default: the identity.
	DisplayName string `json:"displayName,omitempty"`
	// Permissions of the user.
	Permissions []string `json:"permissions,omitempty"`
	// Claims of the token, where rules look at user.claims.
	// +kubebuilder:validation:Schemaless
	Claims map[string]any `json:"claims,omitempty"`
}

// TestObject is an object that the backend has: by resource and id, with its metadata; or by path, with the whole answer.
//
// +kubebuilder:object:generate=false
type TestObject struct {
	// Resource, such as threads.
	Resource string `json:"resource,omitempty"`
	// ID of the object.
	ID string `json:"id,omitempty"`
	// Metadata of the object. Default: none, which no filter matches.
	// +kubebuilder:validation:Schemaless
	Metadata map[string]any `json:"metadata,omitempty"`
	// Path that the backend is asked at, such as /orders/7.
	Path string `json:"path,omitempty"`
	// Body is the JSON that it answers there.
	// +kubebuilder:validation:Schemaless
	Body any `json:"body,omitempty"`
	// Unavailable says that the backend fails when it is asked for the object. Default: false.
	Unavailable bool `json:"unavailable,omitempty"`
}

// TestRequest is what a client sends, but for the token.
//
// +kubebuilder:object:generate=false
type TestRequest struct {
	// Method of the request. Default: GET.
	Method string `json:"method,omitempty"`
	// Path with its query, as it stands on the request line.
	Path string `json:"path"`
	// Host that is asked. Default: that of the test.
	Host string `json:"host,omitempty"`
	// Headers beside those of the test.
	Headers map[string]string `json:"headers,omitempty"`
	// Body is sent as JSON, with content-type application/json.
	// +kubebuilder:validation:Schemaless
	Body any `json:"body,omitempty"`
	// RawBody is sent as it is.
	RawBody string `json:"rawBody,omitempty"`
	// Policy is the name that Envoy's context_extensions give; the host then says nothing.
	Policy string `json:"policy,omitempty"`
	// RemoteAddress is where the client's connection comes from. Default: that of the test.
	RemoteAddress string `json:"remoteAddress,omitempty"`
}

// TestTable is a matrix of identities and requests.
//
// +kubebuilder:object:generate=false
type TestTable struct {
	// Name of the table.
	Name string `json:"name"`
	// Identities that ask. Default: all of the test.
	Identities []string `json:"identities,omitempty"`
	// Requests that they ask. Default: all of the test.
	Requests []string `json:"requests,omitempty"`
	// Allow lists, for an identity, the requests that must pass.
	Allow map[string][]string `json:"allow,omitempty"`
	// Answers lists, for an identity and a request, another outcome than allow and deny.
	Answers map[string]map[string]string `json:"answers,omitempty"`
}

// TestCase is one request of one identity.
//
// +kubebuilder:object:generate=false
type TestCase struct {
	// Name of the case: a sentence, such as "A stranger's thread is not found".
	Name string `json:"name"`
	// Identity is the name of who asks.
	Identity string `json:"identity"`
	// Request is the name of what is asked; or send has it.
	Request string `json:"request,omitempty"`
	// Send is the request itself.
	Send *TestRequest `json:"send,omitempty"`
	// Expect is what must come of it.
	Expect TestExpectation `json:"expect"`
}

// TestExpectation is what must come of a request: at least outcome or status.
//
// +kubebuilder:object:generate=false
type TestExpectation struct {
	// Outcome is allow, deny (the policy says no: no rule allows it, an object is not the caller's, or nobody asks), empty (a
	// search that can find nothing, which Usher answers itself), no_route, no_policy, or the outcome of a decision record, such
	// as forbidden or not_found. Default: deny, where there is a status.
	Outcome string `json:"outcome,omitempty"`
	// Status that the client gets.
	Status int32 `json:"status,omitempty"`
	// Rule is the `on` of the rule that decides.
	Rule string `json:"rule,omitempty"`
	// Message that the client reads with a denial.
	Message *string `json:"message,omitempty"`
	// Operations are all that the request asks for, as resource:action, in any order and each once.
	Operations []string `json:"operations,omitempty"`
	// Headers that the backend gets, among others.
	Headers map[string]string `json:"headers,omitempty"`
	// Removed are headers that Usher keeps from the backend.
	Removed []string `json:"removed,omitempty"`
	// Body is the JSON that the backend gets, whole, after every edit.
	// +kubebuilder:validation:Schemaless
	Body any `json:"body,omitempty"`
	// Query holds parameters that the backend gets, each just once; "" for one that it must not get.
	Query map[string]string `json:"query,omitempty"`
}
