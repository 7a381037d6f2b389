package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/dryrun"
	"github.com/usher-authz/usher/k8s/watch"
	"github.com/usher-authz/usher/policy/policytest"
)

// maxListed bounds how many requests a report lists one by one; all are counted.
const maxListed = 10_000

// againstReport is what test --against writes as JSON. Fields are only ever added.
type againstReport struct {
	Changed     int            `json:"changed"`     // requests that the other version decides otherwise, or that could not be compared
	NotReplayed int            `json:"notReplayed"` // which is neither the same nor changed
	Cases       map[string]int `json:"cases"`       // of PolicyTests, by difference
	Records     map[string]int `json:"records"`
	Listed      []againstEntry `json:"listed"` // all but the same ones, up to 10,000
}

// againstEntry is one request that differs, or that was not replayed.
type againstEntry struct {
	From       string      `json:"from"` // where a case stands, or which line of the records it is
	Test       string      `json:"test,omitempty"`
	Name       string      `json:"name,omitempty"`
	Difference string      `json:"difference"` // as Shadow policies name it, or not_replayed
	Why        string      `json:"why,omitempty"`
	Method     string      `json:"method,omitempty"`
	Host       string      `json:"host,omitempty"`
	Path       string      `json:"path,omitempty"`
	User       string      `json:"user,omitempty"`
	A          *againstOne `json:"a,omitempty"`
	B          *againstOne `json:"b,omitempty"`
}

// againstOne is what one version decides.
type againstOne struct {
	Outcome string             `json:"outcome"`
	Status  int                `json:"status"`
	Policy  string             `json:"policy,omitempty"`
	Route   string             `json:"route,omitempty"`
	Rule    string             `json:"rule,omitempty"`
	RuleAt  string             `json:"ruleAt,omitempty"`
	Reason  string             `json:"reason,omitempty"`
	Edits   []dryrun.StoryEdit `json:"edits,omitempty"`
	Path    string             `json:"path,omitempty"` // that the backend gets, where both allow
	Headers map[string]string  `json:"headers,omitempty"`
}

// notReplayed stands beside the differences that a Shadow policy knows.
const notReplayed = "not_replayed"

// against compares two versions of the manifests by cases and by records.
func against(t *terminal, a, b watch.Reading, suites []policytest.Suite, o testOptions) error {
	config := func(r watch.Reading) dryrun.Config {
		return dryrun.Config{Policies: r.Compiled.Snapshot, Providers: r.Compiled.Providers, Backends: r.Compiled.Backends}
	}
	v := dryrun.Versions{A: config(a), B: config(b)}
	out := againstReport{Cases: map[string]int{}, Records: map[string]int{}, Listed: []againstEntry{}}
	for i := range suites {
		for j := range suites[i].Cases {
			c := &suites[i].Cases[j]
			compared, err := v.Ask(suites[i].Now, suites[i].Objects, c.Identity, c.Request)
			if err != nil {
				return failed(err)
			}
			out.add(out.Cases, againstEntry{From: c.Pos.String(), Test: suites[i].Name, Name: c.Name, User: c.Identity.Name}, &compared)
		}
	}
	if o.records != "" {
		if err := out.replay(&v, o.records); err != nil {
			return err
		}
	}
	if o.output == "json" {
		if err := t.json(out); err != nil {
			return err
		}
	} else {
		out.show(t)
	}
	if o.exitCode && out.Changed > 0 {
		return &exitError{code: exitTests}
	}
	return nil
}

// add counts a comparison, and lists it unless both decide the same.
func (r *againstReport) add(counts map[string]int, e againstEntry, c *dryrun.Comparison) {
	e.Difference = string(c.Difference)
	if !c.Replayed {
		e.Difference, e.Why = notReplayed, c.Why
		r.NotReplayed++
	}
	counts[e.Difference]++
	switch {
	case c.Replayed && c.Difference == extauthz.Same:
		return
	case c.Replayed:
		r.Changed++
	}
	if len(r.Listed) == maxListed {
		return
	}
	if q := &c.A.Request; q.Method != "" {
		e.Method, e.Host, e.Path = q.Method, q.Host, q.Path
		e.A, e.B = newAgainstOne(&c.A), newAgainstOne(&c.B)
	}
	r.Listed = append(r.Listed, e)
}

