package cluster

import (
	"strings"
	"testing"
)

func TestCluster(t *testing.T) {
	c, err := Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	out, err := c.Kubectl(t.Context(), `{apiVersion: v1, kind: Namespace, metadata: {name: agents}}`, "apply", "-f", "-")
	if err != nil || !strings.Contains(out, "namespace/agents created") {
		t.Fatalf("%s, %v", out, err)
	}
	c.APIServer.Stop()
	if err := c.APIServer.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := c.Kubectl(t.Context(), "", "get", "namespace", "agents"); err != nil || !strings.Contains(out, "Active") {
		t.Errorf("after a restart: %s, %v", out, err)
	}
}
