package mesh

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// The main path whole: the manifests are applied to the API server, Usher watches them there, Envoy runs what Envoy Gateway's
// translator makes of `usher envoy`, and behind it is a LangGraph server. A changed object is in force without a restart.
func TestFromKubectlApplyToAliceAndBob(t *testing.T) {
	c := shared(t)
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	apply := func(stdin string, args ...string) string {
		t.Helper()
		out, err := c.Kubectl(t.Context(), stdin, append([]string{"apply"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	apply("", "--server-side", "-k", filepath.Join(root, "k8s", "deploy", "crds"))
	if _, err := c.Kubectl(t.Context(), "", "wait", "--for=condition=Established", "crd", "--all", "--timeout=180s"); err != nil {
		t.Fatal(err)
	}
	apply(`{apiVersion: v1, kind: Namespace, metadata: {name: conversations}}`, "-f", "-")
	text, err := os.ReadFile(filepath.Join(parts.Dir, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if out := apply(string(text), "-n", "conversations", "-f", "-"); strings.Count(out, " created") != 2 {
		t.Errorf("kubectl says %s", out)
	}

	kubeconfig, err := c.Kubeconfig("usher", "")
	if err != nil {
		t.Fatal(err)
	}
	var ports [2]int
	for i := range ports {
		if ports[i], err = stack.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	grpc, admin := fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	watching := stack.NewPart(stack.Process{
		Name: "usher-kubernetes", Log: filepath.Join(parts.Dir, "logs", "usher-kubernetes.log"), Env: []string{"POD_NAMESPACE=conversations", "HOME=" + t.TempDir()},
		Command: []string{parts.Usher, "serve", "--kubernetes", "--kubeconfig", kubeconfig, "--grpc-address", grpc, "--admin-address", admin},
		Ready:   stack.Answers200("http://" + admin + "/readyz"),
	})
	if err := watching.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		watching.Stop()
		if t.Failed() {
			t.Log(watching.Tail())
		}
	})

	tr, err := translate(t.Context(), t.TempDir(), inCluster+objects(t))
	if err != nil {
		t.Fatal(err)
	}
	bootstrap, err := tr.static(map[string]string{"10.0.0.1:8000": backend.URL, "10.0.0.2:9001": grpc})
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, "whole", bootstrap)
	conversation(t, g)

	t.Run("a changed policy is in force without a restart", func(t *testing.T) {
		const create = "allow: \"'threads:write' in user.permissions\""
		changed := strings.Replace(string(text), create, `allow: "false"`, 1)
		if changed == string(text) {
			t.Fatal("the example has no such rule")
		}
		apply(changed, "-n", "conversations", "-f", "-")
		err := stack.Poll(t.Context(), func() error {
			if r := g.ask(t, call{method: "POST", path: "/threads", token: alice, body: `{}`}); r.status != 403 {
				return fmt.Errorf("%d %.200s", r.status, r.body)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		g.want(t, 200, call{method: "POST", path: "/threads/search", token: alice, body: `{}`})
	})
}
