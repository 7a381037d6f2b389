package stack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Gate is an usher with the Envoy before it, on ports of its own.
type Gate struct {
	Usher *Part
	Envoy *Part

	// URL is where clients go, and Address its host and port.
	URL     string
	Address string
	// Manifest is the path of the policy, which may be rewritten while usher runs.
	Manifest string
	// UsherAdmin is the URL of usher's /healthz, /readyz and /metrics, EnvoyAdmin that of Envoy's admin pages.
	UsherAdmin string
	EnvoyAdmin string

	// EnvoyArgs are further arguments of `usher envoy`. A copy of a gate may change them before its WithEnvoy.
	EnvoyArgs []string
	// Ping is what Ready tries until it succeeds. Default: GET /ok is answered 200.
	Ping func(context.Context, *Gate) error

	stack *Stack
	name  string
	grpc  string // usher's ext_authz address
}

// GateOptions are what is particular to a gate. Manifests are needed.
type GateOptions struct {
	Manifests string
	UsherArgs []string // further arguments of `usher serve`
	UsherEnv  []string // further variables of its environment
	EnvoyArgs []string // see Gate
	Socket    bool     // usher answers at a Unix socket, not at a port
	Ping      func(context.Context, *Gate) error
}

// NewGate starts a gate before a backend, with the example's policy. The name is for log files.
func (s *Stack) NewGate(ctx context.Context, name, backend string) (*Gate, error) {
	text, err := manifest(s.root, s.Issuer, backend)
	if err != nil {
		return nil, err
	}
	return s.NewGateWith(ctx, name, text)
}

// NewGateWith is NewGate with manifests of one's own.
func (s *Stack) NewGateWith(ctx context.Context, name, manifests string) (*Gate, error) {
	return s.NewGateAs(ctx, name, GateOptions{Manifests: manifests})
}

// NewGateAs is NewGate with all of one's own.
func (s *Stack) NewGateAs(ctx context.Context, name string, o GateOptions) (*Gate, error) {
	g, err := s.newGate(ctx, name, o)
	if err != nil {
		return nil, err
	}
	return g, g.Ready(ctx)
}

// NewGateNotReady is NewGateWith for a backend that may not be there: it does not wait for an answer of it.
func (s *Stack) NewGateNotReady(ctx context.Context, name, manifests string) (*Gate, error) {
	return s.newGate(ctx, name, GateOptions{Manifests: manifests})
}

// NewUsher starts an usher without an Envoy, for tests in which Envoy has no part. It does not wait until it is ready.
func (s *Stack) NewUsher(ctx context.Context, name string, o GateOptions) (*Gate, error) {
	g, err := s.newUsher(name, o)
	if err != nil {
		return nil, err
	}
	g.Usher.ready = answers200(g.UsherAdmin + "/healthz")
	return g, g.Usher.Start(ctx)
}

func (s *Stack) newGate(ctx context.Context, name string, o GateOptions) (*Gate, error) {
	g, err := s.newUsher(name, o)
	if err != nil {
		return nil, err
	}
	s.say("usher (%s) starts at %s", name, g.grpc)
	if err := g.Usher.Start(ctx); err != nil {
		return nil, err
	}
	return g, g.addEnvoy(ctx, "envoy-"+name, nil)
}

// newUsher writes the manifests, and prepares what reads them.
func (s *Stack) newUsher(name string, o GateOptions) (*Gate, error) {
	addresses, err := freeAddresses(2)
	if err != nil {
		return nil, err
	}
	g := &Gate{
		Manifest:   filepath.Join(s.Dir, name+".yaml"),
		UsherAdmin: "http://" + addresses[1],
		EnvoyArgs:  o.EnvoyArgs,
		Ping:       o.Ping,
		stack:      s,
		name:       name,
		grpc:       addresses[0],
	}
	if o.Socket {
		g.grpc = "unix://" + filepath.Join(s.Dir, name+".sock")
	}
	if err := os.WriteFile(g.Manifest, []byte(o.Manifests), 0o600); err != nil {
		return nil, err
	}
	g.Usher = s.part(&Part{
		Name: "usher-" + name,
		command: append([]string{s.Usher, "serve", "--config", g.Manifest, "--grpc-address", g.grpc,
			"--admin-address", addresses[1], "--log-level", "info", "--log-format", "json"}, o.UsherArgs...),
		env:   o.UsherEnv,
		ready: answers200(g.UsherAdmin + "/readyz"),
	})
	return g, nil
}

