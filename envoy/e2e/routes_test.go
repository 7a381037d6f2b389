package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// The routes that the installed JavaScript server registers are those of policy/langgraph/testdata/routes.json.
func TestTheListOfRoutesIsTheServersOwn(t *testing.T) {
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "policy", "langgraph", "testdata", "routes.json"))
	if err != nil {
		t.Fatal(err)
	}
	var listed struct{ JS []string }
	if err := json.Unmarshal(text, &listed); err != nil {
		t.Fatal(err)
	}
	server := filepath.Join(root, ".tools", "node", "node_modules", "@langchain", "langgraph-api", "dist")
	var files []string
	for _, pattern := range []string{"server.mjs", "api/*.mjs", "ui/*.mjs"} {
		found, err := filepath.Glob(filepath.Join(server, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	registered := regexp.MustCompile(`\b(?:api|app)\.(get|post|put|patch|delete|all)\("([^"]+)"`)
	param := regexp.MustCompile(`:(\w+)`)
	var found []string
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range registered.FindAllStringSubmatch(string(source), -1) {
			// Three routes have other names in the table, as those of the Python server.
			path := strings.NewReplacer("/ui/:agent/:basename", "/ui/{rest=**}", "/ui/:agent", "/ui/{graph_id}").Replace(m[2])
			optional, isOptional := strings.CutSuffix(path, "?")
			if isOptional {
				found = append(found, strings.ToUpper(m[1])+" "+param.ReplaceAllString(optional[:strings.LastIndexByte(optional, '/')], "{$1}"))
			}
			found = append(found, strings.ToUpper(m[1])+" "+param.ReplaceAllString(optional, "{$1}"))
		}
	}
	slices.Sort(found)
	if found = slices.Compact(found); !slices.Equal(found, listed.JS) {
		t.Errorf("the server registers\n%s\nand the list has\n%s", strings.Join(found, "\n"), strings.Join(listed.JS, "\n"))
	}
}
