package watch

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// clusterKinds are what is watched.
var clusterKinds = []schema.GroupVersionKind{
	{Group: v1alpha1.Group, Version: v1alpha1.Version, Kind: v1alpha1.KindIdentityProvider},
	{Group: v1alpha1.Group, Version: v1alpha1.Version, Kind: v1alpha1.KindAuthPolicy},
}

// mapper knows the resources of all that is asked for, so that the API server need not be asked for them.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for _, kind := range clusterKinds {
		m.Add(kind, meta.RESTScopeNamespace)
	}
	m.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace)
	m.Add(eventsv1.SchemeGroupVersion.WithKind("Event"), meta.RESTScopeNamespace)
	m.Add(admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"), meta.RESTScopeRoot)
	return m
}

// newClient returns a client without a cache that sends at most so many requests a second, and as many again at once: the API
// server itself keeps clients apart.
func newClient(c *rest.Config, perSecond int) (client.Client, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), eventsv1.AddToScheme(scheme), admissionregistrationv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	c = rest.CopyConfig(c)
	c.QPS, c.Burst = float32(perSecond), perSecond
	return client.New(c, client.Options{Scheme: scheme, Mapper: mapper()})
}

// definitions waits for the CustomResourceDefinitions; false: ctx has ended.
func (w *Watcher) definitions(ctx context.Context) bool {
	d, err := discovery.NewDiscoveryClientForConfig(w.Config)
	if err != nil { // NewWatcher made clients of it
		w.wait(err.Error())
		<-ctx.Done()
		return false
	}
	said := map[string]bool{} // an API server that begins answers now so, now so
	for {
		problem := missing(ctx, d)
		if problem == "" {
			if len(said) > 0 {
				w.Logger.Info("the CustomResourceDefinitions are there")
			}
			w.wait("the objects are being listed")
			return true
		}
		w.wait(problem)
		if !said[problem] {
			w.Logger.Warn("waiting for the API server", zap.String("problem", problem))
			said[problem] = true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(definitionsEvery):
		}
	}
}

// missing says what is not there, and what to do; empty: nothing.
func missing(ctx context.Context, d *discovery.DiscoveryClient) string {
	list, err := d.ServerResourcesForGroupVersionWithContext(ctx, v1alpha1.GroupVersion)
	switch {
	case apierrors.IsNotFound(err):
		return "the CustomResourceDefinitions of " + v1alpha1.GroupVersion + " are missing: " + applyDefinitions
	case err != nil:
		return "the API server cannot be asked: " + cut(err.Error(), 500)
	}
	for _, kind := range clusterKinds {
		found := false
		for _, r := range list.APIResources {
			found = found || r.Kind == kind.Kind
		}
		if !found {
			return noDefinition(kind.Kind)
		}
	}
	return ""
}
