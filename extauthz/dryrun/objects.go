package dryrun

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// supposed is the backend of a dry run: it answers look-ups with the objects that are supposed, as text, so that they go
// through the client that reads a real one's answers. It dials nobody.
type supposed struct {
	byID   map[[2]string]policytest.Object // by resource and id
	byPath map[string]policytest.Object
	fails  bool // for one of the objects

	mu    sync.Mutex
	paths map[string]policy.Ref // what is being looked up, by its path
	used  map[[3]string]bool    // objects that were looked up
}

func newSupposed(objects []policytest.Object) *supposed {
	s := &supposed{byID: map[[2]string]policytest.Object{}, byPath: map[string]policytest.Object{}, paths: map[string]policy.Ref{}, used: map[[3]string]bool{}}
	for _, o := range objects {
		s.fails = s.fails || o.Unavailable
		if o.Path != "" {
			s.byPath[o.Path] = o
		} else {
			s.byID[[2]string{o.Resource, o.ID}] = o
		}
	}
	return s
}

// lookup returns a client that asks nobody else.
func (s *supposed) lookup(backend lookup.Config, now func() time.Time) (extauthz.Lookup, error) {
	client, err := lookup.New(lookup.Config{BackendURL: backend.BackendURL, Transport: s, Now: now})
	if err != nil {
		return nil, err
	}
	return asking{client, s}, nil
}

// asking notes what a path is looked up for: a real backend knows its objects by their paths, a test by their names.
type asking struct {
	*lookup.Client
	supposed *supposed
}

// Get implements extauthz.Lookup.
func (a asking) Get(ctx context.Context, ref policy.Ref) (policy.Object, error) {
	a.supposed.mu.Lock()
	a.supposed.paths[ref.Path] = ref
	a.supposed.mu.Unlock()
	if ref.Reader != nil {
		// The test says what the policy's expression gives, and not what it is read from.
		if o, _, ok := a.supposed.object(ref.Path); ok && o.Path == "" && !o.Unavailable {
			return policy.Object{Found: true, Metadata: o.Metadata}, nil
		}
	}
	return a.Client.Get(ctx, ref)
}

var errBackend = errors.New("the test says that the backend is unavailable")

// RoundTrip implements http.RoundTripper. It answers 404 for what is not supposed.
func (s *supposed) RoundTrip(r *http.Request) (*http.Response, error) {
	o, ref, found := s.object(r.URL.RequestURI(), r.URL.EscapedPath(), r.URL.Path)
	status, body := http.StatusNotFound, []byte(`{"detail":"Not Found"}`)
	switch {
	case found && o.Unavailable:
		return nil, errBackend
	case found && o.Path != "":
		status, body = http.StatusOK, o.Body
	case found:
		answer := map[string]any{"metadata": o.Metadata}
		if ref.Member != "" {
			answer[ref.Member] = ref.ID
		}
		text, err := json.Marshal(answer)
		if err != nil {
			return nil, err
		}
		status, body = http.StatusOK, text
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}, nil
}

// object finds what stands at a path, by the path itself or by what it is looked up for.
func (s *supposed) object(paths ...string) (policytest.Object, policy.Ref, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range paths {
		if o, ok := s.byPath[path]; ok {
			s.used[key(&o)] = true
			return o, policy.Ref{}, true
		}
		if ref, ok := s.paths[path]; ok {
			if o, ok := s.byID[[2]string{ref.Resource, ref.ID}]; ok {
				s.used[key(&o)] = true
				return o, ref, true
			}
		}
	}
	return policytest.Object{}, policy.Ref{}, false
}

func key(o *policytest.Object) [3]string { return [3]string{o.Resource, o.ID, o.Path} }

// Unused names the supposed objects that no request has looked up, in the order of the Config.
func (g *Gate) Unused() []string {
	g.supposed.mu.Lock()
	defer g.supposed.mu.Unlock()
	var out []string
	for i := range g.config.Objects {
		if o := &g.config.Objects[i]; !g.supposed.used[key(o)] {
			name := o.Path
			if name == "" {
				name = o.Resource + " " + o.ID
			}
			out = append(out, name)
		}
	}
	return out
}
