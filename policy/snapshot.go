package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Snapshot is a set of compiled policies. It never changes, and is safe for concurrent use.
type Snapshot struct {
	byName   map[string]*Policy
	exact    map[string]*Policy // by host
	suffix   map[string]*Policy // by the part after "*"
	any      *Policy
	shadows  map[string]*watchers // by tenant
	warnings Problems

	kept       map[string]*compiled // for Next, by name
	failed     map[string]*compiled // those that did not compile
	recompiled int
}

// Policy is one compiled AuthPolicy.
type Policy struct {
	Name         string
	Tenant       string // see [Source]
	Providers    []string
	Shadow       bool
	Idle         bool   // a Shadow policy that sees no request: see [Snapshot.Shadows]
	Unavailable  bool   // nothing can be decided: its manifest never compiled
	ResourceURL  string // for challenges (RFC 9728, section 5.1)
	ForwardToken bool
	PublicURL    string // that clients see the policy's hosts at; empty: as Envoy sees them
	TokenFrom    TokenFrom
	// ForwardedCertificate: the client's certificate is in x-forwarded-client-cert, and not the one of the connection.
	ForwardedCertificate bool
	// RevocationMayLag: while a provider's list of revoked tokens cannot be read, go on with what is known of it.
	RevocationMayLag bool

	pos       Position
	document  *Document
	assertion *Assertion // nil: none
	nobody    *Identity  // nil: a token is needed
	hosts     []string
	routes    routeTree
	endpoints []*endpoint // while the policy is compiled
	rules     *rules
	names     *vocabulary
	headers   []headerSource
	keepEmpty bool   // the backend remembers headers: an empty one is sent
	prefix    string // of every identity header
	// remove holds request headers that a client must never get through, by their canonical name.
	remove map[string]bool
	always []string // the names of remove that are no identity header of this policy, sorted
}

type headerSource struct {
	name  string
	value *expression
}

// alwaysRemove are request headers that no backend may get from a client whatever the policy: LangGraph's Studio
// header makes a user without a credential (langgraph-api), and the others change a method or a path after it was decided
// on (Symfony and IIS take the path from x-original-url or x-rewrite-url).
var alwaysRemove = []string{"x-auth-scheme", "x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"}

// New compiles a set. The error is [Problems], all of them at once, in which case there is no Snapshot.
func New(set Set, presets map[string]Preset) (*Snapshot, error) {
	s, _, err := compileSet(nil, set, presets)
	return s, err
}

func compileSet(prev *Snapshot, set Set, presets map[string]Preset) (next, attempt *Snapshot, err error) {
	c, err := ruleCompiler()
	if err != nil {
		return nil, nil, err
	}
	s := &Snapshot{byName: map[string]*Policy{}, exact: map[string]*Policy{}, suffix: map[string]*Policy{}, kept: map[string]*compiled{}, failed: map[string]*compiled{}}
	var problems Problems
	for _, source := range set.Policies {
		p, ps, warnings := s.reuse(prev, c, source, presets)
		problems, s.warnings = append(problems, ps...), append(s.warnings, warnings...)
		if s.byName[p.Name] != nil {
			problems = append(problems, Problem{Pos: source.Pos, Found: fmt.Sprintf("a second AuthPolicy %q", p.Name), Hint: "names are unique"})
			continue
		}
		s.byName[p.Name] = p
		if !p.Shadow {
			problems = append(problems, s.claim(p, source)...)
		}
	}
	s.inherit(prev, set)
	if len(problems) > 0 {
		return nil, &Snapshot{kept: s.kept, failed: s.failed}, problems.Sort()
	}
	s.linkShadows()
	s.warnings = s.warnings.Sort()
	return s, s, nil
}

// Warnings are what a reader of the manifests should know although they are valid, sorted by place.
func (s *Snapshot) Warnings() Problems { return s.warnings }

// Policies returns every policy, sorted by name.
func (s *Snapshot) Policies() []*Policy {
	return slices.SortedFunc(maps.Values(s.byName), func(a, b *Policy) int { return strings.Compare(a.Name, b.Name) })
}

