package langgraph

import (
	"strconv"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// systemAssistant waives assistants:read for the assistants that the server makes itself, one for each graph: it fires
// no event for those.
var systemAssistant = map[string]string{"created_by": "system"}

func (a *api) listRuns(in policy.Input) ([]policy.Operation, error) {
	id, _, err := a.thread(in)
	if err != nil {
		return nil, err
	}
	return []policy.Operation{read(id), runsOf(id)}, nil
}

// run returns the ids of the path.
func (a *api) run(in policy.Input) (threadID, runID string, err error) {
	threadID, _, err = a.thread(in)
	if err != nil {
		return "", "", err
	}
	runID = in.Param("run_id")
	return threadID, runID, uuid("run_id", runID)
}

func (a *api) readRun(in policy.Input) ([]policy.Operation, error) {
	id, runID, err := a.run(in)
	if err != nil {
		return nil, err
	}
	op := read(id)
	// The JS server streams any run under any thread's path.
	op.Requires = []policy.Ref{runRef(id, runID)}
	return []policy.Operation{op}, nil
}

// followRun is a run's join and stream. With cancel_on_disconnect a reader who hangs up cancels the run, for which the
// servers ask threads:update: by then the answer has begun, so here it is asked first.
func (a *api) followRun(in policy.Input) ([]policy.Operation, error) {
	ops, err := a.readRun(in)
	if err != nil {
		return nil, err
	}
	cancels, err := in.Single("cancel_on_disconnect")
	if err != nil {
		return nil, err
	}
	switch strings.ToLower(cancels) {
	case "", "false", "0", "no":
		return ops, nil
	}
	id, runID := in.Param("thread_id"), in.Param("run_id")
	return append(ops, cancelOps(id, []any{runID}, "interrupt", ops[0].Requires)...), nil
}

func (a *api) cancelRun(in policy.Input) ([]policy.Operation, error) {
	id, runID, err := a.run(in)
	if err != nil {
		return nil, err
	}
	action, err := cancelAction(in)
	if err != nil {
		return nil, err
	}
	ops := cancelOps(id, []any{runID}, action, []policy.Ref{runRef(id, runID)})
	// Who waits for the end reads what the run gave. The JS server takes any word for yes, false too.
	wait, err := in.Single("wait")
	if wait != "" {
		ops = append(ops, read(id))
	}
	return ops, err
}

// cancelAction is what a cancel does with the runs: the servers take any other word than rollback for interrupt.
func cancelAction(in policy.Input) (string, error) {
	action, err := in.Single("action")
	if action != "rollback" {
		action = "interrupt"
	}
	return action, err
}

// cancelOps are the events of cancelling runs of one thread; ids is nil where the request does not name them. A rollback
// deletes a run that has not begun.
func cancelOps(thread string, ids any, action string, runs []policy.Ref) []policy.Operation {
	op := on("update", thread, map[string]any{"thread_id": thread, "action": action, "metadata": map[string]any{"run_ids": ids, "status": nil}})
	op.MismatchDetail, op.Requires = noRuns, runs
	ops := []policy.Operation{op}
	if action == "rollback" {
		op := on("delete", thread, map[string]any{"run_id": nil, "thread_id": thread})
		op.MismatchDetail, op.Requires = noRuns, runs
		ops = append(ops, op)
	}
	return ops
}

func (a *api) deleteRun(in policy.Input) ([]policy.Operation, error) {
	id, runID, err := a.run(in)
	if err != nil {
		return nil, err
	}
	op := on("delete", id, map[string]any{"run_id": runID, "thread_id": id})
	op.Requires = []policy.Ref{runRef(id, runID)}
	return []policy.Operation{op}, nil
}

// cancelRuns is POST /runs/cancel: {thread_id, run_ids}, or {status}, which would cancel everybody's runs and carries
// no metadata that could narrow it: a rule with a filter denies that form.
func cancelRuns(in policy.Input) ([]policy.Operation, error) {
	body, err := object(in.Body)
	if err != nil {
		return nil, err
	}
	action, err := cancelAction(in)
	if err != nil {
		return nil, err
	}
	if body["thread_id"] == nil {
		value := map[string]any{"thread_id": nil, "action": action, "metadata": map[string]any{"run_ids": body["run_ids"], "status": body["status"]}}
		ops := []policy.Operation{{Resource: "threads", Action: "update", Value: value, MismatchDetail: noRuns, Unfilterable: true}}
		if action == "rollback" {
			value := map[string]any{"run_id": nil, "thread_id": nil}
			ops = append(ops, policy.Operation{Resource: "threads", Action: "delete", Value: value, MismatchDetail: noRuns, Unfilterable: true})
		}
		return ops, nil
	}
	id, ok := body["thread_id"].(string)
	if !ok {
		return nil, bad("thread_id must be a string.")
	}
	if err := uuid("thread_id", id); err != nil {
		return nil, err
	}
	if body["status"] != nil {
		return nil, bad("Give status, or thread_id and run_ids, not both.")
	}
	ids, ok := body["run_ids"].([]any)
	if !ok || len(ids) == 0 {
		return nil, bad("run_ids must be a list of at least one id.")
	}
	runs := make([]policy.Ref, 0, len(ids))
	for _, v := range ids {
		runID, _ := v.(string)
		if err := uuid("run_id", runID); err != nil {
			return nil, err
		}
		runs = append(runs, runRef(id, runID))
	}
	return cancelOps(id, ids, action, runs), nil
}

// runValue is what a handler gets for create_run, as far as the request says it: ids that the server makes are null.
func runValue(body map[string]any, thread any, ifNotExists string) map[string]any {
	temporary := thread == nil && or(body["on_completion"], "delete") == any("delete")
	during := or(body["checkpoint_during"], true)
	durability := "async"
	if during == any(false) {
		durability = "exit"
	}
	return map[string]any{
		"thread_id": thread, "assistant_id": body["assistant_id"], "run_id": nil, "status": "pending",
		"metadata":                   or(body["metadata"], map[string]any{}),
		"prevent_insert_if_inflight": body["multitask_strategy"] == any("reject"),
		"multitask_strategy":         or(body["multitask_strategy"], "enqueue"),
		"if_not_exists":              or(body["if_not_exists"], ifNotExists),
		"after_seconds":              or(body["after_seconds"], int64(0)),
		"kwargs": map[string]any{
			"input": body["input"], "command": body["command"], "config": or(body["config"], map[string]any{}),
			"context": or(body["context"], map[string]any{}), "stream_mode": or(body["stream_mode"], []any{"values"}),
			"interrupt_before": body["interrupt_before"], "interrupt_after": body["interrupt_after"], "webhook": body["webhook"],
			"feedback_keys": body["feedback_keys"], "temporary": temporary, "subgraphs": or(body["stream_subgraphs"], false),
			"resumable": or(body["stream_resumable"], false), "checkpoint_during": during, "durability": or(body["durability"], durability),
		},
	}
}

// runOps are the events of one run whose body stands at `at`.
func runOps(body map[string]any, threadID string, at []string, follows bool, ifNotExists string) ([]policy.Operation, error) {
	md, err := threadMetadata(body)
	if err != nil {
		return nil, err
	}
	config, err := member(body, "config")
	if err != nil {
		return nil, err
	}
	if _, err := threadMetadata(config); err != nil { // the servers merge it into the metadata of a new thread
		return nil, err
	}
	id, ok := body["assistant_id"].(string)
	if !ok {
		return nil, bad("assistant_id must be a string.")
	}
	assistant, err := runAssistant(id)
	if err != nil {
		return nil, err
	}
	create := policy.Operation{
		Resource: "threads", Action: "create_run", Stamps: true, Metadata: append(at[:len(at):len(at)], "metadata"), BodyMetadata: md,
		MismatchDetail: noThreadOrRunable, Creates: true,
	}
	if threadID == "" {
		create.Value = runValue(body, nil, ifNotExists)
	} else {
		create.Value = runValue(body, threadID, ifNotExists)
		create.Object = threadRef(threadID)
		create.Creates = body["if_not_exists"] == any("create")
	}
	ops := []policy.Operation{create, assistant}
	if threadID != "" {
		ops = append(ops, displaced(create, threadID, body["multitask_strategy"])...)
	}
	if follows {
		ops = append(ops, policy.Operation{
			Resource: "threads", Action: "read", Value: map[string]any{"thread_id": create.Value.(map[string]any)["thread_id"]},
			Object: create.Object, Fresh: create.Creates, Metadata: create.Metadata, BodyMetadata: md, MismatchDetail: noThreadOrRunable,
		})
	}
	return ops, nil
}

// displaced are the events of a run that takes the place of those under way on its thread. The servers fire them once
// the run is made, and swallow a denial: who may not cancel a run may not displace it either, so here they are asked
// first.
func displaced(create policy.Operation, thread string, strategy any) []policy.Operation {
	if strategy != any("interrupt") && strategy != any("rollback") {
		return nil
	}
	ops := cancelOps(thread, nil, strategy.(string), create.Requires)
	for i := range ops {
		ops[i].Fresh, ops[i].Metadata, ops[i].BodyMetadata = create.Creates, create.Metadata, create.BodyMetadata
		ops[i].MismatchDetail = create.MismatchDetail
	}
	return ops
}

func runAssistant(id string) (policy.Operation, error) {
	if err := assistantID(id); err != nil {
		return policy.Operation{}, err
	}
	return policy.Operation{
		Resource: "assistants", Action: "read", Value: map[string]any{"assistant_id": id}, Object: assistantRef(id),
		MismatchDetail: noThreadOrRunable, Waiver: systemAssistant,
	}, nil
}

func (a *api) createRun(follows bool) func(policy.Input) ([]policy.Operation, error) {
	return func(in policy.Input) ([]policy.Operation, error) {
		id, body, err := a.thread(in)
		if err != nil {
			return nil, err
		}
		return runOps(body, id, nil, follows, "reject")
	}
}

func (a *api) createStatelessRun(follows bool) func(policy.Input) ([]policy.Operation, error) {
	return func(in policy.Input) ([]policy.Operation, error) {
		body, err := a.guarded(in, "")
		if err != nil {
			return nil, err
		}
		if body["thread_id"] != nil {
			return nil, forbidden("A stateless run names no thread.")
		}
		ifNotExists := "reject"
		if follows {
			ifNotExists = "create"
		}
		return runOps(body, "", nil, follows, ifNotExists)
	}
}

func (a *api) createRunBatch(in policy.Input) ([]policy.Operation, error) {
	list, ok := in.Body.([]any)
	if !ok || len(list) == 0 {
		return nil, bad("The body must be a list of at least one run.")
	}
	var ops []policy.Operation
	for i, item := range list {
		body, ok := item.(map[string]any)
		if !ok {
			return nil, bad("The body must be a list of runs.")
		}
		// Both servers make a new thread for each run of a batch, whatever thread it names.
		if body["thread_id"] != nil {
			return nil, forbidden("A stateless run names no thread.")
		}
		if err := a.guard(body, ""); err != nil {
			return nil, err
		}
		more, err := runOps(body, "", []string{strconv.Itoa(i)}, false, "reject")
		if err != nil {
			return nil, err
		}
		ops = append(ops, more...)
	}
	return ops, nil
}
