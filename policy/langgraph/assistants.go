package langgraph

import (
	"crypto/sha1" //nolint:gosec // of version 5 UUIDs
	"fmt"

	"github.com/usher-authz/usher/policy"
)

const (
	noAssistant     = "Assistant not found"
	assistantExists = "Assistant already exists"
)

// graphs is the namespace of the ids that both servers give to the assistants that they make themselves, one for each graph
// (NAMESPACE_GRAPH in langgraph_api.graph and dist/graph/load.mjs).
var graphs = [16]byte{0x6b, 0xa7, 0xb8, 0x21, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}

// assistantRef names an assistant, by its id or by the name of a graph. The Python server finds one by its id alone.
func assistantRef(id string) policy.Ref {
	if uuid("assistant_id", id) != nil {
		id = graphAssistant(id)
	}
	return policy.Ref{Resource: "assistants", ID: id, Path: "/assistants/" + id, Member: "assistant_id"}
}

// graphAssistant is the id of a graph's own assistant: a UUID of version 5 (RFC 9562, section 5.5), for which SHA-1 is no
// secret's guard.
func graphAssistant(name string) string {
	sum := sha1.Sum(append(graphs[:], name...)) //nolint:gosec // see above
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// assistant returns the path's id, and has the body guarded.
func (a *api) assistant(in policy.Input) (string, map[string]any, error) {
	id := in.Param("assistant_id")
	if err := assistantID(id); err != nil {
		return "", nil, err
	}
	body, err := a.guarded(in, "")
	return id, body, err
}

func onAssistant(action, id string, value map[string]any) policy.Operation {
	return policy.Operation{Resource: "assistants", Action: action, Value: value, Object: assistantRef(id), MismatchDetail: noAssistant}
}

// assistantValue is what a handler gets for create and update.
func assistantValue(body map[string]any, id any, md map[string]any, name any) map[string]any {
	return map[string]any{
		"assistant_id": id, "graph_id": body["graph_id"], "config": or(body["config"], map[string]any{}),
		"context": body["context"], "metadata": orEmpty(md), "name": or(body["name"], name),
	}
}

func (a *api) createAssistant(in policy.Input) ([]policy.Operation, error) {
	body, err := a.guarded(in, "")
	if err != nil {
		return nil, err
	}
	md, err := assistantMetadata(body)
	if err != nil {
		return nil, err
	}
	op := policy.Operation{
		Resource: "assistants", Action: "create", Creates: true, Stamps: true, Metadata: metadata, BodyMetadata: md,
		Mismatch: policy.Conflict, MismatchDetail: assistantExists, Value: assistantValue(body, body["assistant_id"], md, "Untitled"),
	}
	if id, ok := body["assistant_id"].(string); ok {
		if err := uuid("assistant_id", id); err != nil {
			return nil, err
		}
		op.Object = assistantRef(id)
	} else if body["assistant_id"] != nil {
		return nil, bad("assistant_id must be a string.")
	}
	return []policy.Operation{op}, nil
}

func searchAssistants(empty string, limit int64) func(policy.Input) ([]policy.Operation, error) {
	return func(in policy.Input) ([]policy.Operation, error) {
		body, err := object(in.Body)
		if err != nil {
			return nil, err
		}
		md, err := member(body, "metadata")
		if err != nil {
			return nil, err
		}
		value := map[string]any{"graph_id": body["graph_id"], "metadata": orEmpty(md), "limit": limit, "offset": int64(0)}
		if limit > 0 {
			value["limit"], value["offset"] = or(body["limit"], limit), or(body["offset"], int64(0))
		}
		return []policy.Operation{{
			Resource: "assistants", Action: "search", Value: value, Narrows: true, Metadata: metadata, BodyMetadata: md, Empty: empty,
		}}, nil
	}
}

func (a *api) readAssistant(in policy.Input) ([]policy.Operation, error) {
	id, _, err := a.assistant(in)
	if err != nil {
		return nil, err
	}
	return []policy.Operation{onAssistant("read", id, map[string]any{"assistant_id": id})}, nil
}

// assistantVersions lists versions: whoever may read the assistant sees those whose own metadata he may see, as the servers
// have it. One that was somebody else's before it was given away is not among them.
func (a *api) assistantVersions(in policy.Input) ([]policy.Operation, error) {
	id, body, err := a.assistant(in)
	if err != nil {
		return nil, err
	}
	md, err := member(body, "metadata")
	if err != nil {
		return nil, err
	}
	value := map[string]any{"assistant_id": id}
	return []policy.Operation{
		onAssistant("read", id, value),
		{Resource: "assistants", Action: "read", Value: value, Narrows: true, Metadata: metadata, BodyMetadata: md, Empty: "[]"},
	}, nil
}

func (a *api) updateAssistant(in policy.Input) ([]policy.Operation, error) {
	id, body, err := a.assistant(in)
	if err != nil {
		return nil, err
	}
	md, err := assistantMetadata(body)
	if err != nil {
		return nil, err
	}
	op := onAssistant("update", id, assistantValue(body, id, md, nil))
	op.Stamps, op.Metadata, op.BodyMetadata = true, metadata, md
	return []policy.Operation{op}, nil
}

func (a *api) restoreAssistant(in policy.Input) ([]policy.Operation, error) {
	id, body, err := a.assistant(in)
	if err != nil {
		return nil, err
	}
	return []policy.Operation{onAssistant("update", id, map[string]any{"assistant_id": id, "version": body["version"]})}, nil
}

// deleteAssistant also cancels the assistant's runs. The servers skip those on threads that are not the caller's; the
// request names none of them, so the assistant stands for them all. delete_threads deletes for good and is refused.
func (a *api) deleteAssistant(in policy.Input) ([]policy.Operation, error) {
	id, _, err := a.assistant(in)
	if err != nil {
		return nil, err
	}
	threads, err := in.Single("delete_threads")
	if err != nil {
		return nil, err
	}
	if threads != "" && threads != "false" && threads != "0" {
		return nil, forbidden("delete_threads would delete threads that the request does not name.")
	}
	return []policy.Operation{
		onAssistant("delete", id, map[string]any{"assistant_id": id}),
		{
			Resource: "threads", Action: "update", Fresh: true, Object: assistantRef(id), MismatchDetail: noAssistant,
			Value: map[string]any{"thread_id": nil, "action": "interrupt", "metadata": map[string]any{"run_ids": nil, "status": nil}},
		},
	}, nil
}

func agentCard(in policy.Input) ([]policy.Operation, error) {
	id, err := in.Single("assistant_id")
	if err != nil {
		return nil, err
	}
	if err := assistantID(id); err != nil {
		return nil, err
	}
	return []policy.Operation{onAssistant("read", id, map[string]any{"assistant_id": id})}, nil
}
