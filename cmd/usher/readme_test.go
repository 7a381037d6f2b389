package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// TestREADME runs what the README shows: its usher commands, and its piece of a policy, which must be the demo's.
func TestREADME(t *testing.T) {
	const root = "../../"
	text, err := os.ReadFile(root + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(root + "examples/langgraph/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("its_commands", func(t *testing.T) {
		commands := regexp.MustCompile(`(?m)^bin/usher (.*?)(?: > .*)?$`).FindAllStringSubmatch(string(text), -1)
		if len(commands) < 3 {
			t.Fatalf("%d commands, want validate, serve and envoy at least", len(commands))
		}
		for _, c := range commands {
			args := strings.Fields(strings.ReplaceAll(c[1], "examples/", root+"examples/"))
			if args[0] == "serve" {
				args = append(args, "--help") // TestServe serves
			}
			var out, log bytes.Buffer
			if got := run(args, &out, &log); got != 0 {
				t.Errorf("usher %s: exit code %d: %s%s", c[1], got, out.String(), log.String())
			}
		}
	})
	t.Run("its_policy", func(t *testing.T) {
		block := regexp.MustCompile("(?s)```yaml\n(rules:.*?)```").FindStringSubmatch(string(text))
		if block == nil {
			t.Fatal("no yaml block with rules")
		}
		head := string(example[:strings.Index(string(example), "  rules:")])
		whole := head + "  " + strings.ReplaceAll(strings.TrimSpace(block[1]), "\n", "\n  ") + "\n"
		objects, problems := manifest.Parse("README.md", []byte(whole))
		if len(problems) == 0 {
			_, problems = manifest.Compile(objects, map[string]policy.Preset{"langgraph": langgraph.Preset()})
		}
		if len(problems) > 0 {
			t.Errorf("the README's rules have problems: %v", problems)
		}
	})
}
