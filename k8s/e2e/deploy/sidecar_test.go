package deploy

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/k8s/e2e/container"
)

var update = flag.Bool("update", false, "write bootstrap.yaml of overlays/sidecar anew")

const sidecar = "../../deploy/kustomize/overlays/sidecar"

// sidecarFlags are what usher envoy is told there, as the overlay's first lines say.
var sidecarFlags = []string{"--listen-address", "0.0.0.0:8080", "--usher-address", "unix:///run/usher/usher.sock"}

func TestTheSidecarIsAcceptedAndItsPodIsRestricted(t *testing.T) {
	all := kustomize(t, sidecar)
	install(t, all)
	pod := podOf(t, find(t, all, "Deployment", "envoy"))
	if out, err := apply(t, []object{pod}, "--dry-run=server"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
}

// edited renders the overlay with a text of its Envoy replaced.
func edited(t *testing.T, before, after string) []object {
	t.Helper()
	dir := copyOfDeploy(t)
	file := filepath.Join(dir, "kustomize", "overlays", "sidecar", "envoy.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), before) {
		t.Fatalf("%s has no %q", file, before)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), before, after, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return kustomize(t, filepath.Dir(file))
}

// What has no label is left as it is, of whatever kind; and an Envoy that is not called so is an error, and no gate without Usher.
func TestTheSidecarComesByItsLabel(t *testing.T) {
	without := find(t, edited(t, `usher.dev/sidecar: "true"`, `usher.dev/sidecar: "false"`), "Deployment", "envoy").yaml(t)
	for _, of := range []string{"initContainers", "fsGroup", "/run/usher\n"} {
		if strings.Contains(without, of) {
			t.Errorf("without the label it has %s:\n%s", of, without)
		}
	}
	for _, kind := range []string{"StatefulSet", "DaemonSet"} {
		with := find(t, edited(t, "kind: Deployment", "kind: "+kind), kind, "envoy").yaml(t)
		if !strings.Contains(with, "initContainers") || strings.Count(with, "mountPath: /run/usher\n") != 2 {
			t.Errorf("with the label:\n%s", with)
		}
	}
	all := edited(t, "- name: envoy\n          image", "- name: proxy\n          image")
	if out, err := apply(t, []object{find(t, all, "Namespace", "gate")}); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if out, err := apply(t, []object{find(t, all, "Deployment", "envoy")}, "--dry-run=server"); err == nil || !strings.Contains(out, "spec.template.spec.containers[0].image: Required value") {
		t.Errorf("a container called proxy: %s, %v", out, err)
	}
}

// bootstrap.yaml is what usher envoy writes today.
func TestTheSidecarsBootstrapIsCurrent(t *testing.T) {
	program, err := staticUsher()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, append([]string{"envoy", "--config", filepath.Join(sidecar, "policy.yaml")}, sidecarFlags...)...)
	want, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(sidecar, "bootstrap.yaml")
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil { //nolint:gosec // as the files beside it
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not what usher envoy writes: go test -run Bootstrap -update", file)
	}
}

// sidecarNode is a node for the overlay's pod. What is outside of the pod is on this machine.
func sidecarNode(t *testing.T) (n *node, g *gate, admin string) {
	t.Helper()
	all := kustomize(t, sidecar)
	n = newNode(t, podOf(t, find(t, all, "Deployment", "envoy")), all)
	g = &gate{idp: provider(t), host: "agents.example.com"}
	g.url = "http://" + n.port(t, `address: "0.0.0.0", port_value: 8080`, `address: "127.0.0.1", port_value: %d`)
	admin = n.port(t, "--admin-address=:9002", "--admin-address=127.0.0.1:%d")
	address := backend(t)
	n.instead[`address: "langgraph.agents.svc", port_value: 8000`] = socketAddress(address)
	n.instead["http://langgraph.agents.svc:8000"] = "http://" + address
	n.instead["issuer: https://auth.example.com"] = fmt.Sprintf("issuer: %q\n  allowHTTP: true", g.idp.Issuer)
	n.instead["audiences: [langgraph]"] = "audiences: [api]"
	return n, g, "http://" + admin
}

// Both containers of the pod that the API server takes, with its volumes, users and arguments: the real Usher and the real Envoy.
func TestTheSidecarServes(t *testing.T) {
	n, g, admin := sidecarNode(t)
	usher := start(t, n.container(t, "usher", usherRoot(t)), "usher", stack.Answers200(admin+"/healthz")) // its startupProbe
	envoy := n.container(t, "envoy", openDir(t))
	envoyRoot(t, &envoy)
	start(t, envoy, "envoy", listening(strings.TrimPrefix(g.url, "http://"))) // its readinessProbe

	g.want(t, 200, "/assistants/agent", g.idp.Mint())
	g.want(t, 401, "/assistants/agent", "")
	g.want(t, 404, "/unknown", g.idp.Mint())

	t.Run("a_new_version_of_the_manifests_restarts_nothing", func(t *testing.T) {
		pid := usher.Pid()
		n.edit(t, "usher-manifests", "policy.yaml", "    - on: assistants:read\n      filter: {created_by: \"'system'\"}", "    - on: assistants:read\n      allow: \"false\"")
		g.want(t, 403, "/assistants/agent", g.idp.Mint())
		if usher.Pid() != pid {
			t.Error("it was another Usher")
		}
	})
	t.Run("an_Usher_that_was_killed_leaves_its_socket_behind", func(t *testing.T) {
		if err := syscall.Kill(usher.Pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		usher.Stop()
		g.want(t, 503, "/assistants/agent", g.idp.Mint())
		if err := usher.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.want(t, 403, "/assistants/agent", g.idp.Mint())
	})
	t.Run("who_may_connect", func(t *testing.T) {
		checkSocket(t, container.Mount{Source: n.volume(t, "usher-socket"), Target: "/run/usher", ReadOnly: true}, envoy)
	})
}

// checkSocket connects as that container of Envoy, and as others who see the directory too.
func checkSocket(t *testing.T, directory container.Mount, envoy container.Container) {
	t.Helper()
	connect := func(user, group int, groups ...int) error {
		c := container.Container{Root: openDir(t), User: user, Group: group, Groups: groups, Mounts: []container.Mount{directory}, Dial: directory.Target + "/usher.sock"}
		cmd, err := c.Cmd(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := connect(envoy.User, envoy.Group, envoy.Groups...); err != nil {
		t.Errorf("Envoy's user in the shared group: %v", err)
	}
	if os.Getuid() != 0 {
		return // who is not root has one user only, and so no other to try
	}
	for name, err := range map[string]error{
		"Envoy's user without the group": connect(envoy.User, envoy.Group), "root without capabilities": connect(0, 0), "another user": connect(1000, 1000, 101),
	} {
		if err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
