package langgraph

import "github.com/usher-authz/usher/policy"

// api is the LangGraph API as one deployment serves it. The zero api is a server without settings of its own, and without
// what a policy must ask for.
type api struct {
	http      httpOptions
	webhooks  []hook
	webSocket bool
}

// Preset returns the LangGraph API as data. Each call returns a new value.
func Preset() policy.Preset {
	return (&api{}).preset()
}

func (a *api) preset() policy.Preset {
	return policy.Preset{
		Routes: a.routes(),
		Events: a.events(),
		// x-api-key is LangSmith's: the SDKs send it by themselves, and the backend has no use for it.
		// x-tenant-id and x-service-key go with it (langgraph_api.auth.langsmith).
		RemoveHeaders: []string{"x-api-key", "x-tenant-id", "x-service-key"},
		// The servers copy x-* headers to the config of the run, and keep that in the thread for later runs.
		IdentityPrefix: "x-", RemembersHeaders: true, Probe: "/ok",
		Configure: configure, Unseen: a.webSocket,
	}
}
