package policy

// Set is what a [Snapshot] is compiled from: the policies that the manifests hold, with the place of everything that
// can be wrong. It has no behaviour.
type Set struct {
	Policies []Source
}

// Source is one AuthPolicy before compilation.
type Source struct {
	Name                 string // unique; "name", or "namespace/name" where policies of several namespaces are loaded
	Tenant               string // whose it is, where policies of several owners are loaded: a namespace; empty: the gate's own
	Pos                  Position
	Hosts                []Text // exact names, "*.suffix" or "*"; none: reachable by name only
	Providers            []string
	Shadow               bool
	Unavailable          bool // its manifest never compiled: whoever asks for its hosts is answered 503
	API                  APISource
	ResourceURL          string      // the RFC 9728 document that challenges name; may be empty
	PublicURL            string      // scheme, host and maybe a path prefix that clients see; empty: as Envoy sees them
	ForwardedCertificate bool        // the client's certificate is in x-forwarded-client-cert, and nowhere else
	Document             *Document   // that Usher serves itself; nil: none
	ForwardToken         bool        // leave the token for the backend
	TokenFrom            TokenFrom   // where the token is
	Anonymous            bool        // a request without any token is decided too
	RevocationMayLag     bool        // see [Policy.RevocationMayLag]
	Variables            []Member    // constants, as variables.NAME
	Conditions           []Condition // as conditions.NAME
	Rules                []RuleSource
	IdentityHeaders      []HeaderSource
	Assertion            *AssertionSource // nil: none
	Warnings             Problems         // of whoever made it, shown with those of the policy
	// Token says, without a look at all the rest, that a Source is the same as another one: that has the same Token. nil says
	// nothing.
	Token *Token
}

// Token is the identity of a Source. Only its address counts.
type Token struct{ _ byte }

// Document is a JSON text that anybody may read at one path of the policy's hosts.
type Document struct {
	Path, Body string
}

// TokenFrom says where a request has its token. The zero value is the Authorization header; at most one of Header and
// Cookie is set, and the Authorization header is then not looked at.
type TokenFrom struct {
	Header  string   // lower-case name of a header with the bare token
	Cookie  string   // name of a cookie with the bare token; case-sensitive
	Origins []string // with Cookie: the exact origins whose pages may use it
}

// Text is a scalar of a manifest with its place: a name, or a CEL expression.
type Text struct {
	Text string
	Pos  Position
}

// APISource says which routes there are: those of a preset, or the policy's own.
type APISource struct {
	Pos    Position
	Preset Text // name of a preset; empty: Routes
	// Options change the preset, which reads them itself; nil: none.
	Options *Tree
	Public  []RouteSource // more public routes of a preset
	Routes  []RouteSource
}

// RouteSource is one route of api.routes or api.public.
type RouteSource struct {
	Pos    Position
	Method Text
	Path   Text // a template: "/orders/{id}", "/reports/{rest=**}"
	On     Text // "resource:action"; empty iff Public
	Public bool

	Object  *ObjectSource // the existing object that it is about; nil: none
	StampAt *Text         // where in the body a stamp goes; nil: nowhere
	Narrow  *NarrowSource // the query parameters that narrow a list; nil: none
}

// ObjectSource says where an object is looked up.
type ObjectSource struct {
	Pos      Position
	Get      Text  // a template: the object's path at the backend; {id} and the parameters of the route's path
	ID       *Text // CEL that gives {id}: a string or an integer, or a list of them; nil: from the path
	Metadata *Text // CEL over `body`, the answer: the object that filters are compared with; nil: body.metadata
	AnswerID *Text // CEL over `body`: what must equal the id; nil: nothing must
}

// NarrowSource says which query parameters narrow a list.
type NarrowSource struct {
	Pos   Position
	Query []HeaderSource // names and CEL expressions; one that gives optional.none() is left to the client
}

// RuleSource is one rule.
type RuleSource struct {
	Pos     Position
	On      Text
	Allow   *Text    // CEL, bool; nil: true
	Require []string // scopes that the permissions must hold
	Login   Login    // what the login behind the token must have been
	Filter  *Tree    // an object; nil: none
	// Unfiltered is CEL, bool: where it is true the filter is not applied; nil: false.
	Unfiltered *Text
	Stamp      *Tree // an object of CEL expressions; nil: none
	Message    Text  // what the client reads with a denial; empty: a text that says nothing
}

// Condition is a named CEL expression that gives a bool.
type Condition struct {
	Name, Value Text
}

// HeaderSource is a name and the CEL expression of its value: a member of identityHeaders, of an assertion's claims or of narrow.query.
type HeaderSource struct {
	Name  Text
	Value Text
}

// Tree is a piece of a manifest whose shape the policy package itself reads: filters and stamps.
// Exactly one of Members, Items and Scalar is set; a JSON null is the zero Scalar with IsNull.
type Tree struct {
	Pos      Position
	IsObject bool
	Members  []Member // in the order of the manifest
	IsList   bool
	Items    []Tree
	IsNull   bool
	Scalar   any // string (a CEL expression), bool, int64 or float64
}

// Member is one named value of an object in a [Tree].
type Member struct {
	Name  Text
	Value Tree
}
