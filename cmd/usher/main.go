// Usher is an Envoy external-authorization server. `usher help` says what it can do.
package main

import (
	"errors"
	"io"
	"os"
)

// The exit codes, which scripts may rely on.
const (
	exitGood    = 0
	exitFailed  = 1 // could not run
	exitUsage   = 2
	exitInvalid = 3 // a manifest is invalid
	exitTests   = 4 // a policy test failed
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program but for its end.
func run(args []string, out, errOut io.Writer) int {
	t := newTerminal(out, errOut)
	command := newRoot(t)
	command.SetArgs(args)
	err := command.Execute()
	var e *exitError
	switch {
	case err == nil:
		return exitGood
	case errors.As(err, &e):
		t.fail(e)
		return e.code
	}
	t.usage(err)
	return exitUsage
}
