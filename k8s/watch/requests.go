package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// applyDefinitions is what to do where the definitions are missing.
const applyDefinitions = "kubectl apply --server-side -f k8s/deploy/crds"

// maxRefusal bounds what is read of an answer that refuses.
const maxRefusal = 16 << 10

// request is one kind of request to the API server: what a rule of a Role would have to allow.
type request struct{ verb, group, resource, namespace, name string }

// String writes it as whoever writes a Role needs it.
func (r request) String() string {
	s := r.verb + " " + r.resource
	if r.group != "" {
		s += " of " + r.group
	}
	if r.name != "" {
		s += fmt.Sprintf(" %q", r.name)
	}
	if r.namespace == "" {
		return s + " in the whole cluster"
	}
	return s + " in namespace " + r.namespace
}

// manifests reports whether it is one by which objects are watched.
func (r request) manifests() bool {
	return r.group == v1alpha1.Group && (r.verb == "list" || r.verb == "watch")
}

// requestOf reads what a request is for; false for what is no object of the API server.
func requestOf(base string, r *http.Request) (request, bool) {
	path := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.Path, base), "/"), "/")
	var out request
	switch {
	case len(path) > 2 && path[0] == "api":
		path = path[2:]
	case len(path) > 3 && path[0] == "apis":
		out.group, path = path[1], path[3:]
	default:
		return out, false
	}
	if path[0] == "namespaces" && len(path) > 2 {
		out.namespace, path = path[1], path[2:]
	}
	out.resource = path[0]
	named := len(path) > 1
	if len(path) > 2 {
		out.resource += "/" + path[2]
	}
	switch r.Method {
	case http.MethodGet:
		switch q := r.URL.Query(); {
		case named:
			out.verb, out.name = "get", path[1] // a Role may name the objects
		case q.Get("watch") == "true" || q.Get("watch") == "1":
			out.verb = "watch"
		default:
			out.verb = "list"
		}
	case http.MethodPost:
		out.verb = "create"
	case http.MethodPut:
		out.verb = "update"
	case http.MethodPatch:
		out.verb = "patch"
	case http.MethodDelete:
		out.verb = "delete"
	}
	return out, true
}

// requests notes how the API server answers, so that what lacks is said once, and no longer once it is there. Only what
// goes wrong is held. It is safe for concurrent use.
type requests struct {
	log *zap.Logger

	mu      sync.Mutex
	away    string // why no request comes through; empty: they do
	wrong   map[request]string
	since   time.Time     // the last change of connected
	missing chan struct{} // told when there are no definitions
}

func newRequests(log *zap.Logger) *requests {
	return &requests{log: log, wrong: map[request]string{}, missing: make(chan struct{}, 1)}
}

// observe returns a configuration whose requests are noted.
func (q *requests) observe(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	base := ""
	if u, err := url.Parse(c.Host); err == nil && u.Scheme != "" {
		base = strings.TrimRight(u.Path, "/")
	}
	// Refusals are read here.
	c.AcceptContentTypes, c.ContentType = "application/json", "application/json"
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return observed{next, q, base} })
	return c
}

type observed struct {
	next     http.RoundTripper
	requests *requests
	base     string
}

// RoundTrip implements http.RoundTripper.
func (o observed) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := o.next.RoundTrip(r)
	kind, known := requestOf(o.base, r)
	switch {
	case err != nil && errors.Is(r.Context().Err(), context.Canceled): // it was given up
	case err != nil:
		o.requests.unreachable(err)
	case response.StatusCode == http.StatusUnauthorized:
		o.requests.unreachable(errors.New("it does not accept the credentials (401): see the ServiceAccount's token, or the kubeconfig"))
	default:
		o.requests.reached()
		if known {
			o.requests.note(kind, refusal(kind, response))
		}
	}
	return response, err
}

