package stack

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Redis is a server for lists of revoked tokens. It keeps nothing: one that was stopped and started is empty.
type Redis struct {
	*Part
	Address string
	// CLI is the path of redis-cli.
	CLI string

	options RedisOptions
}

// RedisOptions of a server. The zero value asks nobody for a password and has no TLS.
type RedisOptions struct {
	Password string
	// TLS is how to reach a server whose Args make it speak TLS; it then has no other port.
	TLS  *tls.Config
	Args []string // redis-server's own
}

// NewRedis starts a server on a port of its own.
func (s *Stack) NewRedis(ctx context.Context, name string, o RedisOptions) (*Redis, error) {
	r, err := s.NewRedisStopped(name, o)
	if err != nil {
		return nil, err
	}
	return r, r.Start(ctx)
}

// NewRedisStopped is NewRedis for a server that is not to run yet.
func (s *Stack) NewRedisStopped(name string, o RedisOptions) (*Redis, error) {
	bin := filepath.Join(s.root, ".tools", "bin")
	binary := filepath.Join(bin, "redis-server")
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrMissingParts, err)
	}
	addresses, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addresses[0])
	r := &Redis{Address: addresses[0], CLI: filepath.Join(bin, "redis-cli"), options: o}
	command := []string{binary, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.Dir}
	if o.TLS != nil {
		command = append(command, "--port", "0", "--tls-port", port)
	} else {
		command = append(command, "--port", port)
	}
	if o.Password != "" {
		command = append(command, "--requirepass", o.Password)
	}
	r.Part = s.part(&Part{
		Name: "redis-" + name, command: append(command, o.Args...),
		ready: func(ctx context.Context) error {
			answer, err := r.Do(ctx, "PING")
			if err == nil && answer != "PONG" {
				err = fmt.Errorf("PING is answered %q", answer)
			}
			return err
		},
	})
	return r, nil
}

// Do sends one command by a connection of its own, and returns the answer if it is a string or a number; of an array, how
// many elements it has.
func (r *Redis) Do(ctx context.Context, args ...string) (string, error) {
	conn, err := r.dial(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(conn)
	if r.options.Password != "" {
		if _, err := exchange(conn, in, "AUTH", r.options.Password); err != nil {
			return "", err
		}
	}
	return exchange(conn, in, args...)
}

func (r *Redis) dial(ctx context.Context) (net.Conn, error) {
	d := &net.Dialer{Timeout: 5 * time.Second}
	if r.options.TLS != nil {
		return (&tls.Dialer{NetDialer: d, Config: r.options.TLS}).DialContext(ctx, "tcp", r.Address)
	}
	return d.DialContext(ctx, "tcp", r.Address)
}

// exchange is one command of Redis' protocol (RESP2), and its answer.
func exchange(conn io.Writer, in *bufio.Reader, args ...string) (string, error) {
	var out strings.Builder
	fmt.Fprintf(&out, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(conn, out.String()); err != nil {
		return "", err
	}
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, text := line[0], strings.TrimRight(line[1:], "\r\n")
	switch kind {
	case '+', ':', '*':
		return text, nil
	case '$':
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return "", err
		}
		b := make([]byte, n)
		_, err = io.ReadFull(in, b)
		return string(b), err
	case '-':
		return "", errors.New("redis: " + text)
	}
	return "", fmt.Errorf("redis: an answer of kind %q", kind)
}
