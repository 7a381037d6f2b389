package langgraph

import (
	"strings"

	"github.com/usher-authz/usher/policy"
)

// a2a is POST /a2a/{assistant_id}, by the names of A2A 0.3 (message/send) and of 1.0 (SendMessage): langgraph_api.api.a2a
// takes both. A context is a thread, and a task a run.
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
	case "message/send", "message/stream", "SendMessage", "SendStreamingMessage":
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
		return []policy.Operation{assistant, resume(id, thread), read(thread), runsOf(thread)}, nil
	case "tasks/get", "GetTask", "tasks/cancel", "CancelTask":
		thread, err := taskThread(params, "id")
		if err != nil {
			return nil, err
		}
		if thread == "" {
			return nil, bad("contextId is needed.")
		}
		ops := []policy.Operation{read(thread), runsOf(thread), assistant}
		if method == "tasks/get" || method == "GetTask" {
			return ops, nil
		}
		// A task that waits for input is cancelled by a run that takes its place, and that is deleted if it cannot.
		return append(append(ops, resume(id, thread)), cancelOps(thread, nil, "rollback", nil)...), nil
	case "ListTasks":
		if params["contextId"] == nil {
			tasks := func(action string) policy.Operation {
				return policy.Operation{Resource: "threads", Action: action, Unfilterable: true, Value: map[string]any{"thread_id": nil, "metadata": map[string]any{}}}
			}
			return []policy.Operation{assistant, tasks("search"), tasks("read")}, nil
		}
		thread, err := taskThread(params, "")
		if err != nil {
			return nil, err
		}
		return []policy.Operation{assistant, read(thread), runsOf(thread)}, nil
	case "GetExtendedAgentCard":
		return []policy.Operation{assistant}, nil
	}
	return nil, forbidden(unknownMethod)
}

// resume is a run on a thread that is there. The server would make one that is not, and no stamp could reach it.
func resume(assistant, thread string) policy.Operation {
	op := on("create_run", thread, runValue(map[string]any{"assistant_id": assistant}, thread, "create"))
	op.MismatchDetail = noThreadOrRunable
	op.Requires = []policy.Ref{op.Object}
	return op
}

// taskThread returns the thread that a message or a task is about: its contextId, which the task's id (context:run)
// repeats. Each names the thread where the other is missing, so they must agree. "" is a new thread.
func taskThread(o map[string]any, task string) (string, error) {
	var thread string
	for _, name := range []string{"contextId", task} {
		if name == "" || o[name] == nil {
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
