package watch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

// patience is how long a first reading waits for Secrets and ConfigMaps that the API server fails to show: what is not there
// is a problem, and what could not be read just now is none yet.
const patience = 15 * time.Second

// loop reads and delivers what the store has, after every change, until ctx ends.
func (w *Watcher) loop(ctx context.Context, s *store, deliver func(Reading) policy.Problems) {
	// What an earlier store had, and this one has not, is gone.
	for file := range w.known {
		if s.get(file) == nil {
			s.change(file, nil)
		}
	}
	w.status.follow(s)
	w.wait("")
	begun := time.Now()
	for {
		changed := w.read(ctx, s)
		if ctx.Err() != nil {
			return
		}
		settle := clusterSettle
		switch {
		case !w.compiled && len(w.documents.failing()) > 0 && time.Since(begun) < patience:
			settle = retryEvery
			w.notice()
		case changed || !w.compiled:
			w.compile(deliver)
			w.compiled = true
			continue // what stands in for a bad version may refer to something else
		}
		select {
		case <-ctx.Done():
			return
		case <-w.changed:
		}
		// Whoever changes objects all the time has half of the time for it.
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(settle, w.took)):
		}
		select {
		case <-w.changed:
		default:
		}
	}
}

// read takes what changed, with the Secrets and ConfigMaps that it refers to; true if something must be compiled.
func (w *Watcher) read(ctx context.Context, s *store) (changed bool) {
	fresh := map[reference]bool{} // read anew: who changes an object may have changed its Secret just before
	for file, u := range s.take() {
		old := w.known[file]
		switch {
		case u == nil && old == nil:
		case u == nil:
			delete(w.known, file)
			changed = true
		case old != nil && same(old, u):
			if old.source.GetGeneration() != u.GetGeneration() {
				w.status.again()
			}
			old.source = u
		default:
			o := readObject(u)
			switch {
			case old == nil:
			case old.source.GetUID() == u.GetUID():
				o.lastRefs = old.lastRefs
			default: // another object of the same name, as kubectl replace --force makes
				w.keeper.Forget(file)
			}
			for _, r := range bounded(o.refs) {
				fresh[r] = true
			}
			w.known[file] = o
			changed = true
		}
	}
	all := map[reference]bool{}
	for _, o := range w.known {
		for _, r := range append(bounded(o.refs), o.lastRefs...) {
			all[r] = true
		}
	}
	for _, r := range w.documents.want(all) {
		fresh[r] = true
	}
	w.documents.read(ctx, slices.Collect(maps.Keys(fresh)))
	return w.documents.take() || changed
}

// inOrder returns the objects in order of age, and the documents after them.
func (w *Watcher) inOrder() []*object {
	out := slices.SortedFunc(maps.Values(w.known), older)
	var docs []*object
	for _, r := range w.documents.all() {
		if d, _ := w.documents.get(r); d.object != nil {
			docs = append(docs, d.object)
		}
	}
	slices.SortFunc(docs, func(a, b *object) int { return strings.Compare(a.file, b.file) })
	return append(out, docs...)
}

// maxProblems is how many problems of one object are held: past that the first ones matter more than the rest.
const maxProblems = 100

func few(ps policy.Problems) policy.Problems {
	n := len(ps) - maxProblems
	if n <= 0 {
		return ps
	}
	at := ps[maxProblems].Pos
	at.Path, at.Stored = "", true // in order it comes after those that are shown
	more := policy.Problem{Pos: at, Found: fmt.Sprintf("and %d more", n)}
	return append(slices.Clone(ps[:maxProblems]), more)
}

// compile makes a reading of the objects, delivers it, and tells the status.
func (w *Watcher) compile(deliver func(Reading) policy.Problems) {
	begun := time.Now()
	objects := w.inOrder()
	parsed := make([]manifest.Object, 0, len(objects))
	r := Reading{Objects: len(w.known)}
	for _, o := range objects {
		parsed = append(parsed, o.parsed)
	}
	compiled, verdicts := w.keeper.Compile(parsed)
	r.Compiled = compiled
	w.mu.Lock()
	w.objects, w.inForce = parsed, compiled
	w.mu.Unlock()
	out := make(map[string]verdict, len(w.known))
	for _, o := range objects {
		v := verdicts[o.file]
		problems := slices.Concat(o.problems, v.Problems)
		if len(problems) > 0 && o.source != nil {
			problems = append(problems, w.documents.problems(o)...)
		}
		problems = few(problems.Sort())
		r.Problems = append(r.Problems, problems...)
		if o.source == nil {
			continue
		}
		o.lastRefs = nil
		if v.LastGood {
			for _, name := range w.keeper.SecretRefs(o.file) {
				o.lastRefs = append(o.lastRefs, reference{v1alpha1.KindSecret, o.parsed.Namespace, name})
			}
		}
		shadow := o.parsed.AuthPolicy != nil && o.parsed.AuthPolicy.Spec.Mode == v1alpha1.Shadow
		out[o.file] = verdict{source: o.source, problems: problems, conflicted: v.Conflicted, notGranted: v.NotGranted, lastGood: v.LastGood, shadow: shadow, idle: v.Idle}
	}
	r.Problems.Sort()
	w.took = time.Since(begun)
	w.Logger.Debug("compiled", zap.Int("objects", len(objects)), zap.Duration("took", w.took))
	refused := deliver(r)
	w.status.update(out, refused)
}
