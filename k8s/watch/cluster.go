package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

const (
	clusterSettle = 100 * time.Millisecond // changes that come together are compiled together
	secretEvery   = 15 * time.Second       // how often referenced Secrets are read again, as they are not watched
	statusEvery   = 10 * time.Second       // how often the health of providers is written
	definitions   = 5 * time.Second        // how often missing definitions are looked for
)

// kinds are what is watched.
var clusterKinds = []schema.GroupVersionKind{
	{Group: "usher.dev", Version: "v1alpha1", Kind: v1alpha1.KindIdentityProvider},
	{Group: "usher.dev", Version: "v1alpha1", Kind: v1alpha1.KindAuthPolicy},
}

// Cluster is manifests in a Kubernetes API server.
//
// Every replica watches and compiles by itself; one that is elected writes status conditions and events. Secrets are read by
// name, those that an object refers to and no others. While the API server is away, what was read last stays in force.
type Cluster struct {
	Config *rest.Config
	// Namespaces that are watched; empty: all.
	Namespaces []string
	// Namespace is our own: of the lease by which one replica is elected.
	Namespace string
	Presets   map[string]policy.Preset
	// Health says how the providers in force are, by NAMESPACE/NAME; for their status. nil: nothing is said.
	Health func() map[string]token.Status
	Logger *zap.Logger // nil: no log
	// Secrets is how often Secrets are read again. Zero: 15 s.
	Secrets time.Duration
}

// Connection says how the API server is.
type Connection struct {
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since,omitzero"`
	Problem   string    `json:"problem,omitempty"`
}

// Watcher watches a Cluster. Make one with [NewWatcher]. Connection may be called while it runs.
type Watcher struct {
	Cluster
	manager manager.Manager
	changed chan struct{}
	keeper  *manifest.Keeper
	last    digest // of what was delivered

	mu         sync.Mutex
	connection Connection
	failing    map[string]string // what cannot be watched, and why
	objects    []manifest.Object // as they were read last, in order of age
	read       bool              // they were
}

// NewWatcher returns a watcher of the cluster. It does no I/O.
func NewWatcher(c Cluster) *Watcher {
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Secrets <= 0 {
		c.Secrets = secretEvery
	}
	return &Watcher{Cluster: c, changed: make(chan struct{}, 1), failing: map[string]string{}, keeper: manifest.NewKeeper(c.Presets)}
}

// Run delivers each reading, the first one too, until ctx ends. What deliver returns is why the reading was not put in force;
// nil: it was. It is called by one goroutine at a time. What goes wrong is logged, and tried again: nothing that the API
// server does ends it.
func (w *Watcher) Run(ctx context.Context, deliver func(Reading) policy.Problems) {
	for ctx.Err() == nil {
		err := w.definitions(ctx)
		if err == nil {
			err = w.connect(ctx)
		}
		if err == nil {
			err = w.watch(ctx, deliver)
		}
		if ctx.Err() != nil {
			return
		}
		// A lost lease ends a manager, too; what is in force stays.
		w.connected(fmt.Errorf("watching ended: %w", err))
		w.Logger.Warn("watching the API server ended; beginning again", zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// connect makes the manager, and the caches of what is watched.
func (w *Watcher) connect(ctx context.Context) error {
	c := &w.Cluster
	logInto(ctx, c.Logger)
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return err
	}
	options := manager.Options{
		Scheme:         scheme,
		Logger:         log.Log,
		Metrics:        server.Options{BindAddress: "0"}, // usher has its own
		LeaderElection: c.Namespace != "", LeaderElectionID: "usher", LeaderElectionNamespace: c.Namespace, LeaderElectionReleaseOnCancel: true,
		Cache: cache.Options{DefaultWatchErrorHandler: w.watchError},
	}
	if len(c.Namespaces) > 0 {
		options.Cache.DefaultNamespaces = map[string]cache.Config{}
		for _, n := range c.Namespaces {
			options.Cache.DefaultNamespaces[n] = cache.Config{}
		}
	}
	var err error
	// A thousand objects that come at once have their status within seconds; the API server itself keeps clients apart.
	config := rest.CopyConfig(c.Config)
	config.QPS, config.Burst = 100, 200
	if w.manager, err = manager.New(config, options); err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	for _, kind := range clusterKinds {
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(kind)
		informer, err := w.manager.GetCache().GetInformer(ctx, o, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %s: %w", kind.Kind, err)
		}
		handler := toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { w.notice() },
			UpdateFunc: func(before, after any) {
				if !sameSpec(before, after) {
					w.notice()
				}
			},
			DeleteFunc: func(any) { w.notice() },
		}
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch %s: %w", kind.Kind, err)
		}
	}
	return nil
}

// sameSpec reports whether an update is one of the status alone.
func sameSpec(before, after any) bool {
	a, ok := before.(client.Object)
	b, ok2 := after.(client.Object)
	return ok && ok2 && a.GetUID() == b.GetUID() && a.GetGeneration() == b.GetGeneration() && a.GetGeneration() != 0
}

