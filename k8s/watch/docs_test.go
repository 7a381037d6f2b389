package watch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// operatePage is where each reason and each line of the log is explained.
const operatePage = "../../docs/operate.md"

// pageSection is what stands under a heading of the page, up to the next of its level or above.
func pageSection(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile(operatePage)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		t.Fatalf("%s has no %q", operatePage, heading)
	}
	level := strings.Repeat("#", strings.IndexByte(heading, ' '))
	if end := regexp.MustCompile(`(?m)^#{1,` + strconv.Itoa(len(level)) + `} `).FindStringIndex(rest); end != nil {
		rest = rest[:end[0]]
	}
	return rest
}

// cells are the texts between backticks of one column of the tables of a section.
func cells(section string, column int) (out []string) {
	for line := range strings.Lines(section) {
		row := strings.Split(line, "|")
		if len(row) < column+2 || !strings.HasPrefix(line, "|") {
			continue
		}
		if m := regexp.MustCompile("^ *`([^`]+)` *$").FindStringSubmatch(row[column]); m != nil {
			out = append(out, m[1])
		}
	}
	return out
}

// sameTexts fails the test for what only one of the two has.
func sameTexts(t *testing.T, what string, page, code []string) {
	t.Helper()
	slices.Sort(page)
	slices.Sort(code)
	page, code = slices.Compact(page), slices.Compact(code)
	for _, s := range code {
		if !slices.Contains(page, s) {
			t.Errorf("%s %q is in the code, and not in the page", what, s)
		}
	}
	for _, s := range page {
		if !slices.Contains(code, s) {
			t.Errorf("%s %q is in the page, and not in the code", what, s)
		}
	}
}

// sources parses each file of a directory, and of those in it, that is no test.
func sources(t *testing.T, dir string) (out []*ast.File) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		out = append(out, f)
		return err
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(out), err)
	}
	return out
}

// literal is the value of a text that stands in the code; false: it is none.
func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}

// reasonsOf are the constants of reasons.go, by name.
func reasonsOf(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			for i, name := range v.Names {
				if s, ok := literal(v.Values[i]); ok {
					out[name.Name] = s
				}
			}
		}
		return true
	})
	if len(out) < 10 {
		t.Fatalf("%d reasons", len(out))
	}
	return out
}

// Each reason of a condition or event is in docs/operate.md, with what to do, and the page has no other.
func TestThePageExplainsEachReason(t *testing.T) {
	reasons := reasonsOf(t)
	var all, events []string
	for name, reason := range reasons {
		all = append(all, reason)
		if slices.Contains([]string{"reasonAccepted", "reasonInvalid", "reasonConflicted", "reasonNotGranted"}, name) {
			events = append(events, reason) // those of Accepted, of which reporter.tell makes events
		}
	}
	sameTexts(t, "reason", cells(pageSection(t, "## Conditions"), 3), all)
	sameTexts(t, "reason of an event", cells(pageSection(t, "## Events"), 2), events)
	sameTexts(t, "type", cells(pageSection(t, "## Conditions"), 1), []string{"Accepted", "Programmed", "Healthy"})

	// A reason that is written elsewhere would be missed here.
	for _, f := range sources(t, ".") {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if k, ok := n.Key.(*ast.Ident); ok && k.Name == "Reason" {
					if s, ok := literal(n.Value); ok {
						t.Errorf("Reason: %q is no constant of reasons.go", s)
					}
				}
			case *ast.AssignStmt:
				for i, to := range n.Lhs {
					sel, ok := to.(*ast.SelectorExpr)
					if !ok || sel.Sel.Name != "Reason" || len(n.Rhs) != len(n.Lhs) {
						continue
					}
					if name, ok := n.Rhs[i].(*ast.Ident); !ok || reasons[name.Name] == "" {
						t.Errorf("a Reason is set to what is no constant of reasons.go: %T", n.Rhs[i])
					}
				}
			}
			return true
		})
	}
}

// Each line that the log has at level warn or error is in docs/operate.md, and the page has no other.
func TestThePageExplainsEachLineOfTheLog(t *testing.T) {
	said := []string{"manifest", "decision"} // whose level is a variable
	for _, dir := range []string{"../../cmd/usher", "../../extauthz", "../../envoy/edit", ".", "../manifest"} {
		for _, f := range sources(t, dir) {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) == 0 {
					return true
				}
				method, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !slices.Contains([]string{"Warn", "Error", "DPanic", "Panic", "Fatal"}, method.Sel.Name) || !isLog(method.X) {
					return true
				}
				if s, ok := literal(call.Args[0]); ok {
					said = append(said, s)
				} else {
					t.Errorf("a line of the log whose message is no literal: %T", call.Args[0])
				}
				return true
			})
		}
	}
	if len(said) < 30 {
		t.Fatalf("%d lines", len(said))
	}
	sameTexts(t, "line", cells(pageSection(t, "## The log"), 1), said)
}

// isLog reports whether an expression is a logger, by what it is called.
func isLog(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "log" || e.Name == "Logger"
	case *ast.SelectorExpr:
		return e.Sel.Name == "log" || e.Sel.Name == "Logger"
	}
	return false
}
