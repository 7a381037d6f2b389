package policytest

import (
	"time"

	"github.com/usher-authz/usher/policy"
)

// Suite is one PolicyTest: what is supposed, and the cases, those of its tables among them.
type Suite struct {
	Name    string
	Pos     policy.Position
	Now     time.Time // of every request; zero: the time of the run
	Objects []Object
	Cases   []Case
}

// Case is one request and what must come of it.
type Case struct {
	Name     string
	Pos      policy.Position // of the case, or of the table's line
	Identity Identity
	Request  Request
	Expect   Expectation
}

// Identity is who asks. Just one of Claims, User, Anonymous and Token is set.
type Identity struct {
	Name      string         // the test's own
	Provider  string         // that vouches; empty for Anonymous
	Claims    map[string]any // of a token, which become the user as the provider says
	User      *User          // the user itself
	Anonymous bool           // no token
	Token     string         // a real one; a PolicyTest has none
}

// User is what rules see of who asks.
type User struct {
	Identity, DisplayName string
	Permissions           []string
	Claims                map[string]any
}

// Object is one that the backend has: by Resource and ID with its Metadata, or by Path with its whole answer.
type Object struct {
	Resource, ID string
	Metadata     map[string]any // nil: none
	Path         string
	Body         []byte // JSON
	Unavailable  bool   // the backend fails when it is asked
}

// Request is what a client sends, but for its token.
type Request struct {
	Name          string // the test's own; may be empty
	Method        string
	Path          string // with its query
	Host          string
	Headers       map[string]string
	Body          []byte // nil: none
	Policy        string // named by Envoy; empty: by host
	RemoteAddress string
}

// The outcomes that an expectation can name beside those of decision records.
const (
	Allow    = "allow"
	Deny     = "deny"      // the policy says no
	Empty    = "empty"     // a search that can find nothing, answered by Usher
	NoRoute  = "no_route"  // no route matches
	NoPolicy = "no_policy" // no policy guards the host
)

// Expectation is what must come of a request. The zero value expects nothing and matches nothing.
type Expectation struct {
	Outcome    string
	Status     int     // 0: whatever goes with the outcome
	Rule       string  // the `on` of the rule that decides; empty: any
	Message    *string // nil: any
	Operations []string
	Headers    map[string]string // that the backend gets
	Removed    []string
	Body       *policy.Value // that the backend gets; nil: any
	Query      map[string]string
}

// Answer is what became of a request, at the client's side and at the backend's.
type Answer struct {
	Outcome    policy.Outcome
	Status     int
	Policy     string // empty: none guards the host
	Route      string // empty: none matches
	Verified   bool   // the token was accepted, or none is needed
	Rule       policy.RuleRef
	Message    string // the detail of a denial, or the body of an answer of Usher's own
	Reason     string // what the decision record says
	Operations []*policy.OperationTrace
	Asked      []string // resource:action

	// Backend is what the backend gets, with Allow.
	Backend Request
	Removed []string // names of the headers that were removed
	Edited  bool
	// Fault says why the answer could not be carried out by Envoy; a case with one fails.
	Fault string
}

// Gate answers requests. It need not be safe for concurrent use.
type Gate interface {
	Ask(Identity, Request) Answer
}
