package extauthz

import (
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
)

// Envoy forwards an upgrade once a check allows it, and whatever is said then nobody sees.
func TestAnUpgradeIsForWebSocketsRoutesOnly(t *testing.T) {
	const page = "https://chat.example.com"
	read := func(policy.Input) ([]policy.Operation, error) {
		return []policy.Operation{{Resource: "items", Action: "read"}}, nil
	}
	preset := policy.Preset{
		Routes: []policy.PresetRoute{
			{Method: "GET", Path: "/socket", WebSocket: true, Map: read},
			{Method: "GET", Path: "/items", Map: read},
			{Method: "POST", Path: "/items", NeedsBody: true, Map: read},
			{Method: "GET", Path: "/open", Public: true},
		},
		Events: map[string]map[string]policy.Event{"items": {"read": {}}},
	}
	text := func(s string) policy.Text { return policy.Text{Text: s} }
	snapshot, err := policy.New(policy.Set{Policies: []policy.Source{{
		Name: "api", Hosts: []policy.Text{text("api.test")}, Providers: []string{"p"}, API: policy.APISource{Preset: text("sockets")},
		Rules: []policy.RuleSource{{On: text("items")}}, TokenFrom: policy.TokenFrom{Cookie: "t", Origins: []string{page}},
	}}}, map[string]policy.Preset{"sockets": preset})
	if err != nil {
		t.Fatal(err)
	}
	s, m, _ := newServer(t)
	next := *testStateFor(t, m.jwks(t))
	next.Policies, next.Verifiers = snapshot, s.state.Load().Verifiers
	if err := next.prepare(); err != nil {
		t.Fatal(err)
	}
	s.Swap(&next)
	good := [][2]string{{"cookie", "t=" + m.mint(t, nil)}, {"origin", page}}
	upgrade := [2]string{"upgrade", "websocket"}
	for _, c := range []struct {
		name, method, path string
		headers            [][2]string
		want               int
	}{
		{"a_websocket", "GET", "/socket", append(good, upgrade), 200},
		{"a_websocket_by_a_stranger", "GET", "/socket", [][2]string{upgrade}, 401},
		{"a_websocket_from_another_page", "GET", "/socket", [][2]string{good[0], {"origin", "https://evil.example"}, upgrade}, 403},
		{"another_route", "GET", "/items", append(good, upgrade), 403},
		{"another_route_in_capitals", "GET", "/items", append(good, [2]string{"Upgrade", "WebSocket"}), 403},
		{"an_empty_one", "GET", "/items", append(good, [2]string{"upgrade", ""}), 403},
		{"another_protocol", "GET", "/items", append(good, [2]string{"upgrade", "TLS/1.2"}), 403},
		{"a_head", "HEAD", "/items", append(good, upgrade), 403},
		{"one_that_needs_a_body", "POST", "/items", append(good, upgrade), 403},
		{"a_public_one", "GET", "/open", [][2]string{upgrade}, 403},
		{"an_unknown_one", "GET", "/nowhere", append(good, upgrade), 404},
		{"by_a_stranger", "GET", "/items", [][2]string{upgrade}, 401},
		{"none", "GET", "/items", good, 200},
	} {
		for form, asMap := range map[string]bool{"list": false, "map": true} {
			t.Run(c.name+"/"+form, func(t *testing.T) {
				r := do(t, s, ask(c.method, c.path, asMap, c.headers...))
				if statusOf(r) != c.want {
					t.Fatalf("status %d, want %d: %v", statusOf(r), c.want, r)
				}
				if body := r.GetDeniedResponse().GetBody(); c.want == 403 && c.path != "/socket" && !strings.Contains(body, "An upgrade is not possible here.") {
					t.Errorf("the answer is %s", body)
				}
			})
		}
	}
}
