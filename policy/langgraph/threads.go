package langgraph

import "github.com/usher-authz/usher/policy"

// What a client reads for an object that is missing or not its own: one text for both.
const (
	noThread          = "Thread not found"
	noThreadOrRunable = "Thread or assistant not found."
	noPrunable        = "At least one thread not found or not authorized"
	noRuns            = "No runs found to cancel."
	threadExists      = "Thread already exists"
	conflict          = "Conflict"
)

// metadata is where threads, runs, assistants and searches carry it.
var metadata = []string{"metadata"}

func threadRef(id string) policy.Ref {
	return policy.Ref{Resource: "threads", ID: id, Path: "/threads/" + id, Member: "thread_id"}
}

func runRef(thread, run string) policy.Ref {
	return policy.Ref{Resource: "runs", ID: run, Path: "/threads/" + thread + "/runs/" + run, Member: "run_id"}
}

// thread returns the path's thread id, and has the body guarded.
func (a *api) thread(in policy.Input) (string, map[string]any, error) {
	id := in.Param("thread_id")
	if err := uuid("thread_id", id); err != nil {
		return "", nil, err
	}
	body, err := a.guarded(in, id)
	return id, body, err
}

// on is an operation on an existing thread.
func on(action, id string, value map[string]any) policy.Operation {
	return policy.Operation{Resource: "threads", Action: action, Value: value, Object: threadRef(id), MismatchDetail: noThread}
}

func read(id string) policy.Operation {
	return on("read", id, map[string]any{"thread_id": id})
}

func (a *api) createThread(in policy.Input) ([]policy.Operation, error) {
	body, err := a.guarded(in, "")
	if err != nil {
		return nil, err
	}
	md, err := threadMetadata(body)
	if err != nil {
		return nil, err
	}
	create := policy.Operation{
		Resource: "threads", Action: "create", Creates: true, Stamps: true, Metadata: metadata, BodyMetadata: md,
		Mismatch: policy.Conflict, MismatchDetail: threadExists,
		Value: map[string]any{"thread_id": body["thread_id"], "metadata": orEmpty(md), "if_exists": or(body["if_exists"], "raise")},
	}
	id, ok := body["thread_id"].(string)
	if ok {
		if err := uuid("thread_id", id); err != nil {
			return nil, err
		}
		create.Object = threadRef(id)
	} else if body["thread_id"] != nil {
		return nil, bad("thread_id must be a string.")
	}
	ops := []policy.Operation{create}
	if steps, ok := body["supersteps"]; ok && steps != nil {
		// The states are written to the thread that the create makes, or finds.
		for _, action := range []string{"update", "read"} {
			op := policy.Operation{
				Resource: "threads", Action: action, Fresh: true, Object: create.Object, Metadata: metadata, BodyMetadata: md,
				MismatchDetail: noThread, Value: map[string]any{"thread_id": body["thread_id"]},
			}
			ops = append(ops, op)
		}
	}
	return ops, nil
}

func searchThreads(empty string, limit int64) func(policy.Input) ([]policy.Operation, error) {
	return func(in policy.Input) ([]policy.Operation, error) {
		body, err := object(in.Body)
		if err != nil {
			return nil, err
		}
		md, err := member(body, "metadata")
		if err != nil {
			return nil, err
		}
		value := map[string]any{
			"metadata": orEmpty(md), "values": or(body["values"], map[string]any{}), "status": body["status"], "ids": body["ids"],
			"limit": limit, "offset": int64(0),
		}
		if limit > 0 {
			value["limit"], value["offset"] = or(body["limit"], limit), or(body["offset"], int64(0))
		}
		return []policy.Operation{{
			Resource: "threads", Action: "search", Value: value, Narrows: true, Metadata: metadata, BodyMetadata: md, Empty: empty,
		}}, nil
	}
}

func pruneThreads(in policy.Input) ([]policy.Operation, error) {
	body, err := object(in.Body)
	if err != nil {
		return nil, err
	}
	list, ok := body["thread_ids"].([]any)
	if !ok || len(list) == 0 {
		return nil, bad("thread_ids must be a list of at least one id.")
	}
	// The event for the whole list has no object of its own; each thread's own event carries the filter.
	all := policy.Operation{Resource: "threads", Action: "delete", Fresh: true, Value: map[string]any{"thread_ids": list}}
	ops := make([]policy.Operation, 0, len(list))
	for _, v := range list {
		id, ok := v.(string)
		if !ok {
			return nil, bad("thread_ids must be a list of ids.")
		}
		if err := uuid("thread_id", id); err != nil {
			return nil, err
		}
		op := on("delete", id, map[string]any{"thread_id": id})
		op.MismatchDetail = noPrunable
		ops = append(ops, op)
	}
	all.Object = ops[0].Object
	return append(ops, all), nil
}

func (a *api) readThread(in policy.Input) ([]policy.Operation, error) {
	id, _, err := a.thread(in)
	if err != nil {
		return nil, err
	}
	if checkpoint := in.Param("checkpoint_id"); checkpoint != "" {
		if err := uuid("checkpoint_id", checkpoint); err != nil {
			return nil, err
		}
	}
	return []policy.Operation{read(id)}, nil
}

func (a *api) updateThread(in policy.Input) ([]policy.Operation, error) {
	id, body, err := a.thread(in)
	if err != nil {
		return nil, err
	}
	md, err := threadMetadata(body)
	if err != nil {
		return nil, err
	}
	op := on("update", id, map[string]any{"thread_id": id, "metadata": orEmpty(md)})
	op.Stamps, op.Metadata, op.BodyMetadata = true, metadata, md
	return []policy.Operation{op}, nil
}

func (a *api) deleteThread(in policy.Input) ([]policy.Operation, error) {
	id, _, err := a.thread(in)
	if err != nil {
		return nil, err
	}
	return []policy.Operation{on("delete", id, map[string]any{"thread_id": id})}, nil
}

func (a *api) copyThread(in policy.Input) ([]policy.Operation, error) {
	id, body, err := a.thread(in)
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		if md, ok := body["metadata"]; ok && md != nil {
			return nil, bad("A copy takes no metadata.")
		}
	}
	source := read(id)
	source.Mismatch, source.MismatchDetail = policy.Conflict, conflict
	create := policy.Operation{
		Resource: "threads", Action: "create", Inherits: true, Object: threadRef(id), Value: map[string]any{"thread_id": nil},
		Mismatch: policy.Conflict, MismatchDetail: conflict,
	}
	return []policy.Operation{source, create}, nil
}

func (a *api) updateState(in policy.Input) ([]policy.Operation, error) {
	id, _, err := a.thread(in)
	if err != nil {
		return nil, err
	}
	update := on("update", id, map[string]any{"thread_id": id})
	// Whoever may read the thread knows that it is there.
	update.Mismatch, update.MismatchDetail = policy.Forbidden, "Forbidden"
	return []policy.Operation{read(id), update}, nil
}

// or returns v, or the default that the servers fill in for null or absent.
func or(v, fallback any) any {
	if v == nil {
		return fallback
	}
	return v
}

func orEmpty(md map[string]any) map[string]any {
	if md == nil {
		return map[string]any{}
	}
	return md
}
