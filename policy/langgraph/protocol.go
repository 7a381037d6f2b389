package langgraph

import (
	"strings"

	"github.com/usher-authz/usher/policy"
)

// Requests whose method stands in the body: protocol v2 commands, MCP and A2A. What they do decides; a method that is
// not known is not harmless.

// call reads a JSON-RPC-like body: {method, params}. A batch is refused, as MCP took it out of the protocol again
// (2025-06-18) and each part would have to be decided.
func call(in policy.Input) (method string, params map[string]any, err error) {
	body, err := object(in.Body)
	if err != nil {
		return "", nil, err
	}
	method, ok := body["method"].(string)
	if !ok {
		return "", nil, bad("method must be a string.")
	}
	params, err = member(body, "params")
	return method, params, err
}

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

// unplaced is a run on a new thread that an MCP or A2A call starts, and the reading of what it gives: the body has no
// place for metadata, so a rule with a stamp or a filter denies.
func unplaced(run map[string]any) []policy.Operation {
	return []policy.Operation{
		{
			Resource: "threads", Action: "create_run", Creates: true, Unfilterable: true, MismatchDetail: noThreadOrRunable,
			Value: runValue(run, nil, "create"),
		},
		{Resource: "threads", Action: "read", Unfilterable: true, Value: map[string]any{"thread_id": nil}},
	}
}

func (a *api) mcp(in policy.Input) ([]policy.Operation, error) {
	method, params, err := call(in)
	if err != nil {
		return nil, err
	}
	// tools/call hands params.context to the run.
	if err := a.guard(params, ""); err != nil {
		return nil, err
	}
	search := policy.Operation{
		Resource: "assistants", Action: "search", Unfilterable: true,
		Value: map[string]any{"graph_id": nil, "metadata": map[string]any{}, "limit": int64(100), "offset": int64(0)},
	}
	// A tool is called by its name, which says nothing of whose assistant it is.
	inspect := policy.Operation{Resource: "assistants", Action: "read", Unfilterable: true, Value: map[string]any{"assistant_id": nil}}
	switch method {
	case "initialize", "ping", "notifications/initialized", "notifications/cancelled":
		return []policy.Operation{{Unruled: true}}, nil
	case "tools/list":
		return []policy.Operation{search, inspect}, nil
	case "tools/call":
		search.Value = map[string]any{"graph_id": nil, "metadata": map[string]any{}, "limit": int64(1000), "offset": int64(0)}
		return append([]policy.Operation{search, inspect}, unplaced(map[string]any{"input": params["arguments"]})...), nil
	}
	return nil, forbidden("Unknown MCP method.")
}

func (a *api) a2a(in policy.Input) ([]policy.Operation, error) {
	id := in.Param("assistant_id")
	if err := assistantID(id); err != nil {
		return nil, err
	}
	method, params, err := call(in)
	if err != nil {
		return nil, err
	}
	// message/send hands params.context to the run.
	if err := a.guard(params, ""); err != nil {
		return nil, err
	}
	configuration, err := member(params, "configuration")
	if err != nil {
		return nil, err
	}
	if configuration["pushNotificationConfig"] != nil {
		return nil, forbidden("Push notifications are not allowed here.")
	}
	assistant := onAssistant("read", id, map[string]any{"assistant_id": id})
	switch method {
	case "message/send", "message/stream":
		message, err := member(params, "message")
		if err != nil {
			return nil, err
		}
		thread, err := taskThread(message, "taskId")
		if err != nil {
			return nil, err
		}
		if thread == "" {
			runs := policy.Operation{Resource: "threads", Action: "search", Unfilterable: true, Value: map[string]any{"thread_id": nil, "metadata": map[string]any{}}}
			return append([]policy.Operation{assistant, runs}, unplaced(map[string]any{"assistant_id": id, "on_completion": "keep"})...), nil
		}
		create := policy.Operation{
			Resource: "threads", Action: "create_run", Creates: true, Object: threadRef(thread), MismatchDetail: noThreadOrRunable,
			Value: runValue(map[string]any{"assistant_id": id}, thread, "create"),
		}
		return []policy.Operation{assistant, create, read(thread), runsOf(thread)}, nil
	case "tasks/get":
		thread, err := taskThread(params, "id")
		if err != nil {
			return nil, err
		}
		if thread == "" {
			return nil, bad("contextId is needed.")
		}
		return []policy.Operation{read(thread), runsOf(thread), assistant}, nil
	}
	return nil, forbidden("Unknown A2A method.")
}

// taskThread returns the thread that a message or a task is about: its contextId, which the task's id (context:run)
// repeats. Each names the thread where the other is missing, so they must agree. "" is a new thread.
func taskThread(o map[string]any, task string) (string, error) {
	var thread string
	for _, name := range []string{"contextId", task} {
		if o[name] == nil {
			continue
		}
		s, ok := o[name].(string)
		if !ok {
			return "", bad("%s must be a string.", name)
		}
		if name == task {
			context, run, composite := strings.Cut(s, ":")
			if !composite {
				context, run = thread, s
			}
			if err := uuid(task, run); err != nil {
				return "", err
			}
			s = context
		}
		if err := uuid(name, s); err != nil {
			return "", err
		}
		if thread != "" && thread != s {
			return "", forbidden("The task is of another context.")
		}
		thread = s
	}
	return thread, nil
}

// runsOf is the list of a thread's runs.
func runsOf(thread string) policy.Operation {
	return on("search", thread, map[string]any{"thread_id": thread, "metadata": map[string]any{}})
}
