package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

const (
	clusterSettle    = 100 * time.Millisecond // changes that come together are compiled together
	secretEvery      = 15 * time.Second       // how often referenced Secrets are read again, as they are not watched
	statusEvery      = 10 * time.Second       // how often the health of providers is written
	definitionsEvery = 5 * time.Second        // how often missing definitions are looked for
)

// Cluster is manifests in a Kubernetes API server.
//
// Every replica watches and compiles by itself; one that is elected writes status conditions and events. Secrets are read by
// name, those that an object refers to and no others. While the API server is away, what was read last stays in force.
type Cluster struct {
	Config *rest.Config
	// Namespaces that are watched; empty: all.
	Namespaces []string
	// Namespace is our own: of the lease by which one replica is elected, and the one whose objects are trusted. Empty: there is
	// no election, and no status.
	Namespace string
	// AllowLocal lets objects of other namespaces than our own make Usher connect to its own machine and its link.
	AllowLocal bool
	// Hosts say which hosts the policies of other namespaces than our own may have.
	Hosts   manifest.Grants
	Presets map[string]policy.Preset
	// Health says how the providers in force are, by NAMESPACE/NAME; for their status. nil: nothing is said.
	Health func() map[string]token.Status
	// Provider and Backend say what only those can tell who use the configurations: an error is a problem of the object. nil:
	// there is none.
	Provider func(token.Config) error
	Backend  func(lookup.Config) error
	Logger   *zap.Logger // nil: no log
	// Secrets is how often Secrets are read again. Zero: 15 s.
	Secrets time.Duration
}

// Connection says how the API server is.
type Connection struct {
	// Connected says that the manifests are watched.
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since,omitzero"`
	// Problem is why they are not.
	Problem string `json:"problem,omitempty"`
	// Refused is what else the API server refuses, such as to write a status.
	Refused []string `json:"refused,omitempty"`
}

// Watcher watches a Cluster. Make one with [NewWatcher]. Connection and ServeHTTP may be called while it runs.
type Watcher struct {
	Cluster
	requests  *requests
	documents *documents
	status    *status
	changed   chan struct{}
	keeper    *manifest.Keeper
	known     map[string]*object // of the cluster, by file
	compiled  bool               // at least once
	took      time.Duration      // by the last compilation
	reading   chan struct{}      // who reads a review
	reviewing chan struct{}      // who decides one

	mu       sync.Mutex
	watching bool              // the objects are known, and watched
	waiting  string            // what is waited for
	objects  []manifest.Object // as they were compiled last, in order of age
	inForce  *manifest.Compiled
}

// NewWatcher returns a watcher of the cluster. It does no I/O. The error is one of the Config.
func NewWatcher(c Cluster) (*Watcher, error) {
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Secrets <= 0 {
		c.Secrets = secretEvery
	}
	w := &Watcher{
		Cluster: c, requests: newRequests(c.Logger), changed: make(chan struct{}, 1), known: map[string]*object{},
		keeper: manifest.NewKeeper(c.Presets), reading: make(chan struct{}, maxReading), reviewing: make(chan struct{}, maxReviews), waiting: "the API server was not asked yet",
	}
	w.keeper.Own, w.keeper.AllowLocal, w.keeper.Grants = c.Namespace, c.AllowLocal, c.Hosts
	w.keeper.Provider, w.keeper.Backend = c.Provider, c.Backend
	w.Config = w.requests.observe(c.Config)
	reader, err := newClient(w.Config, 200)
	if err != nil {
		return nil, err
	}
	w.documents = newDocuments(reader, w.requests)
	w.status, err = newStatus(w)
	return w, err
}

// Run delivers each reading, the first one too, until ctx ends. What deliver returns is why the reading was not put in force;
// nil: it was. It is called by one goroutine at a time. What goes wrong is logged, and tried again: nothing that the API
// server does ends it.
func (w *Watcher) Run(ctx context.Context, deliver func(Reading) policy.Problems) {
	logInto(ctx, w.Logger)
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { w.documents.refresh(ctx, w.Secrets, w.notice) })
	if w.Namespace != "" {
		group.Go(func() { w.status.lead(ctx) })
	}
	for ctx.Err() == nil {
		if !w.definitions(ctx) {
			return
		}
		err := w.watch(ctx, deliver)
		if ctx.Err() != nil {
			return
		}
		w.wait(err.Error())
		w.Logger.Warn("watching the API server ended; beginning again", zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// errDefinitions ends a watch: the definitions have gone, and with them every object.
var errDefinitions = errors.New("a CustomResourceDefinition was deleted, and with it all objects of its kind: " + applyDefinitions)

// watch watches until ctx ends, or the definitions are gone.
func (w *Watcher) watch(ctx context.Context, deliver func(Reading) policy.Problems) error {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	options := cache.Options{
		Mapper: mapper(), DefaultTransform: compact, DefaultWatchErrorHandler: func(context.Context, *toolscache.Reflector, error) {}, // see requests
	}
	if len(w.Namespaces) > 0 {
		options.DefaultNamespaces = map[string]cache.Config{}
		for _, n := range w.Namespaces {
			options.DefaultNamespaces[n] = cache.Config{}
		}
	}
	c, err := cache.New(w.Config, options)
	if err != nil {
		return fmt.Errorf("watch the API server: %w", err)
	}
	s := newStore(w.notice)
	synced := []toolscache.InformerSynced{}
	for _, kind := range clusterKinds {
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(kind)
		informer, err := c.GetInformer(ctx, o, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %s: %w", kind.Kind, err)
		}
		registration, err := informer.AddEventHandler(s.handler())
		if err != nil {
			return fmt.Errorf("watch %s: %w", kind.Kind, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	select {
	case <-w.requests.missing: // from before
	default:
	}
	group.Go(func() { _ = c.Start(ctx) }) // it ends with ctx, and returns nothing then
	ended := make(chan struct{})
	group.Go(func() {
		defer close(ended)
		if toolscache.WaitForCacheSync(ctx.Done(), synced...) {
			w.loop(ctx, s, deliver)
		}
	})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ended:
		return ctx.Err()
	case <-w.requests.missing:
		return errDefinitions
	}
}

// notice asks for a reading.
func (w *Watcher) notice() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// wait notes what is waited for; empty: nothing, the objects are known.
func (w *Watcher) wait(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watching, w.waiting = what == "", what
	w.requests.change(func() {})
}

// Connection says how the API server is.
func (w *Watcher) Connection() Connection {
	w.mu.Lock()
	watching, waiting := w.watching, w.waiting
	w.mu.Unlock()
	w.requests.mu.Lock()
	problem, failing := w.requests.problem()
	since := w.requests.since
	w.requests.mu.Unlock()
	if problem == "" {
		problem = waiting
	}
	return Connection{Connected: watching && !failing, Since: since, Problem: problem, Refused: w.requests.refused()}
}
