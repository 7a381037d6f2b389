package langgraph

import "github.com/usher-authz/usher/policy"

const noCron = "Cron not found"

// cronConfig is where a cron's runs find who they are for: when they begin there is no request with headers.
var cronConfig = []string{"config", "configurable"}

// headerless says why a cron with a context cannot say who it runs for. The Python server refuses a run that has both a
// context and something in config.configurable (langgraph_api.models.run), and drops from the context what the graph's schema
// does not name; when a cron's runs begin, nobody would read that.
func headerless(body map[string]any) string {
	if context, ok := body["context"].(map[string]any); ok && len(context) > 0 {
		return "A cron with context cannot carry who it runs for: use config.configurable."
	}
	return ""
}

func (a *api) createCron(in policy.Input) ([]policy.Operation, error) {
	threadID := in.Param("thread_id")
	if threadID != "" {
		if err := uuid("thread_id", threadID); err != nil {
			return nil, err
		}
	}
	body, err := object(in.Body)
	if err != nil {
		return nil, err
	}
	if err := a.guard(body, threadID); err != nil {
		return nil, err
	}
	// The whole body is kept as the payload of runs to come.
	if id := body["thread_id"]; id != nil && (threadID == "" || id != any(threadID)) {
		return nil, forbidden("The body names another thread than the path.")
	}
	md, err := threadMetadata(body)
	if err != nil {
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
	var threadValue any
	if threadID != "" {
		threadValue = threadID
	}
	ops := []policy.Operation{
		{
			Resource: "crons", Action: "create", Creates: true, Stamps: true, Metadata: metadata, BodyMetadata: md,
			HeadersAt: cronConfig, Headerless: headerless(body),
			Value: map[string]any{
				"payload": body, "schedule": body["schedule"], "cron_id": nil, "thread_id": threadValue, "user_id": nil,
				"end_time": body["end_time"], "metadata": orEmpty(md),
			},
		},
		assistant,
	}
	if threadID != "" {
		op := read(threadID)
		op.Value = map[string]any{"thread_id": threadID, "metadata": orEmpty(md)}
		ops = append(ops, op)
	}
	return ops, nil
}

// searchCrons cannot be narrowed: older servers ignore metadata in the body, and would list everybody's crons.
func searchCrons(limit int64) func(policy.Input) ([]policy.Operation, error) {
	return func(in policy.Input) ([]policy.Operation, error) {
		body, err := object(in.Body)
		if err != nil {
			return nil, err
		}
		value := map[string]any{
			"assistant_id": body["assistant_id"], "thread_id": body["thread_id"], "limit": limit, "offset": int64(0),
			"metadata": or(body["metadata"], map[string]any{}),
		}
		if limit > 0 {
			value["limit"], value["offset"] = or(body["limit"], limit), or(body["offset"], int64(0))
		}
		ops := []policy.Operation{{Resource: "crons", Action: "search", Value: value, Unfilterable: true}}
		if body["thread_id"] == nil {
			return append(ops, policy.Operation{Resource: "threads", Action: "search", Value: map[string]any{}, Unfilterable: true}), nil
		}
		id, _ := body["thread_id"].(string)
		if err := uuid("thread_id", id); err != nil {
			return nil, err
		}
		return append(ops, read(id)), nil
	}
}

func onCron(in policy.Input, action string, value map[string]any) (policy.Operation, error) {
	id := in.Param("cron_id")
	if err := uuid("cron_id", id); err != nil {
		return policy.Operation{}, err
	}
	value["cron_id"] = id
	return policy.Operation{
		Resource: "crons", Action: action, Value: value, MismatchDetail: noCron,
		Object: policy.Ref{Resource: "crons", ID: id, Path: "/runs/crons/" + id, Member: "cron_id"},
	}, nil
}

func cron(action string) func(policy.Input) ([]policy.Operation, error) {
	return func(in policy.Input) ([]policy.Operation, error) {
		op, err := onCron(in, action, map[string]any{})
		return []policy.Operation{op}, err
	}
}

func (a *api) updateCron(in policy.Input) ([]policy.Operation, error) {
	body, err := a.guarded(in, "")
	if err != nil {
		return nil, err
	}
	// The body is merged into the payload of runs to come; what those run, and where, was asked for at the create.
	if body["assistant_id"] != nil || body["thread_id"] != nil {
		return nil, forbidden("A cron keeps its assistant and its thread.")
	}
	md, err := threadMetadata(body)
	if err != nil {
		return nil, err
	}
	op, err := onCron(in, "update", map[string]any{
		"schedule": body["schedule"], "end_time": body["end_time"], "enabled": body["enabled"],
		"on_run_completed": body["on_run_completed"], "payload": body,
	})
	if err != nil {
		return nil, err
	}
	op.Stamps, op.Metadata, op.BodyMetadata = true, metadata, md
	if op.Headerless = headerless(body); body["config"] != nil {
		op.HeadersAt = cronConfig
	}
	return []policy.Operation{op}, nil
}