// notice asks for a reading.
func (w *Watcher) notice() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// definitions waits for the CustomResourceDefinitions.
func (w *Watcher) definitions(ctx context.Context) error {
	d, err := discovery.NewDiscoveryClientForConfig(w.Config)
	if err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	said := ""
	for {
		problem := missing(d)
		if problem == "" {
			w.connected(nil)
			return nil
		}
		w.connected(errors.New(problem))
		if problem != said {
			w.Logger.Warn("waiting for the API server", zap.String("problem", problem))
			said = problem
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(definitions):
		}
	}
}

// missing says what is not there, and what to do; empty: nothing.
func missing(d discovery.DiscoveryInterface) string {
	list, err := d.ServerResourcesForGroupVersion(v1alpha1.GroupVersion)
	switch {
	case apierrors.IsNotFound(err):
		return "the CustomResourceDefinitions of " + v1alpha1.GroupVersion + " are missing: kubectl apply --server-side -f k8s/deploy/crds"
	case err != nil:
		return "the API server cannot be asked: " + err.Error()
	}
	for _, kind := range clusterKinds {
		found := false
		for _, r := range list.APIResources {
			found = found || r.Kind == kind.Kind
		}
		if !found {
			return "the CustomResourceDefinition of " + kind.Kind + " is missing: kubectl apply --server-side -f k8s/deploy/crds"
		}
	}
	return ""
}

// watchError is told when a watch ends: once it says what is wrong, and which permission lacks.
func (w *Watcher) watchError(ctx context.Context, r *toolscache.Reflector, err error) {
	if ctx.Err() != nil {
		return
	}
	what := r.TypeDescription()
	problem := err.Error()
	if apierrors.IsForbidden(err) {
		problem = "permission is missing: " + strings.TrimPrefix(problem, "failed to list ") // the API server names verb, resource and namespace
	}
	w.mu.Lock()
	known := w.failing[what]
	w.failing[what] = problem
	w.mu.Unlock()
	w.connected(errors.New(problem))
	if known != problem {
		w.Logger.Warn("the API server cannot be watched; what is in force stays", zap.String("resource", what), zap.String("problem", problem))
	}
}

// connected notes how the API server is; nil: well.
func (w *Watcher) connected(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.connection
	w.connection.Connected, w.connection.Problem = err == nil, ""
	if err != nil {
		w.connection.Problem = err.Error()
	} else {
		clear(w.failing)
	}
	if was.Connected != w.connection.Connected || was.Since.IsZero() {
		w.connection.Since = time.Now()
	}
}

// Connection says how the API server is.
func (w *Watcher) Connection() Connection {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.connection
}

// watch runs the manager until ctx or the manager ends.
func (w *Watcher) watch(ctx context.Context, deliver func(Reading) policy.Problems) error {
	s := &status{watcher: w, client: w.manager.GetClient(), events: w.manager.GetEventRecorder("usher"), verdicts: map[string]verdict{}}
	if err := w.manager.Add(everywhere(func(ctx context.Context) error { return w.loop(ctx, s, deliver) })); err != nil {
		return err
	}
	if err := w.manager.Add(elected(s.run)); err != nil {
		return err
	}
	return w.manager.Start(ctx)
}

// everywhere runs in each replica.
type everywhere func(context.Context) error

func (f everywhere) Start(ctx context.Context) error { return f(ctx) }
func (everywhere) NeedLeaderElection() bool          { return false }

// elected runs in one replica at a time.
type elected func(context.Context) error

func (f elected) Start(ctx context.Context) error { return f(ctx) }
func (elected) NeedLeaderElection() bool          { return true }

// loop reads and delivers, after every change and at times for the Secrets' sake.
func (w *Watcher) loop(ctx context.Context, s *status, deliver func(Reading) policy.Problems) error {
	if !w.manager.GetCache().WaitForCacheSync(ctx) {
		return nil // ctx has ended
	}
	secrets := time.NewTicker(w.Secrets)
	defer secrets.Stop()
	for {
		objects, sources, err := w.gather(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			w.connected(err)
			w.Logger.Warn("the manifests cannot be read; what is in force stays", zap.Error(err))
		default:
			w.connected(nil)
			if d := digestOf(sources); d != w.last || !s.told() {
				w.last = d
				w.compile(objects, s, deliver)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-secrets.C:
		case <-w.changed:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(clusterSettle):
			}
			select {
			case <-w.changed:
			default:
			}
		}
	}
}

// compile makes a reading of the objects, delivers it, and tells the status.
func (w *Watcher) compile(objects []object, s *status, deliver func(Reading) policy.Problems) {
	var parsed []manifest.Object
	r := Reading{Files: 0}
	for _, o := range objects {
		parsed = append(parsed, o.parsed)
		if o.source != nil {
			r.Files++
		}
	}
	w.mu.Lock()
	w.objects, w.read = parsed, true
	w.mu.Unlock()
	compiled, verdicts := w.keeper.Compile(parsed)
	r.Compiled = compiled
	out := map[string]verdict{}
	for _, o := range objects {
		v := verdicts[o.file]
		problems := append(slices.Clone(o.problems), v.Problems...).Sort()
		r.Problems = append(r.Problems, problems...)
		if o.source != nil {
			out[o.file] = verdict{source: o.source, problems: problems, conflicted: v.Conflicted, lastGood: v.LastGood}
		}
	}
	r.Problems.Sort()
	refused := deliver(r)
	s.update(out, refused)
}
