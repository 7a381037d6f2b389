package attacktest_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/usher-authz/usher/extauthz/attacktest"
)

var (
	file   = flag.String("attacks", own, "the file of attacks")
	groups = flag.String("groups", "", "run just these groups, with commas between them")
)

// notYet are the groups that are not run, each with its reason. Nothing else is left out.
func notYet(c *attacktest.Case) string {
	if c.Level == attacktest.LevelHTTP {
		return "level http: through a real Envoy, envoy/e2e"
	}
	return map[string]string{}[c.Group]
}

// table is what TestAttacks ran, for TestMain to print last of all.
var table attacktest.Table

func TestMain(m *testing.M) {
	code := m.Run()
	fmt.Print(table.String())
	os.Exit(code)
}

// own is the file of this package: the one with the cases that the tests of the interpreter itself need.
const own = "testdata/attacks.json"

var loadOwn = sync.OnceValues(func() (*attacktest.Suite, error) { return read(own) })

func read(name string) (*attacktest.Suite, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return attacktest.Load(text)
}

// load returns a file of attacks; this package's own is read, and its keys are made, once.
func load(t *testing.T, name string) *attacktest.Suite {
	t.Helper()
	suite, err := loadOwn()
	if name != own {
		suite, err = read(name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return suite
}

func TestAttacks(t *testing.T) {
	suite := load(t, *file)
	wanted := func(c *attacktest.Case) bool {
		return *groups == "" || slices.Contains(strings.Split(*groups, ","), c.Group)
	}
	options := attacktest.Options{Start: newProduct(t, suite).start, Slack: slack}
	alone := map[string][]int{}
	var run []*attacktest.Case // that passed by themselves
	for _, c := range suite.Cases {
		switch reason := notYet(c); {
		case !wanted(c):
			table.NotRun(c, "not asked for by -groups")
			continue
		case reason != "":
			table.NotRun(c, reason)
			continue
		}
		passed := t.Run(c.ID, func(t *testing.T) {
			var result attacktest.Result
			defer func() { table.Ran(c, !t.Failed(), result) }()
			result = suite.Run(t, c, options)
			alone[c.ID] = result.Statuses
		})
		if passed {
			run = append(run, c)
		}
	}
	t.Run("the_answer_does_not_depend_on_the_order_of_the_cases", func(t *testing.T) {
		there, back := suite.Sweep(t, run, options)
		for id, status := range there {
			if !slices.Equal(status, back[id]) || len(alone[id]) > 0 && status[0] != alone[id][0] {
				t.Errorf("%s: %d by itself, %d after those before it, %d after those behind it", id, alone[id], status, back[id])
			}
		}
	})
}