// GRPC is the address of usher's ext_authz service.
func (g *Gate) GRPC() string { return g.grpc }

// WithEnvoy returns a gate with the same usher, and a further Envoy whose generated configuration is changed by edit.
func (g *Gate) WithEnvoy(ctx context.Context, name string, edit func(bootstrap map[string]any) error) (*Gate, error) {
	other := *g
	other.Envoy = nil
	if err := other.addEnvoy(ctx, "envoy-"+name, edit); err != nil {
		return nil, err
	}
	return &other, other.Ready(ctx)
}

// addEnvoy starts an Envoy with what `usher envoy` writes. Without an edit it is run as it was written.
func (g *Gate) addEnvoy(ctx context.Context, name string, edit func(map[string]any) error) error {
	addresses, err := freeAddresses(2)
	if err != nil {
		return err
	}
	dir := filepath.Join(g.stack.Dir, name)
	if err := g.write(ctx, dir, addresses[0], addresses[1]); err != nil {
		return err
	}
	file := filepath.Join(dir, "envoy.yaml")
	if edit != nil {
		if err := editFile(file, edit); err != nil {
			return err
		}
	}
	g.Address, g.URL, g.EnvoyAdmin = addresses[0], "http://"+addresses[0], "http://"+addresses[1]
	g.Envoy = g.stack.part(&Part{
		Name:    name,
		command: []string{g.stack.tools.envoy, "-c", file, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warn"},
		ready:   answers200(g.EnvoyAdmin + "/ready"),
	})
	g.stack.say("Envoy (%s) starts at %s", name, g.URL)
	return g.Envoy.Start(ctx)
}

// Ready returns when Ping succeeds, by default when a public route is answered through the gate: Envoy has found usher
// and the backend.
func (g *Gate) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	ready := g.Ping
	if ready == nil {
		ready = func(ctx context.Context, g *Gate) error { return answers200(g.URL + "/ok")(ctx) }
	}
	if err := poll(ctx, func() error { return ready(ctx, g) }); err != nil {
		return fmt.Errorf("reach the backend through %s: %w\n%s\n%s", g.Envoy.Name, err, g.Usher.Tail(), g.Envoy.Tail())
	}
	return nil
}

// write has `usher envoy` write its files for this gate and these two addresses.
func (g *Gate) write(ctx context.Context, dir, listen, admin string) error {
	args := append([]string{"envoy", "--config", g.Manifest, "--format", "bootstrap", "--output-directory", dir,
		"--listen-address", listen, "--usher-address", g.grpc, "--envoy-admin-address", admin}, g.EnvoyArgs...)
	cmd := exec.CommandContext(ctx, g.stack.Usher, args...) //nolint:gosec // our own binary
	cmd.Env = environment(g.stack.Dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("write Envoy's configuration: usher envoy: %w\n%s", err, strings.TrimSpace(out.String()))
	}
	return nil
}

func editFile(file string, edit func(map[string]any) error) error {
	bootstrap, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var parsed map[string]any
	if err := yaml.Unmarshal(bootstrap, &parsed); err != nil {
		return fmt.Errorf("read the generated bootstrap: %w", err)
	}
	if err := edit(parsed); err != nil {
		return err
	}
	if bootstrap, err = yaml.Marshal(parsed); err != nil {
		return fmt.Errorf("write the changed bootstrap: %w", err)
	}
	return os.WriteFile(file, bootstrap, 0o600)
}
