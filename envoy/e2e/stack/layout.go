package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/usher-authz/usher/envoy/e2e/parts"
)

// ErrMissingParts is the error of a stack whose parts are not installed.
var ErrMissingParts = errors.New("the real parts are not installed: run `make tools` in the repository's root")

// Root returns the repository's root, found upwards from the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module github.com/usher-authz/usher\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the repository's root: run this inside the repository")
		}
		dir = parent
	}
}

// installed holds the paths of what `make tools` installed.
type installed struct{ envoy, node, packages string }

func findInstalled(root string) (installed, error) {
	in := installed{
		envoy:    filepath.Join(root, ".tools", "bin", "envoy"),
		packages: filepath.Join(root, ".tools", "node", "node_modules"),
	}
	for _, path := range []string{in.envoy, in.packages, filepath.Join(root, ".tools", "python.stamp"), filepath.Join(root, ".tools", "node.stamp")} {
		if _, err := os.Stat(path); err != nil {
			return in, fmt.Errorf("%w (%w)", ErrMissingParts, err)
		}
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return in, fmt.Errorf("%w (%w)", ErrMissingParts, err)
	}
	in.node = node
	return in, nil
}

// writeParts copies the Node parts' sources to dir, with the installed packages beside them.
func writeParts(dir, packages string) error {
	if err := os.CopyFS(dir, parts.Files); err != nil {
		return fmt.Errorf("copy the parts: %w", err)
	}
	// embed drops the write permission, and the LangGraph server writes beside its project.
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700) //nolint:gosec // a directory
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		return fmt.Errorf("copy the parts: %w", err)
	}
	if err := os.Symlink(packages, filepath.Join(dir, "node_modules")); err != nil {
		return fmt.Errorf("link the installed packages: %w", err)
	}
	return nil
}

// environment is what the parts see of ours: no proxies, no credentials, no options of Node or LangSmith.
func environment(home string, more ...string) []string {
	env := []string{"HOME=" + home, "TMPDIR=" + home, "LANG=C.UTF-8", "NO_COLOR=1"}
	if path := os.Getenv("PATH"); path != "" {
		env = append(env, "PATH="+path)
	}
	return append(env, more...)
}

// BuildUsher compiles the repository's usher into dir and returns its path. With race, the binary has the race detector.
func BuildUsher(ctx context.Context, root, dir string, race bool) (string, error) {
	out := filepath.Join(dir, "usher")
	args := []string{"build", "-o", out}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/usher")...) //nolint:gosec // fixed arguments
	cmd.Dir = root
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build usher: %w\n%s", err, strings.TrimSpace(string(b)))
	}
	return out, nil
}
