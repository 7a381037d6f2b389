package policy

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// maxOperations bounds what one request may ask for, so that a batch cannot cost without end.
	maxOperations = 256
	// maxNeeds bounds the look-ups of one request.
	maxNeeds = 64
)

// Facts are what a decision depends on beside the operations.
type Facts struct {
	Identity *Identity
	Request  *Request
	Now      time.Time
	Trace    *Trace // gets how the decision came about; nil: nobody asks
}

// Decide decides every operation by the one rule that applies to it; the request is allowed only if each is. It does
// no I/O: where a filter needs an existing object, the Decision is Undecided and names it in Needs, and Resolve
// finishes it.
func (p *Policy) Decide(facts Facts, ops []Operation) Decision {
	if !facts.Identity.valid() || len(ops) == 0 {
		return Decision{Reason: "no identity or no operation"}
	}
	if len(ops) > maxOperations {
		return Decision{Outcome: BadRequest, Detail: fmt.Sprintf("The request asks for more than %d operations.", maxOperations), Reason: "too many operations"}
	}
	d := Decision{trace: facts.Trace}
	s := &scope{user: facts.Identity, request: facts.Request, now: facts.Now, names: p.names}
	for i := range ops {
		if ops[i].Unruled && facts.Identity.anonymous {
			return Decision{Outcome: Forbidden, Detail: "Forbidden", Reason: "not authenticated, for what every user may do"}
		}
		if denial := p.decideOne(&d, s, &ops[i]); denial != nil {
			return *denial
		}
	}
	if len(d.Needs) > maxNeeds {
		return Decision{Outcome: BadRequest, Detail: fmt.Sprintf("The request names more than %d objects.", maxNeeds), Reason: "too many look-ups"}
	}
	headers, err := p.identityHeaders(facts.Identity)
	if err != nil {
		facts.Trace.noHeaders(err)
		return Decision{Outcome: Forbidden, Detail: "Forbidden", Reason: err.Error()}
	}
	d.Headers = headers
	for i := range ops {
		if text := ops[i].Headerless; text != "" && len(headers) > 0 {
			return Decision{Outcome: Forbidden, Detail: text, Rule: d.Rule, Reason: "the identity headers have no place in the request"}
		}
		if at := ops[i].HeadersAt; at != nil {
			set := make([]EditMember, len(headers))
			for j, h := range headers {
				set[j] = EditMember{h.Name, h.Value}
			}
			if !d.edit(at, set) {
				return Decision{Outcome: Forbidden, Detail: "Forbidden", Rule: d.Rule, Reason: "the identity headers contradict a stamp"}
			}
		}
	}
	return d.settle()
}

// settle gives the outcome once nothing is pending.
func (d Decision) settle() Decision {
	if len(d.pending) > 0 {
		return d
	}
	d.trace.finish()
	if d.shortOf != nil {
		return *d.shortOf
	}
	d.Outcome = Allow
	return d
}

// decideOne decides one operation into d; a denial that needs no look-up is returned.
func (p *Policy) decideOne(d *Decision, s *scope, op *Operation) *Decision {
	s.trace = d.trace.operation(op)
	denial := p.ruleOn(d, s, op)
	s.trace.end(denial)
	return denial
}

// ruleOn decides an operation by its rule.
func (p *Policy) ruleOn(d *Decision, s *scope, op *Operation) *Decision {
	if op.Unruled {
		return nil
	}
	rule := p.rules.find(op.Resource, op.Action)
	s.trace.consider(p.rules, op, rule)
	var denial *Decision
	var filter Filter
	var stamp []EditMember
	var lifted bool
	if rule == nil {
		denial = &Decision{Outcome: Forbidden, Detail: "Forbidden", Reason: "no rule for " + op.name()}
	} else {
		d.Rule = rule.ref
		s.next(op)
		if denial = rule.judge(s, op); denial == nil {
			if filter, stamp, lifted, denial = rule.bind(s, op); lifted {
				d.Unfiltered = append(d.Unfiltered, op.name())
			}
		}
		if denial != nil {
			denial.Rule = rule.ref
		}
	}
	if op.Waiver != nil && (denial != nil || !filter.IsZero()) {
		w := pending{op: op, denial: denial, filter: filter, trace: s.trace}
		if rule != nil {
			w.rule, w.detail = rule.ref, rule.detail()
		}
		d.wait(op.Object, w)
		return nil
	}
	if denial != nil {
		return denial
	}
	if filter.IsZero() && len(stamp) == 0 && len(op.Requires) == 0 && !op.Narrows && op.narrow == nil {
		return nil // there is nothing to enforce
	}
	return d.enforce(s, op, rule, filter, stamp, lifted)
}