// refusal says what is wrong with an answer; empty: nothing that the caller would not say better.
func refusal(kind request, r *http.Response) string {
	switch {
	case r.StatusCode == http.StatusNotFound && kind.manifests():
		return noDefinition(kind.resource)
	case r.StatusCode == http.StatusForbidden:
		// What RBAC refuses is a right that lacks; all else (a namespace that ends, a quota, a webhook) says so itself.
		if text := message(r); text != "" && !strings.Contains(text, " cannot ") {
			return "the API server refuses to " + kind.String() + ": " + text
		}
		return "permission is missing: " + kind.String()
	case r.StatusCode == http.StatusNotFound && kind.verb == "create":
		return "the API server refuses to " + kind.String() + ": " + message(r)
	case r.StatusCode == http.StatusTooManyRequests || r.StatusCode >= 500:
		return fmt.Sprintf("the API server answers %d when asked to %s", r.StatusCode, kind)
	}
	return ""
}

// noDefinition says that the definition of a resource is missing.
func noDefinition(resource string) string {
	for _, kind := range clusterKinds {
		if plural, _ := meta.UnsafeGuessKindToResource(kind); plural.Resource == resource {
			resource = kind.Kind
		}
	}
	return "the CustomResourceDefinition of " + resource + " is missing: " + applyDefinitions
}

// message is that of the metav1.Status which the answer has. Whoever reads the answer after that finds it whole.
func message(r *http.Response) string {
	text, err := io.ReadAll(io.LimitReader(r.Body, maxRefusal))
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(text), r.Body), r.Body}
	var status metav1.Status
	if err != nil || json.Unmarshal(text, &status) != nil {
		return ""
	}
	return cut(status.Message, 500)
}

// unreachable notes that a request had no answer, or one to a stranger.
func (q *requests) unreachable(err error) {
	q.change(func() {
		if q.away == "" {
			q.log.Warn("the API server cannot be asked; what is in force stays", zap.Error(err))
		}
		q.away = "the API server cannot be asked: " + cut(err.Error(), 500)
	})
}

func (q *requests) reached() {
	q.change(func() {
		if q.away != "" {
			q.away = ""
			q.log.Info("the API server answers again")
		}
	})
}

// note notes what is wrong with a kind of request; empty: nothing.
func (q *requests) note(kind request, problem string) {
	q.change(func() {
		was, failing := q.wrong[kind]
		if list := (request{"list", kind.group, kind.resource, kind.namespace, ""}); problem == "" && kind.verb == "watch" {
			delete(q.wrong, list) // a watch that begins with what there is needs no list, which is asked for no more
		}
		switch {
		case problem == "" && failing:
			delete(q.wrong, kind)
			q.log.Info("the API server accepts this again", zap.Stringer("request", kind))
		case problem == "":
		default:
			q.wrong[kind] = problem
			gone := problem == noDefinition(kind.resource) // which the watcher says
			if problem != was && !gone {
				q.log.Warn("the API server refuses; what is in force stays", zap.String("problem", problem))
			}
			if gone {
				select {
				case q.missing <- struct{}{}:
				default:
				}
			}
		}
	})
}

// forget drops what was wrong with requests that are made no more.
func (q *requests) forget(of func(request) bool) {
	q.change(func() { maps.DeleteFunc(q.wrong, func(r request, _ string) bool { return of(r) }) })
}

// change changes what is noted, and when being connected changed.
func (q *requests) change(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, was := q.problem()
	f()
	if _, is := q.problem(); was != is || q.since.IsZero() {
		q.since = time.Now()
	}
}

// problem says why the manifests are not watched, if so. The lock is held.
func (q *requests) problem() (string, bool) {
	if q.away != "" {
		return q.away, true
	}
	var out []string
	for kind, problem := range q.wrong {
		if kind.manifests() {
			out = append(out, problem)
		}
	}
	slices.Sort(out)
	return shorten(slices.Compact(out)), len(out) > 0
}

// refused says what else the API server refuses, sorted.
func (q *requests) refused() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []string
	for kind, problem := range q.wrong {
		if !kind.manifests() {
			out = append(out, problem)
		}
	}
	slices.Sort(out)
	return out
}

// shorten joins texts, and only counts those past the first few.
func shorten(texts []string) string {
	const shown = 10
	if n := len(texts) - shown; n > 0 {
		texts = append(slices.Clone(texts[:shown]), fmt.Sprintf("and %d more", n))
	}
	return strings.Join(texts, "; ")
}
