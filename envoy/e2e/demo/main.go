// The demo: it starts an OpenID provider, a LangGraph server without auth code, Usher and Envoy, and tells a story on
// them. `make demo` installs the parts and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 all went as told, 1 something did not, 2 usage, 130 interrupted before the end.
func run(args []string, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("usher-demo", flag.ContinueOnError)
	flags.SetOutput(errOut)
	keep := flags.Bool("keep", false, "leave everything up at the end, until Ctrl-C")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 {
		_, _ = fmt.Fprintf(errOut, "usher-demo: it takes no arguments, found %q\n", flags.Args())
		return 2
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	screen := newScreen(out)
	err := demo(ctx, screen, *keep)
	switch {
	case err == nil && *keep:
		screen.note("Everything is stopped.")
	case err != nil && ctx.Err() != nil:
		screen.note("Interrupted. Everything is stopped.")
		return 130
	case err != nil:
		_, _ = fmt.Fprintln(errOut, "\nusher-demo:", err)
		return 1
	}
	return 0
}

// The agent's pause between two words.
const wordPause = 80 * time.Millisecond

func demo(ctx context.Context, screen *screen, keep bool) error {
	screen.title("Usher: whose conversation is it?",
		"Real parts, all on this machine: Envoy, an OpenID provider, a LangGraph server, and Usher.",
		"The LangGraph server has no auth code. Whatever keeps Bob out of Alice's conversation, it is the gate.")

	s, err := stack.New(stack.Options{WordPause: wordPause})
	if err != nil {
		return err
	}
	defer s.Close()

	gate, err := start(ctx, screen, s)
	if err != nil {
		return err
	}
	t := &teller{screen: screen, stack: s, gate: gate}
	if err := t.tell(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, s.Tails("usher", "envoy"))
	}

	if !keep {
		screen.end(fmt.Sprintf("All %d steps went as told.", t.step),
			"To try it by hand: make demo KEEP=1 tells the story again, leaves everything up, and prints commands with real tokens.",
			"The policy is examples/langgraph/policy.yaml.")
		return nil
	}
	if err := t.byHand(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// start brings the parts up, and says each as it is there.
func start(ctx context.Context, screen *screen, s *stack.Stack) (*stack.Gate, error) {
	var gate *stack.Gate
	for _, part := range []struct {
		name  string
		start func() error
		where func() string
	}{
		{"usher is built from this repository", func() error { return s.Build(ctx, false) }, func() string { return "" }},
		{"OpenID provider", func() error { return s.Provider.Start(ctx) }, func() string { return s.Issuer }},
		{"LangGraph server", func() error { return s.LangGraph.Start(ctx) }, func() string { return s.Backend }},
		{"Usher, and Envoy before it", func() (err error) {
			gate, err = s.NewGate(ctx, "demo", s.Backend)
			return err
		}, func() string { return gate.URL + "  <- clients come here" }},
	} {
		screen.starting(part.name)
		begin := time.Now()
		if err := part.start(); err != nil {
			screen.failed()
			return nil, err
		}
		screen.started(part.name, part.where(), time.Since(begin))
	}
	return gate, nil
}
