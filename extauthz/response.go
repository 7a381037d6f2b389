package extauthz

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/usher-authz/usher/envoy/edit"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// answer is a decided request: what extauthz encodes, and no more than that.
type answer struct {
	outcome    policy.Outcome
	detail     string
	body       string        // with Answer
	refusal    string        // the whole body of a denial; empty: detail says it
	document   bool          // with Answer: for everybody, and not of one user
	scopes     []string      // with InsufficientScope
	login      *policy.Login // with StepUp
	challenge  string
	scheme     string // of the challenge; empty: Bearer
	either     bool   // beside Bearer, the DPoP scheme is accepted
	nonce      string // for DPoP proofs
	retryAfter time.Duration
	metadata   string // URL of the RFC 9728 document, for challenges

	set    []policy.Header
	remove []string
	path   string // in place of the request's own; empty: it stays
	edit   *structpb.Struct
}

// status is the one place where an outcome becomes an HTTP status. An outcome that it does not know is our own fault.
func status(o policy.Outcome) (typev3.StatusCode, codes.Code) {
	switch o {
	case policy.Answer:
		return typev3.StatusCode_OK, codes.PermissionDenied
	case policy.Unauthenticated, policy.StepUp:
		return typev3.StatusCode_Unauthorized, codes.Unauthenticated
	case policy.InsufficientScope, policy.Forbidden:
		return typev3.StatusCode_Forbidden, codes.PermissionDenied
	case policy.NotFound:
		return typev3.StatusCode_NotFound, codes.NotFound
	case policy.Conflict:
		return typev3.StatusCode_Conflict, codes.AlreadyExists
	case policy.TooLarge:
		return typev3.StatusCode_PayloadTooLarge, codes.ResourceExhausted
	case policy.Encoded:
		return typev3.StatusCode_UnsupportedMediaType, codes.InvalidArgument
	case policy.BadRequest:
		return typev3.StatusCode_BadRequest, codes.InvalidArgument
	}
	return typev3.StatusCode_ServiceUnavailable, codes.Unavailable
}

// encode writes the CheckResponse.
func (a *answer) encode() ([]byte, error) {
	r := a.response()
	if out, ok := r.encode(); ok {
		return out, nil
	}
	return nil, errors.New("the answer holds text that is not UTF-8")
}

// response makes what is sent of the answer. Only an Allow becomes one that lets the request pass.
func (a *answer) response() response {
	if a.outcome == policy.Allow {
		return a.allow()
	}
	var r response
	r.status, r.code = status(a.outcome)
	r.body = a.body
	if a.outcome != policy.Answer {
		r.body = cmp.Or(a.refusal, detail(a.detail))
	}
	set := func(name, value string) { r.headers = append(r.headers, policy.Header{Name: name, Value: value}) }
	set("content-type", "application/json")
	if a.document {
		// Public, and read by clients that run in a browser (RFC 9728, section 3.1; Fetch standard).
		set("cache-control", "public, max-age=300")
		set("access-control-allow-origin", "*")
	}
	if a.login != nil {
		a.challenge = loginText(a.login)
	}
	if a.nonce != "" {
		// A browser shows a page only the headers that it is told to (Fetch standard, section 3.3.3).
		set("dpop-nonce", a.nonce)
		set("cache-control", "no-store")
		set("access-control-expose-headers", "DPoP-Nonce, WWW-Authenticate")
	}
	switch r.status {
	case typev3.StatusCode_Unauthorized:
		set("www-authenticate", a.challengeOf(a.challenge))
	case typev3.StatusCode_ServiceUnavailable:
		seconds := max(1, int64((a.retryAfter+time.Second-1)/time.Second))
		set("retry-after", strconv.FormatInt(seconds, 10))
	}
	if a.outcome == policy.InsufficientScope {
		set("www-authenticate", a.challengeOf(`error="insufficient_scope", scope="`+scopeText(a.scopes)+`"`))
	}
	return r
}