// enforce holds the operation to the rule's filter, and writes its stamp.
func (d *Decision) enforce(s *scope, op *Operation, rule *rule, filter Filter, stamp []EditMember, lifted bool) *Decision {
	deny := func(reason string) *Decision {
		return &Decision{Outcome: Forbidden, Detail: rule.detail(), Rule: rule.ref, Reason: op.name() + ": " + reason}
	}
	// An allow that looks at the request may have decided by the thread of the path, which the run must then be of.
	if !filter.IsZero() || len(stamp) > 0 || rule.allow != nil && !rule.allow.userOnly {
		for _, ref := range op.Requires {
			d.wait(ref, pending{op: op, rule: rule.ref, exists: true, trace: s.trace})
		}
	}
	switch {
	case op.Inherits:
		// The new object takes another one's metadata: what the filter asks and what the stamp would write must be
		// there already.
		if !filter.IsZero() || len(stamp) > 0 {
			d.wait(op.Object, pending{op: op, rule: rule.ref, detail: rule.detail(), filter: filter, stamp: stamp, trace: s.trace})
		}
		return nil
	case op.narrow != nil:
		if lifted {
			return nil // whoever may go past the filter sees the whole list
		}
		return d.narrowQuery(op, s, filter, deny)
	case op.Narrows:
		return d.narrow(op, rule, filter, s.trace, deny)
	case op.Creates && len(stamp) > 0 && !op.Stamps:
		return deny("its stamp has no place in the request")
	}
	if op.Stamps && !d.stamp(op, stamp) {
		return deny("its stamp contradicts another operation's")
	}
	switch {
	case filter.IsZero():
		return nil
	case op.Given != nil:
		given := Object{Found: true, Metadata: op.Given}
		if !filter.Match(op.Given) {
			s.trace.compared(StepObject, op.Object, given, filter, "it does not match")
			return deny("the request does not match the rule's filter")
		}
		s.trace.compared(StepObject, op.Object, given, filter, "")
		return nil
	case op.Unfilterable, op.Object.IsZero() && !op.Creates && !op.Fresh:
		return deny("its filter cannot be enforced here")
	}
	w := pending{op: op, rule: rule.ref, detail: rule.detail(), filter: filter, trace: s.trace}
	if op.Creates || op.Fresh {
		w.created = d.after(op)
	}
	if op.Stamps {
		w.patch = d.after(op)
	}
	if op.Object.IsZero() {
		return w.resolve(Ref{}, Object{})
	}
	d.wait(op.Object, w)
	return nil
}

// judge evaluates what the rule asks of the user, in this order: scopes, `allow`, and the login. So nobody is asked to log
// in again for what would be denied all the same.
func (r *rule) judge(s *scope, op *Operation) *Decision {
	lacks := lacking(s.user, r.require)
	s.trace.required(r, lacks)
	if len(lacks) > 0 {
		return &Decision{Outcome: InsufficientScope, Detail: r.detail(), Scopes: r.require, Reason: op.name() + ": the token lacks a scope"}
	}
	if r.allow != nil {
		ok, err := r.allow.bool(s)
		s.trace.allowed(r, ok, err)
		if err != nil {
			return &Decision{Outcome: Forbidden, Detail: r.detail(), Reason: op.name() + ": allow: " + fault(err)}
		}
		if !ok {
			if lacks := lacking(s.user, r.allow.scopes); len(lacks) > 0 {
				return &Decision{Outcome: InsufficientScope, Detail: r.detail(), Scopes: lacks, Reason: op.name() + ": the token lacks a scope"}
			}
			return &Decision{Outcome: Forbidden, Detail: r.detail(), Reason: op.name() + ": allow is false"}
		}
	}
	if r.login != nil {
		reason := r.login.lacking(s.user.Claims, s.now)
		s.trace.loggedIn(r.login, reason)
		if reason != "" {
			return &Decision{Outcome: StepUp, Detail: "Log in again.", Login: r.login, Reason: op.name() + ": " + reason}
		}
	}
	return nil
}

