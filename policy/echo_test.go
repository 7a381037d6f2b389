package policy_test

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// presets are what the cases can name: LangGraph's, and echo, whose one route asks for just the operations that its body
// lists.
func presets() map[string]policy.Preset {
	both := policy.Event{Filters: true, Stamps: true}
	return map[string]policy.Preset{
		"langgraph": langgraph.Preset(),
		"echo": {
			Routes: []policy.PresetRoute{
				{Method: "POST", Path: "/ops", NeedsBody: true, Map: echo},
				{Method: "GET", Path: "/nothing", Map: func(policy.Input) ([]policy.Operation, error) { return nil, nil }},
			},
			Events: map[string]map[string]policy.Event{
				"things": {"create": both, "update": both, "read": {Filters: true}, "search": {Filters: true, Search: true}, "count": {}},
				"boxes":  {"create": both, "read": {Filters: true}},
			},
			RemoveHeaders: []string{"x-api-key"},
		},
	}
}

// echoed is one operation as a case writes it.
type echoed struct {
	On                                                               string
	Value                                                            map[string]any
	Object                                                           string
	Creates, Fresh, Inherits, Stamps, Narrows, Unfilterable, Unruled bool
	Requires                                                         []string
	Mismatch, Detail, Empty                                          string
	Metadata                                                         []string
	BodyMetadata                                                     json.RawMessage `json:"body_metadata"`
	Waiver                                                           map[string]string
}

func echo(in policy.Input) ([]policy.Operation, error) {
	text, err := json.Marshal(in.Body)
	if err != nil {
		return nil, err
	}
	var list []echoed
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("read the operations: %w", err)
	}
	ops := make([]policy.Operation, len(list))
	for i, e := range list {
		resource, action, _ := strings.Cut(e.On, ":")
		ops[i] = policy.Operation{
			Resource: resource, Action: action, Value: e.Value, Object: thing(e.Object), Creates: e.Creates, Fresh: e.Fresh,
			Inherits: e.Inherits, Stamps: e.Stamps, Narrows: e.Narrows, Unfilterable: e.Unfilterable, Unruled: e.Unruled,
			MismatchDetail: e.Detail, Empty: e.Empty, Metadata: e.Metadata, Waiver: e.Waiver,
		}
		if e.Value == nil {
			ops[i].Value = map[string]any{}
		}
		for _, id := range e.Requires {
			ops[i].Requires = append(ops[i].Requires, thing(id))
		}
		switch e.Mismatch {
		case "conflict":
			ops[i].Mismatch = policy.Conflict
		case "forbidden":
			ops[i].Mismatch = policy.Forbidden
		}
		if len(e.BodyMetadata) > 0 {
			v, err := policy.ParseValue(e.BodyMetadata)
			if err != nil {
				return nil, err
			}
			ops[i].BodyMetadata = v.(map[string]any)
		}
	}
	return ops, nil
}

func thing(id string) policy.Ref {
	if id == "" {
		return policy.Ref{}
	}
	return policy.Ref{Resource: "things", ID: id, Path: "/things/" + id, Member: "id"}
}