// allow lets the request pass. No name is in both lists, as Envoy removes after it sets.
func (a *answer) allow() response {
	r := response{code: codes.OK, headers: a.set, remove: a.remove, metadata: a.edit}
	if slices.ContainsFunc(a.set, cleared) {
		r.headers = nil
		for _, h := range a.set {
			if cleared(h) {
				r.remove = append(r.remove, h.Name)
			} else {
				r.headers = append(r.headers, h)
			}
		}
	}
	if a.nonce != "" {
		// For the next proof, before the one that the client has is too old (RFC 9449, section 8.2). A stored answer would
		// hand it out again.
		r.toClient = []policy.Header{{Name: "dpop-nonce", Value: a.nonce}, {Name: "cache-control", Value: "no-store"}}
	}
	path := a.path
	if a.edit != nil {
		path = edit.ParkingPath
	}
	if path != "" {
		r.headers = append(r.headers[:len(r.headers):len(r.headers)], policy.Header{Name: ":path", Value: path})
	}
	return r
}

// cleared says of a header that the backend must not get it.
func cleared(h policy.Header) bool { return h.Value == "" && !h.Keep }

// challengedBy says which schemes the answer's challenge may name: the one that the client used, with the algorithms of proofs
// where that is DPoP, else both where the token is in the Authorization header (RFC 9449, sections 7.1 and 7.2).
func (a *answer) challengedBy(p *policy.Policy, r *request) {
	if p != nil {
		a.metadata = p.ResourceURL
		a.either = p.TokenFrom.Header == "" && p.TokenFrom.Cookie == ""
	}
	if r.dpop && a.scheme == "" {
		a.scheme = "DPoP"
	}
	if r.nonce != nil && a.nonce == "" {
		a.nonce = *r.nonce
	}
}

// challengeOf is a WWW-Authenticate value (RFC 6750, section 3; RFC 9728, section 5.1).
func (a *answer) challengeOf(params string) string {
	text := cmp.Or(a.scheme, "Bearer")
	separator := " "
	add := func(more string) {
		text += separator + more
		separator = ", "
	}
	if params != "" {
		add(params)
	}
	if a.scheme == "DPoP" && !strings.Contains(params, token.ProofAlgs) {
		add(token.ProofAlgs)
	}
	if a.metadata != "" {
		add(`resource_metadata="` + a.metadata + `"`)
	}
	if a.scheme == "" && a.either && a.outcome == policy.Unauthenticated {
		text += ", DPoP " + token.ProofAlgs // RFC 9110, section 11.6.1: a comma is between challenges
	}
	return text
}

// loginText is the challenge for another login (RFC 9470, section 3).
func loginText(l *policy.Login) string {
	text := `error="insufficient_user_authentication", error_description="Another login is needed."`
	if len(l.ACRValues) > 0 {
		text += `, acr_values="` + scopeText(l.ACRValues) + `"`
	}
	if l.MaxAge > 0 {
		text += `, max_age="` + strconv.FormatInt(int64(l.MaxAge/time.Second), 10) + `"`
	}
	return text
}

// scopeText joins scopes, without the characters that a scope cannot have (RFC 6749, section 3.3).
func scopeText(scopes []string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > 0x7e || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, strings.Join(scopes, " "))
}

// detail is the body of a denial, as LangGraph's servers write it.
func detail(text string) string {
	if text == "" {
		text = "Service Unavailable"
	}
	quoted, err := jsontext.AppendQuote([]byte(`{"detail":`), text)
	if err != nil {
		return `{"detail":"error"}`
	}
	return string(append(quoted, '}'))
}

// refusal turns an error into an answer: a *policy.Refusal as it says, anything else into our own fault.
func refusal(err error) (answer, string) {
	var r *policy.Refusal
	if !errors.As(err, &r) || r.Outcome == policy.Allow || r.Outcome == policy.Answer {
		return answer{outcome: policy.Undecided}, err.Error()
	}
	reason := r.Detail
	if r.Err != nil {
		reason = r.Err.Error()
	}
	return answer{outcome: r.Outcome, detail: r.Detail, challenge: r.Challenge, scheme: r.Scheme, nonce: r.Nonce, retryAfter: r.RetryAfter}, reason
}
