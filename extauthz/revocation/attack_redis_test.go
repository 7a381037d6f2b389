package revocation

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A list's server is a tenant's: what it answers must not end the process.
func TestAttack_an_answer_of_a_hostile_server(t *testing.T) {
	if answer := os.Getenv("USHER_ATTACK"); answer != "" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					for {
						if _, err := conn.Write([]byte(answer)); err != nil {
							return
						}
					}
				}()
			}
		}()
		l, err := New(Config{Provider: "idp", Issuer: "https://idp.test", URL: "redis://" + listener.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
		defer cancel()
		l.Run(ctx)
		t.Log(l.Status().Problem)
		return
	}
	for name, answer := range map[string]string{"length": "*9223372036854775807\r\n", "nested": "*1\r\n", "bulk": "$9223372036854775807\r\n"} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run", "TestAttack_an_answer_of_a_hostile_server", "-test.v")
			cmd.Env = append(os.Environ(), "USHER_ATTACK="+answer)
			out, err := cmd.CombinedOutput()
			if err != nil {
				lines := strings.SplitN(string(out), "\n", 6)
				t.Errorf("the process ended: %v\n%s", err, strings.Join(lines[:min(5, len(lines))], "\n"))
			}
		})
	}
}
