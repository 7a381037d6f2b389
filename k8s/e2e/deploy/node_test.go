package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/k8s/e2e/container"
)

// node does for one pod what a kubelet does: volumes, users, environment, one container after the other. Its ports are those of
// this machine, so that those of the pod are put in the place of free ones.
type node struct {
	pod corev1.Pod
	// objects that volumes are made of.
	objects []object
	// host are directories of the node, by the path that a hostPath has.
	host map[string]string
	// instead of these texts in arguments and files, others: ports and addresses.
	instead map[string]string
	// mounts that a node makes besides, and variables that it sets.
	mounts []container.Mount
	vars   map[string]string

	dir string // of what belongs to the pod
}

// newNode takes a pod as podOf makes it.
func newNode(t *testing.T, pod object, objects []object) *node {
	t.Helper()
	n := &node{objects: objects, host: map[string]string{}, instead: map[string]string{}, dir: openDir(t)}
	text, err := json.Marshal(pod)
	if err == nil {
		err = json.Unmarshal(text, &n.pod)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// openDir is a temporary directory that other users may look into.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for at := dir; strings.HasPrefix(at, os.TempDir()+"/"); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil { //nolint:gosec // that is what it is for
			t.Fatal(err)
		}
	}
	return dir
}

// port is a free one of this machine in the place of the pod's.
func (n *node) port(t *testing.T, text, format string) string {
	t.Helper()
	port, err := stack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	n.instead[text] = fmt.Sprintf(format, port)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// container is one of the pod's, by its name, in that root directory.
func (n *node) container(t *testing.T, name, root string) container.Container {
	t.Helper()
	all := slices.Concat(n.pod.Spec.InitContainers, n.pod.Spec.Containers)
	i := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("the pod has no container %q", name)
	}
	spec := all[i]
	c := container.Container{Root: root, Mounts: slices.Clone(n.mounts)}
	c.User, c.Group, c.Groups = n.user(t, spec)
	env := n.env(t, spec)
	for _, k := range slices.Sorted(maps.Keys(env)) {
		c.Env = append(c.Env, k+"="+env[k])
	}
	command := spec.Command
	if len(command) == 0 {
		command = []string{"/usher"} // the image's
	}
	c.Args = slices.Clone(command)
	for _, a := range spec.Args {
		for k, v := range env {
			a = strings.ReplaceAll(a, "$("+k+")", v)
		}
		c.Args = append(c.Args, n.replace(a))
	}
	for _, m := range spec.VolumeMounts {
		c.Mounts = append(c.Mounts, container.Mount{Source: n.volume(t, m.Name), Target: m.MountPath, ReadOnly: m.ReadOnly})
	}
	return c
}

func (n *node) replace(text string) string {
	for k, v := range n.instead {
		text = strings.ReplaceAll(text, k, v)
	}
	return text
}

// user of a container, its group and the further ones. The standard that our pods pass is checked by the API server; what a node
// does by it is done by package container in any case.
func (n *node) user(t *testing.T, spec corev1.Container) (user, group int, groups []int) {
	t.Helper()
	var u, g *int64
	if p := n.pod.Spec.SecurityContext; p != nil {
		u, g = p.RunAsUser, p.RunAsGroup
		for _, id := range p.SupplementalGroups {
			groups = append(groups, int(id))
		}
		if p.FSGroup != nil {
			groups = append(groups, int(*p.FSGroup))
		}
	}
	if s := spec.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			u = s.RunAsUser
		}
		if s.RunAsGroup != nil {
			g = s.RunAsGroup
		}
	}
	if u == nil || g == nil {
		t.Fatalf("container %s names no user and group", spec.Name)
	}
	return int(*u), int(*g), groups
}

func (n *node) env(t *testing.T, spec corev1.Container) map[string]string {
	t.Helper()
	env := maps.Clone(n.vars)
	if env == nil {
		env = map[string]string{}
	}
	for _, e := range spec.Env {
		env[e.Name] = e.Value
		if e.ValueFrom != nil {
			if e.ValueFrom.FieldRef == nil || e.ValueFrom.FieldRef.FieldPath != "metadata.namespace" {
				t.Fatalf("variable %s comes from what this node does not know", e.Name)
			}
			env[e.Name] = n.pod.Namespace
		}
	}
	return env
}

// start runs a container in the background until the test ends.
func start(t *testing.T, c container.Container, name string, ready func(context.Context) error) *stack.Part {
	t.Helper()
	log := filepath.Join(openDir(t), name+".log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(log, 0o666); err != nil { //nolint:gosec // Envoy opens /dev/stdout, which this is, as another user
		t.Fatal(err)
	}
	part, err := c.Part(name, log, ready)
	if err != nil {
		t.Fatal(err)
	}
	if err := part.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		part.Stop()
		if t.Failed() {
			t.Log(part.Tail())
		}
	})
	return part
}

// listening is a readinessProbe of kind tcpSocket.
func listening(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// usherRoot is a directory with what the image has: the static program.
func usherRoot(t *testing.T) string {
	t.Helper()
	program, err := staticUsher()
	if err != nil {
		t.Fatal(err)
	}
	root := openDir(t)
	if err := os.Link(program, filepath.Join(root, "usher")); err != nil {
		t.Fatal(err)
	}
	return root
}

// staticUsher is built once, as make build does.
var staticUsher = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(shared.Dir, "bin")
	if out, err := exec.Command("make", "-C", "../../..", "build", "BIN="+bin, "VERSION=test").CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w: %s", err, out)
	}
	return filepath.Join(bin, "usher"), nil
})

// envoyRoot is one for the real Envoy, where its image has it, with the libraries of this machine.
func envoyRoot(t *testing.T, c *container.Container) {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := filepath.EvalSymlinks(filepath.Join(root, ".tools", "bin", "envoy"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/usr/lib", "/lib", "/lib64", "/dev", "/proc"} {
		if source, err := filepath.EvalSymlinks(dir); err == nil {
			c.Mounts = append(c.Mounts, container.Mount{Source: source, Target: dir, ReadOnly: dir != "/dev" && dir != "/proc"})
		}
	}
	c.Mounts = append(c.Mounts, container.Mount{Source: binary, Target: "/usr/local/bin/envoy", ReadOnly: true})
}
