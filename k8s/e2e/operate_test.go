package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/usher-authz/usher/k8s/e2e/cluster"
)

const operatePage = "../../docs/operate.md"

// unrun are the commands of the page that are not run here, and why.
var unrun = map[string]string{
	"kubectl -n usher port-forward deployment/usher 9002":              "there is no kubelet",
	"curl -s localhost:9002/readyz":                                    "as there is no port-forward",
	"kubectl describe authpolicy NAME":                                 "TestTheNamespacesThatAreWatched does",
	"kubectl apply --server-side -f k8s/deploy/crds":                   "TestDefinitionsThatAreMissing does",
	"kubectl apply --server-side --force-conflicts -k k8s/deploy/crds": "the commands of docs/kubernetes.md, in k8s/e2e/deploy, do",
}

// operateCommands are the commands of docs/operate.md, in blocks and in sentences, and the manifest that it shows.
func operateCommands(t *testing.T) (commands []string, manifest string) {
	t.Helper()
	text, err := os.ReadFile(operatePage)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^    ((?:kubectl|curl) .*)$|`((?:kubectl) [^`]* [^`]*)`").FindAllStringSubmatch(string(text), -1) {
		commands = append(commands, m[1]+m[2])
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\napiVersion:")
	manifest, _, _ = strings.Cut(rest, "```")
	return commands, "apiVersion:" + manifest
}

