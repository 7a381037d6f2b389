package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Position is a place in a manifest. The zero value is an unknown place.
type Position struct {
	File   string // as it was named; for an object of a cluster: "AuthPolicy namespace/name"
	Line   int    // from 1; 0 if unknown
	Column int    // from 1, in bytes; 0 if unknown
	Path   string // the field, such as "spec.rules[1].filter.owner"
	Source string // the text of that line, for the caret; may be empty
	// Inexact says that what stands here is written otherwise in the source (escapes, folding), so that an offset into
	// it says nothing about the column.
	Inexact bool
	// Stored says that the file is an object's JSON as an API server has it, which nobody sees: line and column only order what
	// stands in it.
	Stored bool
}

// String returns file:line:column, as far as known; of a stored object its name and the field.
func (p Position) String() string {
	switch {
	case p.Stored && p.Path != "":
		return p.File + ", " + p.Path
	case p.Stored:
		return p.File
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problem is one thing that is wrong in a manifest: what was found, what was wanted, and what to do.
type Problem struct {
	Pos   Position
	Found string // what is wrong, such as `unknown operator "$ne"`
	Want  string // what was expected, such as `$eq, $contains, $or or $and`; may be empty
	Hint  string // what to do; may be empty
	// Unresolved says that something is referred to that is not there, and may come.
	Unresolved bool
}

// Error returns the problem in one line, without source text and hint.
func (p Problem) Error() string {
	var b strings.Builder
	at := p.Pos
	at.Path = ""
	if s := at.String(); s != "" {
		b.WriteString(s + ": ")
	}
	if p.Pos.Path != "" {
		b.WriteString(p.Pos.Path + ": ")
	}
	b.WriteString(p.Found)
	if p.Want != "" {
		b.WriteString(", expected " + p.Want)
	}
	return b.String()
}

// Long returns the problem with the source line, a caret below the place, and the hint.
func (p Problem) Long() string {
	var b strings.Builder
	b.WriteString(p.Error())
	if p.Pos.Source != "" && p.Pos.Line > 0 && !p.Pos.Stored {
		number := fmt.Sprintf("%d", p.Pos.Line)
		fmt.Fprintf(&b, "\n  %s | %s", number, p.Pos.Source)
		if c := p.Pos.Column; c > 0 && c <= len(p.Pos.Source)+1 {
			// Tabs stay tabs, so that the caret stands below its place whatever their width.
			pad := strings.Map(func(r rune) rune {
				if r == '\t' {
					return r
				}
				return ' '
			}, p.Pos.Source[:c-1])
			fmt.Fprintf(&b, "\n  %s | %s^", strings.Repeat(" ", len(number)), pad)
		}
	}
	if p.Hint != "" {
		b.WriteString("\nhint: " + p.Hint)
	}
	return b.String()
}

// Problems is all that is wrong, sorted by place. As an error it has at least one element.
type Problems []Problem

// maxProblems is how many problems are shown at once: past that the first ones matter more than the rest.
const maxProblems = 100

// Error returns every problem in a line of its own, at most 100.
func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i == maxProblems {
			fmt.Fprintf(&b, "\nand %d more", len(ps)-maxProblems)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.Error())
	}
	return b.String()
}

// Sort orders the problems by file, line and column, and drops exact repeats.
func (ps Problems) Sort() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if c := strings.Compare(a.Pos.File, b.Pos.File); c != 0 {
			return c
		}
		if c := a.Pos.Line - b.Pos.Line; c != 0 {
			return c
		}
		return a.Pos.Column - b.Pos.Column
	})
	return slices.Compact(ps)
}

// Err returns ps as an error, or nil if there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps.Sort()
}
