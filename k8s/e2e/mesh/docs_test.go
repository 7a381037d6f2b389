package mesh

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/k8s/e2e/cluster"
)

// step is a command of a page, and what the page says that it prints.
type step struct{ command, want string }

// steps are the commands of the page's console blocks.
func steps(t *testing.T, page string) (out []step) {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				out = append(out, step{command: strings.TrimSpace(command)})
			} else {
				out[len(out)-1].want += line
			}
		}
	}
	return out
}

// TestPagesShowWhatIsPrinted runs each command of the pages' console blocks, in order, and compares its output.
func TestPagesShowWhatIsPrinted(t *testing.T) {
	c := shared(t)
	for _, namespace := range []string{"agents", "usher", "envoy-gateway-system", "istio-ingress"} {
		if out, err := c.Kubectl(t.Context(), fmt.Sprintf(`{apiVersion: v1, kind: Namespace, metadata: {name: %s}}`, namespace), "apply", "-f", "-"); err != nil {
			t.Fatal(err, out)
		}
	}
	for page, run := range map[string]func(t *testing.T) *gate{
		"envoy.md": func(t *testing.T) *gate {
			text := written(t, unhurried, "--envoy-admin-address", "127.0.0.1:9901", "--usher-address", checks, "--backend-url", backend.URL)
			text = strings.NewReplacer("port_value: 8080", "port_value: LISTEN", "port_value: 9901", "port_value: ADMIN").Replace(text)
			// The example's backend is a Service; here it is the recorder.
			host, port, _ := strings.Cut(strings.TrimPrefix(backend.URL, "http://"), ":")
			text = strings.Replace(text, `address: "langgraph.agents.svc", port_value: 8000`, fmt.Sprintf("address: %q, port_value: %s", host, port), 1)
			return start(t, "docs", text)
		},
		"envoy-gateway.md": func(t *testing.T) *gate { return gateway(t, "docs-gateway", objects(t)) },
		"istio.md":         func(t *testing.T) *gate { return ingressOf(t).run(t, "docs-istio") },
	} {
		t.Run(page, func(t *testing.T) {
			dir := t.TempDir()
			text, err := os.ReadFile(policies)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			ca := newAuthority(t)
			pair, err := ca.Issue(envoyID)
			if err != nil {
				t.Fatal(err)
			}
			if err := stack.ReplaceFiles(dir, pair.Files(ca)); err != nil {
				t.Fatal(err)
			}
			var g *gate
			list := steps(t, page)
			if len(list) < 6 {
				t.Fatalf("%d commands", len(list))
			}
			for _, s := range list {
				var got string
				switch program, _, _ := strings.Cut(s.command, " "); program {
				case "usher", "cat", "ls", "envoy":
					got = shell(t, dir, s.command)
				case "kubectl":
					got = kubectl(t, c, dir, s.command)
				case "curl":
					if g == nil {
						g = run(t)
					}
					got = g.curl(t, s.command)
				default:
					t.Fatalf("%s: the test does not know how to run it", s.command)
				}
				if strings.TrimSpace(got) != strings.TrimSpace(s.want) {
					t.Errorf("$ %s\n%s\nthe page says\n%s", s.command, got, s.want)
				}
			}
		})
	}
}

// What a page says that one should apply beside what is written, an API server takes.
func TestAnAPIServerTakesTheObjectsOfThePages(t *testing.T) {
	c := shared(t)
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, page := range []string{"envoy-gateway.md", "istio.md"} {
		text, err := os.ReadFile(filepath.Join(root, "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			count++
			for _, m := range regexp.MustCompile(`namespace: ([a-z-]+)`).FindAllStringSubmatch(block[1], -1) {
				if out, err := c.Kubectl(t.Context(), fmt.Sprintf(`{apiVersion: v1, kind: Namespace, metadata: {name: %s}}`, m[1]), "apply", "-f", "-"); err != nil {
					t.Fatal(err, out)
				}
			}
			if out, err := c.Kubectl(t.Context(), block[1], "apply", "--dry-run=server", "--validate=strict", "-f", "-"); err != nil {
				t.Errorf("%s: %v %s", page, err, out)
			}
		}
	}
	if count < 2 {
		t.Errorf("%d objects", count)
	}
}

// shell runs a command with our programs first in its path. What Envoy logs on its way is left out.
func shell(t *testing.T, dir, command string) string {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	command = strings.Replace(command, "envoy --mode validate", "envoy --use-dynamic-base-id --log-level off --mode validate", 1)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "PATH="+filepath.Dir(parts.Usher)+":"+filepath.Join(root, ".tools", "bin")+":"+os.Getenv("PATH"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run() // a command that fails says why, and the page shows it
	return out.String()
}

// kubectl runs it against the shared cluster, for good.
func kubectl(t *testing.T, c *cluster.Cluster, dir, command string) string {
	t.Helper()
	command, changed := strings.CutSuffix(command, " | grep -v unchanged")
	args := strings.Fields(command)[1:]
	for i, a := range args {
		option, file, ok := strings.Cut(a, "=")
		if !ok {
			option, file = "", a
		}
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			args[i] = strings.TrimPrefix(option+"="+filepath.Join(dir, file), "=")
		}
	}
	out, err := c.Kubectl(t.Context(), "", args...)
	if err != nil {
		t.Error(err)
	}
	lines := slices.Collect(strings.Lines(out))
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return changed && strings.Contains(l, "unchanged") }), "")
}

// curl does what curl would, through the gate: URL, headers, -d and a last `jq -c .metadata`.
func (g *gate) curl(t *testing.T, command string) string {
	t.Helper()
	c := call{header: map[string]string{}}
	command, member, _ := strings.Cut(command, " | jq -c .")
	words := regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`).FindAllString(command, -1)
	for i, w := range words {
		w = strings.NewReplacer("$ALICE", alice, "$BOB", bob).Replace(strings.Trim(w, `'"`))
		switch {
		case strings.HasPrefix(w, "http"):
			_, rest, _ := strings.Cut(w, "://")
			c.path = rest[strings.IndexByte(rest, '/'):]
		case words[max(i-1, 0)] == "-H":
			name, value, _ := strings.Cut(w, ": ")
			if name == "host" {
				c.host = value
			} else {
				c.header[name] = value
			}
		case words[max(i-1, 0)] == "-d":
			c.method, c.body = "POST", w
		}
	}
	r := g.inTime(t, c)
	if member == "" {
		return r.body
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(r.body), &object); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	return string(object[member])
}
