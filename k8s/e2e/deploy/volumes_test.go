package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

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
