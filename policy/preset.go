package policy

import (
	"errors"
	"net/url"
	"slices"
	"unicode/utf8"
)

// Preset is a known API as data: its routes, and the events that rules can name.
type Preset struct {
	Routes []PresetRoute
	// Events are the resources and their actions, with what a rule may do to each.
	Events map[string]map[string]Event
	// RemoveHeaders are request headers that the backend must never get from a client, lower-case.
	RemoveHeaders []string
	// IdentityPrefix is what the name of an identity header must begin with, as the preset's routes refuse bodies that
	// could stand in for such a header; empty: anything.
	IdentityPrefix string
	// RemembersHeaders says that the backend keeps the headers of one request for later ones: an identity header without a
	// value is then sent empty, as leaving it out would mean whoever came before.
	RemembersHeaders bool
	// Probe is a path that the backend always answers 200: whoever answers 404 to it is not the backend. Empty: none.
	Probe string
	// Unseen says that clients can give the backend commands that nobody looks at, which could contradict the identity
	// headers: such headers are then a mistake.
	Unseen bool
	// Configure returns the preset as options that the policy names change it; nil: there are none to name.
	Configure func(options Tree) (Preset, Problems)
}

// Event says what a rule can do to one resource:action beside allowing it.
type Event struct {
	Filters bool // a filter can be enforced on at least one route that fires it
	Stamps  bool // a stamp has a place in at least one route that fires it
	Search  bool // it is a search, which only equality can narrow
	// Names are all that a filter can select by; nil: anything. A rule for just this resource whose filter names something
	// else would deny, and is a mistake.
	Names []string
}

// PresetRoute is one route of a preset.
type PresetRoute struct {
	Method, Path string
	Public       bool
	// MayBePublic says that a policy's api.public may name the route: it then needs no token.
	MayBePublic bool
	NeedsBody   bool // Map reads the body
	// WebSocket says that a request may ask for an upgrade, whose bytes nobody looks at. On every other route it is refused.
	WebSocket bool
	// Map says what the request asks for. It is called after the token is verified, and gives at least one operation
	// or an error; a *Refusal is answered as it says. Nil where the route is public.
	Map func(Input) ([]Operation, error)
	// Refusal is the body of an answer that refuses a request whose body was read, where clients expect another one than
	// {"detail": ...}. It gets the request's body as it came. Nil, and an empty text, mean that they do not.
	Refusal func(body []byte, o Outcome, detail string) string
}

// Input is what a route's Map sees of the request.
type Input struct {
	params []param
	query  string // raw
	Query  url.Values
	Body   Value // nil if the request has none, or the route does not need it
}

type param struct{ name, value string }

// Param returns what stands at {name} in the path, decoded; "" if the template has no such name.
func (in Input) Param(name string) string {
	for _, p := range in.params {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// parseQuery reads a query so that it has one meaning: broken escapes and bytes that are no UTF-8 are refused, as backends
// differ in what they make of them. Which of several equal names counts is left to [Input.Single].
func parseQuery(query string) (url.Values, error) {
	if query == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, &Refusal{Outcome: BadRequest, Detail: "The query string is malformed.", Err: errors.New("malformed query")}
	}
	for name, list := range values {
		if !utf8.ValidString(name) || slices.ContainsFunc(list, func(v string) bool { return !utf8.ValidString(v) }) {
			return nil, &Refusal{Outcome: BadRequest, Detail: "The query string is malformed.", Err: errors.New("query is not UTF-8")}
		}
	}
	return values, nil
}

// Single returns the only value of a query parameter, "" if absent; a repeated one is refused.
func (in Input) Single(name string) (string, error) {
	switch v := in.Query[name]; len(v) {
	case 0:
		return "", nil
	case 1:
		return v[0], nil
	}
	return "", &Refusal{Outcome: BadRequest, Detail: "The query parameter " + name + " is given more than once."}
}
