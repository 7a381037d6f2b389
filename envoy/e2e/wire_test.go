package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/usher-authz/usher/extauthz/attacktest"
)

const (
	// answerLimit is for an answer. It only ends what hangs.
	answerLimit = 20 * time.Second
	// closeLimit is for Envoy to close the connection behind an answer. It takes at most a second for that, but for a
	// connection that it keeps, which ends here.
	closeLimit = 3 * time.Second
	// answerBytes bounds what is read of an answer.
	answerBytes = 1 << 20
)

// send sends a shot to an address, in a connection of its own, over TLS if there is a configuration for it. Only that
// part of an outcome is filled in which the client sees.
func send(ctx context.Context, address string, config *tls.Config, shot attacktest.Shot) (attacktest.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	conn, err := dial(ctx, address, config, len(shot.H2) > 0)
	if err != nil {
		return attacktest.Outcome{}, err
	}
	defer conn.Close()
	if limit, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(limit); err != nil {
			return attacktest.Outcome{}, err
		}
	}
	var o attacktest.Outcome
	begin := time.Now()
	if len(shot.H2) > 0 {
		err = sendH2(conn, shot.H2, &o)
	} else {
		err = sendRaw(conn, shot.Raw, &o)
	}
	o.Took = time.Since(begin)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		// No answer, which is for the judge to say.
	case o.Status == 0:
		o.Reset = true
	default:
		return o, fmt.Errorf("read the answer, whose status is %d: %w", o.Status, err)
	}
	return o, nil
}

func dial(ctx context.Context, address string, config *tls.Config, h2 bool) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil || config == nil {
		return conn, err
	}
	config = config.Clone()
	config.NextProtos = []string{"http/1.1"}
	if h2 {
		config.NextProtos = []string{"h2"}
	}
	over := tls.Client(conn, config)
	if err := over.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return over, nil
}

// sendRaw writes these very bytes, and reads while it does: Envoy may answer before it has them all.
func sendRaw(conn net.Conn, raw []byte, o *attacktest.Outcome) error {
	go func() { _, _ = conn.Write(raw) }() // what breaks here shows below, and Close ends it
	method, _, _ := strings.Cut(string(raw), " ")
	from := bufio.NewReader(conn)
	answer, err := http.ReadResponse(from, &http.Request{Method: method})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	o.Status = answer.StatusCode
	for name, values := range answer.Header {
		for _, value := range values {
			o.Headers = append(o.Headers, [2]string{name, value})
		}
	}
	if o.Body, err = io.ReadAll(io.LimitReader(answer.Body, answerBytes)); err != nil {
		return err
	}
	// Bytes behind the first request may be taken for a second one: what comes of it has happened when Envoy closes.
	_ = conn.SetReadDeadline(time.Now().Add(closeLimit))
	_, _ = io.Copy(io.Discard, io.LimitReader(from, answerBytes))
	return nil
}

// maxFrame is how large a frame may be that the other side has not agreed to (RFC 9113, section 4.2).
const maxFrame = 16384

// sendH2 sends a header list as it is, which no client library would: names twice, pseudo-headers missing.
func sendH2(conn net.Conn, list [][2]string, o *attacktest.Outcome) error {
	var block bytes.Buffer
	encoder, connect := hpack.NewEncoder(&block), false
	for _, h := range list {
		connect = connect || h == [2]string{":method", http.MethodConnect}
		if err := encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return err
		}
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	const stream = 1
	first := block.Next(maxFrame)
	if err := framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: first, EndHeaders: block.Len() == 0,
		EndStream: !connect, // the client's half of a tunnel stays open (RFC 9113, section 8.5)
	}); err != nil {
		return err
	}
	for block.Len() > 0 {
		fragment := block.Next(maxFrame)
		if err := framer.WriteContinuation(stream, block.Len() == 0, fragment); err != nil {
			return err
		}
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		ended := false
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				if err := framer.WriteSettingsAck(); err != nil {
					return err
				}
			}
		case *http2.MetaHeadersFrame:
			if o.Status == 0 {
				if _, err := fmt.Sscan(f.PseudoValue("status"), &o.Status); err != nil {
					return fmt.Errorf("an answer without a status: %w", err)
				}
			}
			for _, h := range f.RegularFields() {
				o.Headers = append(o.Headers, [2]string{h.Name, h.Value})
			}
			ended = f.StreamEnded()
		case *http2.DataFrame:
			o.Body = append(o.Body, f.Data()...)
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			o.Reset, ended = true, true
		case *http2.GoAwayFrame:
			o.Reset, ended = f.LastStreamID < stream || f.ErrCode != http2.ErrCodeNo, true
		}
		if ended {
			return nil
		}
	}
}
