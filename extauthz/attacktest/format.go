package attacktest

import (
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
