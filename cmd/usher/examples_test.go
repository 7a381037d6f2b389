package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestExamples_of_orders: the same PolicyTest for the list of routes and for the OpenAPI document; no rule is left out.
func TestExamples_of_orders(t *testing.T) {
	for _, paths := range []string{"examples/orders", "examples/orders/openapi examples/orders/policy_test.yaml"} {
		for _, command := range []string{"validate", "test --min-coverage 100"} {
			args := strings.Fields(strings.ReplaceAll(command+" "+paths, "examples/", "../../examples/"))
			var out, log bytes.Buffer
			if got := run(args, &out, &log); got != 0 {
				t.Errorf("usher %s %s: exit code %d: %s%s", command, paths, got, out.String(), log.String())
			}
		}
	}
}
