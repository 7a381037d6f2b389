// Package differential has no code but its test: the same random policy is asked twice about each random request, once
// as LangGraph's own Auth handler inside its JS server, and once as Usher's manifests before such a server without auth.
// What differs stands in testdata/differences.json with its reason, or is a failure.
//
//	go test ./differential                          # some hundred requests
//	go test ./differential -differential=5000       # more
//	go test ./differential -seed=42 -v              # the same again
package differential
