package manifest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// maxAlternatives bounds how many names are compared and listed: in a cluster there may be thousands.
const maxAlternatives = 100

// didYouMean is the hint for an unknown name.
func didYouMean(name string, known []string) string {
	if len(known) > maxAlternatives {
		return ""
	}
	return policy.DidYouMean(name, known)
}

// oneOf lists alternatives: a, b or c.
func oneOf(list []string) string {
	if n := len(list) - maxAlternatives; n > 0 {
		return fmt.Sprintf("%s or one of %d more", strings.Join(list[:maxAlternatives], ", "), n)
	}
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}

// sorted returns the names of a map in order.
func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
