package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// exitError is an error with its exit code. Any other error of a command is wrong usage.
type exitError struct {
	code int
	err  error // nil: everything was said already
	hint string
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func failed(err error) error { return &exitError{code: exitFailed, err: err} }

func newRoot(t *terminal) *cobra.Command {
	root := &cobra.Command{
		Use:   "usher",
		Short: "Envoy external authorization for LangGraph servers and any other HTTP API",
		Long: "Usher decides for Envoy who may do what: it verifies the token, finds out what the request is about, and decides by\n" +
			"policy. Policies are manifests: Kubernetes objects in files.\n\n" +
			"Exit codes: 0 good, 1 could not run, 2 wrong usage, 3 a manifest is invalid, 4 a policy test failed.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(root *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("a command is missing")
			}
			if near := root.SuggestionsFor(args[0]); len(near) > 0 {
				return fmt.Errorf("unknown command %q; did you mean %q?", args[0], near[0])
			}
			return fmt.Errorf("unknown command %q", args[0])
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetOut(t.out)
	root.SetErr(t.err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return err })
	root.AddCommand(newServe(t), newValidate(t), newTest(t), newExplain(t), newEnvoy(t), newVersion(t))
	return root
}

// presets are the APIs that Usher knows.
func presets() map[string]policy.Preset {
	return map[string]policy.Preset{"langgraph": langgraph.Preset()}
}

// outputFlag adds --output, which means the same for every command that has it.
func outputFlag(c *cobra.Command) *string {
	return c.Flags().String("output", "text", "text, or json, whose form is stable")
}

func checkOutput(output string) error {
	if output != "text" && output != "json" {
		return fmt.Errorf("--output %q: expected text or json", output)
	}
	return nil
}
