package watch

import (
	"fmt"
	"strings"
)

// quoteJWKs gives members of inline keys named "false" and "true" their names back, n and y (RFC 7518, section 6): YAML 1.1
// readers take those without quotes for booleans, kubectl among them.
func quoteJWKs(spec map[string]any) {
	jwt, _ := spec["jwt"].(map[string]any)
	set, _ := jwt["keys"].(map[string]any)
	keys, _ := set["keys"].([]any)
	for _, key := range keys {
		jwk, ok := key.(map[string]any)
		if !ok {
			continue
		}
		for read, written := range map[string]string{"false": "n", "true": "y"} {
			if v, found := jwk[read]; found && jwk[written] == nil {
				jwk[written] = v
				delete(jwk, read)
			}
		}
	}
}

// escaped returns a JSON text with the characters escaped that package manifest does not read as they are, but escaped: a file
// can have them so, and the API server gives them as they are.
func escaped(text []byte) []byte {
	var b strings.Builder
	for _, r := range string(text) {
		if r >= 0x7f && r < 0xa0 || r == '\ufeff' || r == '\ufffe' || r == '\uffff' {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return []byte(b.String())
}
