package e2e

import (
	"fmt"
	"testing"
)

func TestTheOpenAPIDocumentOfAConfigMapIsReadByName(t *testing.T) {
	ns := namespace(t, "documents")
	p := newProvider(t)
	u := startUsher(t, ns, admin(t))
	document := func(paths string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: docs, namespace: %s}\ndata:\n  openapi.yaml: |\n    openapi: 3.1.0\n    paths: {%s}\n", ns, paths)
	}
	const read = "/items: {get: {operationId: items.read, responses: {200: {description: x}}}}"
	kubectl(t, p.manifest(ns, "idp", "")+fmt.Sprintf(`apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: one, namespace: %s}
spec: {hosts: [one.test], providers: [idp], api: {openapi: {configMapRef: {name: docs}}}, rules: [{"on": items}]}
`, ns), "apply", "-f", "-")
	wantCondition(t, ns, "authpolicy/one", "Accepted", "False", "Invalid", `found no ConfigMap "docs"`)
	u.wantStatus(t, 503, "one.test", "GET", "/items", p.Mint())
	kubectl(t, document("/items: {get: {operationId: getItems}}"), "apply", "-f", "-")
	wantCondition(t, ns, "authpolicy/one", "Accepted", "False", "Invalid", `paths./items.get.operationId: found operationId "getItems"`)
	kubectl(t, document(read), "apply", "-f", "-")
	wantCondition(t, ns, "authpolicy/one", "Accepted", "True", "Accepted", "")
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	u.wantStatus(t, 404, "one.test", "GET", "/others", p.Mint())
	kubectl(t, document(read+", /others: {get: {operationId: items.list}}"), "apply", "-f", "-")
	u.wantStatus(t, 200, "one.test", "GET", "/others", p.Mint())
	kubectl(t, "", "delete", "configmap", "docs", "-n", ns)
	wantCondition(t, ns, "authpolicy/one", "Accepted", "False", "Invalid", `found no ConfigMap "docs"`)
	u.wantStatus(t, 200, "one.test", "GET", "/others", p.Mint()) // the last good version stays
}
