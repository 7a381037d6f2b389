package watch

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// Reasons of conditions.
const (
	reasonAccepted   = "Accepted"
	reasonInvalid    = "Invalid"
	reasonConflicted = "Conflicted"
	reasonProgrammed = "Programmed"
	reasonLastGood   = "LastGoodInForce"
	reasonClosed     = "HostsClosed"
	reasonRefused    = "NotPutInForce"
	reasonHealthy    = "Healthy"
	reasonUnhealthy  = "Unhealthy"
)

// maxMessage bounds a condition's message, in bytes; the API allows 32,768.
const maxMessage = 8 << 10

// verdict is what became of one object of the cluster.
type verdict struct {
	source               *unstructured.Unstructured
	problems             policy.Problems
	conflicted, lastGood bool
}

// status writes conditions and events, in the replica that is elected.
type status struct {
	watcher *Watcher
	client  client.Client
	events  events.EventRecorder

	mu       sync.Mutex
	verdicts map[string]verdict
	refused  policy.Problems
	known    bool
	kick     chan struct{}
	once     sync.Once
}

func (s *status) wake() chan struct{} {
	s.once.Do(func() { s.kick = make(chan struct{}, 1) })
	return s.kick
}

// update says what became of all objects, and why they were not put in force, if so.
func (s *status) update(verdicts map[string]verdict, refused policy.Problems) {
	s.mu.Lock()
	s.verdicts, s.refused, s.known = verdicts, refused, true
	s.mu.Unlock()
	select {
	case s.wake() <- struct{}{}:
	default:
	}
}

// told reports whether update was ever called.
func (s *status) told() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known
}

// run writes what is new, and the health of providers at times, until ctx ends.
func (s *status) run(ctx context.Context) error {
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	for {
		s.write(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-s.wake():
		}
	}
}

func (s *status) write(ctx context.Context) {
	s.mu.Lock()
	verdicts, refused := s.verdicts, s.refused
	s.mu.Unlock()
	for _, v := range verdicts {
		if ctx.Err() != nil {
			return
		}
		if err := s.writeOne(ctx, v, s.conditions(v, refused)); err != nil && !apierrors.IsNotFound(err) {
			s.watcher.Logger.Warn("a status cannot be written", zap.String("object", v.source.GetNamespace()+"/"+v.source.GetName()), zap.Error(err))
		}
	}
}

// writeOne writes the conditions if they differ from what stands there, and an event if the object became good or bad.
func (s *status) writeOne(ctx context.Context, v verdict, wanted []metav1.Condition) error {
	current := &unstructured.Unstructured{}
	current.SetGroupVersionKind(v.source.GroupVersionKind())
	if err := s.client.Get(ctx, client.ObjectKeyFromObject(v.source), current); err != nil {
		return err
	}
	if current.GetUID() != v.source.GetUID() || current.GetGeneration() != v.source.GetGeneration() {
		return nil // a newer one will be judged by itself
	}
	before := conditionsOf(current)
	after := append([]metav1.Condition(nil), before...)
	for _, c := range wanted {
		c.ObservedGeneration = v.source.GetGeneration()
		meta.SetStatusCondition(&after, c)
	}
	if reflect.DeepEqual(before, after) {
		return nil
	}
	changed := current.DeepCopy()
	list := make([]any, len(after))
	for i := range after {
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&after[i])
		if err != nil {
			return err
		}
		list[i] = m
	}
	if err := unstructured.SetNestedSlice(changed.Object, list, "status", "conditions"); err != nil {
		return err
	}
	if err := s.client.Status().Patch(ctx, changed, client.MergeFrom(current)); err != nil {
		return err
	}
	s.tell(v, before, after)
	return nil
}

// tell records an event when Accepted changes, or its message.
func (s *status) tell(v verdict, before, after []metav1.Condition) {
	was, is := meta.FindStatusCondition(before, v1alpha1.ConditionAccepted), meta.FindStatusCondition(after, v1alpha1.ConditionAccepted)
	if is == nil || was != nil && was.Status == is.Status && was.Message == is.Message {
		return
	}
	kind := "Normal"
	if is.Status != metav1.ConditionTrue {
		kind = "Warning"
	}
	s.events.Eventf(v.source, nil, kind, is.Reason, "Judge", "%s", cut(is.Message, 1000))
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

// conditions says what became of the object.
func (s *status) conditions(v verdict, refused policy.Problems) []metav1.Condition {
	accepted := metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: reasonAccepted, Message: "Valid."}
	good := len(v.problems) == 0 && !v.lastGood
	if !good {
		accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, reasonInvalid, text(v.problems)
		if v.conflicted {
			accepted.Reason = reasonConflicted
		}
	}
	out := []metav1.Condition{accepted}
	if v.source.GetKind() == v1alpha1.KindAuthPolicy {
		programmed := metav1.Condition{Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionTrue, Reason: reasonProgrammed, Message: "In force."}
		switch {
		case v.lastGood:
			programmed.Status, programmed.Reason, programmed.Message = metav1.ConditionFalse, reasonLastGood, "The last good version is in force."
		case !good:
			programmed.Status, programmed.Reason, programmed.Message = metav1.ConditionFalse, reasonClosed, "No version was ever good: requests to its hosts are answered 503."
		case len(refused) > 0:
			programmed.Status, programmed.Reason, programmed.Message = metav1.ConditionFalse, reasonRefused, text(refused)
		}
		return append(out, programmed)
	}
	if s.watcher.Health == nil {
		return out
	}
	health, known := s.watcher.Health()[v.source.GetNamespace()+"/"+v.source.GetName()]
	healthy := metav1.Condition{Type: v1alpha1.ConditionHealthy, Status: metav1.ConditionTrue, Reason: reasonHealthy, Message: "Tokens can be verified."}
	switch {
	case !known:
		healthy.Status, healthy.Reason, healthy.Message = metav1.ConditionUnknown, reasonUnhealthy, "It is not in force."
	case !health.Ready:
		healthy.Status, healthy.Reason, healthy.Message = metav1.ConditionFalse, reasonUnhealthy, cut("Tokens cannot be verified: "+health.Problem, maxMessage)
	case health.Problem != "":
		healthy.Message = cut("Tokens can be verified, but: "+health.Problem, maxMessage)
	}
	return append(out, healthy)
}

// text writes problems as usher validate does, without the place in a file.
func text(ps policy.Problems) string {
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteByte('\n')
		}
		if b.Len() > maxMessage {
			fmt.Fprintf(&b, "and %d more", len(ps)-i)
			break
		}
		p.Pos = policy.Position{Path: p.Pos.Path}
		b.WriteString(p.Error())
		if p.Hint != "" {
			b.WriteString(" (" + p.Hint + ")")
		}
	}
	if b.Len() == 0 {
		return "Not valid."
	}
	return cut(b.String(), maxMessage)
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-3], "") + "..."
}
