package policy

import (
	"fmt"
	"strings"
)

// maxMeant bounds a name that is looked at for what was meant, in bytes.
const maxMeant = 128

// DidYouMean is the hint for an unknown name: the known one that was probably meant. It is empty if none is near. Case does
// not count, and a wrong, a missing, a surplus letter and two swapped ones count one each.
func DidYouMean(name string, known []string) string {
	best, limit := "", max(1, len(name)/4)
	if len(name) > maxMeant || len(known) > 1000 {
		return "" // names are compared letter by letter
	}
	for _, k := range known {
		if len(k) > 2*maxMeant || len(k)-len(name) > limit || len(name)-len(k) > limit {
			continue
		}
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d <= limit {
			best, limit = k, d-1
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
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
