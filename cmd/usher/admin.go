package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/watch"
)

// admin serves /healthz, /readyz and /metrics. It shows no token, no secret and no claim.
type admin struct {
	listener net.Listener // nil: none is wanted
	server   *http.Server
	done     chan struct{} // closed by stop
}

func newAdmin(ctx context.Context, g *gate, o serveOptions) (*admin, error) {
	a := &admin{done: make(chan struct{})}
	if o.adminAddress == "" {
		return a, nil
	}
	var err error
	if a.listener, err = listen(ctx, o.adminAddress); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		// The process answers: that is all that a restart could mend.
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		r := g.readiness()
		status := http.StatusOK
		if !r.Ready {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, r)
	})
	mux.Handle("GET /metrics", newMetrics(g))
	mux.HandleFunc("GET /assertion/{path...}", assertionKeys(g))
	mux.Handle("POST /backchannel-logout/{provider...}", newLogout(g))
	a.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	return a, nil
}

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // whoever asked has gone
}

// readiness is what /readyz shows. Fields are only ever added.
type readiness struct {
	// Ready says that every provider of an Enforce policy has had keys, or was waited for long enough (--ready-within), and that
	// the gate is not draining.
	Ready     bool                    `json:"ready"`
	Draining  bool                    `json:"draining,omitempty"`
	Providers map[string]token.Status `json:"providers"`
	// Backends that objects are looked up at, by URL.
	Backends  map[string]lookup.Status `json:"backends,omitempty"`
	Manifests manifestStatus           `json:"manifests"`
	// APIServer is there if the manifests are a cluster's.
	APIServer *watch.Connection `json:"apiServer,omitempty"`
}

type manifestStatus struct {
	InForce string    `json:"inForce"`
	Since   time.Time `json:"since"`
	// Problems of the last reading, if it was not put in force.
	Problems []string  `json:"problems,omitempty"`
	Count    int       `json:"problemCount,omitempty"`
	FailedAt time.Time `json:"failedAt,omitzero"`
}

func (g *gate) readiness() readiness {
	ready, draining := g.ready(), g.draining.Load()
	r := readiness{Ready: ready && !draining, Draining: draining}
	if g.connection != nil {
		c := g.connection()
		r.APIServer = &c
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state != nil {
		r.Providers, r.Backends = g.state.Status(), g.state.BackendStatus()
	}
	r.Manifests = manifestStatus{InForce: g.counted, Since: g.since, Count: len(g.problems), FailedAt: g.failedAt}
	for _, p := range g.problems[:min(len(g.problems), maxShown)] {
		r.Manifests.Problems = append(r.Manifests.Problems, p.Error())
	}
	return r
}

func (a *admin) address() string {
	if a.listener == nil {
		return ""
	}
	return a.listener.Addr().String()
}

func (a *admin) serve() error {
	if a.listener == nil {
		<-a.done
		return nil
	}
	if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the admin pages: %w", err)
	}
	<-a.done
	return nil
}

// stop ends the pages; nobody is left waiting for long.
func (a *admin) stop() {
	close(a.done)
	if a.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if a.server.Shutdown(ctx) != nil {
		_ = a.server.Close()
	}
}
