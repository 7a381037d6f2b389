//go:build race

package e2e_test

// With the race detector in the tests, usher has it too.
const raceDetector = true
