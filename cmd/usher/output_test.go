package main

import (
	"os"
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
)

func TestOutput(t *testing.T) {
	problem := policy.Problem{
		Pos:   policy.Position{File: "a.yaml", Line: 3, Column: 3, Path: "spec.x", Source: "  x: y"},
		Found: "found \x1b[2Jx", Hint: "do it",
	}
	t.Run("without_colour_there_is_no_escape", func(t *testing.T) {
		if got := long(problem, false, red); strings.Contains(got, "\x1b") {
			t.Errorf("%q", got)
		}
	})
	t.Run("colour_is_ours_and_a_manifest_has_none", func(t *testing.T) {
		want := bold + "a.yaml:3:3" + plain + ": spec.x: found \uFFFD[2Jx\n  3 |   x: y\n    |   " + red + "^" + plain + "\n" + cyan + "hint:" + plain + " do it"
		if got := long(problem, true, red); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
	t.Run("a_file_is_no_terminal", func(t *testing.T) {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if colours(f) || colours(&strings.Builder{}) {
			t.Error("colours")
		}
	})
	t.Run("a_terminal_has_colour_unless_NO_COLOR_is_set", func(t *testing.T) {
		f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, as a terminal is
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		t.Setenv("TERM", "xterm")
		t.Setenv("NO_COLOR", "")
		if !colours(f) {
			t.Error("no colours")
		}
		t.Setenv("NO_COLOR", "1")
		if colours(f) {
			t.Error("colours in spite of NO_COLOR")
		}
	})
	t.Run("no_more_than_100_problems_are_shown", func(t *testing.T) {
		var out strings.Builder
		var ps policy.Problems
		for i := range 103 {
			ps = append(ps, policy.Problem{Pos: policy.Position{File: "a", Line: i + 1}, Found: "x"})
		}
		newTerminal(&out, &out).problems(&out, ps)
		if !strings.HasSuffix(out.String(), "a:100: x\n\nand 3 more\n\n103 problems\n") {
			t.Error(out.String())
		}
	})
}
