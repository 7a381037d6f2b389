package policy

import (
	"fmt"
	"time"
)

// Outcome says how a request ends. The zero value is Undecided, which is answered 503 and never lets a request pass.
type Outcome uint8

// The outcomes. extauthz maps each to its HTTP answer in one place.
const (
	Undecided         Outcome = iota // our own fault: 503
	Allow                            // the request goes on to the backend
	Answer                           // answered by Usher itself with 200: a search that can find nothing
	Unauthenticated                  // 401 and a challenge (RFC 6750, section 3)
	InsufficientScope                // 403 and a challenge that names the scope (RFC 6750, section 3.1)
	Forbidden                        // 403
	NotFound                         // 404: unknown route, or an object that is not the caller's
	Conflict                         // 409: a create or copy that hits an object that is not the caller's
	TooLarge                         // 413: the body is needed and Envoy cut it off
	Encoded                          // 415: the body is needed and has a content-encoding
	BadRequest                       // 400: the path or the body is not what it must be
	Unavailable                      // 503 with Retry-After: a provider or the backend cannot be asked
	StepUp                           // 401 and a challenge that says what login is needed (RFC 9470, section 3)
)

var outcomeNames = [...]string{
	Undecided: "undecided", Allow: "allow", Answer: "answer", Unauthenticated: "unauthenticated",
	InsufficientScope: "insufficient_scope", Forbidden: "forbidden", NotFound: "not_found", Conflict: "conflict",
	TooLarge: "too_large", Encoded: "encoded", BadRequest: "bad_request", Unavailable: "unavailable", StepUp: "insufficient_user_authentication",
}

// String returns the outcome's name as decision records and metrics show it.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Refusal is the only error whose text a client sees: Detail and Challenge go out, Err goes to the log. Any other
// error is Usher's own fault and is answered 503.
type Refusal struct {
	Outcome    Outcome
	Detail     string        // for the client; holds no token, claim or internal name
	Challenge  string        // auth-params of WWW-Authenticate after the scheme, such as `error="invalid_token"`; may be empty
	Scheme     string        // of the challenge; empty: Bearer
	Nonce      string        // for the client's next DPoP proof (RFC 9449, section 8); empty: none
	RetryAfter time.Duration // with Unavailable; zero means the default
	Err        error         // for the log only
}

func (r *Refusal) Error() string {
	if r.Err != nil {
		return fmt.Sprintf("%s: %s: %v", r.Outcome, r.Detail, r.Err)
	}
	return fmt.Sprintf("%s: %s", r.Outcome, r.Detail)
}

// Unwrap returns the error for the log.
func (r *Refusal) Unwrap() error { return r.Err }
