package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// pageMetrics are the metrics of ours that a page names, without what Prometheus adds to a histogram's.
func pageMetrics(t *testing.T, file string) (out []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`\busher_[a-z_]+`).FindAllString(string(text), -1) {
		out = append(out, strings.TrimSuffix(name, "_bucket"))
	}
	return out
}

// The alerts of docs/operate.md are a file of rules for Prometheus: its own parser took their expressions once.
func TestTheAlertsAreRules(t *testing.T) {
	text, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```yaml\ngroups:")
	block, _, closed := strings.Cut(rest, "```")
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct{ Alert, For, Expr string }
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader("groups:" + block))
	decoder.KnownFields(true)
	if err := decoder.Decode(&rules); err != nil || !found || !closed || len(rules.Groups) != 1 {
		t.Fatalf("%v, %+v", err, rules)
	}
	for _, r := range rules.Groups[0].Rules {
		if r.Alert == "" || r.Expr == "" {
			t.Errorf("%+v", r)
		}
	}
}

// docs/metrics.md has each metric and no other, and docs/operate.md alerts on those that there are.
func TestThePagesNameTheMetricsThatThereAre(t *testing.T) {
	text, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile(`(?:describe\(|Name: )"(?:usher_)?([a-z_]+)"`).FindAllStringSubmatch(string(text), -1) {
		all = append(all, "usher_"+m[1])
	}
	if len(all) < 20 {
		t.Fatalf("%d metrics: %v", len(all), all)
	}
	listed, alerted := pageMetrics(t, "../../docs/metrics.md"), pageMetrics(t, "../../docs/operate.md")
	for _, name := range all {
		if !slices.Contains(listed, name) {
			t.Errorf("docs/metrics.md lacks %s", name)
		}
	}
	for _, name := range append(listed, alerted...) {
		if !slices.Contains(all, name) {
			t.Errorf("the pages name %s, which there is not", name)
		}
	}
	if len(alerted) < 10 {
		t.Errorf("docs/operate.md alerts on %v", alerted)
	}
}
