package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	config        string
	kubernetes    bool
	kubeconfig    string
	namespaces    []string
	allNamespaces bool
	readyWithin   time.Duration
	allowLocal    bool
	grants        []string // NAMESPACE=HOST[,HOST...]

	webhookAddress, webhookSecret, webhookConfiguration string
	webhookHosts                                        []string

	grpcAddress     string
	adminAddress    string
	logLevel        string
	logFormat       string
	maxRequestBytes uint32
	drainDelay      time.Duration
	drainTimeout    time.Duration
	socketMode      string
	maxAge          time.Duration
	tls             tlsOptions
	record          recordOptions
}

func newServe(t *terminal) *cobra.Command {
	c := &cobra.Command{
		Use:   "serve {--config PATH | --kubernetes}",
		Short: "Answer Envoy's checks",
		Long: "Serve answers Envoy's ext_authz checks (gRPC, v3), with health and reflection beside. The manifests are read again when\n" +
			"they change: what is invalid then leaves the last good ones in force, and /readyz says so.\n\n" +
			"SIGTERM and SIGINT let the checks in flight finish; a second one does not.",
		Example: "  usher serve --config policy.yaml\n  usher serve --config manifests/ --grpc-address unix:///run/usher.sock",
		Args:    cobra.NoArgs,
	}
	var o serveOptions
	f := c.Flags()
	f.StringVar(&o.config, "config", "", "manifests: a file or a directory")
	f.BoolVar(&o.kubernetes, "kubernetes", false, "manifests: the objects of a Kubernetes API server, and their status")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "with --kubernetes: how to reach it; \"\" for the pod's own account, or $KUBECONFIG")
	f.StringSliceVar(&o.namespaces, "namespaces", nil, "with --kubernetes: the namespaces that are watched; none for the pod's own ($POD_NAMESPACE)")
	f.BoolVar(&o.allNamespaces, "all-namespaces", false, "with --kubernetes: watch all namespaces")
	f.DurationVar(&o.readyWithin, "ready-within", time.Minute, "with --kubernetes: how long readiness waits for providers that cannot be reached; 0 for as long as it takes")
	f.StringArrayVar(&o.grants, "namespace-hosts", nil, "with --kubernetes: NAMESPACE=HOST[,HOST...], which alone the namespace's policies may guard, as in spec.hosts; the pod's own may guard any (may be repeated; default every host)")
	f.BoolVar(&o.allowLocal, "allow-local-addresses", false, "with --kubernetes: let objects of other namespaces than the pod's own make Usher connect to loopback and link-local addresses, and its own")
	f.StringVar(&o.webhookAddress, "webhook-address", "", "with --kubernetes: where the API server asks before it stores an object; \"\" for nowhere")
	f.StringVar(&o.webhookSecret, "webhook-cert-secret", "usher-webhook", "the Secret with the webhook's certificate; one is made and rotated where there is none")
	f.StringVar(&o.webhookConfiguration, "webhook-configuration", "usher", "the ValidatingWebhookConfiguration that gets the authority of a self-made certificate")
	f.StringSliceVar(&o.webhookHosts, "webhook-host", nil, "names or addresses of a self-made certificate; none for usher-webhook.NAMESPACE.svc")
	f.StringVar(&o.grpcAddress, "grpc-address", ":9001", "where Envoy asks: host:port, or unix:///path")
	f.StringVar(&o.adminAddress, "admin-address", "127.0.0.1:9002", "where /healthz and /readyz are; \"\" for nowhere")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error; info holds a record of each decision")
	f.StringVar(&o.logFormat, "log-format", "json", "json or console")
	f.Uint32Var(&o.maxRequestBytes, "max-request-bytes", maxRequestBytes, "largest body that is decided on; the same as for usher envoy")
	f.DurationVar(&o.drainDelay, "drain-delay", 0, "how long to serve on, as not healthy, before the end")
	f.DurationVar(&o.drainTimeout, "drain-timeout", 10*time.Second, "how long the checks in flight may take at the end")
	f.StringVar(&o.socketMode, "grpc-socket-mode", defaultSocketMode, "who may connect to a Unix socket, as chmod takes it: 0600, 0660 or 0666")
	f.StringVar(&o.tls.certificate, "grpc-tls-cert", "", "PEM certificate and its chain for Envoy's connections, read again when it changes (default no TLS)")
	f.StringVar(&o.tls.key, "grpc-tls-key", "", "its key")
	f.StringVar(&o.tls.clientCA, "grpc-client-ca", "", "PEM certificates that Envoy's client certificate, required then, is verified against")
	f.StringArrayVar(&o.tls.clientSANs, "grpc-client-san", nil, "URI such as spiffe://mesh/envoy or DNS name, one of which Envoy's certificate must have (may be repeated)")
	f.DurationVar(&o.maxAge, "grpc-max-connection-age", 30*time.Minute, "after which a connection is replaced, without a lost call, so that certificates are looked at again; 0 for never")
	f.StringVar(&o.record.file, "record-requests", "", "write requests, with bodies, claims and objects, to this file, to replay them with usher test --against; \"\" for none")
	f.Float64Var(&o.record.sample, "record-requests-sample", 1, "which share of the requests is recorded: 0.01 is one of a hundred")
	f.IntVar(&o.record.size, "record-requests-size", 100, "how many MiB the file, and the one before it (FILE.1), may take together")
	f.IntVar(&o.record.body, "record-requests-body", 64<<10, "largest body that is recorded, in bytes")
	c.RunE = func(*cobra.Command, []string) error {
		log, flush, err := o.check(t)
		if err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		defer flush()
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		context.AfterFunc(ctx, stop) // so that a second signal ends the process at once
		return serve(ctx, t, log, o)
	}
	return c
}

