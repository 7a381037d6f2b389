package attacktest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// WithoutEditFilter is the one change of a bootstrap that cases ask for: the edit filter is taken out.
const WithoutEditFilter = "without edit filter"

// Driver sends requests of level http through a real Envoy, whose configuration is the one that Usher generates. What
// stands behind it are the servers of a [World] on sockets.
type Driver interface {
	// Send sends one request and waits for the answer and for what the backend gets. An error is a fault of the test
	// itself; a connection that Envoy resets is an Outcome.
	Send(context.Context, Shot) (Outcome, error)
}

// Shot is one request of level http. Either Raw or H2 is set.
type Shot struct {
	Raw []byte      // the bytes of an HTTP/1.1 request, whatever they are
	H2  [][2]string // the header list of an HTTP/2 request without a body, pseudo-headers among them

	// Usher is how Usher is: empty (it runs), "stopped", or "hang" (it takes checks and never answers).
	Usher string
	// Bootstrap is empty, or WithoutEditFilter.
	Bootstrap string
}

// Outcome is what became of a Shot.
type Outcome struct {
	Status   int         // of the answer; 0 if none came
	Reset    bool        // the connection or the stream was reset instead
	Headers  [][2]string // of the answer
	Body     []byte      // of the answer
	Took     time.Duration
	Upstream []Upstream // requests that the backend got meanwhile
	Log      string     // what Usher logged meanwhile
}

// RunHTTP sends a case of level http and returns what is wrong, nothing if the case passes. An error is a fault of the
// test itself.
func (s *Suite) RunHTTP(ctx context.Context, c *Case, w *World, d Driver) (Result, []string, error) {
	if c.Level != LevelHTTP {
		return Result{}, nil, fmt.Errorf("case %s is of level %s", c.ID, c.Level)
	}
	if err := w.Install(c.Fixture); err != nil {
		return Result{}, nil, err
	}
	defer func() {
		for name := range c.Fixture {
			_ = w.Install(map[string]*Fixture{name: nil})
		}
	}()
	hidden, vars := newSecrets(s), &variables{request: c.Request}
	g := &lab{suite: s, urls: w.urls, made: hidden.token}
	g.vars = func(name string) (string, error) { return vars.value(g, c, name) }
	shot, err := c.shot(g)
	if err != nil {
		return Result{}, nil, fmt.Errorf("case %s: %w", c.ID, err)
	}
	outcome, err := d.Send(ctx, shot)
	if err != nil {
		return Result{}, nil, fmt.Errorf("case %s: %w", c.ID, err)
	}
	problems := s.judgeHTTP(c.Expect, outcome)
	refused := outcome.Status == http.StatusUnauthorized
	for _, text := range []struct{ name, text string }{{"answer", fmt.Sprint(outcome.Headers) + string(outcome.Body)}, {"log", outcome.Log}} {
		// What the backend echoes is its own; a refused request never got there.
		if text.name == "log" || len(outcome.Upstream) == 0 {
			for _, secret := range hidden.find(text.text, refused) {
				problems = append(problems, "the "+text.name+" holds "+secret)
			}
		}
	}
	result := Result{Statuses: []int{outcome.Status}, Preferred: outcome.Status == c.Expect.Status[0]}
	if len(problems) > 0 {
		problems = append(problems, "why: "+c.Why)
	}
	return result, problems, nil
}

// shot fills in what is sent.
func (c *Case) shot(g *lab) (Shot, error) {
	shot := Shot{Usher: c.Usher, Bootstrap: c.Bootstrap}
	pad := strings.Repeat("x", c.PadHeaderBytes)
	if len(c.Request.H2) > 0 {
		var err error
		shot.H2, err = fillHeaders(g, c.Request.H2)
		if pad != "" {
			shot.H2 = append(shot.H2, [2]string{"x-pad", pad})
		}
		return shot, err
	}
	raw, err := g.text(c.Request.Raw)
	if err != nil {
		return shot, err
	}
	if pad != "" {
		line, rest, ok := strings.Cut(raw, "\r\n")
		if !ok {
			return shot, fmt.Errorf("no line to put a header behind")
		}
		raw = line + "\r\nx-pad: " + pad + "\r\n" + rest
	}
	shot.Raw = []byte(raw)
	return shot, nil
}

// judgeHTTP holds an outcome against what the case expects, and against the invariants that show from outside.
func (s *Suite) judgeHTTP(e *Expect, o Outcome) (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	answered := o.Status != 0
	switch {
	case !answered && !o.Reset:
		problem("no answer")
	case !answered && !e.ResetOK:
		problem("the connection was reset, expected status %v", []int(e.Status))
	case answered && !slices.Contains(e.Status, o.Status):
		problem("status %d, expected %v", o.Status, []int(e.Status))
	}
	var challenges []string
	retry := false
	for _, h := range o.Headers {
		if strings.EqualFold(h[0], "www-authenticate") {
			challenges = append(challenges, h[1])
		}
		retry = retry || strings.EqualFold(h[0], "retry-after")
	}
	if answered {
		judgeChallenges(e, challenges, problem)
	}
	if o.Status == http.StatusUnauthorized && len(challenges) == 0 {
		problem("a 401 without a challenge (RFC 9110, section 15.5.2)")
	}
	if e.RetryAfter && !retry {
		problem("no Retry-After")
	}
	if limit := time.Duration(e.MaxMS) * time.Millisecond; limit > 0 && o.Took > httpSlack*limit {
		problem("the answer took %v, expected at most %v, %d times that here", o.Took, limit, httpSlack)
	}
	if e.UpstreamHits != nil && len(o.Upstream) != *e.UpstreamHits {
		problem("the backend got %d requests, expected %d", len(o.Upstream), *e.UpstreamHits)
	}
	needs := len(e.UpstreamSaw)+len(e.UpstreamBody) > 0 && o.Status == http.StatusOK
	if needs && len(o.Upstream) == 0 {
		problem("the answer is 200, but the backend got no request")
	}
	for _, u := range o.Upstream {
		s.judgeArrival(e, u, problem)
	}
	return problems
}

// httpSlack is how many times max_ms an answer may take, as here all time is real: the machine does other things too.
const httpSlack = 10

// judgeArrival judges one request that the backend got.
func (s *Suite) judgeArrival(e *Expect, u Upstream, problem func(string, ...any)) {
	for _, h := range e.UpstreamSaw {
		if got := u.values(h[0]); len(got) != 1 || got[0] != h[1] {
			problem("the backend sees %s: %q, expected just %q", h[0], got, h[1])
		}
	}
	for _, name := range e.UpstreamSawNot {
		if got := u.values(name); len(got) > 0 {
			problem("the backend sees %s: %q, expected no such header", name, got)
		}
	}
	if e.UpstreamPathsOnly != nil && !slices.Contains(e.UpstreamPathsOnly, u.Path) {
		problem("the backend got a request for %q, expected only %q", u.Path, e.UpstreamPathsOnly)
	}
	if e.UpstreamSawHostNot != "" && strings.EqualFold(u.Host, e.UpstreamSawHostNot) {
		problem("the backend got a request for host %q", u.Host)
	}
	judgeBody(u.Body, e.UpstreamBody, nil, nil, false, problem)
	guard := s.guardOf(u.Host, "")
	if guard == nil {
		problem("the backend got a request for host %q, which no policy guards", u.Host)
		return
	}
	for _, name := range s.identityHeaders(guard) {
		if got := u.values(name); len(got) > 1 || name == alwaysClean && len(got) > 0 {
			problem("the backend sees %s: %q", name, got)
		}
	}
}
