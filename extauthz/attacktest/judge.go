package attacktest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// seen is one answer of the gate, and what it answers.
type seen struct {
	request    *Request
	client     client
	response   *authv3.CheckResponse
	err        error
	fake, real time.Duration // how long it took by the bubble's clock, and by a real one
	alone      bool          // no other request was under way: the real time says something
}

// verdict is what became of an answer.
type verdict struct {
	status   int // 200: allowed, or answered by the gate itself
	allowed  bool
	upstream Upstream
	problems []string
}

func (v *verdict) problem(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

// judge holds an answer against the invariants and against what the case expects.
func (s *Suite) judge(a *seen, e *Expect, slack int) verdict {
	v := verdict{}
	if a.err != nil {
		v.problem("the check ended with an RPC error, which failure_mode_allow turns into a pass: %v", a.err)
		return v
	}
	s.invariants(a, &v)
	if !slices.Contains(e.Status, v.status) {
		v.problem("status %d, expected %v", v.status, []int(e.Status))
	}
	denied := a.response.GetDeniedResponse()
	challenges := headerValues(denied.GetHeaders(), "www-authenticate")
	judgeChallenges(e, challenges, v.problem)
	if e.RetryAfter && len(headerValues(denied.GetHeaders(), "retry-after")) == 0 {
		v.problem("no Retry-After")
	}
	if limit := time.Duration(e.MaxMS) * time.Millisecond; limit > 0 {
		if a.fake > limit {
			v.problem("the answer took %v, expected at most %v", a.fake, limit)
		}
		if a.alone && a.real > limit*time.Duration(slack) {
			v.problem("the answer took %v of real time, expected at most %v, %d times that here", a.real, limit, slack)
		}
	}
	if v.allowed {
		judgeUpstream(e, v.upstream, v.problem)
	}
	return v
}

func judgeChallenges(e *Expect, challenges []string, problem func(string, ...any)) {
	all := strings.Join(challenges, ", ")
	for _, want := range e.WWWAuthenticateContains {
		if !strings.Contains(all, want) {
			problem("WWW-Authenticate %q, expected it to contain %q", all, want)
		}
	}
	for _, unwanted := range e.WWWAuthenticateLacks {
		if strings.Contains(all, unwanted) {
			problem("WWW-Authenticate %q, expected it to lack %q", all, unwanted)
		}
	}
}

// invariants finds what no answer may be, and fills in the verdict's status.
func (s *Suite) invariants(a *seen, v *verdict) {
	code, ok, denied := a.response.GetStatus().GetCode(), a.response.GetOkResponse(), a.response.GetDeniedResponse()
	if a.response == nil || a.response.GetStatus() == nil {
		v.problem("the answer has no status, which allows")
		v.status, v.allowed = http.StatusOK, true
		return
	}
	if code == 0 {
		v.status, v.allowed = http.StatusOK, true
		if ok == nil || denied != nil {
			v.problem("an allow without ok_response")
		}
		s.allow(a, v)
		return
	}
	if denied == nil {
		v.problem("a denial without denied_response")
		return
	}
	v.status = int(denied.GetStatus().GetCode())
	switch {
	case v.status == http.StatusOK:
		// The one 200 of a denial: a search that can find nothing, answered by the gate itself.
		want := map[bool]string{true: "0", false: "[]"}[strings.HasSuffix(bare(a.client.path), "/count")]
		if !strings.HasSuffix(bare(a.client.path), "/search") && want != "0" || denied.GetBody() != want {
			v.problem("a denial with status 200 that is no empty search")
		}
	case v.status < 400:
		v.problem("a denial with status %d", v.status)
	case v.status == http.StatusUnauthorized && len(headerValues(denied.GetHeaders(), "www-authenticate")) == 0:
		v.problem("a 401 without a challenge (RFC 9110, section 15.5.2)")
	case v.status == http.StatusServiceUnavailable && len(headerValues(denied.GetHeaders(), "retry-after")) == 0:
		v.problem("a 503 without Retry-After")
	}
}

// allow judges an allowing answer.
func (s *Suite) allow(a *seen, v *verdict) {
	guard := s.guardOf(a.client.host, a.request.ContextExtensions[s.Environment.ContextExtensionKey])
	if guard == nil {
		v.problem("allowed, but no policy guards host %q", a.client.host)
		return
	}
	ok := a.response.GetOkResponse()
	for _, name := range s.identityHeaders(guard) {
		set, removed := 0, 0
		for _, h := range ok.GetHeaders() {
			if strings.EqualFold(h.GetHeader().GetKey(), name) {
				set++
				if h.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
					v.problem("header %q is set with %s, expected OVERWRITE_IF_EXISTS_OR_ADD", name, h.GetAppendAction())
				}
			}
		}
		for _, n := range ok.GetHeadersToRemove() {
			if strings.EqualFold(n, name) {
				removed = 1
			}
		}
		if set+removed != 1 {
			v.problem("header %q is set %d times and removed %d times, expected just one of them", name, set, removed)
		}
	}
	var problems []string
	v.upstream, problems = apply(a.client, a.response, overwrites)
	v.problems = append(v.problems, problems...)
	other, _ := apply(a.client, a.response, appends)
	if fmt.Sprint(v.upstream) != fmt.Sprint(other) {
		v.problem("the backend would see another request where an unset append means append:\n  %v\n  %v", v.upstream.Headers, other.Headers)
	}
}