// detail is what the client reads where the rule denies.
func (r *rule) detail() string {
	if r.message != "" {
		return r.message
	}
	return "Forbidden"
}

// bind evaluates filter and stamp. Where the rule's `unfiltered` is true there is no filter, and a stamp only for what the
// request creates: whoever may touch everything does not become the owner of what he touches.
func (r *rule) bind(s *scope, op *Operation) (filter Filter, stamp []EditMember, lifted bool, denial *Decision) {
	fail := func(where StepKind, err error) (Filter, []EditMember, bool, *Decision) {
		return Filter{}, nil, false, &Decision{Outcome: Forbidden, Detail: r.detail(), Reason: op.name() + ": " + string(where) + ": " + fault(err)}
	}
	var err error
	if r.unfiltered != nil {
		lifted, err = r.unfiltered.bool(s)
		s.trace.lifted(r, lifted, err)
		if err != nil {
			return fail(StepUnfiltered, err)
		}
	}
	if !lifted {
		filter, err = r.filter.bind(s)
		s.trace.bound(StepFilter, filter, nil, err)
		if err != nil {
			return fail(StepFilter, err)
		}
	} else if !op.Creates && !op.Inherits {
		return Filter{}, nil, true, nil
	}
	stamp, err = r.bindStamp(s)
	s.trace.bound(StepStamp, Filter{}, stamp, err)
	if err != nil {
		return fail(StepStamp, err)
	}
	return filter, stamp, lifted, nil
}

// lacking returns the scopes that the user's permissions do not hold.
func lacking(user *Identity, scopes []string) []string {
	var lacks []string
	for _, scope := range scopes {
		if !slices.Contains(user.Permissions, scope) {
			lacks = append(lacks, scope)
		}
	}
	return lacks
}

// lacking says why the login behind the claims is not enough; empty if it is. A token that does not say how or when its
// user logged in is not enough (RFC 9470, section 5).
func (l *Login) lacking(claims map[string]any, now time.Time) string {
	if len(l.ACRValues) > 0 {
		if acr, ok := claims["acr"].(string); !ok || !slices.Contains(l.ACRValues, acr) {
			return "acr is missing or not one that is asked for"
		}
	}
	if l.MaxAge > 0 {
		var seconds float64
		switch v := claims["auth_time"].(type) {
		case int64:
			seconds = float64(v)
		case float64:
			seconds = v
		default:
			return "auth_time is missing or no date"
		}
		// A time to come, beyond what clocks may differ, is no time of a login.
		if age := float64(now.UnixMilli())/1000 - seconds; !(age >= -loginSkew.Seconds() && age <= (l.MaxAge+loginSkew).Seconds()) {
			return "auth_time is too long ago, or lies in the future"
		}
	}
	return ""
}

// loginSkew is how far clocks may differ where auth_time is looked at.
const loginSkew = 30 * time.Second

func (r *rule) bindStamp(s *scope) ([]EditMember, error) {
	if len(r.stamp) == 0 {
		return nil, nil
	}
	out := make([]EditMember, len(r.stamp))
	for i, m := range r.stamp {
		v, err := m.value.eval(s)
		if err != nil {
			return nil, err
		}
		out[i] = EditMember{m.name, v}
	}
	return out, nil
}

// stamp adds the edit that writes the stamp, without what the body says already. It reports whether it could: two
// operations may not want different values at one place.
func (d *Decision) stamp(op *Operation, stamp []EditMember) bool {
	var set []EditMember
	for _, m := range stamp {
		if old, ok := op.BodyMetadata[m.Name]; !ok || !identical(old, m.Value) {
			set = append(set, m)
		}
	}
	return d.edit(op.Metadata, set)
}

