// Package edit changes JSON bodies byte by byte, and makes the dynamic metadata that carries a changed body to Envoy's
// edit filter (envoy/edit.lua).
//
// What an edit does not name stays as it was: white space, the order of names, numbers of any size. Bodies are read
// strictly (I-JSON, RFC 7493), and so is the result: each name that was set stands there once, so that no reader behind
// Usher can find another value under it. The package is pure, keeps nothing of what it is given, and imports only policy
// of Usher's packages.
package edit
