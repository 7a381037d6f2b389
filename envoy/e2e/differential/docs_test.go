package differential_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

const (
	docsFile  = "../../../docs/langgraph.md"
	docsBegin = "<!-- differences: cd envoy/e2e && go test ./differential -run Documentation -update -->\n"
	docsEnd   = "<!-- end of the JS server's -->\n"
)

var update = flag.Bool("update", false, "rewrite the table of docs/langgraph.md")

func readDifferences(t *testing.T) (differences []*difference) {
	t.Helper()
	text, err := os.ReadFile("testdata/differences.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &differences); err != nil {
		t.Fatal(err)
	}
	return differences
}

func TestTheDocumentationListsEveryDifference(t *testing.T) {
	var table strings.Builder
	table.WriteString("| requests | what is different, and why |\n|---|---|\n")
	for _, d := range readDifferences(t) {
		requests := "`" + strings.Join(d.Routes, "`, `") + "`"
		if d.Routes[0] == "*" {
			requests = "any"
		}
		fmt.Fprintf(&table, "| %s | %s |\n", requests, d.Reason)
	}
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), docsBegin)
	is, after, ended := strings.Cut(rest, docsEnd)
	if !found || !ended {
		t.Fatalf("%s has no place for the differences", docsFile)
	}
	if *update {
		if err := os.WriteFile(docsFile, []byte(before+docsBegin+table.String()+docsEnd+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if is != table.String() {
		t.Errorf("%s differs from differences.json: run with -update and read the diff", docsFile)
	}
}
