package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/k8s/e2e/container"
)

// By TCP, a DaemonSet is as restricted as the Deployment.
func TestTheDaemonSetIsAcceptedAndItsPodIsRestricted(t *testing.T) {
	all := inNamespace(t, "daemonset", "on-each-node")
	install(t, all)
	d := find(t, all, "DaemonSet", "usher")
	pod := podOf(t, d)
	if out, err := apply(t, []object{pod}, "--dry-run=server"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	deployment := podOf(t, find(t, inNamespace(t, "namespace", "on-each-node"), "Deployment", "usher"))
	spec, _ := deployment["spec"].(map[string]any)
	delete(spec, "topologySpreadConstraints")
	if a, b := deployment.yaml(t), pod.yaml(t); a != b {
		t.Errorf("the pod is another one than the Deployment's:\n%s\n%s", a, b)
	}
	service := find(t, all, "Service", "usher")
	if service.text("spec", "internalTrafficPolicy") != "Local" || service.text("spec", "clusterIP") != "" {
		t.Errorf("the Service leads to other nodes: %s", service.yaml(t))
	}
	if surge, gone := d.at("spec", "updateStrategy", "rollingUpdate", "maxSurge"), d.at("spec", "updateStrategy", "rollingUpdate", "maxUnavailable"); surge != 1 || gone != 0 {
		t.Errorf("an update leaves a node without Usher: maxSurge %v, maxUnavailable %v", surge, gone)
	}
	for _, o := range all {
		if kind := o.text("kind"); kind == "Deployment" || kind == "HorizontalPodAutoscaler" || kind == "PodDisruptionBudget" {
			t.Errorf("there is %s", o.id())
		}
	}
}

// A socket on the node needs a namespace of level privileged, and nothing else that restricted forbids.
func TestTheNodesSocketIsAllThatIsNotRestricted(t *testing.T) {
	all := inNamespace(t, "daemonset-socket", "node-socket")
	if level := find(t, all, "Namespace", "node-socket").text("metadata", "labels", "pod-security.kubernetes.io/enforce"); level != "privileged" {
		t.Errorf("the namespace's level is %q", level)
	}
	// The namespace warns of what restricted forbids: the volume, and nothing else.
	var rest []object
	for _, o := range all {
		if o.text("kind") == "Namespace" {
			if out, err := apply(t, []object{o}); err != nil {
				t.Fatalf("%s, %v", out, err)
			}
			continue
		}
		rest = append(rest, o)
	}
	out, err := apply(t, rest, "--dry-run=server")
	if err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	var warnings []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "Warning: ") {
			warnings = append(warnings, strings.TrimSpace(line))
		}
	}
	const only = `Warning: would violate PodSecurity "restricted:latest": restricted volume types (volume "socket" uses restricted volume type "hostPath")`
	if len(warnings) != 1 || warnings[0] != only {
		t.Errorf("warnings %q", warnings)
	}
	// Baseline would not do.
	pod := podOf(t, find(t, all, "DaemonSet", "usher"))
	if out, err := apply(t, []object{pod}, "--dry-run=server"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := shared.Kubectl(t.Context(), "", "label", "--overwrite", "namespace", "node-socket", "pod-security.kubernetes.io/enforce=baseline"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if out, err := apply(t, []object{pod}, "--dry-run=server"); err == nil || !strings.Contains(out, `violates PodSecurity "baseline:latest": hostPath volumes (volume "socket")`) {
		t.Errorf("in a namespace of level baseline: %s, %v", out, err)
	}
	for _, o := range all {
		if o.text("kind") == "Service" && o.text("metadata", "name") == "usher" {
			t.Error("there is a Service for port 9001, where nothing listens")
		}
	}
}

// The real Usher of the rendered DaemonSet, and an Envoy of another pod of the node, by the socket in a directory of the node.
func TestTheNodesSocketServes(t *testing.T) {
	const namespace = "by-socket"
	all := inNamespace(t, "daemonset-socket", namespace)
	storeAll(t, all)
	p := provider(t)
	n, admin := socketNode(t, all)
	// As docs/kubernetes.md has it: d /run/usher 0750 65532 65532
	if err := os.Chmod(n.host["/run/usher"], 0o750); err != nil { //nolint:gosec // a group may look into it
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(n.host["/run/usher"], 65532, 65532); err != nil {
			t.Fatal(err)
		}
	}
	start(t, n.container(t, "usher", usherRoot(t)), "usher", stack.Answers200(admin+"/healthz"))
	if out, err := shared.Kubectl(t.Context(), objectsFor(p, namespace), "apply", "-f", "-"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}

	g, envoy := envoyOfTheNode(t, p, namespace, container.Mount{Source: n.host["/run/usher"], Target: "/run/usher", ReadOnly: true}, 65532)
	g.want(t, 200, "/items", p.Mint())
	g.want(t, 401, "/items", "")
	checkSocket(t, envoy.Mounts[0], envoy)

	t.Run("an_Envoy_without_the_group_gets_no_answer_and_gives_none", func(t *testing.T) {
		if os.Getuid() != 0 {
			return // there is one user only
		}
		g, _ := envoyOfTheNode(t, p, namespace, envoy.Mounts[0])
		g.want(t, 503, "/items", p.Mint())
	})
}

// Where the directory is as the kubelet would make it, Usher ends, and says why.
func TestADirectoryOfRootsIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		return // every directory belongs to the one user
	}
	all := inNamespace(t, "daemonset-socket", "roots-directory")
	storeAll(t, all)
	n, _ := socketNode(t, all)
	cmd, err := n.container(t, "usher", usherRoot(t)).Cmd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), `listen on "unix:///run/usher/usher.sock": permission denied`) {
		t.Errorf("%s, %v", out, err)
	}
}

// socketNode is a node whose directory is as the kubelet would make it.
func socketNode(t *testing.T, all []object) (n *node, admin string) {
	t.Helper()
	n = newNode(t, podOf(t, find(t, all, "DaemonSet", "usher")), all)
	n.inCluster(t, shared)
	directory := filepath.Join(openDir(t), "usher")
	if err := os.Mkdir(directory, 0o755); err != nil { //nolint:gosec // as a kubelet would
		t.Fatal(err)
	}
	n.host["/run/usher"] = directory
	return n, "http://" + n.port(t, "--admin-address=:9002", "--admin-address=127.0.0.1:%d")
}

// envoyOfTheNode runs an Envoy that the policies of objectsFor guard, as user 101, in those further groups.
func envoyOfTheNode(t *testing.T, p *tokentest.Provider, namespace string, directory container.Mount, groups ...int) (*gate, container.Container) {
	t.Helper()
	program, err := staticUsher()
	if err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte(objectsFor(p, namespace)), 0o600); err != nil {
		t.Fatal(err)
	}
	bootstrap, err := exec.CommandContext(t.Context(), program, "envoy", "--config", policy, "--backend-url", "http://"+backend(t),
		"--listen-address", "0.0.0.0:8080", "--usher-address", "unix:///run/usher/usher.sock").Output()
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{idp: p, host: namespace + ".example.com"}
	return g, g.run(t, string(bootstrap), container.Container{User: 101, Group: 101, Groups: groups, Mounts: []container.Mount{directory}})
}
