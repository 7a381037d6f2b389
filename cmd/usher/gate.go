package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/watch"
	"github.com/usher-authz/usher/policy"
)

const (
	// pollReady is how often readiness is looked at until it is there.
	pollReady = 50 * time.Millisecond
	// warmUp is how long a change waits for the keys of its new providers, so that it refuses nobody for lack of them.
	warmUp = 3 * time.Second
)

// gate is the check server with what is in force, and what is known of how it is. It is safe for concurrent use.
type gate struct {
	checks  *extauthz.Server
	log     *zap.Logger
	latency prometheus.Histogram

	connection func() watch.Connection // to the API server; nil: the manifests are files
	// readyWithin is how long readiness waits for all keys once there are manifests; 0: for as long as it takes. In a cluster,
	// whose objects are many people's, a provider that cannot be reached must not keep every new replica from serving.
	readyWithin time.Duration

	recorder *recorder // nil: requests are not recorded

	applying sync.Mutex // one change at a time
	mu       sync.Mutex // guards what follows
	state    *extauthz.State
	since    time.Time
	counted  string
	problems policy.Problems // of the last reading, if it was not put in force
	failedAt time.Time
	first    time.Time       // when there were manifests
	said     map[string]bool // the problems and warnings of the last reading

	// wasReady stays set: a provider that fails later makes its own tokens 503, and taking the whole gate out, all
	// replicas at once, would make everything fail.
	wasReady atomic.Bool
	draining atomic.Bool
}

func newGate(log *zap.Logger, maxRequestBytes int, recorder *recorder) *gate {
	latency := newLatency()
	o := extauthz.Options{Logger: log, MaxRequestBytes: maxRequestBytes, Latency: latency}
	if recorder != nil {
		o.Observer = recorder
	}
	return &gate{checks: extauthz.New(o), log: log, latency: latency, recorder: recorder}
}

// apply puts a reading in force, or keeps what is and returns why.
func (g *gate) apply(ctx context.Context, r watch.Reading) policy.Problems {
	g.applying.Lock()
	defer g.applying.Unlock()
	prev := g.current()
	next, problems := build(prev, r, func(c *token.Config) { c.Logger = g.log })
	if len(problems) > 0 {
		return g.refuse(problems)
	}
	next.Start(context.WithoutCancel(ctx)) // until Stop
	if prev != nil && prev.Ready() {
		waitReady(ctx, next, warmUp)
	}
	g.checks.Swap(next)
	if prev != nil {
		prev.Stop(next)
	}
	g.mu.Lock()
	g.state, g.since, g.counted, g.problems, g.failedAt = next, time.Now(), counted(r), r.Problems, time.Time{}
	if len(r.Problems) > 0 {
		g.failedAt = time.Now()
	}
	if g.first.IsZero() {
		g.first = g.since
	}
	g.mu.Unlock()
	g.say(r.Problems, r.Compiled.Snapshot.Warnings())
	g.log.Info("manifests are in force", zap.String("manifests", counted(r)))
	return nil
}

// say logs what is wrong, of a cluster where each object stands for itself, and what is warned of, unless the reading before
// had it too. One change is called by one goroutine at a time.
func (g *gate) say(problems, warnings policy.Problems) {
	before, shown := g.said, 0
	g.said = map[string]bool{}
	line := func(level zapcore.Level, kind string, p policy.Problem) {
		text := p.Error()
		g.said[text] = true
		if before[text] {
			return
		}
		if shown++; shown <= maxShown {
			g.log.Log(level, "manifest", zap.String(kind, text), zap.String("hint", p.Hint))
		}
	}
	for _, p := range problems {
		line(zap.ErrorLevel, "problem", p)
	}
	for _, w := range warnings {
		line(zap.WarnLevel, "warning", w)
	}
	if shown > maxShown {
		g.log.Warn("manifests: more problems and warnings than are shown", zap.Int("more", shown-maxShown))
	}
}

// refuse keeps what is in force.
func (g *gate) refuse(problems policy.Problems) policy.Problems {
	g.mu.Lock()
	g.problems, g.failedAt = problems, time.Now()
	inForce := g.state != nil
	g.mu.Unlock()
	if inForce {
		for _, p := range problems[:min(len(problems), maxShown)] {
			g.log.Error("manifest", zap.String("problem", p.Error()), zap.String("hint", p.Hint))
		}
		g.log.Error("manifests are invalid; the last good ones stay in force", zap.Int("problems", len(problems)))
	}
	return problems
}

func (g *gate) current() *extauthz.State {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state
}

// waitReady returns when the state is ready, at the latest after limit.
func waitReady(ctx context.Context, s *extauthz.State, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	poll(ctx, s.Ready)
}

// poll returns once done is true, or false when ctx ends.
func poll(ctx context.Context, done func() bool) bool {
	ticker := time.NewTicker(pollReady)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}

// announce says once that the gate is ready, and until then at times who is waited for.
func (g *gate) announce(ctx context.Context, healthy func()) {
	started, next := time.Now(), time.Second
	ok := poll(ctx, func() bool {
		if g.ready() {
			return true
		}
		if waited := time.Since(started); waited >= next {
			since := zap.Duration("since", waited.Round(time.Second))
			switch {
			case g.current() != nil:
				g.log.Warn("not ready: no keys yet; retrying", zap.Strings("providers", g.waitedFor()), since)
			case g.connection != nil:
				g.log.Warn("not ready: no manifests yet", zap.String("problem", g.connection().Problem), since)
			}
			next = max(2*next, 2*waited)
		}
		return false
	})
	if ok {
		healthy()
		if missing := g.waitedFor(); len(missing) > 0 {
			g.log.Warn("ready, without the keys of some providers: their tokens are answered 503", zap.Strings("providers", missing))
			return
		}
		g.log.Info("ready")
	}
}

// ready reports whether every provider of an Enforce policy has had its keys at least once, or was waited for long enough.
func (g *gate) ready() bool {
	if g.wasReady.Load() {
		return true
	}
	s := g.current()
	if s == nil {
		return false
	}
	g.mu.Lock()
	waited := time.Since(g.first)
	g.mu.Unlock()
	if !s.Ready() && (g.readyWithin <= 0 || waited < g.readyWithin) {
		return false
	}
	g.wasReady.Store(true)
	return true
}

func (g *gate) waitedFor() []string {
	var out []string
	for name, status := range g.current().Status() {
		if !status.Ready {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (g *gate) drain() { g.draining.Store(true) }

// close ends what runs in the background.
func (g *gate) close() {
	g.checks.WaitShadows()
	if g.recorder != nil {
		g.recorder.close()
	}
	if s := g.current(); s != nil {
		s.Stop(nil)
	}
}
