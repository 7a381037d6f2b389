package langgraph

import "github.com/usher-authz/usher/policy"

// events are LangGraph's resources and actions (the SDK's Auth.on), with what a rule can do to each.
func (a *api) events() map[string]map[string]policy.Event {
	object := policy.Event{Filters: true}
	written := policy.Event{Filters: true, Stamps: true}
	search := policy.Event{Filters: true, Search: true}
	item := policy.Event{Filters: true, Names: []string{"namespace", "key"}}
	out := map[string]map[string]policy.Event{
		"threads":    {"create": written, "read": object, "update": written, "delete": object, "search": search, "create_run": written},
		"assistants": {"create": written, "read": object, "update": written, "delete": object, "search": search},
		"crons":      {"create": written, "read": object, "update": written, "delete": object, "search": {}},
		"store":      {"put": item, "get": item, "search": object, "delete": item, "list_namespaces": {Filters: true, Names: []string{"namespace"}}},
	}
	// Without its routes a rule for them could never apply, and is a mistake.
	if a.http.disableStore {
		delete(out, "store")
	}
	if a.http.disableRuns {
		delete(out, "crons")
	}
	return out
}

// group is a part of the API that langgraph.json can turn off.
type group struct {
	off    bool
	routes []policy.PresetRoute
}

