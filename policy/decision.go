package policy

import "time"

// Decision is what became of a request. The zero Decision is Undecided and lets nothing pass.
type Decision struct {
	Outcome Outcome
	Rule    RuleRef  // the rule that decided; zero if none did
	Detail  string   // what the client reads with a denial
	Body    string   // with Answer: the whole body
	Scopes  []string // with InsufficientScope: what the token lacks
	Login   *Login   // with StepUp: what login is needed
	Reason  string   // for the decision record, never for the client; holds no claim value
	Edits   []Edit   // with Allow: what must change in the body
	Headers []Header // with Allow: identity headers for the backend
	Query   *string  // with Allow: the raw query in place of the request's own; nil: it stays
	Needs   []Ref    // with Undecided: what must be looked up before Resolve, without repeats
	// Unfiltered are the operations, as resource:action, whose filter was not applied as their rule's `unfiltered` is true.
	Unfiltered []string

	pending []pending
	shortOf *Decision // an Answer that holds if nothing pending denies
	trace   *Trace    // nil: nobody asks why
}

// Login is what the login behind a token must have been (RFC 9470). The zero Login asks for nothing.
type Login struct {
	ACRValues []string      // acr must be one of them; empty: any
	MaxAge    time.Duration // since auth_time; 0: any
}

// RuleRef names a rule in records and messages.
type RuleRef struct {
	On       string
	Position string
}

// Edit sets members of one object of the JSON body, and nothing else. A missing or null object is made, parents too.
type Edit struct {
	At  []string // names from the root; a number is an index where the parent is an array
	Set []EditMember
}

// EditMember is one name and its new value.
type EditMember struct {
	Name  string
	Value Value
}

// Header is a request header for the backend. One with an empty Value is removed, unless Keep says to send it empty.
type Header struct {
	Name, Value string
	Keep        bool
}

// pending is an operation that waits for its object.
type pending struct {
	need    int // index into Needs
	op      *Operation
	rule    RuleRef
	detail  string    // what the client reads where the rule denies
	denial  *Decision // what the rule said already; it holds unless the waiver applies
	filter  Filter
	stamp   []EditMember
	created map[string]any // the metadata of the new object, where the operation may create one
	patch   map[string]any // what is merged into the metadata of the existing object
	exists  bool           // Needs[need] must exist, and no more
	trace   *OperationTrace
}
