package manifest

import (
	"fmt"
	"slices"
	"strings"
)

// suggest returns the known name that was probably meant, "" if none is near: case does not count, and a wrong, a
// missing, a surplus letter and two swapped ones count one each.
func suggest(name string, known []string) string {
	best, limit := "", max(1, len(name)/4)
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d <= limit {
			best, limit = k, d-1
		}
	}
	return best
}

// didYouMean is the hint for an unknown name.
func didYouMean(name string, known []string) string {
	if k := suggest(name, known); k != "" {
		return fmt.Sprintf("did you mean %q?", k)
	}
	return ""
}

// distance is the optimal string alignment distance, in bytes.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// oneOf lists alternatives: a, b or c.
func oneOf(list []string) string {
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
