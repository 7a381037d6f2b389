// Package attacktest runs declarative attacks against a gate: an Envoy external-authorization server. It is for tests
// only, and nothing of the product imports it.
//
// A file of attacks ([Load]) says what every case runs against, how its tokens are made, what is sent and what must
// become of it. The file's member `format` is the language, and this package is its one interpreter: what it does not
// know, wherever it stands, is an error, and nothing is left out in silence.
//
// A case of level check is a CheckRequest. [Suite.Run] runs it in a testing/synctest bubble of its own, once with the
// headers as a map and once as a list: it mints the tokens with the standard library (the product's code is not asked
// what a token is), serves issuers, backend and canary from memory ([World]), starts the gate, applies its answer to
// the request as Envoy does, and judges what the client gets and what the backend would see. The file's `invariants` are
// judged on every answer. [Suite.Sweep] runs the cases against one gate, there and back: no answer may depend on what was
// asked before. A case of level http goes through a real Envoy, which a [Driver] has: see [Suite.RunHTTP].
//
// Deadlines are judged by the bubble's clock, which moves only while all wait; what costs CPU time by a real one, with
// slack ([Options]). A goroutine that outlives its gate ends the whole test with a panic of the bubble.
//
// # Running other attacks
//
//	go test ./extauthz/attacktest -v -run TestAttacks -attacks /path/to/file.json -groups body,host-header
//
// The table that closes the output says for each group how many cases there are, were run and passed, how many got an
// acceptable status that is not the preferred one, and why the others were not run.
//
// # Adding a case
//
// A case is an object in the list `cases` of testdata/attacks.json; give it the next number of its group:
//
//	{"id": "tim-23-exp-now", "group": "time-claims", "level": "check",
//	 "why": "a token ends at exp, not after it; RFC 7519 4.1.4",
//	 "request": {"method": "GET", "host": "api.test", "path": "/v1/items", "headers": []},
//	 "token": {"base": "good", "claims": {"set": {"exp": {"$now": -30}}}},
//	 "expect": {"status": 401, "www_authenticate_contains": ["Bearer"]}}
//
// The token is the recipe `good` with one change; it is sent as a bearer token, as nothing of the request holds
// {{token}}. Status 200 means allowed; of several statuses the first is preferred. Every refusal has its counterpart in
// the group control: a gate that denies everything fails there. Watch the case fail before you believe it: bend the
// product for it, or add a fault to TestFaultsAreSeen.
//
// A new member of the format is a field in format.go, a check in check.go, and what it means beside its like: a generator
// in generate.go, an operation on tokens in sign.go, an expectation in judge.go, a server's answer in world.go.
package attacktest
