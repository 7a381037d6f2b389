package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/k8s/watch"
	"github.com/usher-authz/usher/policy"
)

// namespaceFile is where a pod finds its own namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// checkSource finds flags that do not fit together.
func (o *serveOptions) checkSource() error {
	switch {
	case o.config == "" && !o.kubernetes:
		return errors.New("--config is missing, or --kubernetes")
	case o.config != "" && o.kubernetes:
		return errors.New("--config and --kubernetes: expected one of them")
	case !o.kubernetes && (o.webhookAddress != "" || o.kubeconfig != "" || len(o.namespaces) > 0 || o.allNamespaces):
		return errors.New("--webhook-address, --kubeconfig, --namespaces and --all-namespaces go with --kubernetes")
	case !o.kubernetes && (len(o.grants) > 0 || o.allowLocal):
		return errors.New("--namespace-hosts and --allow-local-addresses go with --kubernetes: files are of one owner")
	case o.allNamespaces && len(o.namespaces) > 0:
		return errors.New("--namespaces and --all-namespaces: expected one of them")
	}
	_, err := o.hosts()
	return err
}

// hosts are the grants of --namespace-hosts.
func (o *serveOptions) hosts() (g manifest.Grants, err error) {
	for _, text := range o.grants {
		if err := g.Add(text); err != nil {
			return g, fmt.Errorf("--namespace-hosts: %w", err)
		}
	}
	return g, nil
}

// source puts the first manifests in force, those of files, and returns what watches them until its context ends. A cluster's
// come while usher serves already: until then it is not ready, and answers 503.
func (o *serveOptions) source(ctx context.Context, t *terminal, log *zap.Logger, g *gate) (func(context.Context), error) {
	if o.kubernetes {
		return o.cluster(ctx, log, g)
	}
	files := watch.Files{Paths: []string{o.config}, Presets: presets(), Logger: log}
	first := files.Read()
	problems := first.Problems
	if len(problems) == 0 {
		problems = g.apply(ctx, first)
	}
	if len(problems) > 0 {
		t.problems(t.err, problems)
		return nil, &exitError{code: exitInvalid}
	}
	return func(ctx context.Context) { files.Watch(ctx, first, func(r watch.Reading) { g.apply(ctx, r) }) }, nil
}

// cluster makes the watcher of an API server.
func (o *serveOptions) cluster(ctx context.Context, log *zap.Logger, g *gate) (func(context.Context), error) {
	config, err := o.rest()
	if err != nil {
		return nil, failed(err)
	}
	own, err := ownNamespace()
	if err != nil {
		return nil, failed(err)
	}
	hosts, err := o.hosts()
	if err != nil {
		return nil, err
	}
	tokens, err := token.NewCache()
	if err != nil {
		return nil, failed(err)
	}
	c := watch.Cluster{
		Config: config, Namespace: own, Namespaces: o.namespaces, Hosts: hosts, AllowLocal: o.allowLocal, Presets: presets(), Logger: log, Health: g.health,
		Provider: func(c token.Config) error {
			c.Cache = tokens // which nobody fills: without one, each would make its own
			_, err := token.New(c)
			return err
		},
		Backend: func(c lookup.Config) error {
			_, err := lookup.New(c)
			return err
		},
	}
	if len(c.Namespaces) == 0 && !o.allNamespaces {
		c.Namespaces = []string{own}
	}
	w, err := watch.NewWatcher(c)
	if err != nil {
		return nil, failed(fmt.Errorf("--kubernetes: %w", err))
	}
	g.connection, g.readyWithin = w.Connection, o.readyWithin
	if err := o.serveWebhook(ctx, w, log); err != nil {
		return nil, failed(err)
	}
	log.Info("watching a Kubernetes API server", zap.String("server", config.Host), zap.Strings("namespaces", c.Namespaces), zap.String("lease_namespace", own))
	return func(ctx context.Context) {
		w.Run(ctx, func(r watch.Reading) policy.Problems { return g.apply(ctx, r) })
	}, nil
}

// rest says how to reach the API server.
func (o *serveOptions) rest() (*rest.Config, error) {
	file := o.kubeconfig
	if file == "" {
		file = os.Getenv("KUBECONFIG")
	}
	if file == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("--kubernetes: not in a pod, and no --kubeconfig: %w", err)
		}
		return config, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig %s: %w", file, err)
	}
	return config, nil
}

// ownNamespace is where this process's lease is.
func ownNamespace() (string, error) {
	if n := os.Getenv("POD_NAMESPACE"); n != "" {
		return n, nil
	}
	text, err := os.ReadFile(namespaceFile)
	if err != nil {
		return "", errors.New("--kubernetes: the own namespace is not known: set POD_NAMESPACE")
	}
	return strings.TrimSpace(string(text)), nil
}

// health says how the providers in force are; nil before there are any.
func (g *gate) health() map[string]token.Status {
	if s := g.current(); s != nil {
		return s.Status()
	}
	return nil
}
