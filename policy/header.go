package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxHeaderValue bounds one identity header in bytes: Node backends refuse more than 16 KiB of headers in all, and
// Envoy's HeaderValue holds no more than 16,384.
const maxHeaderValue = 4096

// maxHeaders bounds all identity headers of a request in bytes, names and separators included: half of what a Node
// backend takes, as the client's own headers come beside them.
const maxHeaders = 8192

// headerValue makes text safe as the value of a request header (RFC 9110, section 5.5). A control character, or white
// space at an end, would be changed or would split the header: an error. Bytes outside visible ASCII, and the percent
// sign itself, are percent-encoded, so that two texts never become one value.
func headerValue(text string) (string, error) {
	if !utf8.ValidString(text) {
		return "", errors.New("not UTF-8")
	}
	encode := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c < ' ' || c == 0x7f:
			return "", errors.New("control character")
		case c > 0x7e || c == '%':
			encode++
		}
	}
	if strings.TrimSpace(text) != text {
		return "", errors.New("white space at an end")
	}
	if len(text)+2*encode > maxHeaderValue {
		return "", fmt.Errorf("longer than %d bytes", maxHeaderValue)
	}
	if encode == 0 {
		return text, nil
	}
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, len(text)+2*encode)
	for i := 0; i < len(text); i++ {
		if c := text[i]; c > 0x7e || c == '%' {
			out = append(out, '%', hex[c>>4], hex[c&15])
		} else {
			out = append(out, c)
		}
	}
	return string(out), nil
}

// CanonicalHeader folds the spellings of a header name that a WSGI, CGI or PHP backend reads as one variable: case,
// and every separator (CVE-2025-64484).
func CanonicalHeader(name string) string {
	plain := true
	for i := 0; i < len(name); i++ {
		if c := name[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			plain = false
			break
		}
	}
	if plain {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + ('a' - 'A')
		}
		return '-'
	}, name)
}
