package stack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The example that the demo and the tests run, and its addresses, which are replaced by ours.
const (
	examplePath    = "examples/langgraph/policy.yaml"
	exampleIssuer  = "issuer: https://auth.example.com"
	exampleHosts   = "hosts: [agents.example.com]"
	exampleBackend = "url: http://langgraph.agents.svc:8000"
)

// manifest returns the example's manifests for this issuer and backend. Nothing but the addresses differs, and that
// keys may be fetched over http, since the provider is on loopback.
func manifest(root, issuer, backend string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(examplePath)))
	if err != nil {
		return "", err
	}
	text := string(b)
	for _, change := range [][2]string{
		{exampleIssuer, "issuer: " + issuer + "\n  allowHTTP: true"},
		{exampleHosts, `hosts: ["127.0.0.1"]`},
		{exampleBackend, "url: " + backend},
	} {
		if strings.Count(text, change[0]) != 1 {
			return "", fmt.Errorf("%s: expected %q once, the stack replaces it", examplePath, change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return text, nil
}

// Manifests are the example's, with the stack's provider and that backend.
func (s *Stack) Manifests(backend string) (string, error) { return manifest(s.root, s.Issuer, backend) }
