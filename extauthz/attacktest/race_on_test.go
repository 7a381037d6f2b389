//go:build race

package attacktest_test

// slack is how many times max_ms an answer may take of real time: the race detector makes everything slower.
const slack = 50
