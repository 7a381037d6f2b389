package policy

import (
	"strings"
	"unicode"
)

// fold returns what is the same for all texts that differ only by case (Unicode's simple case folding, as
// strings.EqualFold): encoding/json of Go, ASP.NET and other readers take such names for one.
func fold(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] < 0x80 && !(s[i] >= 'A' && s[i] <= 'Z')
	}
	if plain {
		return s
	}
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return unicode.ToLower(least) // of ASCII letters the least one is a capital
	}, s)
}