// routes is the table. A body is read only where the events depend on it, or where it could reach past the path.
// testdata/routes.json lists the servers' own routes, and says why some of them are not here.
func (a *api) routes() []policy.PresetRoute {
	h := a.http
	var out []policy.PresetRoute
	for _, g := range []group{
		{h.disableMeta, []policy.PresetRoute{
			{Method: "GET", Path: "/", Public: true},
			{Method: "GET", Path: "/info", Public: true},
		}},
		{false, []policy.PresetRoute{{Method: "GET", Path: "/ok", Public: true}}}, // it stays without the other meta routes
		{h.disableThreads, []policy.PresetRoute{
			{Method: "POST", Path: "/threads", NeedsBody: true, Map: a.createThread},
			{Method: "POST", Path: "/threads/search", NeedsBody: true, Map: searchThreads("[]", 10)},
			{Method: "POST", Path: "/threads/count", NeedsBody: true, Map: searchThreads("0", 0)},
			{Method: "POST", Path: "/threads/prune", NeedsBody: true, Map: pruneThreads},
			{Method: "GET", Path: "/threads/{thread_id}", Map: a.readThread},
			{Method: "PATCH", Path: "/threads/{thread_id}", NeedsBody: true, Map: a.updateThread},
			{Method: "DELETE", Path: "/threads/{thread_id}", Map: a.deleteThread},
			{Method: "POST", Path: "/threads/{thread_id}/copy", NeedsBody: true, Map: a.copyThread},
			{Method: "GET", Path: "/threads/{thread_id}/storage", Map: a.readThread},
			{Method: "GET", Path: "/threads/{thread_id}/state", Map: a.readThread},
			{Method: "GET", Path: "/threads/{thread_id}/state/{checkpoint_id}", Map: a.readThread},
			{Method: "POST", Path: "/threads/{thread_id}/state", NeedsBody: true, Map: a.updateState},
			{Method: "POST", Path: "/threads/{thread_id}/state/checkpoint", NeedsBody: true, Map: a.readThread},
			{Method: "GET", Path: "/threads/{thread_id}/history", Map: a.readThread},
			{Method: "POST", Path: "/threads/{thread_id}/history", NeedsBody: true, Map: a.readThread},
			{Method: "GET", Path: "/threads/{thread_id}/stream", Map: a.readThread},
		}},
		{h.disableRuns, []policy.PresetRoute{
			{Method: "GET", Path: "/threads/{thread_id}/runs", Map: a.listRuns},
			{Method: "POST", Path: "/threads/{thread_id}/runs", NeedsBody: true, Map: a.createRun(false)},
			{Method: "POST", Path: "/threads/{thread_id}/runs/stream", NeedsBody: true, Map: a.createRun(true)},
			{Method: "POST", Path: "/threads/{thread_id}/runs/wait", NeedsBody: true, Map: a.createRun(true)},
			{Method: "GET", Path: "/threads/{thread_id}/runs/{run_id}", Map: a.readRun},
			{Method: "GET", Path: "/threads/{thread_id}/runs/{run_id}/join", Map: a.followRun},
			{Method: "GET", Path: "/threads/{thread_id}/runs/{run_id}/stream", Map: a.followRun},
			{Method: "POST", Path: "/threads/{thread_id}/runs/{run_id}/cancel", Map: a.cancelRun},
			{Method: "DELETE", Path: "/threads/{thread_id}/runs/{run_id}", Map: a.deleteRun},
			{Method: "POST", Path: "/runs", NeedsBody: true, Map: a.createStatelessRun(false)},
			{Method: "POST", Path: "/runs/stream", NeedsBody: true, Map: a.createStatelessRun(true)},
			{Method: "POST", Path: "/runs/wait", NeedsBody: true, Map: a.createStatelessRun(true)},
			{Method: "POST", Path: "/runs/batch", NeedsBody: true, Map: a.createRunBatch},
			{Method: "POST", Path: "/runs/cancel", NeedsBody: true, Map: cancelRuns},
			// GET /runs/{run_id}/stream is left out on purpose: the JS server serves anybody's run there, and no id in the
			// path says whose it is.
			{Method: "POST", Path: "/runs/crons", NeedsBody: true, Map: a.createCron},
			{Method: "POST", Path: "/threads/{thread_id}/runs/crons", NeedsBody: true, Map: a.createCron},
			{Method: "POST", Path: "/runs/crons/search", NeedsBody: true, Map: searchCrons(10)},
			{Method: "POST", Path: "/runs/crons/count", NeedsBody: true, Map: searchCrons(0)},
			{Method: "GET", Path: "/runs/crons/{cron_id}", Map: cron("read")},
			{Method: "PATCH", Path: "/runs/crons/{cron_id}", NeedsBody: true, Map: a.updateCron},
			{Method: "DELETE", Path: "/runs/crons/{cron_id}", Map: cron("delete")},
		}},
		{h.disableRuns || h.disableEventStreaming, []policy.PresetRoute{
			{Method: "POST", Path: "/threads/{thread_id}/commands", NeedsBody: true, Map: a.threadCommand},
			{Method: "POST", Path: "/threads/{thread_id}/stream/events", NeedsBody: true, Map: a.readThread},
			{Method: "GET", Path: "/threads/{thread_id}/stream/events", WebSocket: true, Map: a.openSocket},
		}},
		{h.disableAssistants, []policy.PresetRoute{
			{Method: "POST", Path: "/assistants", NeedsBody: true, Map: a.createAssistant},
			{Method: "POST", Path: "/assistants/search", NeedsBody: true, Map: searchAssistants("[]", 10)},
			{Method: "POST", Path: "/assistants/count", NeedsBody: true, Map: searchAssistants("0", 0)},
			{Method: "GET", Path: "/assistants/{assistant_id}", Map: a.readAssistant},
			{Method: "GET", Path: "/assistants/{assistant_id}/graph", Map: a.readAssistant},
			{Method: "GET", Path: "/assistants/{assistant_id}/schemas", Map: a.readAssistant},
			{Method: "GET", Path: "/assistants/{assistant_id}/subgraphs", Map: a.readAssistant},
			{Method: "GET", Path: "/assistants/{assistant_id}/subgraphs/{namespace}", Map: a.readAssistant},
			{Method: "POST", Path: "/assistants/{assistant_id}/versions", NeedsBody: true, Map: a.assistantVersions},
			{Method: "PATCH", Path: "/assistants/{assistant_id}", NeedsBody: true, Map: a.updateAssistant},
			{Method: "POST", Path: "/assistants/{assistant_id}/latest", NeedsBody: true, Map: a.restoreAssistant},
			{Method: "DELETE", Path: "/assistants/{assistant_id}", Map: a.deleteAssistant},
		}},
		{h.disableStore, []policy.PresetRoute{
			{Method: "PUT", Path: "/store/items", NeedsBody: true, Map: putItem},
			{Method: "GET", Path: "/store/items", Map: getItem},
			{Method: "DELETE", Path: "/store/items", NeedsBody: true, Map: deleteItem},
			{Method: "POST", Path: "/store/items/search", NeedsBody: true, Map: searchItems},
			{Method: "POST", Path: "/store/namespaces", NeedsBody: true, Map: listNamespaces},
		}},
		{h.disableMCP, []policy.PresetRoute{
			{Method: "POST", Path: "/mcp", NeedsBody: true, Map: a.mcp, Refusal: rpcRefusal},
			{Method: "POST", Path: "/mcp/", NeedsBody: true, Map: a.mcp, Refusal: rpcRefusal},
		}},
		{h.disableA2A, []policy.PresetRoute{
			{Method: "POST", Path: "/a2a/{assistant_id}", NeedsBody: true, Map: a.a2a, Refusal: rpcRefusal},
			{Method: "POST", Path: "/a2a/{assistant_id}/", NeedsBody: true, Map: a.a2a, Refusal: rpcRefusal},
			{Method: "GET", Path: "/a2a/{assistant_id}", Map: a.readAssistant}, // its card
			{Method: "GET", Path: "/a2a/{assistant_id}/", Map: a.readAssistant},
			{Method: "GET", Path: "/a2a/{assistant_id}/.well-known/agent-card.json", Map: a.readAssistant},
			{Method: "GET", Path: "/a2a/{assistant_id}/.well-known/agent.json", Map: a.readAssistant},
			{Method: "GET", Path: "/.well-known/agent-card.json", Map: agentCard},
		}},
		{h.disableUI, []policy.PresetRoute{
			// The servers give the pages' own scripts to anybody: api.public can name these two.
			{Method: "GET", Path: "/ui/{rest=**}", MayBePublic: true, Map: unruled},
			{Method: "POST", Path: "/ui/{graph_id}", MayBePublic: true, Map: unruled},
		}},
	} {
		if !g.off {
			out = append(out, g.routes...)
		}
	}
	return a.mounted(out)
}

// unruled is a request for which the servers fire no event: a verified token is enough.
func unruled(policy.Input) ([]policy.Operation, error) {
	return []policy.Operation{{Unruled: true}}, nil
}
