package policy

// Operation is one thing that a request asks for: an action on a resource, with the value that a LangGraph auth
// handler would get. One request can ask for several (a copy reads one thread and creates another); it is allowed
// only if each of them is.
type Operation struct {
	Resource string // "threads"
	Action   string // "create_run"
	Value    Value  // CEL's `value`

	// Object is the existing object that the operation touches; the zero Ref is none. A rule's filter is compared
	// with its metadata.
	Object Ref
	// Creates says that the operation makes a new object, or does where Object does not exist. A filter must then
	// match the metadata that the new object will have.
	Creates bool
	// Fresh says that the object is one that an operation before it, of the same request, makes (a run's new thread is
	// read to stream its output), or Object where that exists already. A stamp is not written again.
	Fresh bool
	// Inherits says that the new object takes Object's metadata as it is (a copy): filter and stamp must hold there.
	Inherits bool
	// Requires are further objects that must exist where the rule has a filter or a stamp, or an allow that looks at
	// more than the user, such as the run of a thread: a backend may serve another thread's run under the path of the
	// caller's own.
	Requires []Ref
	// Mismatch is the outcome where the filter does not match Object, or Object does not exist (unless Creates).
	// Zero means NotFound.
	Mismatch Outcome
	// MismatchDetail is what the client reads then: the text that the backend has for a missing object.
	MismatchDetail string

	// Metadata is where in the body the metadata of a new object, or of a search, stands. Nil: nowhere, so that a
	// stamp cannot be applied, and neither can a filter that needs it.
	Metadata []string
	// BodyMetadata is what stands there now; nil if nothing does.
	BodyMetadata map[string]any
	// Stamps says that a rule's stamp is written to Metadata. An operation that creates or updates but has no
	// place for it (Metadata is nil) is denied by a rule with a stamp.
	Stamps bool
	// Given is what the request itself says of the object, for certain and in full: a filter is compared with that alone.
	// Nil: nothing is.
	Given map[string]any
	// Prefix is with Narrows: what the search says of the beginning of a list that each object has. Nil: nothing.
	Prefix *Prefix
	// Narrows says that a rule's filter is merged into Metadata, as this is a search.
	Narrows bool
	// Empty is the answer of a search that finds nothing, such as "[]".
	Empty string
	// HeadersAt is where in the body the identity headers must stand too, as the backend does not look at the request's
	// own there. Nil: nowhere.
	HeadersAt []string
	// Headerless says why the identity headers have no place in the request although they must stand there: a policy with
	// some refuses it, and the client reads this. Empty: they have, or need none.
	Headerless string
	// Unfilterable says that no filter can be enforced here: a rule with one denies.
	Unfilterable bool

	// Unruled says that the API fires no event for this: a verified token is enough.
	Unruled bool
	// Waiver: the operation is not asked for at all if Object's metadata has these members with just these values
	// (LangGraph fires no event for a run's assistant where that is a system one).
	Waiver map[string]string

	narrow *narrowing // the query parameters that narrow this list; nil: none
	pairs  []pair     // with narrow: the query
}

// name is the operation as a rule's `on` has it.
func (op *Operation) name() string { return op.Resource + ":" + op.Action }

// Ref names an object of the backend whose metadata decides.
type Ref struct {
	Resource string // "threads"
	ID       string // in its canonical form
	Path     string // what to GET at the backend, such as "/threads/5b2c..."
	Member   string // the member of the answer that must equal ID; empty: none must

	// Reader reads the metadata from the answer; nil: it is the member "metadata".
	Reader *ObjectReader
}

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// Object is what a look-up found. The zero Object was not found.
type Object struct {
	Found    bool
	Metadata map[string]any
}
