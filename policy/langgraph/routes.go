package langgraph

import "github.com/usher-authz/usher/policy"

// Preset returns the LangGraph API as data. Each call returns a new value.
func Preset() policy.Preset {
	return policy.Preset{
		Routes: routes(),
		Events: events(),
		// x-api-key is LangSmith's: the SDKs send it by themselves, and the backend has no use for it.
		// x-tenant-id and x-service-key go with it (langgraph_api.auth.langsmith).
		RemoveHeaders: []string{"x-api-key", "x-tenant-id", "x-service-key"},
		// The servers copy x-* headers to the config of the run, and keep that in the thread for later runs.
		IdentityPrefix: "x-", RemembersHeaders: true, Probe: "/ok",
	}
}

// events are LangGraph's resources and actions (the SDK's Auth.on), with what a rule can do to each.
func events() map[string]map[string]policy.Event {
	object := policy.Event{Filters: true}
	written := policy.Event{Filters: true, Stamps: true}
	search := policy.Event{Filters: true, Search: true}
	return map[string]map[string]policy.Event{
		"threads":    {"create": written, "read": object, "update": written, "delete": object, "search": search, "create_run": written},
		"assistants": {"create": written, "read": object, "update": written, "delete": object, "search": search},
		"crons":      {"create": written, "read": object, "update": written, "delete": object, "search": {}},
		"store":      {"put": {}, "get": {}, "search": {}, "delete": {}, "list_namespaces": {}},
	}
}

