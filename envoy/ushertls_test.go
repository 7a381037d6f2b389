package envoy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/usher-authz/usher/envoy"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

func TestSecrets(t *testing.T) {
	files, err := envoy.Secrets(mutual)
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for name, got := range files {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("differs from %s: run with -update and read the diff", file)
			}
			var tree any
			if err := yaml.Unmarshal(got, &tree); err != nil {
				t.Fatal(err)
			}
			asJSON, err := json.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			r := &discoveryv3.DiscoveryResponse{}
			if err := protojson.Unmarshal(asJSON, r); err != nil {
				t.Fatal(err)
			}
			// Envoy takes one secret of a file, and no other.
			if len(r.GetResources()) != 1 {
				t.Errorf("%d secrets", len(r.GetResources()))
			}
			validate(t, r)
		})
	}

	only := mutual
	only.UsherTLS = &envoy.UsherTLS{CAFile: "/ca.crt", SDSDirectory: "/etc/envoy"}
	if files, err := envoy.Secrets(only); err != nil || len(files) != 1 || files["usher-authority.yaml"] == nil {
		t.Errorf("without a certificate: %d files, %v", len(files), err)
	}
	if files, err := envoy.Secrets(envoy.Options{}); err != nil || len(files) != 0 {
		t.Errorf("without TLS: %d files, %v", len(files), err)
	}
	if _, err := envoy.Secrets(envoy.Options{UsherTLS: &envoy.UsherTLS{}}); err == nil {
		t.Error("without an authority: no error")
	}
}

func TestTheNameOfUshersCertificateIsOne(t *testing.T) {
	for name, c := range map[string]struct {
		address, san string
		want         string // of the error; empty: none
	}{
		"a URI":                       {"10.0.0.1:9001", "spiffe://mesh.example.com/usher", ""},
		"a DNS name":                  {"10.0.0.1:9001", "usher.example.com", ""},
		"a URI and a socket":          {"unix:///run/usher.sock", "spiffe://mesh.example.com/usher", ""},
		"none, but the address's":     {"usher.gate.svc:9001", "", ""},
		"none for an address":         {"10.0.0.1:9001", "", "expected --usher-tls-san"},
		"none for a socket":           {"unix:///run/usher.sock", "", "expected --usher-tls-san"},
		"none for the default":        {"", "", "expected --usher-tls-san"},
		"an address":                  {"usher.gate.svc:9001", "10.0.0.1", `usher's SAN "10.0.0.1"`},
		"a pattern":                   {"usher.gate.svc:9001", "*.gate.svc", `usher's SAN "*.gate.svc"`},
		"a pattern of a URI":          {"usher.gate.svc:9001", "spiffe://mesh.example.com/*", "usher's SAN"},
		"an empty trust domain":       {"usher.gate.svc:9001", "spiffe:///usher", "usher's SAN"},
		"any line break in its place": {"usher.gate.svc:9001", "usher\n.gate.svc", "usher's SAN"},
	} {
		t.Run(name, func(t *testing.T) {
			o := mutual
			o.UsherAddress, o.UsherSAN = c.address, c.san
			_, err := envoy.Bootstrap([]v1alpha1.AuthPolicy{policy("agents")}, o)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	o := envoy.Options{UsherAddress: "usher.gate.svc:9001", UsherSAN: "usher.gate.svc"}
	if _, err := envoy.Bootstrap([]v1alpha1.AuthPolicy{policy("agents")}, o); err == nil || !strings.Contains(err.Error(), "nothing is verified") {
		t.Errorf("a name without TLS: %v", err)
	}
}
