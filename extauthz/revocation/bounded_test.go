package revocation

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gomodule/redigo/redis"
)

// hostile are answers that a client would make room for before they come, or for ever.
var hostile = map[string]string{
	"an_array_of_more_than_there_is":     "*9223372036854775807\r\n",
	"a_text_of_more_than_there_is":       "$9223372036854775807\r\n",
	"a_gigabyte":                         "$1000000000\r\n",
	"a_million_items":                    "*1000000\r\n",
	"a_length_behind_zeros":              "$" + strings.Repeat("0", 40) + "9999999999\r\n",
	"arrays_in_arrays":                   "*1\r\n",
	"a_line_without_an_end":              "+" + strings.Repeat("x", 1<<10),
	"an_error_without_an_end":            "-" + strings.Repeat("x", 1<<10),
	"a_length_that_is_beyond_64_bits":    "*18446744073709551617\r\n",
	"a_large_one_in_an_ordinary_message": "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$99999999\r\n",
}

// The server may be a tenant's: what it answers must neither end the process nor fill its memory.
func TestA_hostile_server_is_a_problem_of_its_list_alone(t *testing.T) {
	for name, answer := range hostile {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						for err == nil {
							_, err = conn.Write([]byte(answer))
						}
					}()
				}
			}()
			l, err := New(Config{Provider: "idp", Issuer: "https://idp.test", URL: "redis://" + listener.Addr().String()})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := l.follow(ctx); err == nil || !strings.Contains(err.Error(), errReply.Error()) {
				t.Errorf("got %v, want %v", err, errReply)
			}
		})
	}
}

// What a server of Redis answers comes through, wherever it is cut, and however many replies there are.
func TestOrdinary_replies_pass(t *testing.T) {
	message := "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$9\r\nsub:alice\r\n"
	scan := "*2\r\n$1\r\n0\r\n*2\r\n$3\r\na\nb\r\n$-1\r\n"
	text := strings.Repeat(message+scan+"+OK\r\n:-2\r\n$0\r\n\r\n*0\r\n*-1\r\n-ERR no\r\n$5000\r\n"+strings.Repeat("*", 5000)+"\r\n", 2000)
	if len(text) < 2*maxReply {
		t.Fatal("the replies are no more than one may be")
	}
	for _, size := range []int{1, 7, 4096} {
		var r reply
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if !r.pass([]byte(rest[:n])) {
				t.Fatalf("in pieces of %d bytes: refused with %d bytes left", size, len(rest))
			}
			rest = rest[n:]
		}
		if r.seen != 0 || len(r.open) != 0 || r.bytes != 0 {
			t.Errorf("in pieces of %d bytes: %+v is left", size, r)
		}
	}
	conn := redis.NewConn(&bounded{Conn: replying{strings.NewReader(message)}}, 0, 0)
	if got, err := redis.Strings(conn.Receive()); err != nil || len(got) != 3 || got[2] != "sub:alice" {
		t.Errorf("%q, %v", got, err)
	}
}

// replying is a connection that is only read, a byte at a time.
type replying struct{ text *strings.Reader }

func (c replying) Read(p []byte) (int, error)       { return iotest.OneByteReader(c.text).Read(p) }
func (replying) Write(p []byte) (int, error)        { return len(p), nil }
func (replying) Close() error                       { return nil }
func (replying) LocalAddr() net.Addr                { return nil }
func (replying) RemoteAddr() net.Addr               { return nil }
func (replying) SetDeadline(time.Time) error        { return nil }
func (replying) SetReadDeadline(time.Time) error    { return nil }
func (replying) SetWriteDeadline(t time.Time) error { return nil }