// judgeUpstream holds what the backend sees against what the case expects of it.
func judgeUpstream(e *Expect, u Upstream, problem func(string, ...any)) {
	for _, h := range slices.Concat(e.MustForward, e.ForwardedIfAllowed) {
		if got := u.values(h[0]); len(got) != 1 || got[0] != h[1] {
			problem("the backend sees %s: %q, expected just %q", h[0], got, h[1])
		}
	}
	for _, name := range e.MustNotForwardHeaders {
		if got := u.values(name); len(got) > 0 {
			problem("the backend sees %s: %q, expected no such header", name, got)
		}
	}
	for _, name := range slices.Concat(e.HeaderValuesSingle, e.HeaderValuesClean) {
		got := u.values(name)
		if len(got) > 1 {
			problem("the backend sees %s: %q, expected one value at most", name, got)
		}
		if slices.Contains(e.HeaderValuesClean, name) && slices.ContainsFunc(got, dirty) {
			problem("the backend sees %s: %q, with characters that control or reorder text", name, got)
		}
	}
	judgeBody(u.Body, e.BackendBody, e.BackendBodyNot, e.BackendBodyContains, e.BackendBodyUnique, problem)
}

// dirty finds control and bidirectional formatting characters (Unicode's Cc and Cf), and what is no text.
func dirty(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) })
}

func judgeBody(body []byte, has, hasNot [][2]Value, contains []string, unique bool, problem func(string, ...any)) {
	for _, text := range contains {
		if !strings.Contains(string(body), text) {
			problem("the backend's body lacks %q: %s", text, short(string(body)))
		}
	}
	if len(has)+len(hasNot) == 0 && !unique {
		return
	}
	v, err := parseValue(body) // which refuses repeated names
	if err != nil {
		problem("the backend's body is not strict JSON: %v: %s", err, short(string(body)))
		return
	}
	for i, pair := range slices.Concat(has, hasNot) {
		at, err := v.at(pair[0].text)
		if err != nil {
			problem("%v", err)
		} else if want := i < len(has); at.equal(pair[1]) != want {
			problem("the backend's body has %s at %s, expected %s%s", at, pair[0].text, map[bool]string{false: "anything but "}[want], pair[1])
		}
	}
}

func headerValues(headers []*corev3.HeaderValueOption, name string) (out []string) {
	for _, h := range headers {
		if strings.EqualFold(h.GetHeader().GetKey(), name) {
			out = append(out, h.GetHeader().GetValue()+string(h.GetHeader().GetRawValue()))
		}
	}
	return out
}

// short cuts a text for a message.
func short(s string) string {
	if len(s) > 400 {
		return s[:300] + fmt.Sprintf("... (%d bytes)", len(s))
	}
	return s
}