// What docs/operate.md tells somebody in a hurry to do works as it stands, and does what the page says.
func TestTheOperatorsCommands(t *testing.T) {
	own, agents := namespace(t, "usher"), namespace(t, "agents")
	p := newProvider(t)
	u := startUsher(t, own, admin(t), "--namespaces", own+","+agents, "--allow-local-addresses")
	policy := strings.Replace(guard(agents, "conversations", "agents.example.com", "idp", ""), "  rules:", "  identityHeaders: {x-user-id: user.identity}\n  rules:", 1)
	kubectl(t, p.manifest(agents, "idp", "")+policy+guard(agents, "bad", "bad.test", "idp", ", allow: '1'"), "apply", "-f", "-")
	kubectl(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: usher, namespace: usher}
spec: {replicas: 2, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: usher, image: usher}]}}}
`, "apply", "-f", "-")
	const host = "agents.example.com"
	u.wantStatus(t, 200, host, "GET", "/items", p.Mint())
	wantCondition(t, agents, "authpolicy/bad", "Programmed", "False", "HostsClosed", "")
	eventually(t, func() error { // events are written beside the status
		if out := kubectl(t, "", "get", "events", "-n", agents); !strings.Contains(out, "authpolicy/bad") || !strings.Contains(out, "Invalid") {
			return fmt.Errorf("no event: %s", out)
		}
		return nil
	})
	commands, open := operateCommands(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "open.yaml"), []byte(open), 0o600); err != nil {
		t.Fatal(err)
	}
	replicas := func() string {
		return kubectl(t, "", "get", "deployment/usher", "-n", own, "-o", "jsonpath={.spec.replicas}")
	}

	shown := map[string]func(out string){
		"kubectl get authpolicies": nil,
		"kubectl get usher -A -o wide": func(out string) {
			if !strings.Contains(out, "conversations") || !strings.Contains(out, "expression") {
				t.Error(out)
			}
		},
		"kubectl get usher -A -o wide | grep -w False": func(out string) {
			if !strings.Contains(out, "bad.test") || strings.Contains(out, "conversations") {
				t.Error(out)
			}
		},
		"kubectl get events -A --field-selector reportingComponent=usher.dev/usher": func(out string) {
			if !strings.Contains(out, "authpolicy/bad") || !strings.Contains(out, "Invalid") {
				t.Error(out)
			}
		},
		"kubectl -n usher get lease usher": func(out string) {
			if !strings.Contains(out, "HOLDER") {
				t.Error(out)
			}
		},
		"kubectl get authpolicies,identityproviders -A -o yaml >usher-objects.yaml": func(string) {
			saved, err := os.ReadFile(filepath.Join(dir, "usher-objects.yaml"))
			if err != nil || !strings.Contains(string(saved), "name: conversations") {
				t.Errorf("%s, %v", saved, err)
			}
		},
		`kubectl -n agents patch authpolicy conversations --type merge -p '{"spec":{"rules":[{"on":"*","allow":"false"}]}}'`: func(string) {
			u.wantStatus(t, 403, host, "GET", "/items", p.Mint())
			u.wantStatus(t, 401, host, "GET", "/items", "")
			u.wantStatus(t, 200, host, "GET", "/ok", "")
			wantCondition(t, agents, "authpolicy/conversations", "Programmed", "True", "Programmed", "")
			kubectl(t, policy, "apply", "-f", "-") // the old version
			u.wantStatus(t, 200, host, "GET", "/items", p.Mint())
		},
		"kubectl -n usher scale deployment usher --replicas=0": func(string) {
			if got := replicas(); got != "0" {
				t.Error(got)
			}
		},
		"kubectl -n usher delete pods -l app.kubernetes.io/instance=usher --grace-period=1": nil,
		"kubectl -n usher scale deployment usher --replicas=2": func(string) {
			if got := replicas(); got != "2" {
				t.Error(got)
			}
		},
		"kubectl replace -f open.yaml": func(string) {
			u.wantStatus(t, 200, host, "GET", "/items", "")
			if got := u.removed(t, host); !slices.Contains(got, "x-user-id") {
				t.Errorf("a client's x-user-id comes to the backend; removed: %v", got)
			}
			kubectl(t, policy, "apply", "-f", "-")
			u.wantStatus(t, 401, host, "GET", "/items", "")
		},
	}
	for _, command := range commands {
		check, known := shown[command]
		if !known {
			if unrun[command] == "" {
				t.Errorf("the test does not know %q", command)
			}
			continue
		}
		out := operate(t, dir, command)
		if check != nil {
			check(out)
		}
	}
	for command := range shown {
		if !slices.Contains(commands, command) {
			t.Errorf("the page has no %q", command)
		}
	}
}

// operate runs a command of the page in a shell, with our kubectl first in its path.
func operate(t *testing.T, dir, command string) string {
	t.Helper()
	tool, err := cluster.Tool("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "KUBECONFIG="+admin(t), "HOME="+dir, "PATH="+filepath.Dir(tool)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("$ %s\n%v: %s", command, err, out)
	}
	return string(out)
}

// removed are the headers that Envoy is told to take out of a request that passes.
func (u *usher) removed(t *testing.T, host string) []string {
	t.Helper()
	r, err := u.check.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/items", Host: host, Scheme: "https", HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
			{Key: "x-user-id", RawValue: []byte("eve")},
		}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetOkResponse().GetHeadersToRemove()
}

// The last good version is in the memory of a replica: one that starts while the object is bad has none.
func TestAReplicaThatStartsHasNoLastGoodVersion(t *testing.T) {
	ns := namespace(t, "memory")
	p := newProvider(t)
	first := startUsher(t, ns, admin(t))
	kubectl(t, p.manifest(ns, "idp", "")+guard(ns, "one", "one.test", "idp", ""), "apply", "-f", "-")
	first.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	kubectl(t, guard(ns, "one", "one.test", "idp", ", allow: '1'"), "apply", "-f", "-")
	wantCondition(t, ns, "authpolicy/one", "Programmed", "False", "LastGoodInForce", "")
	second := startUsher(t, ns, admin(t))
	second.wantReadyz(t, "200")
	if got := second.status(t.Context(), "one.test", "GET", "/items", p.Mint()); got != 503 {
		t.Errorf("the new replica answers %d", got)
	}
	if got := first.status(t.Context(), "one.test", "GET", "/items", p.Mint()); got != 200 {
		t.Errorf("the one that knew the last good version answers %d", got)
	}
	if out := fmt.Sprint(kubectl(t, "", "get", "usher", "-A", "-o", "wide")); !strings.Contains(out, "LastGoodInForce") {
		t.Error(out)
	}
}
