package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// maxShown is how many problems are shown at once.
const maxShown = 100

// terminal is where results (out) and everything else (err) go. No other file writes to them.
type terminal struct {
	out, err           io.Writer
	outColour, errTone bool
}

func newTerminal(out, err io.Writer) *terminal {
	return &terminal{out: out, err: err, outColour: colours(out), errTone: colours(err)}
}

// colours reports whether a writer is a terminal whose user did not ask for none (NO_COLOR, by whatever value).
func colours(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	cyan   = "\x1b[36m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

func paint(on bool, colour, text string) string {
	if !on {
		return text
	}
	return colour + text + plain
}

// write is for text of our own; a terminal that went away is no reason to fail.
func write(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// result writes a line of the result.
func (t *terminal) result(format string, args ...any) { write(t.out, format+"\n", args...) }

// good writes the line that says that all is well.
func (t *terminal) good(format string, args ...any) {
	write(t.out, "%s %s\n", paint(t.outColour, green, "ok:"), oneLine(fmt.Sprintf(format, args...)))
}

// bad writes a line of the result that says what is not well.
func (t *terminal) bad(format string, args ...any) {
	write(t.out, "%s %s\n", paint(t.outColour, red, "fail:"), oneLine(fmt.Sprintf(format, args...)))
}

// step writes a line of an explanation: a name in a column of its own, and what there is to say.
func (t *terminal) step(name string, indent int, format string, args ...any) {
	pad := strings.Repeat("  ", indent)
	text := oneLine(fmt.Sprintf(format, args...))
	line := fmt.Sprintf("%s%s %s", pad, paint(t.outColour, bold, fmt.Sprintf("%-10s", oneLine(name))), text)
	write(t.out, "%s\n", strings.TrimRight(line, " "))
}

// warn writes a line about what should be known.
func (t *terminal) warn(format string, args ...any) {
	write(t.err, "%s %s\n", paint(t.errTone, yellow, "warning:"), oneLine(fmt.Sprintf(format, args...)))
}

// raw writes a result as it is; unlike text, one that is cut off must not go unnoticed.
func (t *terminal) raw(b []byte) error {
	if _, err := t.out.Write(b); err != nil {
		return failed(fmt.Errorf("write the result: %w", err))
	}
	return nil
}

// json writes a result as JSON.
func (t *terminal) json(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return failed(fmt.Errorf("write the result: %w", err))
	}
	return t.raw(append(b, '\n'))
}

// problems writes problems to w in full, each with its line, its place and a hint, and how many there are.
func (t *terminal) problems(w io.Writer, ps policy.Problems) {
	colour := t.outColour
	if w == t.err {
		colour = t.errTone
	}
	for i, p := range ps {
		if i == maxShown {
			write(w, "and %d more\n\n", len(ps)-maxShown)
			break
		}
		write(w, "%s\n\n", long(p, colour, red))
	}
	write(w, "%s\n", count(len(ps), "problem"))
}

// warnings writes what is valid and should be known.
func (t *terminal) warnings(ps policy.Problems) {
	for _, p := range ps {
		write(t.err, "%s %s\n\n", paint(t.errTone, yellow, "warning:"), long(p, t.errTone, yellow))
	}
}

// long colours a problem: its place, the caret and the word hint. What a manifest holds cannot steer the terminal.
func long(p policy.Problem, colour bool, tone string) string {
	lines := strings.Split(printable(p.Long()), "\n")
	for i, line := range lines {
		switch place := printable(p.Pos.String()); {
		case i == 0 && place != "":
			lines[i] = paint(colour, bold, place) + strings.TrimPrefix(line, place)
		case strings.HasSuffix(line, "^") && i == 2:
			lines[i] = strings.TrimSuffix(line, "^") + paint(colour, tone, "^")
		case strings.HasPrefix(line, "hint: "):
			lines[i] = paint(colour, cyan, "hint:") + strings.TrimPrefix(line, "hint:")
		}
	}
	return strings.Join(lines, "\n")
}

// printable replaces control characters but line breaks and tabs.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

// oneLine is printable, without line breaks: what a manifest or a request holds cannot begin a line of its own. Characters
// that change the direction of text are replaced too (CVE-2021-42574).
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r' || r == '\u2028' || r == '\u2029':
			return ' '
		case r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' || r == '\u200e' || r == '\u200f':
			return '\uFFFD'
		}
		return r
	}, printable(strings.ToValidUTF8(s, "\uFFFD")))
}

// fail writes why a command ended.
func (t *terminal) fail(e *exitError) {
	if e.err == nil {
		return
	}
	write(t.err, "%s %s\n", paint(t.errTone, red, "usher:"), printable(e.err.Error()))
	if e.hint != "" {
		write(t.err, "%s %s\n", paint(t.errTone, cyan, "hint:"), e.hint)
	}
}

// usage writes what was wrong with the arguments.
func (t *terminal) usage(err error) {
	t.fail(&exitError{code: exitUsage, err: err, hint: "usher help, or usher help COMMAND, says what there is"})
}

// count writes a number with its noun: 1 problem, 2 problems, 3 policies.
func count(n int, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "y"):
		noun = strings.TrimSuffix(noun, "y") + "ies"
	default:
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
