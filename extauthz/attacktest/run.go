package attacktest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
)

// Gate is what is attacked. Its methods are safe for concurrent use.
type Gate interface {
	// Check decides a request, as envoy.service.auth.v3 says.
	Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error)
	// Panics returns how many checks ended in a panic that the gate recovered from.
	Panics() uint64
	// Stop ends all that runs in the background, and waits for it.
	Stop()
}

// Setup is what a gate runs on.
type Setup struct {
	Manifests []byte            // a file of the environment's manifests
	Transport http.RoundTripper // the only way to issuers and backend
	Log       *Journal          // takes every log line, of every level
}

// Start starts a gate. It is called inside of a bubble: whatever it starts must belong to the gate.
type Start func(Setup) (Gate, error)

// Options say how cases run. Start is needed.
type Options struct {
	Start Start
	// Slack is how many times max_ms an answer may take of real time, as machines are loaded and the race detector slows
	// them; time that is spent waiting is judged by the bubble's clock, without slack. Zero is 10.
	Slack int
	// Report takes what is wrong with a case. Nil reports it to the test.
	Report func(problem string)
}

// Result is what became of a case.
type Result struct {
	Statuses  []int // of each answer
	Preferred bool  // each was the first that the case lists
}

// maxRead is what a gate may read of one answer: 1 MB, and one buffer more. A look-up may read on until it has a thread's
// metadata, in which people keep what they like, so that it is bounded at four times that.
const (
	maxRead       = 1<<20 + 64<<10
	maxReadLookup = 4<<20 + 64<<10
)

// Run runs a case of level check, once for each encoding, each in a bubble and with a gate of its own. What is wrong is
// reported to t.
func (s *Suite) Run(t *testing.T, c *Case, o Options) (result Result) {
	result.Preferred = true
	if c.Level != LevelCheck {
		t.Fatalf("case %s is of level %s", c.ID, c.Level)
	}
	clock := newRealClock()
	defer clock.stop()
	for _, encoding := range c.encodings() {
		synctest.Test(t, func(t *testing.T) {
			r := &run{report: o.reporter(t), suite: s, id: c.ID, encoding: encoding, slack: o.slack(), clock: clock, result: &result}
			if err := r.start(o, c.Fixture); err != nil {
				r.problem("%v", err)
				return
			}
			defer r.stop()
			if !c.Fresh {
				r.world.ResetHits()
			}
			r.play(c)
		})
	}
	return result
}

// Sweep runs all those cases against one gate in their order, and again in the reverse one. It returns the statuses of
// each run by case. Cases that need a gate of their own, or have several steps, are left out.
func (s *Suite) Sweep(t *testing.T, cases []*Case, o Options) (there, back map[string][]int) {
	there, back = map[string][]int{}, map[string][]int{}
	clock := newRealClock()
	defer clock.stop()
	synctest.Test(t, func(t *testing.T) {
		var result Result
		r := &run{report: o.reporter(t), suite: s, id: "sweep", slack: o.slack(), clock: clock, result: &result}
		if err := r.start(o, nil); err != nil {
			r.problem("%v", err)
			return
		}
		defer r.stop()
		reverse := slices.Clone(cases)
		slices.Reverse(reverse)
		for _, pass := range []struct {
			cases []*Case
			into  map[string][]int
		}{{cases, there}, {reverse, back}} {
			for _, c := range pass.cases {
				if !c.Shareable() {
					continue
				}
				result.Statuses, r.encoding, r.id = nil, c.encodings()[0], c.ID
				r.secrets = newSecrets(s)
				r.world.ResetHits()
				r.play(c)
				pass.into[c.ID] = result.Statuses
			}
		}
	})
	return there, back
}

// Shareable reports whether the case can run beside others against one gate.
func (c *Case) Shareable() bool {
	return c.Level == LevelCheck && !c.Fresh && len(c.Steps) == 0 && len(c.Fixture) == 0
}

func (c *Case) encodings() []string {
	if c.Request != nil {
		return c.Request.encodings()
	}
	return c.Steps[0].Request.encodings()
}

func (o Options) slack() int {
	if o.Slack <= 0 {
		return 10
	}
	return o.Slack
}

func (o Options) reporter(t *testing.T) func(string) {
	if o.Report != nil {
		return o.Report
	}
	return func(problem string) { t.Error(problem) }
}

// run is one run of one case: a world, a gate, and what was minted.
type run struct {
	report   func(string)
	suite    *Suite
	id       string
	encoding string
	slack    int
	clock    *realClock
	result   *Result

	world   *World
	gate    Gate
	journal *Journal
	logged  int // how much of the journal has been looked at
	secrets *secrets
}

func (r *run) start(o Options, fixtures map[string]*Fixture) error {
	urls := MemoryURLs()
	r.world, r.journal, r.secrets = NewWorld(r.suite, urls), &Journal{}, newSecrets(r.suite)
	if err := r.world.Install(fixtures); err != nil {
		return err
	}
	manifests, err := r.suite.Manifests(urls)
	if err != nil {
		return err
	}
	if r.gate, err = o.Start(Setup{Manifests: manifests, Transport: r.world, Log: r.journal}); err != nil {
		return fmt.Errorf("start the gate: %w", err)
	}
	synctest.Wait() // until the keys are there, or hang
	return nil
}

// problem reports what is wrong with the case that runs.
func (r *run) problem(format string, args ...any) {
	r.report(fmt.Sprintf("%s (%s): ", r.id, r.encoding) + fmt.Sprintf(format, args...))
}

