package main

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/usher-authz/usher/extauthz/dryrun"
	"github.com/usher-authz/usher/k8s/watch"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// testOptions are the flags of test.
type testOptions struct {
	output      string
	only        string
	minCoverage int
	verbose     bool
	against     string // another version of the manifests
	records     string
	exitCode    bool
}

func newTest(t *terminal) *cobra.Command {
	c := &cobra.Command{
		Use:   "test PATH...",
		Short: "Run PolicyTests: whether the policies answer as expected",
		Long: "Test reads manifests, files or directories, and runs the PolicyTests among them: it decides each request by the code\n" +
			"that serves, and compares what becomes of it. It asks nobody: tokens and objects are those that the tests suppose.\n\n" +
			"It also says which rules no test reaches. A failed test, or less coverage than asked for, ends with exit code 4.",
		Example: "  usher test policy.yaml policy_test.yaml\n  usher test manifests/ --min-coverage 100\n  usher test manifests/ --output junit > report.xml\n" +
			"  usher test manifests/ --against next/ --records requests.jsonl",
	}
	var o testOptions
	f := c.Flags()
	f.StringVar(&o.output, "output", "text", "text; json, whose form is stable; or junit")
	f.StringVar(&o.only, "run", "", "run only cases whose name, PolicyTest and case, matches this regular expression")
	f.IntVar(&o.minCoverage, "min-coverage", 0, "how many of 100 rules must be reached")
	f.BoolVar(&o.verbose, "verbose", false, "show the cases that passed too")
	f.StringVar(&o.against, "against", "", "instead of what is expected, show what another version of the manifests decides otherwise: a file or a directory")
	f.StringVar(&o.records, "records", "", "with --against: requests that serve --record-requests wrote, too; FILE, or - for standard input")
	f.BoolVar(&o.exitCode, "exit-code", false, "with --against: end with exit code 4 if a request is decided otherwise")
	c.RunE = func(_ *cobra.Command, paths []string) error {
		if len(paths) == 0 {
			return errors.New("test: a path is missing")
		}
		return test(t, paths, o)
	}
	return c
}

// check finds wrong usage.
func (o *testOptions) check() (*regexp.Regexp, error) {
	switch o.output {
	case "text", "json", "junit":
	default:
		return nil, fmt.Errorf("--output %q: expected text, json or junit", o.output)
	}
	if o.minCoverage < 0 || o.minCoverage > 100 {
		return nil, fmt.Errorf("--min-coverage %d: expected 0 to 100", o.minCoverage)
	}
	switch {
	case o.against == "" && (o.records != "" || o.exitCode):
		return nil, errors.New("--records and --exit-code are for --against")
	case o.against != "" && (o.output == "junit" || o.minCoverage > 0 || o.verbose):
		return nil, errors.New("--against runs no tests: --output junit, --min-coverage and --verbose are not for it")
	case o.records != "" && o.only != "":
		return nil, errors.New("--run is about cases, and --records about recorded requests: give one of them")
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, fmt.Errorf("--run: %w", err)
	}
	if o.only != "" && o.minCoverage > 0 {
		return nil, errors.New("--min-coverage is about all cases, and --run leaves some out")
	}
	return only, nil
}

func test(t *terminal, paths []string, o testOptions) error {
	only, err := o.check()
	if err != nil {
		return err
	}
	r := watch.Files{Paths: paths, Presets: presets()}.Read()
	_, problems := build(nil, r, nil)
	if len(problems) == 0 && len(r.Compiled.Tests) == 0 && o.records == "" {
		problems = policy.Problems{{
			Pos: policy.Position{File: paths[0]}, Found: "found no PolicyTest", Want: "at least one document of kind PolicyTest", Hint: "name the files or directories that hold them",
		}}
	}
	if len(problems) > 0 {
		t.problems(t.err, problems)
		return &exitError{code: exitInvalid}
	}
	if o.against != "" {
		other := watch.Files{Paths: []string{o.against}, Presets: presets()}.Read()
		if _, problems := build(nil, other, nil); len(problems) > 0 {
			t.problems(t.err, problems)
			return &exitError{code: exitInvalid}
		}
		return against(t, r, other, selected(r.Compiled.Tests, only), o)
	}
	t.warnings(r.Compiled.Snapshot.Warnings())
	began := time.Now()
	suites := selected(r.Compiled.Tests, only)
	var gates []*dryrun.Gate
	report, err := policytest.Run(suites, r.Compiled.Snapshot.Policies(), func(s *policytest.Suite) (policytest.Gate, error) {
		g, err := dryrun.New(dryrun.Config{
			Policies: r.Compiled.Snapshot, Providers: r.Compiled.Providers, Backends: r.Compiled.Backends, Objects: s.Objects, Now: s.Now,
		})
		gates = append(gates, g)
		return g, err
	})
	if err != nil {
		return failed(err)
	}
	if len(report.Results) == 0 {
		return fmt.Errorf("--run %q: no case has such a name", o.only)
	}
	for i, g := range gates {
		for _, object := range g.Unused() {
			if o.only == "" {
				t.warn("%s: PolicyTest %s: no request looks up %s: it may be misspelt", suites[i].Pos, suites[i].Name, object)
			}
		}
	}
	if err := showReport(t, report, o, time.Since(began)); err != nil {
		return err
	}
	if report.Failed > 0 || report.Coverage.Percent() < o.minCoverage {
		return &exitError{code: exitTests}
	}
	return nil
}

// selected keeps the cases whose name matches.
func selected(suites []policytest.Suite, only *regexp.Regexp) []policytest.Suite {
	if only.String() == "" {
		return suites
	}
	var out []policytest.Suite
	for _, s := range suites {
		var cases []policytest.Case
		for _, c := range s.Cases {
			if only.MatchString(s.Name + ": " + c.Name) {
				cases = append(cases, c)
			}
		}
		s.Cases = cases
		out = append(out, s)
	}
	return out
}
