package image

import (
	"archive/tar"
	"debug/elf"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"testing"
)

// largest is what the image may take on a disk, in MB (10^6 bytes).
const largest = 80

func theImage(t *testing.T) *image {
	t.Helper()
	i, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestTheImageIsOneFile(t *testing.T) {
	i := theImage(t)
	if i.layers != 1 || len(i.files) != 1 {
		t.Fatalf("%d layers, files %v", i.layers, i.files)
	}
	// It belongs to root, so that who runs it cannot change it.
	if f := i.files[0]; f.Name != "usher" || f.Typeflag != tar.TypeReg || f.Mode&0o7777 != 0o755 || f.Uid != 0 || f.Gid != 0 {
		t.Errorf("the file is %+v", f)
	}
}

func TestTheImageSaysHowItIsRun(t *testing.T) {
	c := theImage(t).config.Config
	if c.User != "65532:65532" {
		t.Errorf("the user is %q", c.User)
	}
	if !reflect.DeepEqual(c.Entrypoint, []string{"/usher"}) || !reflect.DeepEqual(c.Cmd, []string{"version"}) {
		t.Errorf("it runs %v %v", c.Entrypoint, c.Cmd)
	}
	if want := map[string]struct{}{"9001/tcp": {}, "9002/tcp": {}}; !reflect.DeepEqual(c.ExposedPorts, want) {
		t.Errorf("ports %v", c.ExposedPorts)
	}
	if len(c.Volumes) > 0 {
		t.Errorf("volumes %v", c.Volumes)
	}
	for name, want := range map[string]string{
		"title": "^Usher$", "source": "^https://github.com/usher-authz/usher$", "version": "^" + regexp.QuoteMeta(version) + "$",
		"revision": "^([0-9a-f]{40}|unknown)$", "description": ".",
	} {
		if got := c.Labels["org.opencontainers.image."+name]; !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("label %s is %q", name, got)
		}
	}
}

func TestTheProgramIsStatic(t *testing.T) {
	f, err := elf.Open(filepath.Join(theImage(t).root, "usher"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it has a %v segment", p.Type)
		}
	}
	if libraries, _ := f.ImportedLibraries(); len(libraries) > 0 {
		t.Errorf("it needs %v", libraries)
	}
}

// TestSize holds docs/kubernetes.md to what it says of the size.
func TestSize(t *testing.T) {
	i := theImage(t)
	megabytes := func(n int64) int { return int((n + 500_000) / 1_000_000) }
	disk, pulled := megabytes(i.files[0].Size), megabytes(i.size)
	t.Logf("%d MB, %d MB to pull", disk, pulled)
	if disk > largest {
		t.Errorf("%d MB, expected %d at most", disk, largest)
	}
	page, err := os.ReadFile("../../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`(\d+) MB, (\d+) MB to pull`).FindSubmatch(page)
	if said == nil {
		t.Fatal("docs/kubernetes.md does not say the size")
	}
	for n, got := range []int{disk, pulled} {
		want, _ := strconv.Atoi(string(said[n+1]))
		if got < want*9/10 || got > want*11/10 {
			t.Errorf("docs/kubernetes.md says %d MB, and it is %d", want, got)
		}
	}
}

// The same commit is the same image, whoever builds it.
func TestTheImageIsReproducible(t *testing.T) {
	i := theImage(t)
	again, err := build("two")
	if err != nil {
		t.Fatal(err)
	}
	if again.digest != i.digest {
		t.Errorf("%s, and then %s", i.digest, again.digest)
	}
}
