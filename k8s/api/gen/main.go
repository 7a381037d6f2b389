// Command gen writes the CustomResourceDefinitions and the DeepCopy methods of package v1alpha1. It runs controller-gen, and
// adds what that cannot say: see unquotedOn.
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
	for _, file := range files {
		// Secret and ConfigMap are Kubernetes' own, and a PolicyTest is for usher test.
		if strings.Contains(file, "_secrets") || strings.Contains(file, "_configmaps") || strings.Contains(file, "_policytests") {
			if err := os.Remove(file); err != nil {
				return err
			}
			continue
		}
		if err := rewrite(file); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}
