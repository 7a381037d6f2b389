// Package mesh runs what `usher envoy` writes for a mesh: Envoy Gateway's objects are translated by its own egctl, and the
// listeners, routes and clusters that come out run in a real Envoy before Usher and a LangGraph server; Istio's EnvoyFilter
// patches run in a listener like Istio's. The objects themselves are sent to a real API server that has the projects' own
// CRDs.
package mesh
