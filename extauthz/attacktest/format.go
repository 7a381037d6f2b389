package attacktest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Suite is one file of attacks. It does not change once Load has returned it, and is safe for concurrent use.
type Suite struct {
	Version      int                `json:"version"`
	Format       Format             `json:"format"`
	Invariants   []string           `json:"invariants"`
	Environment  Environment        `json:"environment"`
	TokenRecipes map[string]*Recipe `json:"token_recipes"`
	Groups       map[string]int     `json:"groups"`
	Cases        []*Case            `json:"cases"`

	keys *keyring
}

// Format is the file's own description of itself, for people.
type Format struct {
	Run          string `json:"run"`
	Case         string `json:"case"`
	Request      string `json:"request"`
	Token        string `json:"token"`
	Recipe       string `json:"recipe"`
	Sig          string `json:"sig"`
	Form         string `json:"form"`
	Generators   string `json:"generators"`
	Placeholders string `json:"placeholders"`
	Fixture      string `json:"fixture"`
	Steps        string `json:"steps"`
	Expect       string `json:"expect"`
}

// Environment is what every case runs against.
type Environment struct {
	About               string           `json:"about"`
	ContextExtensionKey string           `json:"context_extension_key"`
	Clock               string           `json:"clock"`
	Manifests           []Value          `json:"manifests"`
	Keys                map[string]Key   `json:"keys"`
	Certs               map[string]Cert  `json:"certs"`
	OpaqueTokens        map[string]Value `json:"opaque_tokens"`
	BackendObjects      Objects          `json:"backend_objects"`
}

// Objects are what the fake backend has: metadata by id, for runs the thread they belong to.
type Objects struct {
	About      string           `json:"about"`
	Threads    map[string]Value `json:"threads"`
	Assistants map[string]Value `json:"assistants"`
	Runs       map[string]Run   `json:"runs"`
}

// Run is a run of a thread.
type Run struct {
	Thread string `json:"thread"`
}

// Key is a signing key that is made for the tests.
type Key struct {
	Kty         string `json:"kty"`
	Bits        int    `json:"bits"`
	Crv         string `json:"crv"`
	Kid         string `json:"kid"`
	Alg         string `json:"alg"`
	Use         string `json:"use"`
	PublishedBy string `json:"published_by"`
	About       string `json:"about"`
}

// Cert is a self-signed client certificate that is made for the tests.
type Cert struct {
	Key     string `json:"key"`     // "RSA 2048"
	Subject string `json:"subject"` // "CN=name"
}

// The levels of a case: asked by a CheckRequest, or through a real Envoy.
const (
	LevelCheck = "check"
	LevelHTTP  = "http"
)

// Case is one attack: what is sent, and what must become of it.
type Case struct {
	ID       string              `json:"id"`
	Group    string              `json:"group"`
	Why      string              `json:"why"`
	Note     string              `json:"note"`
	Level    string              `json:"level"`
	Request  *Request            `json:"request"`
	Token    *Recipe             `json:"token"`
	Tokens   map[string]*Recipe  `json:"tokens"`
	Fixture  map[string]*Fixture `json:"fixture"`
	Fresh    bool                `json:"fresh"`
	Parallel int                 `json:"parallel"`
	Steps    []*Step             `json:"steps"`
	Expect   *Expect             `json:"expect"`
	After    *After              `json:"after"`

	Usher          string `json:"usher"`
	Bootstrap      string `json:"bootstrap"`
	PadHeaderBytes int    `json:"pad_header_bytes"`
}

// Step is one request of a case that has several, or many alike. What it leaves out is the case's.
type Step struct {
	Request  *Request            `json:"request"`
	Token    *Recipe             `json:"token"`
	Fixture  map[string]*Fixture `json:"fixture"`
	AdvanceS float64             `json:"advance_s"`
	Repeat   int                 `json:"repeat"`
	Parallel int                 `json:"parallel"`
	Expect   *Expect             `json:"expect"`
}

// Request is what Envoy asks about (level check), or what a client sends to Envoy (level http: Raw or H2).
type Request struct {
	Method                Value             `json:"method"`
	Host                  Value             `json:"host"`
	Path                  Value             `json:"path"`
	Scheme                Value             `json:"scheme"`
	Protocol              Value             `json:"protocol"`
	Headers               [][2]Value        `json:"headers"`
	Body                  Value             `json:"body"`
	BodyAs                string            `json:"body_as"`
	Partial               *bool             `json:"partial"`
	Size                  *int64            `json:"size"`
	Encode                string            `json:"encode"`
	ExtraRawHeaders       [][2]Value        `json:"extra_raw_headers"`
	SourceCertificate     string            `json:"source_certificate"`
	SourceCertificateText Value             `json:"source_certificate_text"`
	DestinationCert       string            `json:"destination_certificate"`
	SourcePrincipal       string            `json:"source_principal"`
	SourceAddress         string            `json:"source_address"`
	ContextExtensions     map[string]string `json:"context_extensions"`
	MetadataContext       Value             `json:"metadata_context"`
	Empty                 bool              `json:"empty"`
	NoHTTP                bool              `json:"no_http"`

	Raw Value      `json:"raw"`
	H2  [][2]Value `json:"h2"`
}

