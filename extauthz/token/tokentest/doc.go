// Package tokentest is an identity provider for tests: it publishes keys, mints tokens, rotates and withdraws keys,
// introspects opaque tokens, and stalls, refuses or lies when it is told to.
//
// A [Provider] is an http.Handler, so it serves a socket as well as [Transport], which calls it in memory and is at home
// in a testing/synctest bubble. It signs with the standard library only, so that a fault of the JOSE library that is
// under test cannot hide in the tests too. Tokens can be built from raw text ([Sign]), as no helper that writes only
// right JSON can make a wrong token.
//
// It is for tests: keys are made when asked for, nothing is protected, and what cannot go on panics.
package tokentest
