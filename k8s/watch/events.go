package watch

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

const (
	eventsPerSecond = 20
	// eventsWaiting bounds the events that wait to be written, and eventsOfOne those of one namespace; past that they are left out,
	// as conditions say the same.
	eventsWaiting = 1000
	eventsOfOne   = 100
	// maxNote bounds what an event says, in bytes (events.k8s.io).
	maxNote = 1024
)

// reporter writes events, one after the other: they are for people, and nothing waits for them.
type reporter struct {
	client   client.Client
	instance string
	waiting  chan *eventsv1.Event

	mu sync.Mutex
	of map[string]int // how many wait, by namespace
}

func newReporter(w *Watcher) (*reporter, error) {
	c, err := newClient(w.Config, eventsPerSecond)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "usher"
	}
	return &reporter{client: c, instance: cut(host, 128), waiting: make(chan *eventsv1.Event, eventsWaiting), of: map[string]int{}}, nil
}

func (r *reporter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-r.waiting:
			r.count(e.Namespace, -1)
			_ = r.client.Create(ctx, e) // the observer of requests says what is wrong
		}
	}
}

// tell reports that Accepted changed, or its message.
func (r *reporter) tell(of *unstructured.Unstructured, before, after []metav1.Condition) {
	was, is := meta.FindStatusCondition(before, v1alpha1.ConditionAccepted), meta.FindStatusCondition(after, v1alpha1.ConditionAccepted)
	if is == nil || was != nil && was.Status == is.Status && was.Message == is.Message {
		return
	}
	kind := corev1.EventTypeNormal
	if is.Status != metav1.ConditionTrue {
		kind = corev1.EventTypeWarning
	}
	now := metav1.NowMicro()
	name := strings.TrimRight(of.GetName()[:min(len(of.GetName()), 200)], ".-") // with the time it must remain a name
	e := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: of.GetNamespace(), Name: fmt.Sprintf("%s.%x", name, now.UnixNano())},
		EventTime:  now, ReportingController: v1alpha1.Group + "/usher", ReportingInstance: r.instance,
		Action: "Judge", Reason: is.Reason, Type: kind, Note: cut(is.Message, maxNote),
		Regarding: corev1.ObjectReference{
			APIVersion: of.GetAPIVersion(), Kind: of.GetKind(), Namespace: of.GetNamespace(), Name: of.GetName(),
			UID: of.GetUID(), ResourceVersion: of.GetResourceVersion(),
		},
	}
	if !r.count(e.Namespace, 1) {
		return
	}
	select {
	case r.waiting <- e:
	default:
		r.count(e.Namespace, -1)
	}
}

// count counts an event that waits, or does no more; false: of its namespace too many do.
func (r *reporter) count(namespace string, more int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.of[namespace] + more
	switch {
	case n > eventsOfOne:
		return false
	case n == 0:
		delete(r.of, namespace)
	default:
		r.of[namespace] = n
	}
	return true
}
