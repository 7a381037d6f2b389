package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/usher-authz/usher/envoy/e2e/parts"
)

// FreeURL returns a URL on loopback that nothing listens at.
func (s *Stack) FreeURL() (string, error) {
	addresses, err := freeAddresses(1)
	if err != nil {
		return "", err
	}
	return "http://" + addresses[0], nil
}

// NewLangGraphWithAuth starts a second LangGraph server at base, with the documented Auth handler that verifies Usher's
// assertions. env is what the handler reads.
func (s *Stack) NewLangGraphWithAuth(ctx context.Context, base string, env ...string) (*Part, error) {
	return s.NewLangGraph(ctx, "auth", base, "auth.mjs", env...)
}

// NewLangGraph starts a further LangGraph server at base. auth is the file of parts/langgraph whose export `auth` it asks;
// empty is a server without auth code. The name is for its directory and log file.
func (s *Stack) NewLangGraph(ctx context.Context, name, base, auth string, env ...string) (*Part, error) {
	dir := filepath.Join(s.Dir, "langgraph-"+name)
	sub, err := fs.Sub(parts.Files, "langgraph")
	if err != nil {
		return nil, err
	}
	files := []string{"agent.mjs", "gated.mjs", "package.json", "langgraph.json"}
	if auth != "" {
		files = append(files, auth)
	}
	for _, file := range files {
		text, err := fs.ReadFile(sub, file)
		if err != nil {
			return nil, err
		}
		if file == "langgraph.json" && auth != "" {
			var project map[string]any
			if err := json.Unmarshal(text, &project); err != nil {
				return nil, err
			}
			project["auth"] = map[string]any{"path": "./" + auth + ":auth", "disable_studio_auth": true}
			if text, err = json.Marshal(project); err != nil {
				return nil, err
			}
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return nil, err
	}
	cli := filepath.Join(s.tools.packages, "@langchain", "langgraph-cli", "dist", "cli", "cli.mjs")
	p := s.part(&Part{
		Name:    "langgraph-" + name,
		command: []string{s.tools.node, cli, "dev", "--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", port},
		dir:     dir,
		env:     append([]string{"LANGGRAPH_CLI_NO_ANALYTICS=1", "LANGSMITH_TRACING=false", "LANGCHAIN_TRACING_V2=false", "BROWSER=none"}, env...),
		ready:   answers200(base + "/info"), // which needs no user
	})
	return p, p.Start(ctx)
}

// Handled is what the documented handler answered to one assertion.
type Handled struct {
	Status int
	User   map[string]any
}

// PythonAuth calls the documented Python handler with each of the assertions; nil is no header at all.
func (s *Stack) PythonAuth(ctx context.Context, assertions []*string, env ...string) ([]Handled, error) {
	python := filepath.Join(s.root, ".tools", "auth", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrMissingParts, err)
	}
	input, err := json.Marshal(assertions)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, python, "-B", "try_auth.py") //nolint:gosec // our own parts
	cmd.Dir = filepath.Join(s.Dir, "langgraph")
	cmd.Env = environment(s.Dir, env...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("run try_auth.py: %w", err)
	}
	var handled []Handled
	if err := json.Unmarshal(out, &handled); err != nil || len(handled) != len(assertions) {
		return nil, fmt.Errorf("try_auth.py wrote %d answers to %d assertions: %w", len(handled), len(assertions), err)
	}
	return handled, nil
}
