// Package policytest says whether policies answer as a test expects, and which rules no test reaches.
//
// It decides nothing itself: a [Gate] answers each request, and the one that `usher test` uses is the server's own code
// (package extauthz/dryrun). It has no I/O, and a test passes only if everything that it expects was compared: what an
// expectation leaves open is decided strictly. A denial counts as expected only if the policy made it, so that a misspelt
// path or a refused token is not taken for a rule that works.
package policytest
