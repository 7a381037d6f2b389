package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/usher-authz/usher/policy"
)

const (
	// maxReview bounds what a review may send: an object of the API server has at most 1.5 MB, and there may be two.
	maxReview = 4 << 20
	// maxReviews is how many reviews are decided at once, so that a flood of them leaves the processors to checks; maxReading
	// is how many are read at once, so that it leaves them the memory.
	maxReviews, maxReading = 1, 4
	// reviewWithin bounds how long one waits for its turn: less than the API server's own limit, 10 s or what the
	// webhook's configuration says.
	reviewWithin = 4 * time.Second
)

// ServeHTTP answers the API server's question whether an object may be stored (admission.k8s.io/v1): what usher validate
// would call a problem is a denial that kubectl prints. A reference to what is not there yet is a warning, as the objects of
// one file come one after the other. Before the manifests were read once, and when too many ask at once, it answers 503.
func (w *Watcher) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Method != http.MethodPost || media != "application/json" {
		http.Error(out, "expected an AdmissionReview, POSTed as application/json", http.StatusUnsupportedMediaType)
		return
	}
	turn, cancel := context.WithTimeout(r.Context(), reviewWithin)
	defer cancel()
	if !take(turn, w.reading) {
		busy(out)
		return
	}
	text, err := io.ReadAll(http.MaxBytesReader(out, r.Body, maxReview))
	<-w.reading
	if err != nil {
		http.Error(out, fmt.Sprintf("expected an AdmissionReview of at most %d bytes", maxReview), http.StatusRequestEntityTooLarge)
		return
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(text, &review); err != nil || review.Request == nil || review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview" {
		http.Error(out, "expected an AdmissionReview of admission.k8s.io/v1 with a request", http.StatusBadRequest)
		return
	}
	if !take(turn, w.reviewing) {
		busy(out)
		return
	}
	defer func() { <-w.reviewing }()
	answer, err := w.review(review.Request)
	if err != nil {
		http.Error(out, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer.UID = review.Request.UID
	review.Request, review.Response = nil, answer
	body, err := json.Marshal(review)
	if err != nil {
		http.Error(out, "the answer cannot be written", http.StatusInternalServerError)
		return
	}
	out.Header().Set("Content-Type", "application/json")
	_, _ = out.Write(body) // whoever asked has gone
}

// take takes a place; false: none became free in time.
func take(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func busy(out http.ResponseWriter) {
	http.Error(out, "too many reviews at once", http.StatusServiceUnavailable)
}

func (w *Watcher) review(r *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	if r.Operation != admissionv1.Create && r.Operation != admissionv1.Update {
		return &admissionv1.AdmissionResponse{Allowed: true}, nil
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(r.Object.Raw); err != nil || !slices.Contains(clusterKinds, u.GroupVersionKind()) {
		return denied("expected an IdentityProvider or AuthPolicy of usher.dev/v1alpha1"), nil
	}
	if u.GetNamespace() == "" {
		u.SetNamespace(r.Namespace)
	}
	if u.GetNamespace() != r.Namespace {
		return denied(fmt.Sprintf("expected an object of namespace %q, which the request names", r.Namespace)), nil
	}
	if u.GetName() == "" { // metadata.generateName: the name comes later
		u.SetName("generated")
	}
	w.mu.Lock()
	others, prev, waiting := w.objects, w.inForce, w.waiting
	w.mu.Unlock()
	if prev == nil {
		return nil, fmt.Errorf("the manifests were not read yet: %s", waiting)
	}
	o := readObject(compacted(u))
	problems := append(slices.Clone(o.problems), w.keeper.Review(o.parsed, others, prev)...).Sort()
	answer := &admissionv1.AdmissionResponse{Allowed: true}
	var wrong policy.Problems
	for _, p := range problems {
		if p.Unresolved {
			answer.Warnings = append(answer.Warnings, cut(text(policy.Problems{p}), 250))
			continue
		}
		wrong = append(wrong, p)
	}
	if len(wrong) > 0 {
		refused := denied(text(wrong))
		refused.Warnings = answer.Warnings
		return refused, nil
	}
	return answer, nil
}

func denied(message string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Message: message,
	}}
}
