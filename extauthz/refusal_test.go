package extauthz

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// An MCP client reads why it was refused; a stranger's body is not looked at.
func TestA_refused_MCP_message_is_answered_with_a_JSON_RPC_error(t *testing.T) {
	m := newMinter(t, "ES256")
	s := conformanceServer(t, m, "../policy/langgraph/testdata/cases/p2.yaml", objects{})
	for _, c := range []struct {
		name, token, body string
		status            int
		want              string
	}{
		{"a rule's filter", m.mint(t, map[string]any{"sub": "johndoe", "scope": "me"}), `{"jsonrpc":"2.0","id":3,"method":"tools/list"}`, 403, `{"jsonrpc":"2.0","id":3,"error":{"code":-32000,"message":"Forbidden"}}`},
		{"an unknown method", m.mint(t, map[string]any{"sub": "johndoe", "scope": "me"}), `{"jsonrpc":"2.0","id":"x","method":"resources/list"}`, 403, `{"jsonrpc":"2.0","id":"x","error":{"code":-32601,"message":"Unknown method."}}`},
		{"no strict JSON", m.mint(t, map[string]any{"sub": "johndoe", "scope": "me"}), `{"id":1,"id":1}`, 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"The body is not strict JSON (RFC 7493)."}}`},
		{"no token", "", `{"jsonrpc":"2.0","id":3,"method":"tools/list"}`, 401, `{"detail":"An access token is needed."}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := &corev3.HeaderMap{}
			if c.token != "" {
				list.Headers = append(list.Headers, &corev3.HeaderValue{Key: "authorization", RawValue: []byte("Bearer " + c.token)})
			}
			r := do(t, s, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
				Http: &authv3.AttributeContext_HttpRequest{Method: "POST", Path: "/mcp", Host: "agents.test", HeaderMap: list, RawBody: []byte(c.body)},
			}}})
			if got := r.GetDeniedResponse().GetBody(); statusOf(r) != c.status || got != c.want {
				t.Errorf("%d %s, want %d %s", statusOf(r), got, c.status, c.want)
			}
		})
	}
}
