package attacktest

import (
	"fmt"
	"strings"
)

// Table is what was run of a suite, by group in the order in which groups came. It is not safe for concurrent use; the
// zero Table is empty.
type Table struct {
	rows  map[string]*row
	order []string
}

type row struct {
	cases, run, passed, secondary int
	reasons                       map[string]int // why cases were not run
	order                         []string
}

func (t *Table) row(group string) *row {
	if t.rows == nil {
		t.rows = map[string]*row{}
	}
	if t.rows[group] == nil {
		t.rows[group] = &row{reasons: map[string]int{}}
		t.order = append(t.order, group)
	}
	return t.rows[group]
}

// Ran notes a case that was run.
func (t *Table) Ran(c *Case, passed bool, r Result) {
	row := t.row(c.Group)
	row.cases++
	row.run++
	if passed {
		row.passed++
	}
	if !r.Preferred {
		row.secondary++
	}
}

// NotRun notes a case that was not run, and why.
func (t *Table) NotRun(c *Case, reason string) {
	row := t.row(c.Group)
	row.cases++
	if row.reasons[reason] == 0 {
		row.order = append(row.order, reason)
	}
	row.reasons[reason]++
}

// String returns the table: for each group how many cases there are, were run and passed, how many got an acceptable
// status that is not the preferred one, and why others were not run.
func (t *Table) String() string {
	var b strings.Builder
	line := func(name string, r *row) {
		fmt.Fprintf(&b, "%-22s %5d %5d %7d %13d", name, r.cases, r.run, r.passed, r.secondary)
		for _, reason := range r.order {
			fmt.Fprintf(&b, "  %d not run: %s", r.reasons[reason], reason)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%-22s %5s %5s %7s %13s\n", "group", "cases", "run", "passed", "not preferred")
	all := &row{}
	for _, name := range t.order {
		r := t.rows[name]
		line(name, r)
		all.cases, all.run, all.passed, all.secondary = all.cases+r.cases, all.run+r.run, all.passed+r.passed, all.secondary+r.secondary
	}
	line("all", all)
	return b.String()
}
