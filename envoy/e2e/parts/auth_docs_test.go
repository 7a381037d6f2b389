package parts

import (
	"os"
	"strings"
	"testing"
)

// TestTheDocumentedHandlersAreTheTestedOnes compares the code blocks of docs/assertion.md with the files that run.
func TestTheDocumentedHandlersAreTheTestedOnes(t *testing.T) {
	text, err := os.ReadFile("../../../docs/assertion.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, language := range map[string]string{"auth.py": "python", "auth.mjs": "js"} {
		blocks := strings.Split(string(text), "```"+language+"\n")
		if len(blocks) != 2 {
			t.Fatalf("%d blocks of %s, want 1", len(blocks)-1, language)
		}
		block, _, ok := strings.Cut(blocks[1], "```\n")
		file, err := Files.ReadFile("langgraph/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !ok || block != string(file) {
			t.Errorf("the %s of docs/assertion.md is not %s", language, name)
		}
	}
}
