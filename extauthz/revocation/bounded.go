package revocation

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/gomodule/redigo/redis"

	"github.com/usher-authz/usher/extauthz/egress"
)

const (
	// maxReply bounds one reply of the server in bytes: 500 keys at once, of a length that no claim has.
	maxReply = 4 << 20
	// maxItems bounds the items of an array in it, and maxNested how deep arrays stand in each other: SCAN's is one in another.
	maxItems, maxNested = 64 << 10, 4
	// maxLength bounds the line that says how long something is.
	maxLength = 32
)

// errReply is short, as a part of every problem's text.
var errReply = errors.New("the server's reply is longer than any that is expected")

// bounded is a connection of which only replies of an expected size come through. The client makes room for as many bytes and
// items as a reply says that it has, before they come: a hostile server, which may be a tenant's, would end the process.
type bounded struct {
	net.Conn
	reply
}

// Read implements net.Conn.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if n > 0 && !b.pass(p[:n]) {
		return 0, errReply
	}
	return n, err
}

// dialer connects within the time, and with TLS if there is a configuration for it.
func dialer(noLocal bool, t *tls.Config) redis.DialOption {
	return redis.DialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := egress.Dialer(timeout, noLocal).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if t == nil {
			return &bounded{Conn: conn}, nil
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		secure := tls.Client(conn, t)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return &bounded{Conn: secure}, nil
	})
}

// reply is where in a reply (RESP 2) the bytes are that come through.
type reply struct {
	seen  int   // bytes of it
	open  []int // items that are still to come, of each array around
	line  []byte
	bytes int  // of a text that are still to come, its end of line with them
	bad   bool // for good
}

// pass follows the bytes, and reports whether all is as expected. What is malformed is for the client to see.
func (r *reply) pass(text []byte) bool {
	for len(text) > 0 && !r.bad {
		if r.bytes > 0 {
			n := min(r.bytes, len(text))
			r.count(n)
			r.bytes, text = r.bytes-n, text[n:]
			if r.bytes == 0 {
				r.ended()
			}
			continue
		}
		c := text[0]
		text = text[1:]
		r.count(1)
		if c != '\n' {
			if len(r.line) <= maxLength {
				r.line = append(r.line, c)
			}
			continue
		}
		r.header()
		r.line = r.line[:0]
	}
	return !r.bad
}

func (r *reply) count(n int) {
	r.seen += n
	r.bad = r.bad || r.seen > maxReply
}

// header is called at the end of a line.
func (r *reply) header() {
	if len(r.line) == 0 || r.line[0] != '$' && r.line[0] != '*' {
		r.ended()
		return
	}
	if len(r.line) > maxLength {
		r.bad = true
		return
	}
	n := 0
	for _, c := range r.line[1:] {
		if c < '0' || c > '9' { // the carriage return, a sign
			continue
		}
		if n = 10*n + int(c-'0'); n > maxReply {
			r.bad = true
			return
		}
	}
	switch {
	case len(r.line) > 1 && r.line[1] == '-': // none
		r.ended()
	case r.line[0] == '$':
		const end = 2
		r.bytes = n + end
	case n > maxItems || len(r.open) >= maxNested:
		r.bad = true
	case n == 0:
		r.ended()
	default:
		r.open = append(r.open, n)
	}
}

// ended is called at the end of an item.
func (r *reply) ended() {
	for len(r.open) > 0 {
		last := len(r.open) - 1
		if r.open[last]--; r.open[last] > 0 {
			return
		}
		r.open = r.open[:last]
	}
	r.seen = 0
}