func newAgainstOne(s *dryrun.Story) *againstOne {
	a := &s.Answer
	out := &againstOne{Outcome: a.Outcome, Status: a.Status, Rule: a.Rule, RuleAt: a.RuleAt, Reason: a.Reason}
	if s.Policy != nil {
		out.Policy = s.Policy.Name
	}
	if s.Route != nil {
		out.Route = s.Route.Pattern
	}
	if s.Backend != nil {
		out.Edits, out.Path, out.Headers = s.Edits, s.Backend.Path, map[string]string{}
		for _, name := range s.Backend.Set {
			if value, ok := s.Backend.Headers[name]; ok {
				out.Headers[name] = value
			}
		}
	}
	return out
}

// maxRecordLine bounds one record: the largest body that serve decides on, and what escapes make of it.
const maxRecordLine = 32 << 20

// replay reads records, one a line, and has both versions decide them.
func (r *againstReport) replay(v *dryrun.Versions, name string) error {
	in := os.Stdin
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // the user names it
		if err != nil {
			return fmt.Errorf("--records: %w", err)
		}
		defer func() { _ = f.Close() }() // only read
		in = f
	}
	lines := bufio.NewReaderSize(in, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(lines, maxRecordLine)
		if errors.Is(err, io.EOF) {
			return nil
		}
		e := againstEntry{From: fmt.Sprintf("%s:%d", name, n)}
		switch {
		case errors.Is(err, errLongLine):
			r.add(r.Records, e, &dryrun.Comparison{Why: err.Error()})
			continue
		case err != nil:
			return failed(fmt.Errorf("read %s: %w", name, err))
		case len(strings.TrimSpace(string(line))) == 0, dryrun.OtherLine(line):
			continue // what else a log holds
		}
		record, err := dryrun.ParseRecord(line)
		if err != nil {
			r.add(r.Records, e, &dryrun.Comparison{Why: err.Error()})
			continue
		}
		if u := record.Identity.User; u != nil {
			e.User = u.Identity
		}
		compared, err := v.Replay(&record)
		if err != nil {
			return failed(err)
		}
		r.add(r.Records, e, &compared)
	}
}

var errLongLine = errors.New("the line is longer than any record")

// readLine returns the next line without its end; one that is longer than most is skipped, and errLongLine.
func readLine(in *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > most {
			long, line = true, nil
		}
		if !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && (!errors.Is(err, io.EOF) || len(line) == 0 && !long):
			return nil, err
		case long:
			return nil, errLongLine
		}
		return line, nil
	}
}

// show writes the report for people.
func (r *againstReport) show(t *terminal) {
	for i := range r.Listed {
		e := &r.Listed[i]
		what := strings.TrimSpace(e.Test + ": " + e.Name)
		if e.Test == "" {
			what = strings.TrimSpace(e.Method + " " + e.Host + e.Path)
			if e.User != "" {
				what = e.User + ": " + what
			}
		}
		detail := e.Why
		if detail == "" {
			detail = said(e)
		}
		if what != "" {
			detail = what + ": " + detail
		}
		t.result("%s", oneLine(e.Difference+": "+e.From+": "+detail))
	}
	cases, records := total(r.Cases), total(r.Records)
	if all := r.Changed + r.NotReplayed; all > len(r.Listed) {
		t.result("and %d more", all-len(r.Listed))
	}
	if cases > 0 {
		t.result("%s: %s", count(cases, "case"), tally(r.Cases))
	}
	if records > 0 || cases == 0 {
		t.result("%s: %s", count(records, "record"), tally(r.Records))
	}
}

// said says in a few words what each version decides.
func said(e *againstEntry) string {
	one := func(a *againstOne) string {
		text := a.Outcome
		if a.Rule != "" {
			text += " by rule " + a.Rule + " at " + a.RuleAt
		}
		if a.Reason != "" {
			text += " (" + a.Reason + ")"
		}
		switch extauthz.Difference(e.Difference) {
		case extauthz.DifferentEdit:
			text += " with edits " + dryrun.JSON(a.Edits) + " and path " + a.Path
		case extauthz.DifferentHeaders:
			text += " with headers " + dryrun.JSON(a.Headers)
		}
		return text
	}
	return one(e.A) + "; against: " + one(e.B)
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// tally lists counts, the same ones first.
func tally(counts map[string]int) string {
	names := sortedNames(counts)
	slices.SortStableFunc(names, func(a, b string) int {
		rank := map[string]int{string(extauthz.Same): -1, notReplayed: 1}
		return rank[a] - rank[b]
	})
	var parts []string
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%d %s", counts[name], name))
	}
	if len(parts) == 0 {
		return "nothing to compare"
	}
	return strings.Join(parts, ", ")
}