// Fixture replaces the answer of an endpoint. In a Case or Step, nil restores the normal one.
type Fixture struct {
	Status  int        `json:"status"`
	Headers [][2]Value `json:"headers"`
	Body    Value      `json:"body"`
	Hang    bool       `json:"hang"`  // never answers
	Close   bool       `json:"close"` // breaks the connection
	Drip    Value      `json:"drip"`  // the body comes byte by byte: true one a second, a number that many milliseconds apart
}

// Statuses are acceptable HTTP statuses, the first one preferred. 200 means allowed.
type Statuses []int

// UnmarshalJSONFrom reads a number or a list of them.
func (s *Statuses) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == '[' {
		return json.UnmarshalDecode(d, (*[]int)(s))
	}
	var one int
	if err := json.UnmarshalDecode(d, &one); err != nil {
		return err
	}
	*s = Statuses{one}
	return nil
}

// Expect says what an answer must be. All that is given must hold.
type Expect struct {
	Status                  Statuses       `json:"status"`
	WWWAuthenticateContains []string       `json:"www_authenticate_contains"`
	WWWAuthenticateLacks    []string       `json:"www_authenticate_lacks"`
	RetryAfter              bool           `json:"retry_after"`
	MaxMS                   int            `json:"max_ms"`
	HitsMax                 map[string]int `json:"hits_max"`
	SameAnswerAs            string         `json:"same_answer_as"`

	// If allowed: what the backend sees.
	MustForward           [][2]string `json:"must_forward"`
	ForwardedIfAllowed    [][2]string `json:"forwarded_if_allowed"`
	MustNotForwardHeaders []string    `json:"must_not_forward_headers"`
	HeaderValuesSingle    []string    `json:"header_values_single"`
	HeaderValuesClean     []string    `json:"header_values_clean"`
	BackendBody           [][2]Value  `json:"backend_body"`
	BackendBodyNot        [][2]Value  `json:"backend_body_not"`
	BackendBodyContains   []string    `json:"backend_body_contains"`
	BackendBodyUnique     bool        `json:"backend_body_unique"`

	// Level http.
	UpstreamHits       *int        `json:"upstream_hits"` // nil: not judged
	UpstreamSaw        [][2]string `json:"upstream_saw"`
	UpstreamSawNot     []string    `json:"upstream_saw_not"`
	UpstreamBody       [][2]Value  `json:"upstream_body"`
	UpstreamPathsOnly  []string    `json:"upstream_paths_only"`
	UpstreamSawHostNot string      `json:"upstream_saw_host_not"`
	ResetOK            bool        `json:"reset_ok"`
}

// After says what must hold at the end of a case.
type After struct {
	HitsMax map[string]int `json:"hits_max"`
}

// Load reads a file of attacks. Whatever it does not know, anywhere, is an error: a case that is understood by half
// would pass for the wrong reason. It makes the file's keys, which takes a moment.
func Load(text []byte) (*Suite, error) {
	s := &Suite{}
	if err := json.Unmarshal(text, s, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("read attacks: %w", err)
	}
	if s.Version != 1 {
		return nil, fmt.Errorf("read attacks: version %d, expected 1", s.Version)
	}
	for name, r := range s.TokenRecipes {
		if err := r.check(s); err != nil {
			return nil, fmt.Errorf("token recipe %q: %w", name, err)
		}
	}
	seen := map[string]bool{}
	for _, c := range s.Cases {
		if err := c.check(s); err != nil {
			return nil, fmt.Errorf("case %q: %w", c.ID, err)
		}
		if seen[c.ID] {
			return nil, fmt.Errorf("case %q: a second one of this id", c.ID)
		}
		seen[c.ID] = true
	}
	for name, v := range s.Environment.OpaqueTokens {
		if err := checkGenerators(v); err != nil {
			return nil, fmt.Errorf("opaque token %q: %w", name, err)
		}
	}
	var err error
	s.keys, err = makeKeys(s.Environment.Keys, s.Environment.Certs)
	return s, err
}

