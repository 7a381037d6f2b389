package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"

	"github.com/usher-authz/usher/k8s/watch"
)

// serveWebhook answers the API server's admission reviews at /validate until ctx ends. The listener is open once it returns.
func (o *serveOptions) serveWebhook(ctx context.Context, w *watch.Watcher, log *zap.Logger) error {
	if o.webhookAddress == "" {
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.webhookAddress)
	if err != nil {
		return fmt.Errorf("--webhook-address: %w", err)
	}
	hosts := o.webhookHosts
	if len(hosts) == 0 {
		hosts = []string{"usher-webhook." + w.Namespace + ".svc"}
	}
	certificate := &watch.Certificate{Config: w.Config, Namespace: w.Namespace, Secret: o.webhookSecret, Hosts: hosts, Configuration: o.webhookConfiguration, Logger: log}
	mux := http.NewServeMux()
	mux.Handle("/validate", w)
	server := &http.Server{
		Handler: mux, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: certificate.Get},
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: zap.NewStdLog(log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))),
	}
	go certificate.Run(ctx)
	go func() {
		if err := server.ServeTLS(netutil.LimitListener(listener, maxWebhookConnections), "", ""); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the webhook ended", zap.Error(err))
		}
	}()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	log.Info("serving the webhook", zap.Stringer("address", listener.Addr()), zap.Strings("hosts", hosts))
	return nil
}

// maxWebhookConnections bounds the connections of the webhook: an API server needs a few, and strangers must not take the
// memory that checks need.
const maxWebhookConnections = 64