// edit adds members to the edit at one place.
func (d *Decision) edit(at []string, set []EditMember) bool {
	if len(set) == 0 {
		return true
	}
	i := slices.IndexFunc(d.Edits, func(e Edit) bool { return slices.Equal(e.At, at) })
	if i < 0 {
		i = len(d.Edits)
		d.Edits = append(d.Edits, Edit{At: at})
	}
	for _, m := range set {
		j := slices.IndexFunc(d.Edits[i].Set, func(o EditMember) bool { return o.Name == m.Name })
		switch {
		case j < 0:
			d.Edits[i].Set = append(d.Edits[i].Set, m)
		case !identical(d.Edits[i].Set[j].Value, m.Value):
			return false
		}
	}
	return true
}

// after returns the metadata that the body will carry once it is edited.
func (d *Decision) after(op *Operation) map[string]any {
	out := make(map[string]any, len(op.BodyMetadata)+2)
	maps.Copy(out, op.BodyMetadata)
	for _, e := range d.Edits {
		if slices.Equal(e.At, op.Metadata) {
			for _, m := range e.Set {
				out[m.Name] = m.Value
			}
		}
	}
	return out
}

// narrow merges the filter into a search's own metadata. Where they contradict each other nothing can be found, and
// Usher answers so itself.
func (d *Decision) narrow(op *Operation, r *rule, filter Filter, trace *OperationTrace, deny func(string) *Decision) *Decision {
	if filter.IsZero() {
		return nil
	}
	ok, rest, begin := true, filter, []any(nil)
	if op.Prefix != nil {
		begin, rest, ok = filter.below(op.Prefix)
	}
	want, equal := rest.Equalities()
	if !ok || !equal || op.Metadata == nil && !rest.IsZero() || op.Unfilterable {
		trace.narrowed(filter, "it cannot narrow this search")
		return deny("its filter cannot narrow this search")
	}
	var set []EditMember
	for _, name := range names(want) {
		old, ok := op.BodyMetadata[name]
		switch {
		case ok && identical(old, want[name]):
		case ok:
			if d.shortOf == nil {
				trace.narrowed(filter, "the search contradicts it: it can find nothing")
				d.shortOf = &Decision{Outcome: Answer, Body: op.Empty, Rule: r.ref, Reason: "the search contradicts the rule's filter"}
			}
		default:
			set = append(set, EditMember{name, want[name]})
		}
	}
	if d.shortOf == nil {
		trace.narrowed(filter, "")
	}
	if !d.edit(op.Metadata, set) || begin != nil && !d.edit(op.Prefix.At, []EditMember{{op.Prefix.As, begin}}) {
		return deny("its filter contradicts another operation's")
	}
	return nil
}

// identical reports whether two values are equal and of one type, so that a body need not be edited: 1 and true are
// equal to Python and not to JavaScript.
func identical(a, b Value) bool {
	_, x := a.(bool)
	_, y := b.(bool)
	switch a.(type) {
	case map[string]any, []any:
		return false
	}
	return x == y && Equal(a, b)
}

// wait notes that an operation needs an object.
func (d *Decision) wait(ref Ref, p pending) {
	p.need = slices.Index(d.Needs, ref)
	if p.need < 0 {
		p.need = len(d.Needs)
		d.Needs = append(d.Needs, ref)
	}
	d.pending = append(d.pending, p)
}

// Resolve finishes a Decision with what the look-ups found: found[i] is the object of Needs[i]. It is pure. Without
// Needs, or with another number of objects, d itself is returned.
func (d Decision) Resolve(found []Object) Decision {
	if d.Outcome != Undecided || len(d.Needs) == 0 || len(found) != len(d.Needs) {
		return d
	}
	for _, w := range d.pending {
		if denial := w.resolve(d.Needs[w.need], found[w.need]); denial != nil {
			w.trace.end(denial)
			return *denial
		}
	}
	d.Needs, d.pending = nil, nil
	return d.settle()
}

