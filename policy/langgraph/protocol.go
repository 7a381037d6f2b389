package langgraph

import "github.com/usher-authz/usher/policy"

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
func threadCommand(in policy.Input) ([]policy.Operation, error) {
	id := in.Param("thread_id")
	if err := uuid("thread_id", id); err != nil {
		return nil, err
	}
	method, params, err := call(in)
	if err != nil {
		return nil, err
	}
	if err := guard(params, id); err != nil {
		return nil, err
	}
	switch method {
	case "state.get", "agent.getTree", "subscription.subscribe", "subscription.unsubscribe":
		return []policy.Operation{read(id)}, nil
	case "run.start", "input.respond":
		create := on("create_run", id, runValue(params, id, "create"))
		create.MismatchDetail = noThreadOrRunable
		create.Requires = []policy.Ref{create.Object}
		ops := []policy.Operation{read(id), create}
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

// openSocket is the WebSocket of protocol v2. Its frames carry commands that no external authorization sees, each of
// which could set langgraph_auth_* values or run somebody's assistant: it is refused. POST commands, and stream/events by
// server-sent events, do the same and can be decided.
func openSocket(in policy.Input) ([]policy.Operation, error) {
	if err := uuid("thread_id", in.Param("thread_id")); err != nil {
		return nil, err
	}
	return nil, forbidden("WebSocket commands cannot be authorized: POST to commands and stream/events instead.")
}

// unplaced is a run that an MCP or A2A call starts: its body has no metadata, so a rule with a stamp or a filter denies.
func unplaced(assistant any, thread any) policy.Operation {
	return policy.Operation{
		Resource: "threads", Action: "create_run", Creates: true, Unfilterable: true, MismatchDetail: noThreadOrRunable,
		Value: runValue(map[string]any{"assistant_id": assistant}, thread, "create"),
	}
}

func mcp(in policy.Input) ([]policy.Operation, error) {
	method, _, err := call(in)
	if err != nil {
		return nil, err
	}
	search := policy.Operation{
		Resource: "assistants", Action: "search", Unfilterable: true,
		Value: map[string]any{"graph_id": nil, "metadata": map[string]any{}, "limit": int64(100), "offset": int64(0)},
	}
	switch method {
	case "initialize", "ping", "notifications/initialized", "notifications/cancelled":
		return []policy.Operation{{Unruled: true}}, nil
	case "tools/list":
		return []policy.Operation{search, {Resource: "assistants", Action: "read", Unfilterable: true, Value: map[string]any{"assistant_id": nil}}}, nil
	case "tools/call":
		search.Value = map[string]any{"graph_id": nil, "metadata": map[string]any{}, "limit": int64(1000), "offset": int64(0)}
		return []policy.Operation{search, unplaced(nil, nil)}, nil
	}
	return nil, forbidden("Unknown MCP method.")
}

func a2a(in policy.Input) ([]policy.Operation, error) {
	id := in.Param("assistant_id")
	if err := assistantID(id); err != nil {
		return nil, err
	}
	method, params, err := call(in)
	if err != nil {
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
	contextID := func(o map[string]any) (string, error) {
		v, ok := o["contextId"]
		if !ok || v == nil {
			return "", nil
		}
		s, _ := v.(string)
		return s, uuid("contextId", s)
	}
	switch method {
	case "message/send", "message/stream":
		message, err := member(params, "message")
		if err != nil {
			return nil, err
		}
		thread, err := contextID(message)
		if err != nil {
			return nil, err
		}
		if thread == "" {
			return []policy.Operation{assistant, unplaced(id, nil)}, nil
		}
		create := unplaced(id, thread)
		create.Object, create.Unfilterable = threadRef(thread), false
		return []policy.Operation{assistant, create, read(thread)}, nil
	case "tasks/get":
		thread, err := contextID(params)
		if err != nil {
			return nil, err
		}
		if thread == "" {
			return nil, bad("contextId is needed.")
		}
		return []policy.Operation{read(thread), assistant}, nil
	}
	return nil, forbidden("Unknown A2A method.")
}