// Match returns the Enforce policy that guards the host, or the one of that name if name is not empty; nil if nothing
// does. host is lower-case and without a port. The longest suffix wins over a shorter one, and that over "*".
func (s *Snapshot) Match(host, name string) *Policy {
	if name != "" {
		if p := s.byName[name]; p != nil && !p.Shadow {
			return p
		}
		return nil
	}
	if p := s.exact[host]; p != nil {
		return p
	}
	for i := 0; i < len(host) && len(s.suffix) > 0; i++ {
		if host[i] == '.' && i > 0 {
			if p := s.suffix[host[i:]]; p != nil {
				return p
			}
		}
	}
	return s.any
}

// claim gives the policy its hosts; a host that another policy has is a problem.
func (s *Snapshot) claim(p *Policy, source Source) (problems Problems) {
	for _, h := range source.Hosts {
		host := strings.ToLower(h.Text)
		var slot *Policy
		switch {
		case host == "*":
			if slot = s.any; slot == nil {
				s.any = p
			}
		case strings.HasPrefix(host, "*."):
			if slot = s.suffix[host[1:]]; slot == nil {
				s.suffix[host[1:]] = p
			}
		default:
			if slot = s.exact[host]; slot == nil {
				s.exact[host] = p
			}
		}
		if slot != nil {
			problems = append(problems, Problem{Pos: h.Pos, Found: fmt.Sprintf("host %q is guarded by policy %q already", h.Text, slot.Name), Hint: "one Enforce policy guards a host; join them, or make one mode: Shadow"})
		}
	}
	return problems
}

func (c *compiler) compilePolicy(source Source, presets map[string]Preset) (*Policy, Problems, Problems) {
	p := &Policy{
		Name: source.Name, Tenant: source.Tenant, pos: source.Pos, Providers: source.Providers, Shadow: source.Shadow, Unavailable: source.Unavailable,
		ResourceURL: source.ResourceURL, ForwardToken: source.ForwardToken, TokenFrom: source.TokenFrom, document: source.Document, PublicURL: source.PublicURL, ForwardedCertificate: source.ForwardedCertificate, RevocationMayLag: source.RevocationMayLag, remove: map[string]bool{},
	}
	for _, h := range source.Hosts {
		p.hosts = append(p.hosts, strings.ToLower(h.Text))
	}
	for _, name := range alwaysRemove {
		p.remove[name] = true
	}
	if p.Unavailable {
		return p, nil, nil
	}
	if problems := bounds(&source); len(problems) > 0 {
		return p, problems, nil
	}
	if name := source.TokenFrom.Header; name != "" && !p.ForwardToken {
		p.remove[CanonicalHeader(name)] = true
	}
	if source.Anonymous {
		p.nobody = &Identity{anonymous: true, Permissions: []string{}, Claims: map[string]any{}}
	}
	c, problems := c.forPolicy(source)
	p.names = c.names
	events, ps := c.compileAPI(p, source.API, source.IdentityHeaders, presets)
	problems = append(problems, ps...)
	warnings := slices.Clone(source.Warnings)
	// Without a single event (the preset is unknown, say) every rule would be a problem of its own.
	if len(events) > 0 || len(problems) == 0 {
		rs, ps, ws := c.compileRules(source.Rules, events)
		p.rules, problems, warnings = rs, append(problems, ps...), append(warnings, ws...)
		for _, e := range p.endpoints {
			ps, ws := e.link(rs.find(e.resource, e.action))
			problems, warnings = append(problems, ps...), append(warnings, ws...)
		}
		p.endpoints = nil
	}
	if source.Anonymous {
		warnings = append(warnings, forStrangers(source.Rules)...)
	}
	seen := map[string]bool{}
	for _, h := range source.IdentityHeaders {
		name := CanonicalHeader(h.Name.Text)
		if name == "" || name != strings.ToLower(h.Name.Text) {
			problems = append(problems, Problem{Pos: h.Name.Pos, Found: fmt.Sprintf("header name %q", h.Name.Text), Want: "letters, digits and hyphens"})
			continue
		}
		if seen[name] {
			problems = append(problems, Problem{Pos: h.Name.Pos, Found: fmt.Sprintf("header %q twice", name), Want: "each once"})
			continue
		}
		if slices.Contains(alwaysRemove, name) {
			problems = append(problems, Problem{Pos: h.Name.Pos, Found: fmt.Sprintf("header %q, which a backend would obey", name), Want: "a name of its own, such as x-user-id"})
			continue
		}
		if source.TokenFrom.Header != "" && name == CanonicalHeader(source.TokenFrom.Header) {
			problems = append(problems, Problem{Pos: h.Name.Pos, Found: fmt.Sprintf("identity header %q, which has the client's token", name), Want: "another name"})
			continue
		}
		if !strings.HasPrefix(name, p.prefix) {
			problems = append(problems, Problem{Pos: h.Name.Pos, Found: fmt.Sprintf("identity header %q", name), Want: fmt.Sprintf("a name that begins with %q", p.prefix), Hint: "a request's body could set what this backend keeps under any other name"})
			continue
		}
		seen[name] = true
		e, ps := c.compile(h.Value, wantString, true)
		problems = append(problems, ps...)
		if e != nil && !e.userOnly {
			problems = append(problems, Problem{Pos: h.Value.Pos, Found: "an identity header that depends on the request", Want: "an expression over user alone"})
		}
		p.headers = append(p.headers, headerSource{name, e})
		p.remove[name] = true
	}
	problems = append(problems, p.compileAssertion(c, &source)...)
	warnings = append(warnings, c.names.unused(source)...)
	slices.SortFunc(p.headers, func(a, b headerSource) int { return strings.Compare(a.name, b.name) })
	return p, problems, warnings
}

