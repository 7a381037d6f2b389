package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestExamplesPassTheirTests: each example has PolicyTests that pass and reach every rule. The demo runs the first one.
func TestExamplesPassTheirTests(t *testing.T) {
	examples, err := os.ReadDir("../../examples")
	if err != nil || len(examples) == 0 {
		t.Fatal("no examples", err)
	}
	for _, e := range examples {
		if !e.IsDir() {
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			var out, errOut bytes.Buffer
			if code := run([]string{"test", filepath.Join("../../examples", e.Name()), "--min-coverage", "100"}, &out, &errOut); code != exitGood || errOut.Len() > 0 {
				t.Errorf("exit code %d\n%s%s", code, &out, &errOut)
			}
		})
	}
}
