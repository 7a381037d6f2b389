package deploy

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/k8s/e2e/cluster"
)

// release runs helm against the API server.
func release(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return releaseAs(t.Context(), args...)
}

func releaseAs(ctx context.Context, args ...string) (string, error) {
	path, err := cluster.Tool("helm")
	if err != nil {
		return "", err
	}
	config, err := shared.Kubeconfig("helm", "")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, append(args, "--kubeconfig", config)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w: %s", strings.Join(args, " "), err, out.String())
	}
	return out.String(), nil
}

// installed is a release that ends with the test.
func installed(t *testing.T, name, namespace string, set ...string) {
	t.Helper()
	args := []string{"install", name, chart, "--namespace", namespace, "--create-namespace"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	if _, err := release(t, args...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = releaseAs(context.Background(), "uninstall", name, "--namespace", namespace)
	})
}

// Two releases of one name, and one of another: none takes what is another's.
func TestReleasesDoNotMeet(t *testing.T) {
	installed(t, "usher", "team-a", "webhook.enabled=true")
	installed(t, "usher", "team-b", "webhook.enabled=true")
	installed(t, "gate", "team-b", "webhook.enabled=true")
	installed(t, "usher", "usher", "watch.allNamespaces=true", "webhook.enabled=true")
	for _, name := range []string{"team-a-usher", "team-b-usher", "team-b-gate", "usher"} {
		if out, err := shared.Kubectl(t.Context(), "", "get", "validatingwebhookconfiguration/"+name, "clusterrole/"+name+"-webhook"); err != nil {
			t.Errorf("%s, %v", out, err)
		}
	}
}

// The pod of a release with another name has the rights that it needs: the lease, and the webhook's Secret and configuration.
func TestAReleaseOfAnotherNameServes(t *testing.T) {
	const namespace = "renamed"
	installed(t, "front", namespace, "webhook.enabled=true")
	all := helmAs(t, "front", namespace, []string{"webhook.enabled=true"})
	n := newNode(t, podOf(t, find(t, all, "Deployment", "front")), all)
	n.inCluster(t, shared)
	n.port(t, "--grpc-address=:9001", "--grpc-address=127.0.0.1:%d")
	admin := "http://" + n.port(t, "--admin-address=:9002", "--admin-address=127.0.0.1:%d")
	webhook := n.port(t, "--webhook-address=:9443", "--webhook-address=127.0.0.1:%d")
	p := provider(t)
	if out, err := shared.Kubectl(t.Context(), objectsFor(p, namespace), "apply", "-f", "-"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	start(t, n.container(t, "usher", usherRoot(t)), "usher", stack.Answers200(admin+"/healthz"))
	eventually(t, func() error {
		out, err := shared.Kubectl(t.Context(), "", "get", "authpolicy/items", "-n", namespace, "-o", `jsonpath={.status.conditions[?(@.type=="Programmed")].status}`)
		if err == nil && out != "True" {
			err = fmt.Errorf("Programmed is %q", out)
		}
		return err
	})
	eventually(t, func() error { return webhookIs(t, webhook, "renamed-front", "front-webhook.renamed.svc") })
	announced := func() string {
		t.Helper()
		out, err := shared.Kubectl(t.Context(), "", "get", "validatingwebhookconfiguration", "renamed-front", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := announced()
	// What others have written stays: the number of replicas, and the authority.
	if out, err := shared.Kubectl(t.Context(), "", "scale", "deployment/front", "--replicas=5", "-n", namespace); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if _, err := release(t, "upgrade", "front", chart, "--namespace", namespace, "--reuse-values", "--set", "extraArgs={--log-level=warn}"); err != nil {
		t.Fatal(err)
	}
	out, err := shared.Kubectl(t.Context(), "", "get", "deployment/front", "-n", namespace, "-o", "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].args}")
	if err != nil || !strings.HasPrefix(out, "5 ") || !strings.Contains(out, "--log-level=warn") {
		t.Errorf("after an upgrade: %s, %v", out, err)
	}
	if after := announced(); before == "" || after != before {
		t.Errorf("after an upgrade the webhook's authority is %.60q, and was %.60q", after, before)
	}
}

// Applied again, an overlay leaves what the autoscaler chose and the authority that Usher wrote.
func TestAnOverlayAppliedAgainLeavesWhatOthersWrote(t *testing.T) {
	const namespace = "again"
	all := ownOverlay(t, "namespace: again\nresources: [kustomize/overlays/namespace]\ncomponents: [kustomize/components/webhook]")
	storeAll(t, all)
	key := newKey(t)
	bundle := base64.StdEncoding.EncodeToString(block("CERTIFICATE", sign(t, authority(), authority(), key, key)))
	for _, args := range [][]string{
		{"scale", "deployment/usher", "--replicas=5", "-n", namespace},
		{"patch", "validatingwebhookconfiguration/usher", "--type=json", "-p", `[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":"` + bundle + `"}]`},
	} {
		if out, err := shared.Kubectl(t.Context(), "", args...); err != nil {
			t.Fatalf("%s, %v", out, err)
		}
	}
	if out, err := apply(t, all); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if out, err := shared.Kubectl(t.Context(), "", "get", "deployment/usher", "-n", namespace, "-o", "jsonpath={.spec.replicas}"); err != nil || out != "5" {
		t.Errorf("replicas: %s, %v", out, err)
	}
	if out, err := shared.Kubectl(t.Context(), "", "get", "validatingwebhookconfiguration/usher", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}"); err != nil || out != bundle {
		t.Errorf("authority: %s, %v", out, err)
	}
}
