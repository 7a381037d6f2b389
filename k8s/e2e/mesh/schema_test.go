package mesh

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/k8s/e2e/cluster"
)

// module is where the Go toolchain keeps a module that the go.mod of that directory pins.
func module(t *testing.T, dir, path string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", path)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil || len(strings.TrimSpace(string(out))) == 0 {
		cmd = exec.CommandContext(t.Context(), "go", "mod", "download", "-json", path)
		cmd.Dir = dir
		if out, err = cmd.Output(); err != nil {
			t.Fatalf("go mod download %s: %v", path, err)
		}
		var info struct{ Dir string }
		if err := json.Unmarshal(out, &info); err != nil {
			t.Fatal(err)
		}
		return info.Dir
	}
	return strings.TrimSpace(string(out))
}

// golden are the files that envoy's tests compare with, whose names begin so.
func golden(t *testing.T, prefix string) map[string]string {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "envoy", "testdata", prefix+"*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	out := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(file)] = string(text)
	}
	return out
}

var (
	once      sync.Once
	oneServer *cluster.Cluster
	errServer error
)

// shared is one API server for all tests, with the CRDs of the Gateway API, Envoy Gateway and Istio.
func shared(t *testing.T) *cluster.Cluster {
	t.Helper()
	helm, err := cluster.Tool("helm")
	if err != nil {
		t.Fatal(err)
	}
	once.Do(func() {
		dir := filepath.Join(parts.Dir, "cluster")
		if errServer = os.Mkdir(dir, 0o700); errServer != nil {
			return
		}
		// Not the test's context: others use it too.
		if oneServer, errServer = cluster.Start(context.Background(), dir); errServer != nil {
			return
		}
		chart := filepath.Join(module(t, filepath.Join("..", "parts", "egctl"), "github.com/envoyproxy/gateway"), "charts", "gateway-crds-helm")
		var gatewayCRDs []byte
		gatewayCRDs, errServer = exec.CommandContext(t.Context(), helm, "template", "crds", chart, "--set", "crds.envoyGateway.enabled=true").Output()
		for path, text := range map[string]string{
			filepath.Join(module(t, ".", "sigs.k8s.io/gateway-api"), "config", "crd", "standard"):             "",
			filepath.Join(module(t, ".", "istio.io/api"), "kubernetes", "customresourcedefinitions.gen.yaml"): "",
			"-": string(gatewayCRDs),
		} {
			if errServer == nil {
				_, errServer = oneServer.Kubectl(t.Context(), text, "apply", "--server-side", "-f", path)
			}
		}
		if errServer == nil {
			_, errServer = oneServer.Kubectl(t.Context(), "", "wait", "--for=condition=Established", "crd", "--all", "--timeout=180s")
		}
	})
	if errServer != nil {
		t.Fatal(errServer)
	}
	return oneServer
}

// A real API server with the projects' own CRDs takes each object as it is: schema, CEL rules, and no field that it does not
// know.
func TestAnAPIServerWithTheProjectsCRDsTakesEachObject(t *testing.T) {
	c := shared(t)
	all := map[string]string{}
	for _, prefix := range []string{"gateway_", "istio_"} {
		for name, text := range golden(t, prefix) {
			if !strings.HasSuffix(name, "_mesh.yaml") {
				all[name] = text
			}
		}
	}
	namespaces := map[string]bool{}
	for _, text := range all {
		for _, m := range regexp.MustCompile(`namespace: "([^"]+)"`).FindAllStringSubmatch(text, -1) {
			namespaces[m[1]] = true
		}
	}
	for name := range namespaces {
		if _, err := c.Kubectl(t.Context(), "", "get", "namespace", name); err != nil {
			if _, err := c.Kubectl(t.Context(), "", "create", "namespace", name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, text := range all {
		t.Run(name, func(t *testing.T) {
			out, err := c.Kubectl(t.Context(), text, "apply", "--dry-run=server", "--validate=strict", "-f", "-")
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Count("\n"+text, "\nkind: "); strings.Count(out, "(server dry run)") != want {
				t.Errorf("%d objects, and the server says %s", want, out)
			}
		})
	}
	t.Run("and none with a word too many", func(t *testing.T) {
		for name, change := range map[string][2]string{
			"gateway_defaults.yaml": {"failOpen: false", "failOpen: false\n    failClosed: true"},
			"istio_defaults.yaml":   {"action: CUSTOM", "action: CUSTOMS"},
		} {
			text := strings.Replace(all[name], change[0], change[1], 1)
			if text == all[name] {
				t.Fatalf("%s has no %s", name, change[0])
			}
			if out, err := c.Kubectl(t.Context(), text, "apply", "--dry-run=server", "--validate=strict", "-f", "-"); err == nil {
				t.Errorf("%s: taken: %s", name, out)
			}
		}
	})
}

// Istio's mesh configuration is no object: its own type says whether each field exists.
func TestIstiosMeshConfigurationIsOne(t *testing.T) {
	for name, text := range golden(t, "istio_") {
		if !strings.HasSuffix(name, "_mesh.yaml") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			mesh, values := meshConfig(t, text)
			if len(values) != 1 {
				t.Errorf("values are %v", values)
			}
			p := mesh.GetExtensionProviders()[0]
			check := p.GetEnvoyExtAuthzGrpc()
			if p.GetName() != "usher" || check.GetFailOpen() || check.GetStatusOnError() != "503" || check.GetClearRouteCache() || check.GetTimeout() == nil {
				t.Errorf("the provider is %v", p)
			}
			body := check.GetIncludeRequestBodyInCheck()
			if !body.GetAllowPartialMessage() || !body.GetPackAsBytes() || body.GetMaxRequestBytes() < 2 {
				t.Errorf("the body is %v", body)
			}
			if n := mesh.GetPathNormalization().GetNormalization(); n != meshv1alpha1.MeshConfig_ProxyPathNormalization_MERGE_SLASHES {
				t.Errorf("paths are normalised by %v", n)
			}
			// What the objects' file shows as a comment is the same.
			objects := golden(t, strings.TrimSuffix(name, "_mesh.yaml"))[strings.TrimSuffix(name, "_mesh.yaml")+".yaml"]
			lines := strings.Split(objects, "\n")
			lines = slices.DeleteFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "#   ") })
			if shown := strings.ReplaceAll("\n"+strings.Join(lines, "\n"), "\n#   ", "\n"); strings.TrimSpace(shown) != strings.TrimSpace(text) {
				t.Errorf("the objects' file shows another one:\n%s", shown)
			}
		})
	}
}

func meshConfig(t *testing.T, text string) (*meshv1alpha1.MeshConfig, map[string]any) {
	t.Helper()
	var values map[string]any
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(values["meshConfig"])
	if err != nil {
		t.Fatal(err)
	}
	mesh := &meshv1alpha1.MeshConfig{}
	if err := protojson.Unmarshal(b, mesh); err != nil {
		t.Fatal(err)
	}
	return mesh, values
}
