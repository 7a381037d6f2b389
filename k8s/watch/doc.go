// Package watch brings manifests in, and again whenever they change: from a file or a directory.
//
// It promises that a reading is whole or a problem: what cannot be read, is not there or does not compile is delivered
// as problems beside no state, so that the caller keeps what it had. A change is delivered once it has settled, and
// only if the bytes differ from what was delivered last. It never writes.
package watch
