package watch

import (
	"fmt"
	"testing"

	"github.com/usher-authz/usher/policy"
)

// Of one object's problems the first hundred are held, and how many more there are.
func TestFewProblemsOfOneObject(t *testing.T) {
	problems := func(n int) (out policy.Problems) {
		for i := range n {
			out = append(out, policy.Problem{Pos: policy.Position{File: "AuthPolicy a/one", Line: 1, Column: i + 1, Path: fmt.Sprintf("spec.rules[%d]", i), Stored: true}, Found: "it is wrong"})
		}
		return out
	}
	for n, want := range map[int]string{
		0: "", 1: "", maxProblems: "",
		maxProblems + 1:    "AuthPolicy a/one: and 1 more",
		maxProblems + 2500: "AuthPolicy a/one: and 2500 more",
	} {
		given := problems(n)
		got := few(given).Sort() // as they are again, among those of other objects
		held := got
		if want != "" {
			if len(got) != maxProblems+1 || got[maxProblems].Error() != want {
				t.Fatalf("of %d there are %d, the last is %q, want %q", n, len(got), got[len(got)-1].Error(), want)
			}
			held = got[:maxProblems]
		}
		if len(held) != min(n, maxProblems) {
			t.Errorf("of %d there are %d", n, len(held))
		}
		for i, p := range held {
			if p != given[i] {
				t.Fatalf("of %d number %d is %v", n, i, p)
			}
		}
		for i, p := range problems(n) {
			if given[i] != p {
				t.Fatalf("of %d number %d was changed in the slice that was given: %v", n, i, given[i])
			}
		}
	}
}