// compileAPI builds the routes and returns the events that they can fire.
func (c *compiler) compileAPI(p *Policy, source APISource, headers []HeaderSource, presets map[string]Preset) (map[string]map[string]Event, Problems) {
	var problems Problems
	add := func(r *compiledRoute, pos Position) {
		if problem := p.routes.add(r); problem != nil {
			problem.Pos = pos
			problems = append(problems, *problem)
		}
	}
	if d := p.document; d != nil && len(source.Routes) > 0 {
		for _, r := range source.Routes {
			if r.Method.Text == "GET" && r.Path.Text == d.Path {
				problems = append(problems, Problem{Pos: r.Path.Pos, Found: fmt.Sprintf("GET %s can never match: Usher serves protectedResource's document there", d.Path), Hint: "remove the route"})
			}
		}
	}
	switch {
	case source.Preset.Text != "" && len(source.Routes) > 0:
		problems = append(problems, Problem{Pos: source.Pos, Found: "both preset and routes", Want: "one of them", Hint: "api.public adds public routes to a preset"})
	case source.Preset.Text == "" && len(source.Routes) == 0:
		problems = append(problems, Problem{Pos: source.Pos, Found: "no routes", Want: "api.preset, api.routes or api.openapi"})
	}
	if source.Preset.Text != "" {
		preset, ok := presets[source.Preset.Text]
		if !ok {
			return nil, append(problems, Problem{Pos: source.Preset.Pos, Found: fmt.Sprintf("unknown preset %q", source.Preset.Text), Want: oneOf(names(presets))})
		}
		if source.Options != nil {
			if preset.Configure == nil {
				return nil, append(problems, Problem{Pos: source.Options.Pos, Found: fmt.Sprintf("options of preset %q, which has none", source.Preset.Text)})
			}
			configured, ps := preset.Configure(*source.Options)
			preset, problems = configured, append(problems, ps...)
		}
		if preset.Unseen && len(headers) > 0 {
			problems = append(problems, Problem{
				Pos: headers[0].Name.Pos, Found: "identityHeaders beside webSocket: Allow", Want: "one of them",
				Hint: "what is said over a WebSocket is not seen, and could stand in for these headers",
			})
		}
		p.keepEmpty, p.prefix = preset.RemembersHeaders, preset.IdentityPrefix
		for _, name := range preset.RemoveHeaders {
			p.remove[name] = true
		}
		for _, r := range preset.Routes {
			if r.MayBePublic && slices.ContainsFunc(source.Public, func(open RouteSource) bool {
				return open.Method.Text == r.Method && open.Path.Text == r.Path
			}) {
				continue
			}
			add(&compiledRoute{method: r.Method, path: r.Path, public: r.Public, needsBody: r.NeedsBody, webSocket: r.WebSocket, readsQuery: true, operations: r.Map, refusal: r.Refusal}, source.Preset.Pos)
		}
		for _, r := range source.Public {
			problems = append(problems, checkMethod(r.Method)...)
			add(&compiledRoute{method: r.Method.Text, path: r.Path.Text, public: true, pos: r.Path.Pos}, r.Path.Pos)
		}
		return preset.Events, problems
	}
	if len(source.Public) > 0 {
		problems = append(problems, Problem{Pos: source.Public[0].Pos, Found: "public routes without a preset", Want: "public: true in api.routes"})
	}
	events := map[string]map[string]Event{}
	for _, r := range source.Routes {
		problems = append(problems, checkMethod(r.Method)...)
		if r.Public {
			switch {
			case r.On.Text != "":
				problems = append(problems, Problem{Pos: r.On.Pos, Found: "a public route with on", Want: "one of public and on"})
			case r.Object != nil || r.StampAt != nil || r.Narrow != nil:
				problems = append(problems, Problem{Pos: r.Pos, Found: "a public route with object, stampAt or narrow", Want: "on: resource:action", Hint: "nobody's objects can be told apart without a user"})
			}
			add(&compiledRoute{method: r.Method.Text, path: r.Path.Text, public: true, pos: r.Path.Pos}, r.Path.Pos)
			continue
		}
		e, ps := c.compileEndpoint(r)
		problems = append(problems, ps...)
		if e == nil {
			continue
		}
		if events[e.resource] == nil {
			events[e.resource] = map[string]Event{}
		}
		event, own := events[e.resource][e.action], e.event()
		events[e.resource][e.action] = Event{Filters: event.Filters || own.Filters, Stamps: event.Stamps || own.Stamps}
		add(e.route, r.Path.Pos)
		p.endpoints = append(p.endpoints, e)
	}
	return events, append(problems, p.routes.crossings()...)
}

