package v1alpha1

// LangGraph are options of preset langgraph.
//
// +kubebuilder:validation:XValidation:rule=`!self.?http.?disable_webhooks.orValue(false) || self.?webhooks.?allow.orValue([]).size() == 0`,message="both disable_webhooks and webhooks.allow, expected one of them; the server would refuse every run with a webhook",reason=FieldValueForbidden,fieldPath=".webhooks"
type LangGraph struct {
	// HTTP is what the deployment's langgraph.json says under `http`, as far as it changes which routes there are.
	HTTP *LangGraphHTTP `json:"http,omitempty"`
	// Webhooks that runs and crons may name. Default: none.
	Webhooks *LangGraphWebhooks `json:"webhooks,omitempty"`
	// WebSocket is Allow for the WebSocket of protocol v2. Envoy passes its frames unseen, so a user whom the rules let do
	// everything with a thread may say anything there: see docs/langgraph.md. Default: Deny.
	// +kubebuilder:validation:Enum=Deny;Allow
	WebSocket string `json:"webSocket,omitempty"`
}

// LangGraphHTTP has the names of langgraph.json. A group that is disabled is an unknown route: 404.
type LangGraphHTTP struct {
	// MountPrefix stands before every path, such as /agents.
	// +kubebuilder:validation:Pattern=`^(/[0-9A-Za-z._~-]+)+$`
	MountPrefix string `json:"mount_prefix,omitempty"`
	// DisableAssistants: no /assistants.
	DisableAssistants bool `json:"disable_assistants,omitempty"`
	// DisableThreads: no /threads, but for the runs of a thread. Ownership of threads cannot be looked up then, so that a rule
	// with a filter finds none.
	DisableThreads bool `json:"disable_threads,omitempty"`
	// DisableRuns: no runs, no crons and no protocol v2.
	DisableRuns bool `json:"disable_runs,omitempty"`
	// DisableStore: no /store.
	DisableStore bool `json:"disable_store,omitempty"`
	// DisableMeta: no / and /info. /ok stays.
	DisableMeta bool `json:"disable_meta,omitempty"`
	// DisableMCP: no /mcp.
	DisableMCP bool `json:"disable_mcp,omitempty"`
	// DisableA2A: no /a2a and no agent cards.
	DisableA2A bool `json:"disable_a2a,omitempty"`
	// DisableUI: no /ui.
	DisableUI bool `json:"disable_ui,omitempty"`
	// DisableWebhooks: a run or cron with a webhook is refused.
	DisableWebhooks bool `json:"disable_webhooks,omitempty"`
	// DisableEventStreaming: no protocol v2.
	DisableEventStreaming bool `json:"disable_event_streaming,omitempty"`
}

// LangGraphWebhooks lists where a server may report the end of a run.
type LangGraphWebhooks struct {
	// Allow are http or https URLs in lower case, without user name, query or fragment. A webhook must have the same scheme,
	// host and port, and a path that begins with the same segments. Where such a host redirects to is not looked at.
	// +kubebuilder:validation:items:MaxLength=2048
	// +kubebuilder:validation:items:Pattern=`^https?://[^\s?#@]+$`
	Allow []string `json:"allow,omitempty"`
}
