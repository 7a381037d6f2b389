// Package policy decides: values in, a [Decision] with its reasons out.
//
// A [Snapshot] is compiled once from a [Set] (what the manifests say) and never changes. For one request the way is
//
//	Snapshot.Match -> Policy.Route -> Route.Operations -> Policy.Decide -> Decision.Resolve
//
// and every step is a pure function: no I/O, no clock, no globals. The package imports none of Usher's others, and
// neither net, os, gRPC, Kubernetes nor JOSE; presets for a known API are passed in as data ([Preset]).
//
// It fails closed. The zero [Outcome] is not an allow, an operation without a rule is denied, an expression that
// fails at run time denies, and a filter that cannot be enforced on an operation denies that operation.
package policy
