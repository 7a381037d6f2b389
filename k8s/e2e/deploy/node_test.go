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

// volume makes one at its first use, as a kubelet does: an emptyDir that all may write, in fsGroup; files of root in fsGroup.
func (n *node) volume(t *testing.T, name string) string {
	t.Helper()
	i := slices.IndexFunc(n.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	if i < 0 {
		t.Fatalf("the pod has no volume %q", name)
	}
	v := n.pod.Spec.Volumes[i]
	if v.HostPath != nil {
		if *v.HostPath.Type != corev1.HostPathDirectory {
			t.Fatalf("volume %s is of type %s", name, *v.HostPath.Type)
		}
		return n.host[v.HostPath.Path]
	}
	dir := filepath.Join(n.dir, name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // other users look into it
		t.Fatal(err)
	}
	if v.EmptyDir != nil {
		own(t, dir, n.fsGroup(), 0o777|os.ModeSetgid)
		return dir
	}
	n.fill(t, v, dir)
	return dir
}

// fsGroup of the pod; 0 if it has none.
func (n *node) fsGroup() int {
	if c := n.pod.Spec.SecurityContext; c != nil && c.FSGroup != nil {
		return int(*c.FSGroup)
	}
	return 0
}

// fill writes the files of a volume, or writes them anew: into a directory that a link leads to, so that all change at once.
func (n *node) fill(t *testing.T, v corev1.Volume, dir string) {
	t.Helper()
	now, err := os.MkdirTemp(dir, "..data-")
	if err != nil {
		t.Fatal(err)
	}
	own(t, now, n.fsGroup(), 0o755)
	files, mode := n.files(t, v)
	for name, text := range files {
		path := filepath.Join(now, name)
		if err := os.WriteFile(path, []byte(n.replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
		own(t, path, n.fsGroup(), mode)
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "..data-new")
	if err := os.Symlink(filepath.Base(now), link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

// edit changes a file of a volume that a ConfigMap is in, as a kubelet does some time after the ConfigMap changed.
func (n *node) edit(t *testing.T, volume, file, before, after string) {
	t.Helper()
	for _, o := range n.objects {
		data, _ := o.at("data").(map[string]any)
		if text, _ := data[file].(string); strings.Contains(text, before) {
			data[file] = strings.Replace(text, before, after, 1)
			i := slices.IndexFunc(n.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == volume })
			n.fill(t, n.pod.Spec.Volumes[i], n.volume(t, volume))
			return
		}
	}
	t.Fatalf("no %s has %q", file, before)
}

// files of a volume, and their mode.
func (n *node) files(t *testing.T, v corev1.Volume) (map[string]string, os.FileMode) {
	t.Helper()
	files, mode := map[string]string{}, os.FileMode(0o644)
	add := func(kind, name string, optional *bool) {
		o := n.object(kind, name)
		if o == nil && (optional == nil || !*optional) {
			t.Fatalf("volume %s: there is no %s %q", v.Name, kind, name)
		}
		for _, member := range []string{"data", "stringData"} {
			data, _ := o.at(member).(map[string]any)
			for k, text := range data {
				files[k], _ = text.(string)
			}
		}
	}
	switch {
	case v.Secret != nil:
		if v.Secret.DefaultMode != nil {
			mode = os.FileMode(*v.Secret.DefaultMode)
		}
		add("Secret", v.Secret.SecretName, v.Secret.Optional)
	case v.ConfigMap != nil:
		add("ConfigMap", v.ConfigMap.Name, v.ConfigMap.Optional)
	case v.Projected != nil:
		if v.Projected.DefaultMode != nil {
			mode = os.FileMode(*v.Projected.DefaultMode)
		}
		for _, s := range v.Projected.Sources {
			switch {
			case s.ConfigMap != nil:
				add("ConfigMap", s.ConfigMap.Name, s.ConfigMap.Optional)
			case s.Secret != nil:
				add("Secret", s.Secret.Name, s.Secret.Optional)
			}
		}
	default:
		t.Fatalf("volume %s is of a kind that this node does not know", v.Name)
	}
	return files, mode
}

func (n *node) object(kind, name string) object {
	for _, o := range n.objects {
		if o.text("kind") == kind && o.text("metadata", "name") == name {
			return o
		}
	}
	return nil
}

// own gives a file to root and a group. Who is not root keeps it.
func own(t *testing.T, path string, group int, mode os.FileMode) {
	t.Helper()
	if os.Getuid() == 0 {
		if err := os.Chown(path, 0, group); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
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
