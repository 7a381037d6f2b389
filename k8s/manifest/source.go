package manifest

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/usher-authz/usher/policy"
)

const (
	// maxText bounds one file: etcd holds no object above 1.5 MiB, so that a larger file is no manifest.
	maxText = 8 << 20
	// maxExcerpt bounds the source line that a problem shows.
	maxExcerpt = 240
)

// source is a file by its lines, for places and excerpts.
type source struct {
	file   string
	stored bool // an object of an API server: see policy.Position
	lines  []string
	// marks are the bytes at which each markEvery-th character of a line begins, by line from 0, where those are not one byte
	// each: an object of a cluster is one line, in which the place of everything is looked for.
	marks map[int][]int
}

// markEvery is how many characters are counted at most to find one.
const markEvery = 64

// chunk is the text of one document, or of several where the marks between them are unusual.
type chunk struct {
	text  string
	first int // lines before it
}

// read splits a file into lines and documents. A document starts at a line with `---`, which no text of another one can
// hold (YAML 1.2, c-forbidden), so that a syntax error in one does not hide the problems of the rest.
func read(file string, text []byte) (source, []chunk, *policy.Problem) {
	return readInto(source{file: file}, text)
}

func readInto(s source, text []byte) (source, []chunk, *policy.Problem) {
	if len(text) > maxText {
		return s, nil, &policy.Problem{Pos: s.top(), Found: fmt.Sprintf("found %d bytes", len(text)), Want: fmt.Sprintf("at most %d", maxText)}
	}
	body := strings.TrimPrefix(string(text), "\ufeff")
	rest, first := body, 0
	var chunks []chunk
	var b strings.Builder
	for rest != "" {
		end := strings.IndexAny(rest, "\r\n")
		line, next := rest, len(rest)
		if end >= 0 {
			line, next = rest[:end], end+1
			if rest[end] == '\r' && strings.HasPrefix(rest[end+1:], "\n") {
				next++
			}
		}
		if mark, ok := strings.CutPrefix(line, "---"); ok && (mark == "" || mark[0] == ' ' || mark[0] == '\t') && b.Len() > 0 {
			chunks = append(chunks, chunk{b.String(), first})
			b.Reset()
			first = len(s.lines)
		}
		s.lines = append(s.lines, line)
		s.mark(line)
		b.WriteString(line + "\n")
		if p := s.unreadable(line); p != nil {
			return s, nil, p
		}
		rest = rest[next:]
	}
	if b.Len() > 0 {
		chunks = append(chunks, chunk{b.String(), first})
	}
	return s, chunks, nil
}

// unreadable finds what readers of YAML disagree on, in the line that was read last: bytes that are not UTF-8, and the
// characters that YAML 1.1 takes for line breaks and YAML 1.2 does not.
func (s *source) unreadable(line string) *policy.Problem {
	for i, r := range line {
		var found string
		hint := "in a quoted text it can be written as an escape, such as \"\\u2028\""
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(line[i:], "\uFFFD"):
			found = fmt.Sprintf("found byte 0x%02X, which is not UTF-8", line[i])
			hint = ""
		case r == '\u0085' || r == '\u2028' || r == '\u2029' || r == '\ufeff':
			found = fmt.Sprintf("found character %U", r)
		case r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0:
			found = fmt.Sprintf("found control character %U", r)
		default:
			continue
		}
		pos := policy.Position{File: s.file, Line: len(s.lines), Column: i + 1, Stored: s.stored}
		return &policy.Problem{Pos: pos, Found: found, Want: "YAML in UTF-8", Hint: hint}
	}
	return nil
}

func (s *source) top() policy.Position {
	return policy.Position{File: s.file, Line: 1, Column: 1, Stored: s.stored}
}

// mark notes where the characters of the line begin that was read last.
func (s *source) mark(line string) {
	ascii := true
	for i := 0; i < len(line) && ascii; i++ {
		ascii = line[i] < utf8.RuneSelf
	}
	if ascii {
		return
	}
	var marks []int
	n := 0
	for i := range line {
		if n%markEvery == 0 {
			marks = append(marks, i)
		}
		n++
	}
	if s.marks == nil {
		s.marks = map[int][]int{}
	}
	s.marks[len(s.lines)-1] = marks
}

// position returns a place from a line and a column as YAML counts them: from 1, in characters.
func (s *source) position(line, column int, secret bool) policy.Position {
	p := policy.Position{File: s.file, Line: line, Stored: s.stored}
	if line < 1 || line > len(s.lines) {
		return p
	}
	text := s.lines[line-1]
	if column > 0 {
		p.Column = s.offset(line-1, column-1) + 1
	}
	if !secret && len(text) <= maxExcerpt {
		p.Source = text
	}
	return p
}

// offset is the byte at which the n-th character of a line begins. It takes no longer at the end of a line than at its
// beginning.
func (s *source) offset(line, n int) int {
	text, marks := s.lines[line], s.marks[line]
	if marks == nil { // each character is a byte
		return min(n, len(text))
	}
	if n/markEvery >= len(marks) {
		return len(text)
	}
	from := marks[n/markEvery]
	n %= markEvery
	for i := range text[from:] {
		if n == 0 {
			return from + i
		}
		n--
	}
	return len(text)
}

// secretive reports whether a document may hold a secret, so that nothing of it may be shown: a Secret in whatever
// spelling, a shared secret, the private part of a key.
func secretive(text string) bool {
	return slices.ContainsFunc([]string{"secret", "stringdata", "kty"}, func(s string) bool {
		return strings.Contains(strings.ToLower(text), s)
	})
}
