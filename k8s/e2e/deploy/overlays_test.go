package deploy

import (
	"strings"
	"testing"
)

// install stores the Namespace, which the others need even for a dry run, and asks the API server about the rest.
func install(t *testing.T, all []object) {
	t.Helper()
	var rest []object
	for _, o := range all {
		switch o.text("kind") {
		case "Namespace":
			if out, err := apply(t, []object{o}); err != nil {
				t.Fatalf("%s, %v", out, err)
			}
		default:
			rest = append(rest, o)
		}
	}
	out, err := apply(t, rest, "--dry-run=server")
	if err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if strings.Contains(out, "Warning") {
		t.Errorf("the API server warns: %s", out)
	}
}

// podOf is the pod that a Deployment or DaemonSet would make, as their controllers copy the template.
func podOf(t *testing.T, o object) object {
	t.Helper()
	template, ok := o.at("spec", "template").(map[string]any)
	if !ok {
		t.Fatalf("%s has no template", o.id())
	}
	metadata := map[string]any{"name": o.text("metadata", "name") + "-0", "namespace": o.text("metadata", "namespace")}
	if m, ok := template["metadata"].(map[string]any); ok {
		metadata["labels"] = m["labels"]
	}
	return object{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
}

func find(t *testing.T, all []object, kind, name string) object {
	t.Helper()
	for _, o := range all {
		if o.text("kind") == kind && o.text("metadata", "name") == name {
			return o
		}
	}
	t.Fatalf("there is no %s %q", kind, name)
	return nil
}

func TestOverlaysAreAcceptedAndTheirPodsAreRestricted(t *testing.T) {
	for _, overlay := range []string{"namespace", "cluster"} {
		t.Run(overlay, func(t *testing.T) {
			all := inNamespace(t, overlay, "overlay-"+overlay)
			install(t, all)
			pod := podOf(t, find(t, all, "Deployment", "usher"))
			if out, err := apply(t, []object{pod}, "--dry-run=server"); err != nil {
				t.Errorf("%s, %v", out, err)
			}
			// That the namespace enforces anything at all is seen by what it refuses.
			spec, _ := pod["spec"].(map[string]any)
			context, _ := spec["securityContext"].(map[string]any)
			delete(context, "seccompProfile")
			if out, err := apply(t, []object{pod}, "--dry-run=server"); err == nil || !strings.Contains(out, `violates PodSecurity "restricted`) {
				t.Errorf("a pod without a seccomp profile: %s, %v", out, err)
			}
		})
	}
}

// What is applied as it stands, without an overlay of one's own.
func TestOverlaysStandAlone(t *testing.T) {
	for _, overlay := range []string{"namespace", "cluster"} {
		t.Run(overlay, func(t *testing.T) {
			for _, o := range kustomize(t, "../../deploy/kustomize/overlays/"+overlay) {
				if namespace := o.text("metadata", "namespace"); namespace != "" && namespace != "usher" {
					t.Errorf("%s is in namespace %q", o.id(), namespace)
				}
			}
		})
	}
}

func TestAReplicaHasTimeToDrain(t *testing.T) {
	pod := podOf(t, find(t, kustomize(t, "../../deploy/kustomize/overlays/namespace"), "Deployment", "usher"))
	if grace := pod.at("spec", "terminationGracePeriodSeconds"); grace != 45 {
		t.Errorf("terminationGracePeriodSeconds is %v", grace)
	}
	text := pod.yaml(t)
	for _, want := range []string{"--drain-delay=15s", "--drain-timeout=20s"} { // 35 s together
		if !strings.Contains(text, want) {
			t.Errorf("the pod lacks %s", want)
		}
	}
}
