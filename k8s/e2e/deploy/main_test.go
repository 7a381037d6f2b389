package deploy

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/usher-authz/usher/k8s/e2e/cluster"
	"github.com/usher-authz/usher/k8s/e2e/container"
)

// shared is one API server for all tests, with the definitions applied.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	container.Enter()
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "usher-deploy")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if shared, err = cluster.Start(context.Background(), dir); err != nil {
		panic(err)
	}
	defer shared.Stop()
	if _, err := shared.Kubectl(context.Background(), "", "apply", "--server-side", "-f", "../../deploy/crds"); err != nil {
		panic(err)
	}
	if _, err := shared.Kubectl(context.Background(), "", "wait", "--for", "condition=Established", "--timeout", "3m", "crd/authpolicies.usher.dev", "crd/identityproviders.usher.dev"); err != nil {
		panic(err)
	}
	return m.Run()
}

// object is one of a YAML stream.
type object map[string]any

// at returns what is at a path of names, nil if nothing is.
func (o object) at(names ...string) any {
	var v any = map[string]any(o)
	for _, name := range names {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func (o object) text(names ...string) string {
	s, _ := o.at(names...).(string)
	return s
}

// id names an object for people and for comparisons.
func (o object) id() string {
	return strings.Trim(fmt.Sprintf("%s/%s/%s", o.text("kind"), o.text("metadata", "namespace"), o.text("metadata", "name")), "/")
}

func (o object) yaml(t *testing.T) string {
	t.Helper()
	b, err := yaml.Marshal(map[string]any(o))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// objects reads a YAML stream.
func objects(t *testing.T, text string) []object {
	t.Helper()
	var out []object
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var o map[string]any // and no object: the YAML package would make objects of what is inside too
		err := decoder.Decode(&o)
		if err != nil && err.Error() == "EOF" {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(o) > 0 {
			out = append(out, o)
		}
	}
}

// kustomize renders a directory as `kubectl apply -k` does.
func kustomize(t *testing.T, dir string) []object {
	t.Helper()
	return objects(t, tool(t, "kubectl", "kustomize", dir))
}

// tool runs one of .tools/k8s, and returns its standard output.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(t, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try is tool for what may fail.
func try(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	path, err := cluster.Tool(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, problems.String())
	}
	return out.String(), nil
}

// inNamespace renders an overlay of one's own that puts another one into a namespace, as docs/kubernetes.md says to.
func inNamespace(t *testing.T, overlay, namespace string) []object {
	t.Helper()
	return ownOverlay(t, "resources: [kustomize/overlays/"+overlay+"]\nnamespace: "+namespace+"\n")
}

// ownOverlay renders a kustomization beside a copy of ours.
func ownOverlay(t *testing.T, text string) []object {
	t.Helper()
	dir := copyOfDeploy(t)
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kustomize(t, dir)
}

// copyOfDeploy is a directory with our crds and kustomize in it.
func copyOfDeploy(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, part := range []string{"crds", "kustomize"} {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS("../../deploy/"+part)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// apply stores objects, or only asks whether it would (with --dry-run=server). Warnings are what the API server says beside.
func apply(t *testing.T, all []object, args ...string) (string, error) {
	t.Helper()
	var text strings.Builder
	for _, o := range all {
		text.WriteString("---\n" + o.yaml(t))
	}
	return shared.Kubectl(t.Context(), text.String(), append([]string{"apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-"}, args...)...)
}
