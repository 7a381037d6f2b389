package image

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/usher-authz/usher/k8s/e2e/cluster"
	"github.com/usher-authz/usher/k8s/e2e/container"
)

const version = "v0.0.0-test"

// work is a directory of all tests.
var work string

func TestMain(m *testing.M) {
	container.Enter()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if work, err = os.MkdirTemp("", "usher-image"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(work)
	return m.Run()
}

// image is what an OCI layout says (github.com/opencontainers/image-spec), with its files unpacked.
type image struct {
	digest string // of the manifest
	config struct {
		OS     string
		Config struct {
			User         string
			Entrypoint   []string
			Cmd          []string
			Env          []string
			WorkingDir   string
			Labels       map[string]string
			ExposedPorts map[string]struct{}
			Volumes      map[string]struct{}
		}
	}
	layers int
	files  []tar.Header
	size   int64  // compressed, as it is pulled
	root   string // where they are
}

type descriptor struct {
	Digest string
	Size   int64
}

// built is the image, made once by `make image`.
var built = sync.OnceValues(func() (*image, error) { return build("one") })

func build(name string) (*image, error) {
	buildah, err := cluster.Tool("buildah")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(work, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	buildah = fmt.Sprintf("%s --root %s --runroot %s", buildah, filepath.Join(dir, "storage"), filepath.Join(dir, "run"))
	if os.Getuid() != 0 { // one user is enough: everything in the image belongs to root
		buildah = "unshare --user --map-root-user -- " + buildah
	}
	bin := filepath.Join(work, "bin")
	if out, err := shell("make -C ../../.. image VERSION=%s BIN=%s IMAGE=localhost/usher:test BUILDAH='%s'", version, bin, buildah); err != nil {
		return nil, fmt.Errorf("make image: %w: %s", err, out)
	}
	// Where it goes, it goes by the policy that let nothing in.
	accept := filepath.Join(dir, "accept.json")
	if err := os.WriteFile(accept, []byte(`{"default": [{"type": "insecureAcceptAnything"}]}`), 0o600); err != nil {
		return nil, err
	}
	layout := filepath.Join(dir, "oci")
	if out, err := shell("%s --storage-driver vfs --registries-conf %s push --signature-policy %s localhost/usher:test oci:%s:test",
		buildah, filepath.Join(bin, "image", "registries.conf"), accept, layout); err != nil {
		return nil, fmt.Errorf("buildah push: %w: %s", err, out)
	}
	return read(layout, filepath.Join(dir, "root"))
}

// shell runs a command with no settings of this machine, so that those of its /etc/containers are all that could be missed.
func shell(format string, args ...any) (string, error) {
	cmd := exec.Command("sh", "-c", fmt.Sprintf(format, args...))
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF=/dev/null", "CONTAINERS_STORAGE_CONF=/dev/null")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// read reads a layout with one image, and unpacks its files into root.
func read(layout, root string) (*image, error) {
	i := &image{root: root}
	var index struct{ Manifests []descriptor }
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	text, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &index); err != nil || len(index.Manifests) != 1 {
		return nil, fmt.Errorf("index.json: %w: %s", err, text)
	}
	i.digest = index.Manifests[0].Digest
	if err := blob(layout, i.digest, &manifest); err != nil {
		return nil, err
	}
	if err := blob(layout, manifest.Config.Digest, &i.config); err != nil {
		return nil, err
	}
	if err := os.Mkdir(root, 0o755); err != nil {
		return nil, err
	}
	for _, l := range manifest.Layers {
		i.layers++
		i.size += l.Size
		if err := i.unpack(blobPath(layout, l.Digest)); err != nil {
			return nil, err
		}
	}
	return i, nil
}

func blobPath(layout, digest string) string {
	return filepath.Join(layout, "blobs", strings.Replace(digest, ":", "/", 1))
}

func blob(layout, digest string, v any) error {
	text, err := os.ReadFile(blobPath(layout, digest))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// unpack writes the files of a layer, and notes what it says of them.
func (i *image) unpack(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		i.files = append(i.files, *h)
		if h.Typeflag != tar.TypeReg {
			continue // the test that lists them says so
		}
		out, err := os.OpenFile(filepath.Join(i.root, filepath.Base(h.Name)), os.O_CREATE|os.O_WRONLY, h.FileInfo().Mode())
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, r); err != nil {
			return err
		}
		if err := out.Close(); err != nil {
			return err
		}
	}
}
