package attacktest_test

import (
	"context"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/attacktest"
	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// product starts Usher as `usher serve` does. What the manifests compile to never changes, so that one compilation
// serves every gate, of which each has its own keys and caches.
type product struct {
	compiled *manifest.Compiled
}

func newProduct(t *testing.T, suite *attacktest.Suite) *product {
	t.Helper()
	text, err := suite.Manifests(attacktest.MemoryURLs())
	if err != nil {
		t.Fatal(err)
	}
	objects, problems := manifest.Parse("attacks.yaml", text)
	compiled, more := manifest.Compile(objects, map[string]policy.Preset{"langgraph": langgraph.Preset()})
	if err := append(problems, more...).Err(); err != nil {
		t.Fatalf("compile the manifests:\n%v", err)
	}
	return &product{compiled}
}

func (p *product) start(s attacktest.Setup) (attacktest.Gate, error) {
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), s.Log, zapcore.DebugLevel))
	providers := map[string]token.Config{}
	for name, c := range p.compiled.Providers {
		c.Transport, c.Logger = s.Transport, log
		providers[name] = c
	}
	state, err := extauthz.Build(nil, p.compiled.Snapshot, providers, p.compiled.Backends)
	if err != nil {
		return nil, err
	}
	for name, config := range p.compiled.Backends {
		config.Transport, config.Probe = s.Transport, "" // the cases' backend serves objects only
		if state.Lookups[name], err = lookup.New(config); err != nil {
			return nil, err
		}
	}
	state.Start(context.Background())
	server := extauthz.New(extauthz.Options{Logger: log})
	server.Swap(state)
	return &gate{server, state}, nil
}

type gate struct {
	server *extauthz.Server
	state  *extauthz.State
}

func (g *gate) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return g.server.Check(ctx, r)
}

func (g *gate) Panics() uint64 {
	_, panics := g.server.Counts()
	return panics
}

func (g *gate) Stop() { g.state.Stop(nil) }
