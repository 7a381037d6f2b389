// Command gen writes the CustomResourceDefinitions and the DeepCopy methods of package v1alpha1, and docs/reference.md. It runs
// controller-gen, and adds what that cannot say: see unquotedOn and unpruned.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// out is where the definitions go, for kustomize and Helm alike.
const out = "../../deploy/crds"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	// Descriptions are kept: kubectl explain shows them.
	for _, args := range [][]string{
		{"crd:allowDangerousTypes=false", "paths=../v1alpha1", "output:crd:dir=" + out},
		{"object", "paths=../v1alpha1"},
	} {
		cmd := exec.Command("go", append([]string{"tool", "controller-gen"}, args...)...) //nolint:gosec // ours
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("controller-gen: %w", err)
		}
	}
	files, err := filepath.Glob(out + "/*.yaml")
	if err != nil {
		return err
	}
	kinds := map[string][]byte{} // by the name of the file
	for _, file := range files {
		text, err := readable(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		kinds[filepath.Base(file)] = text
		// Secret and ConfigMap are Kubernetes' own, and a PolicyTest is for usher test.
		if strings.Contains(file, "_secrets") || strings.Contains(file, "_configmaps") || strings.Contains(file, "_policytests") {
			err = os.Remove(file)
		} else {
			err = rewrite(file, text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	types, err := readTypes("../v1alpha1")
	if err != nil {
		return err
	}
	return writeReference([][]byte{kinds["usher.dev_identityproviders.yaml"], kinds["usher.dev_authpolicies.yaml"], kinds["usher.dev_policytests.yaml"]}, types)
}
