package langgraph_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	docsFile  = "../../docs/langgraph.md"
	docsBegin = "<!-- differences: go test ./policy/langgraph -update -->\n"
	docsEnd   = "<!-- end -->\n"
)

// differences is the table of docs/langgraph.md: a row for each reason, with the requests that it explains.
func differences(known []divergence) string {
	var reasons []string
	requests := map[string][]string{}
	for _, d := range known {
		if requests[d.Reason] == nil {
			reasons = append(reasons, d.Reason)
		}
		request := strings.TrimSpace("`" + strings.NewReplacer("{t}", "{thread_id}", "{a}", "{assistant_id}", "{r}", "{run_id}", "{c}", "{cron_id}").Replace(d.Request) + "`")
		if !slices.Contains(requests[d.Reason], request) {
			requests[d.Reason] = append(requests[d.Reason], request)
		}
	}
	var out strings.Builder
	out.WriteString("| requests | what is different, and why |\n|---|---|\n")
	for _, reason := range reasons {
		fmt.Fprintf(&out, "| %s | %s |\n", strings.Join(requests[reason], ", "), reason)
	}
	return out.String()
}

// Each difference is in the documentation, with its reason, and no other is.
func TestThe_documentation_lists_every_difference(t *testing.T) {
	var known []divergence
	readJSON(t, "testdata/divergences.json", &known)
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), docsBegin)
	table, after, ended := strings.Cut(rest, docsEnd)
	if !found || !ended {
		t.Fatalf("%s has no place for the differences", docsFile)
	}
	want := differences(known)
	if *update {
		if err := os.WriteFile(docsFile, []byte(before+docsBegin+want+docsEnd+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want {
		t.Errorf("%s differs from divergences.json: run with -update and read the diff", docsFile)
	}
}
