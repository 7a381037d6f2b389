package langgraph

import "github.com/usher-authz/usher/policy"

// mcp is POST /mcp: the tools are the assistants that the caller can search, and calling one is a run without a thread
// (langgraph_api.api.mcp). A notification or an answer does nothing there.
func (a *api) mcp(in policy.Input) ([]policy.Operation, error) {
	if isResponse(in) {
		return unruled(in)
	}
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
	// A tool is called by its name, which says nothing of whose assistant it is; a rule can look at it.
	inspect := policy.Operation{Resource: "assistants", Action: "read", Unfilterable: true, Value: map[string]any{"assistant_id": nil}}
	switch method {
	case "initialize", "ping", "notifications/initialized", "notifications/cancelled", "notifications/progress", "notifications/roots/list_changed":
		return unruled(in)
	case "tools/list":
		return []policy.Operation{search, inspect}, nil
	case "tools/call":
		name, ok := params["name"].(string)
		if !ok {
			return nil, bad("name must be a string.")
		}
		inspect.Value = map[string]any{"assistant_id": nil, "name": name}
		search.Value = map[string]any{"graph_id": nil, "metadata": map[string]any{}, "limit": int64(1000), "offset": int64(0)}
		return append([]policy.Operation{search, inspect}, unplaced(map[string]any{"input": params["arguments"]})...), nil
	}
	return nil, forbidden(unknownMethod)
}
