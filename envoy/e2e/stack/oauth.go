package stack

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"syscall"
)

// OAuth is a second OpenID provider, for tests of tokens: see parts/provider/oauth.mjs.
type OAuth struct {
	*Part
	Issuer string
}

// NewOAuth starts one, on a port of its own.
func (s *Stack) NewOAuth(ctx context.Context) (*OAuth, error) {
	addresses, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addresses[0])
	o := &OAuth{Issuer: "http://" + addresses[0]}
	o.Part = s.part(&Part{
		Name:    "oauth",
		command: []string{s.tools.node, "oauth.mjs", port},
		dir:     filepath.Join(s.Dir, "provider"),
		ready:   answers200(o.Issuer + "/.well-known/openid-configuration"),
	})
	s.say("the provider of all kinds of tokens starts at %s", o.Issuer)
	return o, o.Start(ctx)
}

// Freeze makes a running part hang: its connections stay open, and nothing is answered until Thaw.
func (p *Part) Freeze() error { return p.signal(syscall.SIGSTOP) }

// Thaw lets a part go on that was frozen.
func (p *Part) Thaw() error { return p.signal(syscall.SIGCONT) }

func (p *Part) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return errors.New(p.Name + " does not run")
	}
	return syscall.Kill(-p.cmd.Process.Pid, s)
}
