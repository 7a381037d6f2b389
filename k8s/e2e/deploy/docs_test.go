package deploy

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/k8s/e2e/cluster"
	"github.com/usher-authz/usher/k8s/e2e/container"
)

const page = "../../../docs/kubernetes.md"

// step is a command of the page, and what the page says that it prints.
type step struct{ command, want string }

// steps are the commands of the page's console blocks.
func steps(t *testing.T) (out []step) {
	t.Helper()
	text, err := os.ReadFile(page)
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

// reader is somebody who does what the page says, one command after the other, with a cluster of his own.
type reader struct {
	cluster *cluster.Cluster
	dir     string // the working directory, beside a clone called usher
	idp     *tokentest.Provider
	gate    *gate
	usher   string // the address of its checks; empty: it does not run yet
}

// TestThePageShowsWhatIsPrinted runs each command of docs/kubernetes.md, in order, and compares its output.
func TestThePageShowsWhatIsPrinted(t *testing.T) {
	r := newReader(t)
	list := steps(t)
	if len(list) < 20 {
		t.Fatalf("%d commands", len(list))
	}
	fresh := false
	for _, s := range list {
		got := ""
		if strings.HasPrefix(s.command, "helm") && !fresh {
			fresh = true
			r.leave(t)
		}
		switch program, rest, _ := strings.Cut(s.command, " "); program {
		case "cat": // what the page shows is what the file holds, so that it is what the others use
			r.write(t, rest, s.want)
			continue
		case "kubectl", "helm", "usher":
			got = r.shell(t, s.command)
		case "curl":
			got = r.curl(t, s.command)
		default:
			t.Fatalf("%s: the test does not know how to run it", s.command)
		}
		if !slices.Equal(lines(got), lines(s.want)) {
			t.Errorf("$ %s\n%s\nthe page says\n%s", s.command, got, s.want)
		}
		if s.command == "kubectl apply -f policy.yaml" && r.usher == "" {
			r.serve(t) // there is no kubelet that would
		}
	}
	// The page says that helm uninstall leaves them.
	if out, err := r.cluster.Kubectl(t.Context(), "", "get", "crd/authpolicies.usher.dev", "crd/identityproviders.usher.dev"); err != nil {
		t.Error(out, err)
	}
}

// lines of an output: their words, as columns are as wide as what is in them, without ages and dates.
func lines(text string) (out []string) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "LAST DEPLOYED:") {
			continue
		}
		if last := len(words) - 1; regexp.MustCompile(`^(\d+[smh])+$`).MatchString(words[last]) {
			words[last] = "AGE"
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

func newReader(t *testing.T) *reader {
	t.Helper()
	dir := t.TempDir()
	c, err := cluster.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	for _, namespace := range []string{"agents", "envoy-gateway-system", "monitoring"} {
		if out, err := c.Kubectl(t.Context(), "", "create", "namespace", namespace); err != nil {
			t.Fatal(err, out)
		}
	}
	clone := filepath.Join(dir, "usher", "k8s", "deploy")
	if err := os.CopyFS(clone, os.DirFS("../../deploy")); err != nil {
		t.Fatal(err)
	}
	r := &reader{cluster: c, dir: filepath.Join(dir, "work"), idp: provider(t)}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return r
}

// leave takes away what is still there of kustomize's, so that Helm begins from nothing too.
func (r *reader) leave(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"delete", "-k", filepath.Join(r.dir, "..", "usher", "k8s", "deploy", "crds")},
		{"label", "namespace", "usher", "pod-security.kubernetes.io/enforce-", "pod-security.kubernetes.io/warn-", "pod-security.kubernetes.io/audit-"},
	} {
		if out, err := r.cluster.Kubectl(t.Context(), "", args...); err != nil {
			t.Fatal(out, err)
		}
	}
}

// write writes a file of the page, with the addresses of this machine.
func (r *reader) write(t *testing.T, name, text string) {
	t.Helper()
	text = strings.Replace(text, "issuer: https://auth.example.com", fmt.Sprintf("issuer: %q\n  allowHTTP: true", r.idp.Issuer), 1)
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// shell runs a command as it stands, with our programs first in its path. What it says beside its output is shown if it fails.
func (r *reader) shell(t *testing.T, command string) string {
	t.Helper()
	program, err := staticUsher()
	if err != nil {
		t.Fatal(err)
	}
	kubectl, err := cluster.Tool("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	config, err := r.cluster.Kubeconfig("admin", "")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "KUBECONFIG="+config, "HOME="+r.dir, "PATH="+filepath.Dir(program)+":"+filepath.Dir(kubectl)+":"+os.Getenv("PATH"))
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Errorf("$ %s\n%v: %s", command, err, problems.String())
	}
	return strings.ReplaceAll(out.String(), r.idp.Issuer, "https://auth.example.com")
}

// serve runs the pod of the Deployment that the page has applied, with the rights that it has applied.
func (r *reader) serve(t *testing.T) {
	t.Helper()
	all := kustomize(t, r.dir)
	n := newNode(t, podOf(t, find(t, all, "Deployment", "usher")), all)
	n.inCluster(t, r.cluster)
	r.usher = n.port(t, "--grpc-address=:9001", "--grpc-address=127.0.0.1:%d")
	admin := "http://" + n.port(t, "--admin-address=:9002", "--admin-address=127.0.0.1:%d")
	start(t, n.container(t, "usher", usherRoot(t)), "usher", stack.Answers200(admin+"/healthz"))
	r.gate = &gate{idp: r.idp, host: "items.example.com"}
	// The page waits for status alone; a machine that is busy may take longer than kubectl's 30 s.
	eventually(t, func() error { return stack.Answers200(admin + "/readyz")(t.Context()) })
}

// curl is one through an Envoy that runs what the page has written; a Service is a port of this machine.
func (r *reader) curl(t *testing.T, command string) string {
	t.Helper()
	if r.gate.url == "" {
		text, err := os.ReadFile(filepath.Join(r.dir, "envoy.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		bootstrap := strings.NewReplacer(
			`address: "usher.usher.svc", port_value: 9001`, socketAddress(r.usher),
			`address: "items.agents.svc", port_value: 8000`, socketAddress(backend(t))).Replace(string(text))
		r.gate.run(t, bootstrap, container.Container{User: 101, Group: 101})
	}
	token := ""
	if strings.Contains(command, "$ALICE") {
		token = r.idp.Mint(tokentest.Claims{"aud": "items", "scope": "items:read"})
	}
	var body string
	eventually(t, func() error { // a busy machine
		status, text := r.gate.ask(t, "/items", token)
		if status == http.StatusServiceUnavailable {
			return fmt.Errorf("%d %s", status, text)
		}
		body = text
		return nil
	})
	return body
}

// Each value of the chart is in the page's table.
func TestThePageNamesEachValue(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	values, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	list := objects(t, string(values))
	if len(list) != 1 || len(list[0]) < 10 {
		t.Fatalf("%d documents", len(list))
	}
	for name, v := range list[0] {
		if !strings.Contains(string(text), "`"+name+"`") && !strings.Contains(string(text), "`"+name+".") {
			t.Errorf("the page does not name %s", name)
		}
		members, _ := v.(map[string]any)
		for member := range members {
			if name != "resources" && !strings.Contains(string(text), "."+member+"`") {
				t.Errorf("the page does not name %s.%s", name, member)
			}
		}
	}
}
