package langgraph

import "github.com/usher-authz/usher/policy"

// threadCommand is POST /threads/{id}/commands of protocol v2. The servers start a run on a thread that they make if it
// is missing; no place for a stamp is known there, so with one the thread must exist.
func (a *api) threadCommand(in policy.Input) ([]policy.Operation, error) {
	id := in.Param("thread_id")
	if err := uuid("thread_id", id); err != nil {
		return nil, err
	}
	method, params, err := call(in)
	if err != nil {
		return nil, err
	}
	if err := a.guard(params, id); err != nil {
		return nil, err
	}
	switch method {
	case "state.get", "agent.getTree", "subscription.subscribe", "subscription.unsubscribe":
		return []policy.Operation{read(id)}, nil
	case "run.start", "input.respond":
		create := on("create_run", id, runValue(params, id, "create"))
		create.MismatchDetail = noThreadOrRunable
		create.Requires = []policy.Ref{create.Object}
		// The JS server copies no headers to the config of these runs, and would take those of an earlier one.
		create.HeadersAt = []string{"params", "config", "configurable"}
		ops := []policy.Operation{read(id), create}
		// The SDKs of protocol v2 write the name in camel case, and the servers read only that; to ask for the
		// other spelling too costs nothing.
		for _, name := range []string{"multitaskStrategy", "multitask_strategy"} {
			ops = append(ops, displaced(create, id, params[name])...)
		}
		if v := params["assistant_id"]; v != nil {
			name, ok := v.(string)
			if !ok {
				return nil, bad("assistant_id must be a string.")
			}
			assistant, err := runAssistant(name)
			if err != nil {
				return nil, err
			}
			ops = append(ops, assistant)
		}
		return ops, nil
	}
	return nil, forbidden("Unknown command.")
}

// openSocket is the WebSocket of protocol v2. Its frames carry commands that no external authorization sees, so it is
// refused unless the policy asks for it, and then needs the leave for whatever a frame could say: to read the thread, to
// run on it with any assistant, to displace its runs and to roll them back. The thread must exist, as no stamp reaches a new
// one. What the rules cannot speak of stays open: frames set what they like in a run's configuration, which is why such a
// policy has no identity headers (Preset.Unseen).
func (a *api) openSocket(in policy.Input) ([]policy.Operation, error) {
	id := in.Param("thread_id")
	if err := uuid("thread_id", id); err != nil {
		return nil, err
	}
	if !a.webSocket {
		return nil, forbidden("WebSocket commands cannot be authorized: POST to commands and stream/events instead.")
	}
	create := on("create_run", id, runValue(nil, id, "create"))
	create.Requires = []policy.Ref{create.Object}
	anybody := policy.Operation{Resource: "assistants", Action: "read", Unfilterable: true, Value: map[string]any{"assistant_id": nil}}
	ops := []policy.Operation{read(id), create, anybody}
	return append(ops, cancelOps(id, nil, "rollback", create.Requires)...), nil
}
