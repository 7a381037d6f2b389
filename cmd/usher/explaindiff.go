package main

import (
	"bytes"
	"slices"
	"strings"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/dryrun"
)

// storyDiff is what explain --diff writes as JSON. Fields are only ever added.
type storyDiff struct {
	Same       bool                `json:"same"`       // nothing differs
	Difference extauthz.Difference `json:"difference"` // in the words of a Shadow policy: B beside A
	Changes    []dryrun.Change     `json:"changes"`
	A          dryrun.Story        `json:"a"`
	B          dryrun.Story        `json:"b"`
}

// explainDiff asks two versions of the manifests the same question.
func explainDiff(t *terminal, o *explainOptions, q question) error {
	a, err := o.tell(t, o.versions[0], q)
	if err != nil {
		return err
	}
	b, err := o.tell(t, o.versions[1], q)
	if err != nil {
		return err
	}
	out := storyDiff{Difference: a.story.Compare(&b.story), Changes: a.story.Changes(&b.story), A: a.story, B: b.story}
	if out.Same = len(out.Changes) == 0; out.Same {
		out.Changes = []dryrun.Change{}
	}
	if o.output == "json" {
		if err := t.json(out); err != nil {
			return err
		}
	} else {
		tellDiff(t, a, b, o)
		switch {
		case out.Same:
			t.good("nothing differs")
		case out.Difference == extauthz.Same:
			t.result("same: it is decided the same, in another way")
		default:
			t.result("%s", out.Difference)
		}
	}
	if !out.Same && o.exitCode {
		return &exitError{code: exitTests}
	}
	return nil
}

// tellDiff writes both stories line by line: those of A and of B, and between them those that both have, if asked for.
func tellDiff(t *terminal, a, b *told, o *explainOptions) {
	t.step("A", 0, "%s", o.versions[0])
	t.step("B", 0, "%s", o.versions[1])
	heading, shown := "", true
	for _, line := range diffLines(a.lines(), b.lines()) {
		if !strings.HasPrefix(line.text, " ") {
			heading, shown = line.text, false // what is below it needs it
		}
		both := line.mark == ' '
		if both && !o.all && !strings.HasPrefix(line.text, "request ") {
			continue
		}
		if !shown && strings.HasPrefix(line.text, " ") && !o.all {
			t.result("  %s", heading)
		}
		shown = true
		t.result("%c %s", line.mark, line.text)
	}
}

// storyLine is a line of a story: as it is shown, and as it is compared, without the places of rules.
type storyLine struct {
	mark       rune // ' ' both, 'A' or 'B'
	text, same string
}

// lines writes the story twice: with the places, for people, and without, to compare.
func (v *told) lines() []storyLine {
	write := func(s *dryrun.Story, place func(string) string) []string {
		var b bytes.Buffer
		tellStory(&terminal{out: &b, err: &b}, s, &v.question, place)
		return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	}
	shown := write(&v.story, policyPlaces(v.reading))
	compared := write(v.story.Placeless(), func(string) string { return "" })
	out := make([]storyLine, len(shown))
	for i := range shown {
		out[i] = storyLine{text: shown[i], same: compared[i]}
	}
	return out
}

// maxDiffCells bounds the table of a comparison; two stories that are longer are shown one after the other.
const maxDiffCells = 4 << 20

// diffLines joins two lists by their longest common subsequence.
func diffLines(a, b []storyLine) []storyLine {
	var out []storyLine
	take := func(mark rune, lines ...storyLine) {
		for _, l := range lines {
			l.mark = mark
			out = append(out, l)
		}
	}
	for len(a) > 0 && len(b) > 0 && a[0].same == b[0].same {
		take(' ', a[0])
		a, b = a[1:], b[1:]
	}
	var end []storyLine
	for len(a) > 0 && len(b) > 0 && a[len(a)-1].same == b[len(b)-1].same {
		end = append(end, a[len(a)-1])
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	slices.Reverse(end)
	if len(a)*len(b) > maxDiffCells {
		take('A', a...)
		take('B', b...)
		a, b = nil, nil
	}
	// longest[i][j] is how many lines a[i:] and b[j:] have in common.
	longest := make([][]int, len(a)+1)
	for i := range longest {
		longest[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i].same == b[j].same {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i].same == b[j].same:
			take(' ', a[i])
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || longest[i+1][j] >= longest[i][j+1]):
			take('A', a[i])
			i++
		default:
			take('B', b[j])
			j++
		}
	}
	take(' ', end...)
	return out
}
