// Package manifest turns the text of manifests into what Usher runs on: bytes -> objects with positions -> compiled.
//
// It promises that every byte has one reading. Whatever two YAML readers could take differently is a problem: duplicate
// names, anchors, aliases, merge keys, tags, numbers that JSON does not have, a plain `yes`. Unknown fields and wrong
// kinds are problems too, never ignored, and null is no way to say "default". All problems are reported at once, each
// with its place, what was found, what was expected and what to do; and nothing is compiled while there is one.
//
// A secret never shows: where a document may hold one, its problems carry no excerpt of the source, and no problem
// quotes a value that could be one.
//
// The package does no I/O and keeps nothing. Its functions are safe for concurrent use.
package manifest
