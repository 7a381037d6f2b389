package main

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/credentials"
)

// handshakes logs why a connection did not come about: Envoy says no more than that it was reset. grpc-go keeps the reason to
// itself.
type handshakes struct {
	credentials.TransportCredentials
	log    *zap.Logger
	now    func() time.Time
	logged *throttled
}

// handshakes are for a server that shows these certificates.
func (c *certificates) handshakes() credentials.TransportCredentials {
	return handshakes{credentials.NewTLS(c.config()), c.log, c.now, &throttled{}}
}

// ServerHandshake says nothing of who connects and goes away, as a probe of the port does.
func (h handshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ServerHandshake(raw)
	if err != nil && !errors.Is(err, io.EOF) && h.logged.pass(h.now()) {
		h.log.Warn("a TLS handshake failed", zap.Stringer("peer", raw.RemoteAddr()), zap.Error(err))
	}
	return conn, info, err
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