// routes is the table. A body is read only where the events depend on it, or where it could reach past the path.
func routes() []policy.PresetRoute {
	return []policy.PresetRoute{
		{Method: "GET", Path: "/", Public: true},
		{Method: "GET", Path: "/ok", Public: true},
		{Method: "GET", Path: "/info", Public: true},

		{Method: "POST", Path: "/threads", NeedsBody: true, Map: createThread},
		{Method: "POST", Path: "/threads/search", NeedsBody: true, Map: searchThreads("[]", 10)},
		{Method: "POST", Path: "/threads/count", NeedsBody: true, Map: searchThreads("0", 0)},
		{Method: "POST", Path: "/threads/prune", NeedsBody: true, Map: pruneThreads},
		{Method: "GET", Path: "/threads/{thread_id}", Map: readThread},
		{Method: "PATCH", Path: "/threads/{thread_id}", NeedsBody: true, Map: updateThread},
		{Method: "DELETE", Path: "/threads/{thread_id}", Map: deleteThread},
		{Method: "POST", Path: "/threads/{thread_id}/copy", NeedsBody: true, Map: copyThread},
		{Method: "GET", Path: "/threads/{thread_id}/storage", Map: readThread},
		{Method: "GET", Path: "/threads/{thread_id}/state", Map: readThread},
		{Method: "GET", Path: "/threads/{thread_id}/state/{checkpoint_id}", Map: readThread},
		{Method: "POST", Path: "/threads/{thread_id}/state", NeedsBody: true, Map: updateState},
		{Method: "POST", Path: "/threads/{thread_id}/state/checkpoint", NeedsBody: true, Map: readThread},
		{Method: "GET", Path: "/threads/{thread_id}/history", Map: readThread},
		{Method: "POST", Path: "/threads/{thread_id}/history", NeedsBody: true, Map: readThread},
		{Method: "GET", Path: "/threads/{thread_id}/stream", Map: readThread},

		{Method: "GET", Path: "/threads/{thread_id}/runs", Map: listRuns},
		{Method: "POST", Path: "/threads/{thread_id}/runs", NeedsBody: true, Map: createRun(false)},
		{Method: "POST", Path: "/threads/{thread_id}/runs/stream", NeedsBody: true, Map: createRun(true)},
		{Method: "POST", Path: "/threads/{thread_id}/runs/wait", NeedsBody: true, Map: createRun(true)},
		{Method: "GET", Path: "/threads/{thread_id}/runs/{run_id}", Map: readRun},
		{Method: "GET", Path: "/threads/{thread_id}/runs/{run_id}/join", Map: followRun},
		{Method: "GET", Path: "/threads/{thread_id}/runs/{run_id}/stream", Map: followRun},
		{Method: "POST", Path: "/threads/{thread_id}/runs/{run_id}/cancel", Map: cancelRun},
		{Method: "DELETE", Path: "/threads/{thread_id}/runs/{run_id}", Map: deleteRun},
		{Method: "POST", Path: "/runs", NeedsBody: true, Map: createStatelessRun(false)},
		{Method: "POST", Path: "/runs/stream", NeedsBody: true, Map: createStatelessRun(true)},
		{Method: "POST", Path: "/runs/wait", NeedsBody: true, Map: createStatelessRun(true)},
		{Method: "POST", Path: "/runs/batch", NeedsBody: true, Map: createRunBatch},
		{Method: "POST", Path: "/runs/cancel", NeedsBody: true, Map: cancelRuns},
		// GET /runs/{run_id}/stream is left out on purpose: the JS server serves anybody's run there, and no id in the
		// path says whose it is.

		{Method: "POST", Path: "/threads/{thread_id}/commands", NeedsBody: true, Map: threadCommand},
		{Method: "POST", Path: "/threads/{thread_id}/stream/events", NeedsBody: true, Map: readThread},
		{Method: "GET", Path: "/threads/{thread_id}/stream/events", Map: openSocket}, // a WebSocket

		{Method: "POST", Path: "/assistants", NeedsBody: true, Map: createAssistant},
		{Method: "POST", Path: "/assistants/search", NeedsBody: true, Map: searchAssistants("[]", 10)},
		{Method: "POST", Path: "/assistants/count", NeedsBody: true, Map: searchAssistants("0", 0)},
		{Method: "GET", Path: "/assistants/{assistant_id}", Map: readAssistant},
		{Method: "GET", Path: "/assistants/{assistant_id}/graph", Map: readAssistant},
		{Method: "GET", Path: "/assistants/{assistant_id}/schemas", Map: readAssistant},
		{Method: "GET", Path: "/assistants/{assistant_id}/subgraphs", Map: readAssistant},
		{Method: "GET", Path: "/assistants/{assistant_id}/subgraphs/{namespace}", Map: readAssistant},
		{Method: "POST", Path: "/assistants/{assistant_id}/versions", NeedsBody: true, Map: assistantVersions},
		{Method: "PATCH", Path: "/assistants/{assistant_id}", NeedsBody: true, Map: updateAssistant},
		{Method: "POST", Path: "/assistants/{assistant_id}/latest", NeedsBody: true, Map: restoreAssistant},
		{Method: "DELETE", Path: "/assistants/{assistant_id}", Map: deleteAssistant},

		{Method: "POST", Path: "/runs/crons", NeedsBody: true, Map: createCron},
		{Method: "POST", Path: "/threads/{thread_id}/runs/crons", NeedsBody: true, Map: createCron},
		{Method: "POST", Path: "/runs/crons/search", NeedsBody: true, Map: searchCrons(10)},
		{Method: "POST", Path: "/runs/crons/count", NeedsBody: true, Map: searchCrons(0)},
		{Method: "GET", Path: "/runs/crons/{cron_id}", Map: cron("read")},
		{Method: "PATCH", Path: "/runs/crons/{cron_id}", NeedsBody: true, Map: updateCron},
		{Method: "DELETE", Path: "/runs/crons/{cron_id}", Map: cron("delete")},

		{Method: "PUT", Path: "/store/items", NeedsBody: true, Map: putItem},
		{Method: "GET", Path: "/store/items", Map: getItem},
		{Method: "DELETE", Path: "/store/items", NeedsBody: true, Map: deleteItem},
		{Method: "POST", Path: "/store/items/search", NeedsBody: true, Map: searchItems},
		{Method: "POST", Path: "/store/namespaces", NeedsBody: true, Map: listNamespaces},

		{Method: "POST", Path: "/mcp", NeedsBody: true, Map: mcp},
		{Method: "POST", Path: "/mcp/", NeedsBody: true, Map: mcp},
		{Method: "POST", Path: "/a2a/{assistant_id}", NeedsBody: true, Map: a2a},
		{Method: "GET", Path: "/a2a/{assistant_id}/.well-known/agent-card.json", Map: readAssistant},
		{Method: "GET", Path: "/a2a/{assistant_id}/.well-known/agent.json", Map: readAssistant},
		{Method: "GET", Path: "/.well-known/agent-card.json", Map: agentCard},
	}
}
