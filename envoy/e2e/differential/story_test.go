package differential_test

// story is a policy with requests that show what chance seldom finds.
type story struct {
	policy   policy
	requests []request
}

// told is a story's request: its symbols need not be known.
func told(user, method, path string, body any, event string) request {
	q := request{user: user}
	q.is(method, path, body, event)
	return q
}

func (s story) next() func() request {
	i := 0
	return func() request {
		i++
		return s.requests[i-1]
	}
}

var stories = []story{
	{ // A version that was somebody else's is not shown to whom the assistant was given.
		policy{Rules: []rule{
			{On: "assistants", Allow: "yes"},
			{On: "assistants:read", Allow: "yes", Filter: filters[0]},
		}},
		[]request{
			told("alice", "POST", "/assistants", map[string]any{"assistant_id": "{A1}", "graph_id": "agent", "metadata": map[string]any{"owner": "alice"}}, "assistants:create"),
			told("alice", "POST", "/assistants/{A1}/versions", map[string]any{"limit": 1000}, "assistants:read"),
			told("alice", "PATCH", "/assistants/{A1}", map[string]any{"name": "given", "metadata": map[string]any{"owner": "bob"}}, "assistants:update"),
			told("bob", "POST", "/assistants/{A1}/versions", map[string]any{"limit": 1000}, "assistants:read"),
			told("carol", "POST", "/assistants/{A1}/versions", map[string]any{"limit": 1000}, "assistants:read"),
			told("carol", "PATCH", "/assistants/{A1}", map[string]any{"metadata": map[string]any{"owner": "carol"}}, "assistants:update"),
			told("carol", "POST", "/assistants/{A1}/versions", map[string]any{"metadata": map[string]any{"owner": "carol"}}, "assistants:read"),
			told("carol", "POST", "/assistants/{A1}/latest", map[string]any{"version": 1}, "assistants:update"),
			told("carol", "GET", "/assistants/{A1}", nil, "assistants:read"),
			told("alice", "GET", "/assistants/{A1}", nil, "assistants:read"),
		},
	},
}