// check finds wrong usage, and makes the log.
func (o *serveOptions) check(t *terminal) (*zap.Logger, func(), error) {
	if err := o.checkSource(); err != nil {
		return nil, nil, err
	}
	if err := checkRequestBytes(o.maxRequestBytes); err != nil {
		return nil, nil, err
	}
	if o.drainDelay < 0 || o.drainTimeout < 0 {
		return nil, nil, errors.New("--drain-delay and --drain-timeout: expected no negative duration")
	}
	if err := o.record.check(); o.record.file != "" && err != nil {
		return nil, nil, err
	}
	if _, _, err := network(o.grpcAddress); err != nil {
		return nil, nil, fmt.Errorf("--grpc-address: %w", err)
	}
	if err := o.tls.check(); err != nil {
		return nil, nil, err
	}
	if o.maxAge < 0 {
		return nil, nil, errors.New("--grpc-max-connection-age: expected no negative duration")
	}
	if _, err := socketMode(o.socketMode); err != nil {
		return nil, nil, fmt.Errorf("--grpc-socket-mode %q: %w", o.socketMode, err)
	}
	return newLogger(t.err, o.logLevel, o.logFormat)
}

// serve runs until ctx ends or a listener fails. It returns once everything that it started has ended.
func serve(ctx context.Context, t *terminal, log *zap.Logger, o serveOptions) (err error) {
	recorder, err := o.record.start(log)
	if err != nil {
		return err
	}
	gate := newGate(log, int(o.maxRequestBytes), recorder)
	defer gate.close()
	watchManifests, err := o.source(ctx, t, log, gate)
	if err != nil {
		return err
	}
	var certs *certificates
	if o.tls.wanted() {
		if certs, err = newCertificates(o.tls, log); err != nil {
			return failed(err)
		}
	}
	checks, err := listenForChecks(ctx, o)
	if err != nil {
		return err
	}
	server := newGRPC(gate, o, certs)
	defer server.server.Stop() // after a drain it does nothing
	admin, err := newAdmin(ctx, gate, o)
	if err != nil {
		_ = checks.Close()
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- server.serve(checks) }()
	go func() { ended <- admin.serve() }()
	log.Info("serving", zap.Stringer("grpc", checks.Addr()), zap.String("admin", admin.address()), zap.String("config", o.config), zap.Bool("kubernetes", o.kubernetes), zap.String("version", readVersion().Version))

	background, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchManifests(background)
	}()
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		if certs != nil {
			certs.watch(background)
		}
	}()
	announced := make(chan struct{})
	go func() {
		defer close(announced)
		gate.announce(background, server.healthy)
	}()

	held := make(chan struct{})
	go func() {
		defer close(held)
		holdMemory(background)
	}()

	running := 2
	select {
	case <-ctx.Done():
		log.Info("draining: no new checks, those in flight finish", zap.Duration("delay", o.drainDelay), zap.Duration("timeout", o.drainTimeout))
	case err = <-ended:
		running--
		if err == nil {
			err = errors.New("a server ended by itself")
		}
		log.Error("a server ended", zap.Error(err))
		err = failed(err)
	}
	stop()
	<-watched
	<-looked
	<-announced
	<-held
	gate.drain()
	server.drain(o.drainDelay, o.drainTimeout)
	admin.stop()
	for range running {
		<-ended
	}
	log.Info("stopped")
	return err
}
