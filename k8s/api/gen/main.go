// Command gen writes the CustomResourceDefinitions and the DeepCopy methods of package v1alpha1. It runs controller-gen, and
// adds what that cannot say: see unquotedOn.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
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

func rewrite(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return err
	}
	unquotedOn(&document)
	var b bytes.Buffer
	b.WriteString("# Generated from k8s/api/v1alpha1 by `make generate`.\n---\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&document); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644) //nolint:gosec // public
}

// unquotedOn lets a property `on` be written without quotes. YAML 1.1 readers, kubectl among them, take an unquoted on for
// the boolean true, which becomes the name "true" in JSON: that name is another spelling of the property then.
func unquotedOn(n *yaml.Node) {
	for _, child := range n.Content {
		unquotedOn(child)
	}
	properties := member(n, "properties")
	if properties == nil {
		return
	}
	on := member(properties, "on")
	if on == nil {
		return
	}
	alias := &yaml.Node{}
	*alias = *on
	properties.Content = append(properties.Content, text("true", yaml.DoubleQuotedStyle), alias)
	required := member(n, "required")
	if required == nil {
		return
	}
	kept := required.Content[:0]
	wanted := false
	for _, name := range required.Content {
		if name.Value == "on" {
			wanted = true
			continue
		}
		kept = append(kept, name)
	}
	required.Content = kept
	if len(kept) == 0 {
		remove(n, "required")
	}
	if wanted {
		rule := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
			text("rule", 0), text("has(self.on) != has(self.__true__)", 0),
			text("message", 0), text("on is required, once", 0),
		}}
		list := member(n, "x-kubernetes-validations")
		if list == nil {
			list = &yaml.Node{Kind: yaml.SequenceNode}
			n.Content = append(n.Content, text("x-kubernetes-validations", 0), list)
		}
		list.Content = append(list.Content, rule)
	}
}

func text(s string, style yaml.Style) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: style}
}

func member(n *yaml.Node, name string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func remove(n *yaml.Node, name string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			n.Content = append(n.Content[:i], n.Content[i+2:]...)
			return
		}
	}
}
