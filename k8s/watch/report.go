package watch

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

const writesPerSecond = 100

// status writes conditions and events, in the replica that is elected.
type status struct {
	log    *zap.Logger
	health func() map[string]token.Status // nil: nothing is said of it
	client client.Client
	lease  *lease
	events *reporter
	ready  chan struct{} // closed by the first update
	kick   chan struct{}

	mu       sync.Mutex
	store    *store
	verdicts map[string]verdict
	refused  policy.Problems
	version  int

	settled map[string]settled // by file; of the goroutine that writes
}

// settled is what was found to stand in an object's status.
type settled struct {
	in     *unstructured.Unstructured
	wanted []metav1.Condition
	wrong  string // why it could not be written; said once
}

func newStatus(w *Watcher) (*status, error) {
	s := &status{log: w.Logger, health: w.Health, ready: make(chan struct{}), kick: make(chan struct{}, 1), settled: map[string]settled{}}
	var err error
	if w.Namespace == "" {
		return s, nil
	}
	if s.client, err = newClient(w.Config, writesPerSecond); err != nil {
		return nil, err
	}
	if s.lease, err = newLease(w.Config, w.Namespace); err != nil {
		return nil, err
	}
	s.events, err = newReporter(w)
	return s, err
}

// follow says where the objects are as the API server has them.
func (s *status) follow(to *store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store = to
}

// update says what became of all objects, and why they were not put in force, if so.
func (s *status) update(verdicts map[string]verdict, refused policy.Problems) {
	s.mu.Lock()
	first := s.verdicts == nil
	s.verdicts, s.refused = verdicts, refused
	s.version++
	s.mu.Unlock()
	if first {
		close(s.ready)
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// run writes what is new, and the health of providers at times, until ctx ends.
func (s *status) run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { s.events.run(ctx) })
	clear(s.settled) // another replica may have written meanwhile
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	for {
		s.write(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.kick:
		}
	}
}

// write writes what is not settled, of each namespace one object in turn: who changes objects all the time must keep nobody else
// waiting. It begins anew when there is something new and each namespace had its turn.
func (s *status) write(ctx context.Context) {
	s.mu.Lock()
	verdicts, refused, version, objects := s.verdicts, s.refused, s.version, s.store
	s.mu.Unlock()
	for file := range s.settled {
		if _, there := verdicts[file]; !there {
			delete(s.settled, file)
		}
	}
	barred := map[[2]string]bool{} // kinds and namespaces of which no status may be written
	for queues := s.unsettled(verdicts, refused, objects); len(queues) > 0; {
		for namespace, queue := range queues {
			if queues[namespace] = queue[1:]; len(queue) == 1 {
				delete(queues, namespace)
			}
			next := queue[0]
			of := [2]string{next.current.GetKind(), namespace}
			if barred[of] || objects.get(next.file) != next.current {
				continue
			}
			if ctx.Err() != nil || !s.lease.held() {
				return
			}
			err := s.writeOne(ctx, next.current, next.wanted)
			switch {
			case err == nil:
				s.settled[next.file] = settled{in: next.current, wanted: next.wanted}
			case apierrors.IsForbidden(err):
				barred[of] = true // said once, by the observer of requests
			case apierrors.IsConflict(err), apierrors.IsNotFound(err), ctx.Err() != nil: // it changed; that comes here too
			case s.settled[next.file].wrong != err.Error():
				s.settled[next.file] = settled{wrong: err.Error()}
				s.log.Warn("a status cannot be written", zap.String("object", next.file), zap.Error(err))
			}
		}
		s.mu.Lock()
		newer := s.version != version
		s.mu.Unlock()
		if newer {
			s.again()
			return
		}
	}
}

// unwritten is an object of which something else is to be said than what stands in its status.
type unwritten struct {
	file    string
	current *unstructured.Unstructured
	wanted  []metav1.Condition
}

// unsettled are those by namespace, first the objects that are not good, as somebody waits for that.
func (s *status) unsettled(verdicts map[string]verdict, refused policy.Problems, objects *store) map[string][]unwritten {
	var health map[string]token.Status
	if s.health != nil {
		if health = s.health(); health == nil {
			health = map[string]token.Status{}
		}
	}
	out := map[string][]unwritten{}
	for _, good := range []bool{false, true} {
		for file, v := range verdicts {
			if v.good() != good {
				continue
			}
			current := objects.get(file)
			// A newer one will be judged by itself.
			if current == nil || current.GetUID() != v.source.GetUID() || current.Object["spec"] != v.source.Object["spec"] {
				continue
			}
			wanted := v.conditions(refused, health)
			if was := s.settled[file]; was.in == current && reflect.DeepEqual(was.wanted, wanted) {
				continue
			}
			out[current.GetNamespace()] = append(out[current.GetNamespace()], unwritten{file, current, wanted})
		}
	}
	return out
}

func (s *status) again() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// writeOne writes the conditions if they differ from what stands there, and an event if the object became good or bad. The
// resource version makes it fail if anything of the object has changed meanwhile: a replica that does not know yet that it
// lost its lease cannot undo what another wrote.
func (s *status) writeOne(ctx context.Context, current *unstructured.Unstructured, wanted []metav1.Condition) error {
	before := conditionsOf(current)
	after := slices.Clone(before)
	for _, c := range wanted {
		c.ObservedGeneration = current.GetGeneration()
		meta.SetStatusCondition(&after, c)
	}
	if reflect.DeepEqual(before, after) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": current.GetResourceVersion()}, "status": map[string]any{"conditions": after},
	})
	if err != nil {
		return err
	}
	changed := &unstructured.Unstructured{}
	changed.SetGroupVersionKind(current.GroupVersionKind())
	changed.SetNamespace(current.GetNamespace())
	changed.SetName(current.GetName())
	if err := s.client.Status().Patch(ctx, changed, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return err
	}
	s.events.tell(current, before, after)
	return nil
}

func conditionsOf(u *unstructured.Unstructured) []metav1.Condition {
	raw, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	var out []metav1.Condition
	for _, item := range raw {
		m, ok := item.(map[string]any)
		if !ok {
			continue
		}
		var c metav1.Condition
		if runtime.DefaultUnstructuredConverter.FromUnstructured(m, &c) == nil {
			out = append(out, c)
		}
	}
	return out
}