func (c *Case) check(s *Suite) error {
	switch {
	case c.ID == "" || c.Group == "" || c.Why == "":
		return errors.New("id, group and why are needed")
	case c.Level != LevelCheck && c.Level != LevelHTTP:
		return fmt.Errorf("level %q, expected check or http", c.Level)
	case len(c.Steps) == 0 && (c.Request == nil || c.Expect == nil):
		return errors.New("neither steps nor a request with what is expected")
	case c.Level == LevelCheck && (c.Usher != "" || c.Bootstrap != "" || c.PadHeaderBytes != 0):
		return errors.New("usher, bootstrap and pad_header_bytes are of level http")
	case c.Usher != "" && c.Usher != "stopped" && c.Usher != "hang":
		return fmt.Errorf("usher %q, expected stopped or hang", c.Usher)
	case c.Bootstrap != "" && c.Bootstrap != WithoutEditFilter:
		return fmt.Errorf("bootstrap %q, expected %q", c.Bootstrap, WithoutEditFilter)
	case c.Level == LevelHTTP && len(c.Steps) > 0:
		return errors.New("steps of level http are not defined")
	}
	for _, f := range []map[string]*Fixture{c.Fixture} {
		if err := checkFixtures(f); err != nil {
			return err
		}
	}
	for name, r := range c.Tokens {
		if err := r.check(s); err != nil {
			return fmt.Errorf("token %q: %w", name, err)
		}
	}
	if err := c.Token.check(s); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	if err := c.Request.check(s, c.Level); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if err := c.Expect.check(c.Level); err != nil {
		return fmt.Errorf("expect: %w", err)
	}
	for i, step := range c.Steps {
		request, expect := or(step.Request, c.Request), or(step.Expect, c.Expect)
		if request == nil || expect == nil {
			return fmt.Errorf("step %d: no request, or nothing expected", i)
		}
		if err := errors.Join(checkFixtures(step.Fixture), step.Token.check(s), request.check(s, c.Level), expect.check(c.Level)); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

func (r *Request) check(s *Suite, level string) error {
	if r == nil {
		return nil
	}
	http := !r.Raw.absent() || len(r.H2) > 0
	switch {
	case http != (level == LevelHTTP):
		return fmt.Errorf("raw and h2 are of level http, all else of level check")
	case !slices.Contains([]string{"", "raw_body", "body", "absent"}, r.BodyAs):
		return fmt.Errorf("body_as %q", r.BodyAs)
	case !slices.Contains([]string{"", "both", "map", "raw", "map_keep_case"}, r.Encode):
		return fmt.Errorf("encode %q", r.Encode)
	}
	for _, name := range []string{r.SourceCertificate, r.DestinationCert} {
		if _, ok := s.Environment.Certs[name]; name != "" && !ok {
			return fmt.Errorf("unknown certificate %q", name)
		}
	}
	values := []Value{r.Method, r.Host, r.Path, r.Scheme, r.Protocol, r.Body, r.SourceCertificateText, r.MetadataContext, r.Raw}
	for _, list := range [][][2]Value{r.Headers, r.ExtraRawHeaders, r.H2} {
		for _, h := range list {
			values = append(values, h[0], h[1])
		}
	}
	for _, v := range values {
		if err := checkGenerators(v); err != nil {
			return err
		}
	}
	return nil
}

func (e *Expect) check(level string) error {
	if e == nil {
		return nil
	}
	if len(e.Status) == 0 {
		return errors.New("no status")
	}
	http := e.UpstreamHits != nil || e.UpstreamSaw != nil || e.UpstreamSawNot != nil || e.UpstreamBody != nil ||
		e.UpstreamPathsOnly != nil || e.UpstreamSawHostNot != "" || e.ResetOK
	if http && level != LevelHTTP {
		return errors.New("upstream_* and reset_ok are of level http")
	}
	check := e.HitsMax != nil || e.SameAnswerAs != "" || e.MustForward != nil || e.ForwardedIfAllowed != nil || e.MustNotForwardHeaders != nil ||
		e.HeaderValuesSingle != nil || e.HeaderValuesClean != nil || e.BackendBody != nil || e.BackendBodyNot != nil ||
		e.BackendBodyContains != nil || e.BackendBodyUnique
	if check && level != LevelCheck {
		return errors.New("at level http upstream_* says what the backend must see")
	}
	return nil
}

func checkFixtures(fs map[string]*Fixture) error {
	for name, f := range fs {
		if !isEndpoint(name) {
			return fmt.Errorf("fixture of unknown endpoint %q", name)
		}
		if f == nil {
			continue
		}
		if f.Status == 0 && !f.Hang && !f.Close {
			return fmt.Errorf("fixture of %q: no status", name)
		}
		if _, err := f.pause(); err != nil {
			return fmt.Errorf("fixture of %q: %w", name, err)
		}
		if err := checkGenerators(f.Body); err != nil {
			return fmt.Errorf("fixture of %q: %w", name, err)
		}
	}
	return nil
}

func or[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}