func (w *pending) resolve(ref Ref, o Object) *Decision {
	op := w.op
	mismatch := op.Mismatch
	if mismatch == Undecided {
		mismatch = NotFound
	}
	refuse := func(reason string) *Decision {
		return &Decision{Outcome: mismatch, Detail: op.MismatchDetail, Rule: w.rule, Reason: op.Resource + ":" + op.Action + ": " + reason}
	}
	if op.Waiver != nil && o.Found && waived(op.Waiver, o.Metadata) {
		w.trace.compared(StepWaiver, op.Object, o, Filter{}, "")
		return nil
	}
	if w.denial != nil {
		return w.denial
	}
	forbid := func(reason string) *Decision {
		return &Decision{Outcome: Forbidden, Detail: w.detail, Rule: w.rule, Reason: op.Resource + ":" + op.Action + ": " + reason}
	}
	if w.exists {
		if !o.Found {
			w.trace.compared(StepRequired, ref, o, Filter{}, "it does not exist")
			return refuse("an object that it is about does not exist")
		}
		w.trace.compared(StepRequired, ref, o, Filter{}, "")
		return nil
	}
	if !o.Found {
		switch {
		case !op.Creates && !op.Fresh:
			w.trace.compared(StepObject, op.Object, o, w.filter, "it does not exist")
			return refuse("the object does not exist")
		case !w.filter.Match(w.created):
			w.trace.compared(StepCreated, op.Object, Object{Metadata: w.created}, w.filter, "it does not match")
			return forbid("the new object would not match the rule's filter")
		}
		w.trace.compared(StepCreated, op.Object, Object{Metadata: w.created}, w.filter, "")
		return nil
	}
	if !w.filter.Match(o.Metadata) {
		w.trace.compared(StepObject, op.Object, o, w.filter, "it does not match")
		return refuse("the object does not match the rule's filter")
	}
	w.trace.compared(StepObject, op.Object, o, w.filter, "")
	if len(w.patch) > 0 {
		merged := maps.Clone(o.Metadata)
		if merged == nil {
			merged = map[string]any{}
		}
		maps.Copy(merged, w.patch)
		if !w.filter.Match(merged) {
			w.trace.compared(StepPatched, op.Object, Object{Found: true, Metadata: merged}, w.filter, "it does not match")
			return forbid("the object would no longer match the rule's filter")
		}
	}
	for _, m := range w.stamp {
		if v, ok := o.Metadata[m.Name]; !ok || !identical(v, m.Value) {
			return forbid("its stamp cannot be written to a copy")
		}
	}
	return nil
}

func waived(waiver map[string]string, metadata map[string]any) bool {
	for k, v := range waiver {
		if metadata[k] != any(v) {
			return false
		}
	}
	return true
}

// identityHeaders evaluates the headers for one identity, once for as long as the identity is in use with this policy.
func (p *Policy) identityHeaders(id *Identity) ([]Header, error) {
	if memo := id.memo.Load(); memo != nil && memo.policy == p {
		return memo.headers, memo.err
	}
	memo := &headerMemo{policy: p, headers: make([]Header, len(p.headers))}
	s, size := &scope{user: id, names: p.names}, 0
	for i, h := range p.headers {
		text, err := h.value.string(s)
		if err != nil && id.anonymous {
			text, err = "", nil // it is about a user, and there is none
		}
		if err != nil {
			memo.err = fmt.Errorf("identity header %s: %s", h.name, fault(err))
			break
		}
		value, err := headerValue(text)
		if err != nil {
			memo.err = fmt.Errorf("identity header %s: %w", h.name, err)
			break
		}
		if size += len(h.name) + len(value) + len(": \r\n"); size > maxHeaders {
			memo.err = fmt.Errorf("identity headers are longer than %d bytes in all", maxHeaders)
			break
		}
		memo.headers[i] = Header{Name: h.name, Value: value, Keep: p.keepEmpty && value == ""}
	}
	if memo.err != nil {
		memo.headers = nil
	}
	id.memo.Store(memo)
	return memo.headers, memo.err
}
