package e2e_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

const socketManifests = `
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: company}
spec: {issuer: ISSUER, allowHTTP: true, audiences: [langgraph], identity: {permissions: 'claims.?scope.orValue("").split(" ")'}}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: sockets}
spec:
  hosts: ["127.0.0.1"]
  providers: [company]
  api: {preset: langgraph, langgraph: {webSocket: Allow}}
  backend: {url: BACKEND}
  rules:
    - {on: threads, filter: {owner: user.identity}, stamp: {owner: user.identity}}
    - {on: "threads:create_run", allow: "'threads:write' in user.permissions", filter: {owner: user.identity}, stamp: {owner: user.identity}}
    - {on: "assistants:read"}
`

// upgrade asks for a WebSocket (RFC 6455, section 4.1), and returns the connection with the answer.
func upgrade(ctx context.Context, t *testing.T, g *stack.Gate, path, token string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", g.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if limit, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(limit); err != nil {
			t.Fatal(err)
		}
	}
	authorization := ""
	if token != "" {
		authorization = "Authorization: Bearer " + token + "\r\n"
	}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", path, authorization)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn, in, answer
}

// say sends one text frame, masked with zeros, and returns the next text frame (RFC 6455, section 5).
func say(t *testing.T, conn net.Conn, in *bufio.Reader, text string) string {
	t.Helper()
	if len(text) > 125 {
		t.Fatalf("%d bytes are more than a short frame has", len(text))
	}
	frame := append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
	if _, err := conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		t.Fatal(err)
	}
	size := int(head[1] & 0x7f)
	if size == 126 {
		var long [2]byte
		if _, err := io.ReadFull(in, long[:]); err != nil {
			t.Fatal(err)
		}
		size = int(binary.BigEndian.Uint16(long[:]))
	}
	answer := make([]byte, size)
	if _, err := io.ReadFull(in, answer); err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// Where the policy allows it, the socket of a thread is open to who may do anything with that thread, and to nobody else.
func TestAWebSocketIsOpenToTheThreadsOwnerWhereThePolicyAllowsIt(t *testing.T) {
	ctx := begin(t)
	g := newGate(ctx, t, "sockets", socketManifests, parts.Backend)
	thread := newThread(ctx, t, alice, nil)
	path := "/threads/" + thread + "/stream/events"
	for _, c := range []struct {
		name, path, token string
		want              int
	}{
		{"nobody", path, "", http.StatusUnauthorized},
		{"Bob", path, bob, http.StatusNotFound},
		{"a token that may not start runs", path, aliceReadOnly, http.StatusForbidden},
		{"a thread that is not there", "/threads/00000000-0000-4000-8000-000000000000/stream/events", alice, http.StatusNotFound},
		{"another route", "/threads/" + thread + "/stream", alice, http.StatusForbidden}, // Envoy's own word
		{"the owner", path, alice, http.StatusSwitchingProtocols},
	} {
		conn, in, answer := upgrade(ctx, t, g, c.path, c.token)
		if answer.StatusCode != c.want {
			body, _ := io.ReadAll(io.LimitReader(answer.Body, 500))
			t.Errorf("%s: got %d, want %d: %s", c.name, answer.StatusCode, c.want, body)
			continue
		}
		if c.want == http.StatusSwitchingProtocols {
			if got := say(t, conn, in, `{"id":1,"method":"state.get"}`); !strings.Contains(got, `"success"`) || !strings.Contains(got, thread) {
				t.Errorf("the server says %s", got)
			}
		}
		_ = conn.Close()
	}
}
