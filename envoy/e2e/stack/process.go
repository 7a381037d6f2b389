package stack

import (
	"context"
	"io"
)

// Process is what a Part runs, for tests that start parts of their own beside a Stack.
type Process struct {
	Name    string
	Command []string
	Dir     string
	Env     []string // nil: that of this process
	Log     string   // a file that its output is appended to
	Stdout  io.Writer
	Ready   func(context.Context) error // nil: at once
}

// NewPart returns a Part that is not started yet. Whoever made it stops it.
func NewPart(p Process) *Part {
	return &Part{Name: p.Name, command: p.Command, dir: p.Dir, env: p.Env, log: p.Log, stdout: p.Stdout, ready: p.Ready}
}

// FreePort returns a loopback port that nothing listens on, and that is given to nobody else in this process.
func FreePort() (int, error) { return freePort() }

// Poll calls f until it returns nil or ctx ends; the error then has f's last one.
func Poll(ctx context.Context, f func() error) error { return poll(ctx, f) }

// Answers200 is ready when a GET of url is answered 200.
func Answers200(url string) func(context.Context) error { return answers200(url) }

// Pid is the process id of a running part; 0 if it does not run.
func (p *Part) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}
