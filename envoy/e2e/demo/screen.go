package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// screen owns what the terminal shows. Colour only on a terminal, and never with NO_COLOR (no-color.org).
type screen struct {
	out    io.Writer
	colour bool
	live   bool // the line that is being written may be written again
}

const width = 100

func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		s.live = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	s.colour = s.live && os.Getenv("NO_COLOR") == ""
	return s
}

const (
	bold   = "1"
	faint  = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (s *screen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *screen) line(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, format+"\n", args...)
}

func (s *screen) title(title string, lines ...string) {
	s.line("")
	s.line("  %s", s.paint(bold, title))
	s.line("  %s", s.paint(faint, strings.Repeat("─", len([]rune(title)))))
	for _, l := range lines {
		s.line("  %s", l)
	}
	s.line("")
}

func (s *screen) starting(name string) {
	if s.live {
		_, _ = fmt.Fprintf(s.out, "  %s %s ...", s.paint(yellow, "·"), name)
	}
}

func (s *screen) started(name, where string, took time.Duration) {
	if s.live {
		_, _ = fmt.Fprint(s.out, "\r\x1b[K")
	}
	if where == "" {
		where = fmt.Sprintf("%.1f s", took.Seconds())
	}
	s.line("  %s %-36s %s", s.paint(green, "✓"), name, s.paint(faint, where))
}

func (s *screen) failed() {
	if s.live {
		s.line("")
	}
}

func (s *screen) step(number int, heading string) {
	s.line("")
	s.line("  %s", s.paint(bold, fmt.Sprintf("%d. %s", number, heading)))
}

// request shows what the client sends, and in whose name.
func (s *screen) request(text, who string) {
	lines := fold(text, width-5)
	for i, l := range lines {
		if i == len(lines)-1 && who != "" {
			l += "  " + s.paint(faint, "("+who+")")
		}
		s.line("  %s %s", s.paint(cyan, pick(i == 0, "→", " ")), l)
	}
}

// answer shows what it gets.
func (s *screen) answer(status int, text string) {
	code := green
	if status >= 400 {
		code = yellow
	}
	lines := fold(text, width-9)
	s.line("  %s %s %s", s.paint(cyan, "←"), s.paint(code, fmt.Sprint(status)), lines[0])
	for _, l := range lines[1:] {
		s.line("        %s", l)
	}
}

// word writes one word of an answer as it comes.
func (s *screen) word(text string, first bool) {
	if first {
		_, _ = fmt.Fprintf(s.out, "  %s %s ", s.paint(cyan, "←"), s.paint(green, "200"))
	}
	_, _ = io.WriteString(s.out, text)
}

func (s *screen) endOfWords() { s.line("") }

// why says in plain words what happened.
func (s *screen) why(text string) {
	for _, l := range fold(text, width-5) {
		s.line("    %s", s.paint(faint, l))
	}
}

func (s *screen) asTold() { s.line("  %s", s.paint(green, "✓ as told")) }

func (s *screen) notAsTold(what string) {
	for i, l := range fold(what, width-20) {
		s.line("  %s", s.paint(red, pick(i == 0, "✗ not as told: ", "  ")+l))
	}
}

func (s *screen) note(text string) { s.line("\n  %s", text) }

func (s *screen) end(first string, rest ...string) {
	s.line("")
	s.line("  %s", s.paint(bold+";"+green, first))
	for _, paragraph := range rest {
		for _, l := range fold(paragraph, width-2) {
			s.line("  %s", l)
		}
	}
	s.line("")
}

func (s *screen) heading(text string) { s.line("\n  %s", s.paint(bold, text)) }

// command shows a line that a person may copy: never folded.
func (s *screen) command(text string) { s.line("    %s", text) }

// fold breaks text at spaces, so that no line but one long word is wider than limit. There is always a line.
func fold(text string, limit int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) <= limit:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

func pick(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}
