//go:build !race

package attacktest_test

// slack is how many times max_ms an answer may take of real time, on a machine that does other things too.
const slack = 10
