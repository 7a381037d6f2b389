package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startLimit = 3 * time.Minute  // for a part to become ready, the first time from a slow disk
	stopLimit  = 30 * time.Second // for a part to end by itself, before it is killed; a replica of Usher may drain first
	goneLimit  = 2 * time.Second  // for what was killed to be gone; an unreaped zombie stays
	tailLines  = 40
)

// Part is one process that the stack runs. It can be stopped and started again, on the same ports and into the same log.
// Its methods may be called from several goroutines.
type Part struct {
	Name string
	// Admin is the URL of the admin pages of an Envoy from NewEnvoy.
	Admin string

	command []string
	dir     string
	env     []string
	log     string
	stdin   io.Reader
	stdout  io.Writer // nil: the log
	ready   func(context.Context) error

	mu      sync.Mutex
	cmd     *exec.Cmd
	done    chan struct{} // closed when the process has ended
	exitErr error         // valid once done is closed
	closed  bool          // never to be started again
}

// starter starts every process from one operating-system thread that lives as long as we do: the kernel's notice of
// our death is tied to the thread, not to the process.
var starter = sync.OnceValue(func() chan func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// Start runs the part and returns when it is ready. A part that is running already is left alone.
func (p *Part) Start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("start %s: the stack is closed", p.Name)
	}
	if p.running() {
		return nil
	}
	if err := p.launch(); err != nil {
		return err
	}
	if p.ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	err := poll(ctx, func() error {
		select {
		case <-p.done:
			return fatal{fmt.Errorf("it ended: %w", p.exitErr)}
		default:
			return p.ready(ctx)
		}
	})
	if err != nil {
		p.end()
		return fmt.Errorf("start %s: %w\n%s", p.Name, err, p.Tail())
	}
	return nil
}

func (p *Part) launch() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", p.Name, err)
	}
	defer log.Close() // the process has its own copy

	cmd := exec.Command(p.command[0], p.command[1:]...) //nolint:gosec // the stack's own commands
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = p.dir, p.env, p.stdin, log, log
	if p.stdout != nil {
		cmd.Stdout = p.stdout
	}
	cmd.SysProcAttr = ownGroup()

	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		err := cmd.Wait()
		if err == nil {
			err = errors.New("with exit status 0")
		}
		p.exitErr = err
		close(done)
	}()
	return nil
}

// Stop ends the part with all its children: politely, and after a while not. A part that does not run is left alone.
func (p *Part) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}

// close is Stop for good.
func (p *Part) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.end()
}

func (p *Part) end() {
	if p.cmd == nil {
		return
	}
	// Its process id is its group's id, see ownGroup.
	group := -p.cmd.Process.Pid
	if p.running() {
		_ = syscall.Kill(group, syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(stopLimit):
		}
	}
	// What is left of the group, often nothing. Its ports are free once it is gone.
	for begin := time.Now(); syscall.Kill(group, syscall.SIGKILL) == nil && time.Since(begin) < goneLimit; {
		time.Sleep(5 * time.Millisecond)
	}
	<-p.done
	p.cmd = nil
}

func (p *Part) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Log returns what the part has written so far.
func (p *Part) Log() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tail returns the last lines of its log, with a heading.
func (p *Part) Tail() string {
	lines := strings.Split(strings.TrimRight(p.Log(), "\n"), "\n")
	if n := len(lines) - tailLines; n > 0 {
		lines = lines[n:]
	}
	return fmt.Sprintf("--- the end of %s\n%s\n---", filepath.Base(p.log), strings.Join(lines, "\n"))
}

// fatal marks an error after which polling makes no sense.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// poll calls f until it returns nil, a fatal error, or ctx ends.
func poll(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		var stop fatal
		if errors.As(err, &stop) {
			return stop.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, the last answer was: %w", context.Cause(ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// answers200 is ready when a GET of url is answered 200.
func answers200(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		res, err := direct.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(res.Body, 2000))
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s: %s", url, res.Status, strings.TrimSpace(string(body)))
		}
		return nil
	}
}

// direct is a client that uses no proxy and keeps no connections.
var direct = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
