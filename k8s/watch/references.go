package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

const (
	// maxRefs bounds the Secrets and ConfigMaps that are read for one object; package manifest refuses an object with more.
	maxRefs = 32
	// readTimeout bounds the reading of one.
	readTimeout = 5 * time.Second
	// readAtOnce is how many are read at once, and readTogether how many before others have their turn.
	readAtOnce, readTogether = 8, 64
	// retryEvery is how often those are tried again that the API server failed to show.
	retryEvery = 2 * time.Second
)

// reference names a Secret or ConfigMap.
type reference struct{ kind, namespace, name string }

// refsOf returns what an object refers to, each once.
func refsOf(o *object) []reference {
	var out []reference
	namespace := o.parsed.Namespace
	for _, name := range o.parsed.SecretRefs() {
		out = append(out, reference{v1alpha1.KindSecret, namespace, name})
	}
	for _, name := range o.parsed.ConfigMapRefs() {
		out = append(out, reference{v1alpha1.KindConfigMap, namespace, name})
	}
	return out
}

// bounded are those of an object's references that are read.
func bounded(refs []reference) []reference { return refs[:min(len(refs), maxRefs)] }

func (r reference) file() string {
	if r.kind == v1alpha1.KindConfigMap {
		return manifest.ConfigMapFile(r.namespace, r.name)
	}
	return manifest.SecretFile(r.namespace, r.name)
}

// document is what is known of a Secret or ConfigMap.
type document struct {
	text    []byte  // nil: there is none
	object  *object // of text
	failure string  // why it could not be read; what was known stays
	passing bool    // the failure may pass by itself
}

// documents reads Secrets and ConfigMaps by name, those that objects refer to and no others, and holds them. It is safe for
// concurrent use.
type documents struct {
	client   client.Reader
	requests *requests
	reading  sync.Mutex // so that an older answer never follows a newer one

	mu      sync.Mutex
	known   map[reference]document
	changed bool // since take
}

func newDocuments(c client.Reader, q *requests) *documents {
	return &documents{client: c, requests: q, known: map[reference]document{}}
}

// get returns what is known of one.
func (d *documents) get(r reference) (document, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out, ok := d.known[r]
	return out, ok
}

// want forgets all but these, and returns those that were not read yet.
func (d *documents) want(all map[reference]bool) (unread []reference) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.known, func(r reference, _ document) bool { return !all[r] })
	for r := range all {
		if _, ok := d.known[r]; !ok {
			unread = append(unread, r)
		}
	}
	d.requests.forget(func(q request) bool {
		kind := map[string]string{"secrets": v1alpha1.KindSecret, "configmaps": v1alpha1.KindConfigMap}[q.resource]
		return q.verb == "get" && kind != "" && !all[reference{kind, q.namespace, q.name}]
	})
	return unread
}

// take reports whether any changed since it was called last.
func (d *documents) take() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := d.changed
	d.changed = false
	return changed
}

// failing returns those that could not be read for a reason that may pass.
func (d *documents) failing() []reference {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []reference
	for r, doc := range d.known {
		if doc.passing {
			out = append(out, r)
		}
	}
	return out
}

func (d *documents) all() []reference {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.known))
}

// read reads these, and notes what changed.
func (d *documents) read(ctx context.Context, refs []reference) {
	for some := range slices.Chunk(refs, readTogether) {
		d.readSome(ctx, some)
	}
}

func (d *documents) readSome(ctx context.Context, refs []reference) {
	d.reading.Lock()
	defer d.reading.Unlock()
	var group errgroup.Group
	group.SetLimit(readAtOnce)
	for _, r := range refs {
		group.Go(func() error {
			text, failure, passing := d.fetch(ctx, r)
			if ctx.Err() == nil {
				d.keep(r, text, failure, passing)
			}
			return nil
		})
	}
	_ = group.Wait() // none returns an error
}

func (d *documents) keep(r reference, text []byte, failure string, passing bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	was, known := d.known[r]
	now := document{text: text, failure: failure, passing: passing}
	switch {
	case passing: // what was known stays
		now.text, now.object = was.text, was.object
	case bytes.Equal(text, was.text):
		now.object = was.object
	case text != nil:
		now.object = readDocument(r, text)
	}
	d.known[r] = now
	if !known || !bytes.Equal(now.text, was.text) || now.failure != was.failure {
		d.changed = true
	}
}

// readDocument makes a manifest's object of the text.
func readDocument(r reference, text []byte) *object {
	parsed, problems := manifest.ParseStored(r.file(), text)
	return &object{file: r.file(), parsed: parsed[0], problems: problems}
}

// fetch reads one from the API server; nil if there is none, or it may not be read.
func (d *documents) fetch(ctx context.Context, r reference) (text []byte, failure string, passing bool) {
	if len(validation.IsDNS1123Subdomain(r.name)) > 0 {
		return nil, "", false // no object has such a name
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	key := client.ObjectKey{Namespace: r.namespace, Name: r.name}
	var data any
	var err error
	if r.kind == v1alpha1.KindConfigMap {
		m := &corev1.ConfigMap{}
		err = d.client.Get(ctx, key, m)
		data = m.Data
	} else {
		s := &corev1.Secret{}
		err = d.client.Get(ctx, key, s)
		data = s.Data
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, "", false
	case apierrors.IsForbidden(err):
		resource := map[string]string{v1alpha1.KindConfigMap: "configmaps"}[r.kind]
		if resource == "" {
			resource = "secrets"
		}
		return nil, "permission is missing: " + request{"get", "", resource, r.namespace, r.name}.String(), false
	case err != nil:
		return nil, fmt.Sprintf("%s %q cannot be read now: %s", r.kind, r.name, cut(err.Error(), 200)), true
	}
	text, err = json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": r.kind, "metadata": map[string]any{"name": r.name, "namespace": r.namespace}, "data": data,
	})
	if err != nil { // strings and bytes
		return nil, fmt.Sprintf("%s %q cannot be read", r.kind, r.name), false
	}
	return text, "", false
}

// problems says why what an object refers to could not be read: what is not there the object says itself.
func (d *documents) problems(o *object) (out policy.Problems) {
	for _, r := range o.refs {
		if doc, _ := d.get(r); doc.failure != "" && doc.text == nil {
			out = append(out, policy.Problem{Pos: policy.Position{File: o.file}, Found: doc.failure, Unresolved: true})
		}
	}
	return out
}

// refresh reads again what is known, at times, and tells when something changed, until ctx ends: they are not watched.
func (d *documents) refresh(ctx context.Context, every time.Duration, notice func()) {
	ticker := time.NewTicker(min(every, retryEvery))
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		refs := d.failing()
		if time.Since(last) >= every {
			last, refs = time.Now(), d.all()
		}
		d.read(ctx, refs)
		d.mu.Lock()
		changed := d.changed
		d.mu.Unlock()
		if changed {
			notice()
		}
	}
}
