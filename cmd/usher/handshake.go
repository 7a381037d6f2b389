package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/credentials"
)

// handshakes are the server's side of TLS, as grpc-go does it but for two things. They log why a connection did not come about:
// Envoy says no more than that it was reset. And a client that names no protocol (ALPN, RFC 7301) is taken for HTTP/2: Envoy's
// health checks name none where its configuration does not, as Envoy Gateway's does not.
type handshakes struct {
	credentials.TransportCredentials
	config *tls.Config
	log    *zap.Logger
	now    func() time.Time
	logged *throttled
}

// handshakes are for a server that shows these certificates.
func (c *certificates) handshakes() credentials.TransportCredentials {
	config := c.config()
	return handshakes{credentials.NewTLS(config), config, c.log, c.now, &throttled{}}
}

// ServerHandshake says nothing of who connects and goes away, as a probe of the port does. grpc-go bounds how long it takes.
func (h handshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn := tls.Server(raw, h.config)
	if err := conn.Handshake(); err != nil {
		_ = conn.Close()
		if !errors.Is(err, io.EOF) && h.logged.pass(h.now()) {
			h.log.Warn("a TLS handshake failed", zap.Stringer("peer", raw.RemoteAddr()), zap.Error(err))
		}
		return nil, nil, err
	}
	safe := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	return conn, credentials.TLSInfo{State: conn.ConnectionState(), CommonAuthInfo: safe}, nil
}

func (h handshakes) Clone() credentials.TransportCredentials {
	h.TransportCredentials = h.TransportCredentials.Clone()
	return h
}

// throttled lets one pass each second: strangers must not fill the log. The zero value is ready.
type throttled struct{ last atomic.Int64 }

func (t *throttled) pass(now time.Time) bool {
	last := t.last.Load()
	return now.UnixNano()-last >= int64(time.Second) && t.last.CompareAndSwap(last, now.UnixNano())
}