// stop ends the gate and judges what holds for a run as a whole. A goroutine that outlives it makes the bubble panic.
func (r *run) stop() {
	r.gate.Stop()
	if n := r.gate.Panics(); n > 0 {
		r.problem("%d checks ended in a panic:\n%s", n, short(r.journal.String()))
	}
	for _, call := range r.world.Strange() {
		r.problem("the gate made %s", call)
	}
	for endpoint, n := range r.world.mostRead() {
		limit := int64(maxRead)
		if endpoint == "backend" {
			limit = maxReadLookup
		}
		if n > limit {
			r.problem("the gate read %d bytes of one answer of %s", n, endpoint)
		}
	}
	time.Sleep(time.Minute) // for what ends by a deadline of its own
}

// play sends the requests of a case.
func (r *run) play(c *Case) {
	vars := &variables{}
	g := &lab{suite: r.suite, urls: r.world.urls, made: r.secrets.token}
	g.vars = func(name string) (string, error) { return vars.value(g, c, name) }
	steps := c.Steps
	if len(steps) == 0 {
		steps = []*Step{{Parallel: c.Parallel}}
	}
	for i, step := range steps {
		if err := r.step(g, vars, c, step); err != nil {
			r.problem("step %d: %v", i, err)
			return
		}
	}
	if c.After != nil {
		r.judgeHits(c, c.After.HitsMax)
	}
}

func (r *run) step(g *lab, vars *variables, c *Case, step *Step) error {
	if err := r.world.Install(step.Fixture); err != nil {
		return err
	}
	if step.AdvanceS > 0 {
		time.Sleep(time.Duration(step.AdvanceS * float64(time.Second)))
		synctest.Wait()
	}
	request, expect := or(step.Request, c.Request), or(step.Expect, c.Expect)
	shots := make([]*seen, 0, max(step.Repeat, step.Parallel, 1))
	checks := make([]*authv3.CheckRequest, 0, cap(shots))
	vars.own = step.Token
	for range cap(shots) {
		vars.request, vars.current = request, ""
		client, err := request.client(g, c.Token != nil || step.Token != nil)
		if err != nil {
			return err
		}
		check, err := request.encode(g, client, r.encoding)
		if err != nil {
			return err
		}
		r.secrets.allow(client.host, client.method, bare(client.path))
		shots, checks = append(shots, &seen{request: request, client: client, alone: step.Parallel <= 1}), append(checks, check)
	}
	var group sync.WaitGroup
	slots := make(chan struct{}, max(step.Parallel, 1))
	for i, shot := range shots {
		slots <- struct{}{}
		group.Go(func() {
			r.send(shot, checks[i])
			<-slots
		})
	}
	group.Wait()
	r.judge(c, shots, expect)
	if expect.SameAnswerAs != "" {
		return r.compare(g, c, request, shots[0], expect.SameAnswerAs)
	}
	return nil
}

// send asks the gate and takes the time. The answer goes through the wire format: what gRPC cannot send is no answer.
func (r *run) send(a *seen, check *authv3.CheckRequest) {
	began, real := time.Now(), r.clock.now()
	response, err := r.gate.Check(context.Background(), check)
	a.fake, a.real, a.err = time.Since(began), r.clock.now()-real, err
	if err != nil || response == nil {
		a.response = response
		return
	}
	wire, err := proto.Marshal(response)
	if err != nil {
		a.err = fmt.Errorf("encode the answer: %w", err)
		return
	}
	a.response = &authv3.CheckResponse{}
	a.err = proto.Unmarshal(wire, a.response)
}

// judge judges the answers to a step: each by itself, and what they and the log say for secrets.
func (r *run) judge(c *Case, answers []*seen, e *Expect) {
	var refused, other strings.Builder
	text := r.journal.String()
	for i, a := range answers {
		v := r.suite.judge(a, e, r.slack)
		r.result.Statuses = append(r.result.Statuses, v.status)
		if v.status != e.Status[0] {
			r.result.Preferred = false
		}
		told := &other
		if v.status == http.StatusUnauthorized {
			told = &refused
		}
		told.WriteString(answerText(a.response) + "\n")
		if i == len(answers)-1 {
			for _, secret := range slices.Concat(r.secrets.find(refused.String(), true), r.secrets.find(other.String(), false)) {
				v.problem("the answer holds %s", secret)
			}
			for _, secret := range r.secrets.find(text[r.logged:], refused.Len() > 0) {
				v.problem("the log holds %s", secret)
			}
		}
		if len(v.problems) > 0 {
			r.problem("\n- %s\nwhy:      %s\nrequest:  %s\nexpected: %s\ngot:      %s\nlog:      %s",
				strings.Join(v.problems, "\n- "), c.Why, describe(a.request, c), e, show(a.response), short(lastLine(text)))
		}
	}
	r.logged = len(text)
	r.judgeHits(c, e.HitsMax)
}

func (r *run) judgeHits(c *Case, most map[string]int) {
	hits := r.world.Hits()
	for endpoint, n := range most {
		if hits[endpoint] > n {
			r.problem("%d calls to %s, expected at most %d\nwhy: %s", hits[endpoint], endpoint, n, c.Why)
		}
	}
}

// compare sends the request for another path: both answers must be the same to the client.
func (r *run) compare(g *lab, c *Case, request *Request, first *seen, path string) error {
	other := *request
	other.Path = textValue(path)
	client, err := other.client(g, c.Token != nil)
	if err != nil {
		return err
	}
	check, err := other.encode(g, client, r.encoding)
	if err != nil {
		return err
	}
	second := &seen{request: &other, client: client}
	r.send(second, check)
	a, b := first.response.GetDeniedResponse(), second.response.GetDeniedResponse()
	if a.GetStatus().GetCode() != b.GetStatus().GetCode() || a.GetBody() != b.GetBody() || second.err != nil {
		r.problem("the answer differs from that for %s:\n%s\n%s\nwhy: %s", path, show(first.response), show(second.response), c.Why)
	}
	return nil
}
