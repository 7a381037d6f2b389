package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/usher-authz/usher/k8s/watch"
	"github.com/usher-authz/usher/policy"
)

func newValidate(t *terminal) *cobra.Command {
	c := &cobra.Command{
		Use:   "validate PATH...",
		Short: "Say everything that is wrong with manifests",
		Long: "Validate reads manifests, files or directories, and writes every problem with its place, what was found, what was\n" +
			"expected and a hint. It asks nobody: neither providers nor backends need to be there.",
		Example: "  usher validate policy.yaml\n  usher validate manifests/ --output json",
	}
	output := outputFlag(c)
	c.RunE = func(_ *cobra.Command, paths []string) error {
		if len(paths) == 0 {
			return errors.New("validate: a path is missing")
		}
		if err := checkOutput(*output); err != nil {
			return err
		}
		return validate(t, paths, *output == "json")
	}
	return c
}

func validate(t *terminal, paths []string, asJSON bool) error {
	r := watch.Files{Paths: paths, Presets: presets()}.Read()
	_, problems := build(nil, r, nil)
	if asJSON {
		if err := t.json(newReport(r, problems)); err != nil {
			return err
		}
	} else if len(problems) > 0 {
		t.problems(t.out, problems)
	} else {
		t.warnings(r.Compiled.Snapshot.Warnings())
		t.good("%s", counted(r))
	}
	if len(problems) > 0 {
		return &exitError{code: exitInvalid}
	}
	return nil
}

// report is what validate writes as JSON. Fields are only ever added.
type report struct {
	Valid     bool            `json:"valid"`
	Problems  []reportProblem `json:"problems"` // at most 100
	Count     int             `json:"problemCount"`
	Warnings  []reportProblem `json:"warnings"`
	Policies  []string        `json:"policies"`
	Providers []string        `json:"providers"`
	Files     int             `json:"files"`
}

type reportProblem struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"` // in bytes, from 1
	Path   string `json:"path,omitempty"`
	Found  string `json:"found"`
	Want   string `json:"want,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

func newReport(r watch.Reading, problems policy.Problems) report {
	out := report{
		Valid: len(problems) == 0, Count: len(problems), Files: r.Files,
		Problems: reported(problems), Warnings: []reportProblem{}, Policies: []string{}, Providers: []string{},
	}
	if !out.Valid {
		return out
	}
	out.Warnings = reported(r.Compiled.Snapshot.Warnings())
	for _, p := range r.Compiled.Snapshot.Policies() {
		out.Policies = append(out.Policies, p.Name)
	}
	for name := range r.Compiled.Providers {
		out.Providers = append(out.Providers, name)
	}
	slices.SortFunc(out.Providers, strings.Compare)
	return out
}

func reported(ps policy.Problems) []reportProblem {
	out := make([]reportProblem, 0, min(len(ps), maxShown))
	for _, p := range ps[:min(len(ps), maxShown)] {
		out = append(out, reportProblem{p.Pos.File, p.Pos.Line, p.Pos.Column, p.Pos.Path, p.Found, p.Want, p.Hint})
	}
	return out
}
