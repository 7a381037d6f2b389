package langgraph

import (
	"encoding/json"

	"github.com/usher-authz/usher/policy"
)

// Requests whose method stands in the body: protocol v2 commands, MCP and A2A. What they do decides; a method that is
// not known is not harmless.

const unknownMethod = "Unknown method."

// call reads a JSON-RPC-like body: {method, params}. A batch is refused, as MCP took it out of the protocol again
// (2025-06-18) and each part would have to be decided.
func call(in policy.Input) (method string, params map[string]any, err error) {
	if _, batch := in.Body.([]any); batch {
		return "", nil, bad("Batches are not supported: send one message.")
	}
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

// isResponse reports whether a JSON-RPC body answers a request of the server's: it asks for nothing.
func isResponse(in policy.Input) bool {
	body, _ := in.Body.(map[string]any)
	_, method := body["method"]
	_, result := body["result"]
	_, fault := body["error"]
	return !method && (result || fault) && body["id"] != nil
}

// rpcRefusal is what a client of MCP or A2A reads of a refusal: a JSON-RPC error with the id of its request (JSON-RPC 2.0,
// section 5.1). The HTTP status stays that of the refusal (MCP 2025-06-18, transports, "Sending Messages to the Server").
func rpcRefusal(body []byte, o policy.Outcome, detail string) string {
	type fault struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	answer := struct {
		JSONRPC string       `json:"jsonrpc"`
		ID      policy.Value `json:"id"`
		Error   fault        `json:"error"`
	}{JSONRPC: "2.0", Error: fault{-32000, detail}} // a server's own error
	request, err := policy.ParseValue(body)
	switch {
	case err != nil:
		answer.Error.Code = -32700 // parse error
	case detail == unknownMethod:
		answer.Error.Code = -32601 // method not found
	case o == policy.BadRequest:
		answer.Error.Code = -32600 // invalid request
	}
	if message, ok := request.(map[string]any); ok {
		switch id := message["id"].(type) {
		case string, int64, uint64, float64:
			answer.ID = id
		}
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return ""
	}
	return string(text)
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
