package policy

import "strings"

// Trace records how a decision came about, for people who ask why: `usher explain` and `usher test`. It is filled by the
// code that decides, so that it cannot tell another story. A nil *Trace records nothing and costs nothing. One Trace is of
// one decision, and is not safe for concurrent use. It holds the request's values: it is for whoever made the request up,
// and not for logs.
type Trace struct {
	// Operations in the order in which they were decided. A denial that needs no look-up ends the list.
	Operations []*OperationTrace
	// Headers says why the identity headers could not be made; empty if they could.
	Headers string
}

// OperationTrace is one operation's way to its outcome.
type OperationTrace struct {
	Resource, Action string
	Value            Value
	Unruled          bool         // the API fires no event for it: no rule is asked
	Considered       []Considered // every rule that could apply, the most specific first
	Rule             RuleRef      // the one that applies; zero: none
	Steps            []Step
	Outcome          Outcome // Undecided: another operation ended the request before
	Reason           string  // of a denial
}

// Considered is a rule that could apply to an operation.
type Considered struct {
	Rule    RuleRef
	Applies bool // the most specific one does, and no other
}

// StepKind says what a [Step] looked at.
type StepKind string

// The steps of an operation.
const (
	StepRequire StepKind = "require" // scopes
	StepAllow   StepKind = "allow"   // the rule's expression
	StepLogin   StepKind = "stepUp"  // the login behind the token
	StepFilter  StepKind = "filter"  // its expressions, evaluated
	// StepUnfiltered is the expression that lifts the filter, where it does or fails.
	StepUnfiltered StepKind = "unfiltered"
	StepStamp      StepKind = "stamp"    // its expressions, evaluated
	StepNarrow     StepKind = "narrow"   // a search gets the filter
	StepObject     StepKind = "object"   // a look-up's answer against the filter
	StepCreated    StepKind = "created"  // the metadata that a new object will have against the filter
	StepPatched    StepKind = "patched"  // the metadata that an updated object will have against the filter
	StepRequired   StepKind = "required" // an object that must exist beside
	StepWaiver     StepKind = "waiver"   // an object that nobody is asked about
)

// Step is one thing that a rule looked at, or did.
type Step struct {
	Kind StepKind
	OK   bool
	// Text is what was looked at: an expression as the manifest writes it, or the scopes.
	Text string
	// Detail says why it is not OK; empty otherwise.
	Detail string
	// Ref, Found and Metadata are what was compared, where that is an object.
	Ref      Ref
	Found    bool
	Metadata map[string]any
	// Filter is what it was compared with, or what narrows a search; the zero Filter selects everything.
	Filter Filter
	// Set is what a stamp writes.
	Set []EditMember
}

// operation begins the record of an operation.
func (t *Trace) operation(op *Operation) *OperationTrace {
	if t == nil {
		return nil
	}
	o := &OperationTrace{Resource: op.Resource, Action: op.Action, Value: op.Value, Unruled: op.Unruled}
	t.Operations = append(t.Operations, o)
	return o
}

// finish gives what no denial reached its outcome.
func (t *Trace) finish() {
	if t == nil {
		return
	}
	for _, o := range t.Operations {
		if o.Outcome == Undecided {
			o.Outcome = Allow
		}
	}
}

// noHeaders records that the identity headers could not be made.
func (t *Trace) noHeaders(err error) {
	if t != nil {
		t.Headers = err.Error()
	}
}

// consider records the rules of every precedence that could apply.
func (o *OperationTrace) consider(rs *rules, op *Operation, applies *rule) {
	if o == nil {
		return
	}
	for level := range levels {
		if r := rs.at(level, op.Resource, op.Action); r != nil {
			o.Considered = append(o.Considered, Considered{Rule: r.ref, Applies: r == applies})
		}
	}
	if applies != nil {
		o.Rule = applies.ref
	}
}

// end records a denial, or that there was none.
func (o *OperationTrace) end(d *Decision) {
	if o != nil && d != nil {
		o.Outcome, o.Reason = d.Outcome, d.Reason
	}
}

// required records the scopes that a rule asks for.
func (o *OperationTrace) required(r *rule, lacks []string) {
	if o == nil || len(r.require) == 0 {
		return
	}
	s := Step{Kind: StepRequire, OK: len(lacks) == 0, Text: strings.Join(r.require, " ")}
	if !s.OK {
		s.Detail = "the token lacks " + strings.Join(lacks, " ")
	}
	o.Steps = append(o.Steps, s)
}

// allowed records what a rule's expression gave.
func (o *OperationTrace) allowed(r *rule, ok bool, err error) {
	if o == nil {
		return
	}
	s := Step{Kind: StepAllow, OK: ok && err == nil, Text: r.allow.text}
	switch {
	case err != nil:
		s.Detail = fault(err)
	case !ok:
		s.Detail = "false"
	}
	o.Steps = append(o.Steps, s)
}

// lifted records that the rule's filter is not applied, or that this cannot be told.
func (o *OperationTrace) lifted(r *rule, yes bool, err error) {
	if o == nil || !yes && err == nil {
		return
	}
	s := Step{Kind: StepUnfiltered, OK: err == nil, Text: r.unfiltered.text}
	if err != nil {
		s.Detail = fault(err)
	}
	o.Steps = append(o.Steps, s)
}

// loggedIn records whether the login behind the token is what the rule asks for.
func (o *OperationTrace) loggedIn(l *Login, lacks string) {
	if o == nil {
		return
	}
	var text []string
	if len(l.ACRValues) > 0 {
		text = append(text, "acr "+strings.Join(l.ACRValues, " or "))
	}
	if l.MaxAge > 0 {
		text = append(text, "at most "+l.MaxAge.String()+" ago")
	}
	o.Steps = append(o.Steps, Step{Kind: StepLogin, OK: lacks == "", Text: strings.Join(text, ", "), Detail: lacks})
}

// bound records a filter or a stamp whose expressions were evaluated.
func (o *OperationTrace) bound(kind StepKind, f Filter, set []EditMember, err error) {
	if o == nil || err == nil && f.IsZero() && len(set) == 0 {
		return
	}
	s := Step{Kind: kind, OK: err == nil, Filter: f, Set: set}
	if err != nil {
		s.Detail = fault(err)
	}
	o.Steps = append(o.Steps, s)
}

// narrowed records that a search gets a filter, or why it does not.
func (o *OperationTrace) narrowed(f Filter, detail string) {
	if o != nil {
		o.Steps = append(o.Steps, Step{Kind: StepNarrow, OK: detail == "", Filter: f, Detail: detail})
	}
}

// compared records metadata that a filter was compared with. ref is that of the object, zero for one to come.
func (o *OperationTrace) compared(kind StepKind, ref Ref, object Object, f Filter, detail string) {
	if o != nil {
		o.Steps = append(o.Steps, Step{Kind: kind, OK: detail == "", Ref: ref, Found: object.Found, Metadata: object.Metadata, Filter: f, Detail: detail})
	}
}