func checkMethod(method Text) Problems {
	known := []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	if slices.Contains(known, method.Text) {
		return nil
	}
	p := Problem{Pos: method.Pos, Found: fmt.Sprintf("method %q", method.Text), Want: oneOf(known)}
	if method.Text == "HEAD" {
		p.Hint = "a GET route answers HEAD too"
	}
	return Problems{p}
}

// Anonymous is who asks without any token; nil where the policy does not let nobody in.
func (p *Policy) Anonymous() *Identity { return p.nobody }

// Document returns the text that Usher serves itself at this path, to whoever asks.
func (p *Policy) Document(method, path string) (body string, ok bool) {
	if p.document == nil || path != p.document.Path || method != "GET" && method != "HEAD" {
		return "", false
	}
	return p.document.Body, true
}

// Removes reports whether a request header of that name, in whatever spelling, must not reach the backend as the
// client sent it.
func (p *Policy) Removes(name string) bool { return p.remove[CanonicalHeader(name)] }

// RemovedAlways are the names that every allowed request has removed, beside its identity headers; sorted.
func (p *Policy) RemovedAlways() []string { return p.always }

// RuleRefs names the rules in the order of the manifest.
func (p *Policy) RuleRefs() []RuleRef {
	if p.rules == nil {
		return nil
	}
	return slices.Clone(p.rules.refs)
}

// Hosts are the names and patterns that the policy guards, as the manifest has them, in lower case.
func (p *Policy) Hosts() []string { return slices.Clone(p.hosts) }

// HeaderNames are the names of the identity headers, sorted.
func (p *Policy) HeaderNames() []string {
	out := make([]string, len(p.headers))
	for i, h := range p.headers {
		out[i] = h.name
	}
	return out
}
