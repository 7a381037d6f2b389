package stack

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Options of a stack. The zero value is good.
type Options struct {
	// Log gets a line about each thing that happens. Default: nowhere.
	Log io.Writer
	// Race builds usher with the race detector.
	Race bool
	// WordPause is the agent's pause between two words. Default: none.
	WordPause time.Duration
}

// Stack is an OpenID provider, a LangGraph server, and an usher that is built from the repository. Its gates come from
// NewGate. Close must be called.
type Stack struct {
	Provider  *Part
	LangGraph *Part

	// Issuer is the provider's URL, and Backend the LangGraph server's, past every gate.
	Issuer  string
	Backend string
	// Usher is the path of the binary.
	Usher string
	// Dir is where everything is, log files too.
	Dir string

	root  string
	tools installed
	log   io.Writer

	mu     sync.Mutex
	parts  []*Part // in order of their creation
	closed bool
}

// New finds what is installed and prepares a temporary directory. Nothing runs yet.
func New(o Options) (*Stack, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	tools, err := findInstalled(root)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(shortTempDir(), "usher-e2e-")
	if err != nil {
		return nil, err
	}
	s := &Stack{Dir: dir, root: root, tools: tools, log: o.Log}
	if s.log == nil {
		s.log = io.Discard
	}
	if err := s.prepare(o); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

// shortTempDir is the directory for temporary files, or /tmp where its name is long: the LangGraph server's launcher
// puts a Unix socket below, whose path may have no more than 107 bytes.
func shortTempDir() string {
	if dir := os.TempDir(); len(dir) <= 60 {
		return dir
	}
	return "/tmp"
}

func (s *Stack) prepare(o Options) error {
	if err := writeParts(s.Dir, s.tools.packages); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(s.Dir, "logs"), 0o700); err != nil {
		return err
	}
	addresses, err := freeAddresses(2)
	if err != nil {
		return err
	}
	s.Issuer, s.Backend = "http://"+addresses[0], "http://"+addresses[1]

	_, providerPort, _ := net.SplitHostPort(addresses[0])
	s.Provider = s.part(&Part{
		Name:    "provider",
		command: []string{s.tools.node, "provider.mjs", providerPort},
		dir:     filepath.Join(s.Dir, "provider"),
		ready:   answers200(s.Issuer + "/.well-known/openid-configuration"),
	})

	_, backendPort, _ := net.SplitHostPort(addresses[1])
	cli := filepath.Join(s.tools.packages, "@langchain", "langgraph-cli", "dist", "cli", "cli.mjs")
	s.LangGraph = s.part(&Part{
		Name: "langgraph",
		command: []string{s.tools.node, cli, "dev", "--no-browser", "--no-reload",
			"--host", "127.0.0.1", "--port", backendPort},
		dir: filepath.Join(s.Dir, "langgraph"),
		// It would otherwise report its use to its maker, and could send traces there.
		env: []string{"LANGGRAPH_CLI_NO_ANALYTICS=1", "LANGSMITH_TRACING=false", "LANGCHAIN_TRACING_V2=false", "BROWSER=none",
			fmt.Sprintf("DEMO_WORD_PAUSE_MS=%d", o.WordPause.Milliseconds())},
		ready: answers200(s.Backend + "/ok"),
	})
	return nil
}

// part registers a part, so that Close ends it.
func (s *Stack) part(p *Part) *Part {
	p.log = filepath.Join(s.Dir, "logs", p.Name+".log")
	if p.dir == "" {
		p.dir = s.Dir
	}
	p.env = environment(s.Dir, p.env...)
	s.mu.Lock()
	defer s.mu.Unlock()
	p.closed = s.closed
	s.parts = append(s.parts, p)
	return p
}

// Build compiles usher. With USHER_BINARY in the environment, that one is used instead.
func (s *Stack) Build(ctx context.Context, race bool) error {
	if path := os.Getenv("USHER_BINARY"); path != "" {
		s.Usher = path
		return nil
	}
	path, err := BuildUsher(ctx, s.root, s.Dir, race)
	if err != nil {
		return err
	}
	s.Usher = path
	return nil
}

// Start is New, Build, and the start of the provider and the LangGraph server.
func Start(ctx context.Context, o Options) (*Stack, error) {
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	if err := s.start(ctx, o); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, o Options) error {
	s.say("usher is being built")
	if err := s.Build(ctx, o.Race); err != nil {
		return err
	}
	s.say("the provider starts at %s", s.Issuer)
	if err := s.Provider.Start(ctx); err != nil {
		return err
	}
	s.say("the LangGraph server starts at %s", s.Backend)
	return s.LangGraph.Start(ctx)
}

func (s *Stack) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.log, format+"\n", args...)
}

// Parts returns every part so far, in order of creation.
func (s *Stack) Parts() []*Part {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Part(nil), s.parts...)
}

// Tails returns the ends of the logs of the parts whose names begin with one of the prefixes, of all without one.
func (s *Stack) Tails(prefixes ...string) string {
	var b strings.Builder
	for _, p := range s.Parts() {
		wanted := len(prefixes) == 0
		for _, prefix := range prefixes {
			wanted = wanted || strings.HasPrefix(p.Name, prefix)
		}
		if wanted {
			b.WriteString(p.Tail() + "\n")
		}
	}
	return b.String()
}

// Close ends every part, the latest first, and removes the directory. It may be called again, and from a signal's
// goroutine.
func (s *Stack) Close() {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return
	}
	list := s.Parts()
	for i := len(list) - 1; i >= 0; i-- {
		list[i].close()
	}
	_ = os.RemoveAll(s.Dir)
}
