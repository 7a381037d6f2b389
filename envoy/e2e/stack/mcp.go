package stack

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
)

// The public client that the provider knows, and where it wants its users back: see parts/provider/provider.mjs.
const (
	ClientID    = clientID
	RedirectURI = redirectURI
)

// NewMCP starts a Model Context Protocol server before the LangGraph server, and returns its URL: see parts/mcp/server.mjs.
func (s *Stack) NewMCP(ctx context.Context) (*Part, string, error) {
	addresses, err := freeAddresses(1)
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(addresses[0])
	base := "http://" + addresses[0]
	p := s.part(&Part{
		Name:    "mcp",
		command: []string{s.tools.node, "server.mjs", port, s.Backend},
		dir:     filepath.Join(s.Dir, "mcp"),
		ready:   answers200(base + "/ok"),
	})
	s.say("the MCP server starts at %s", base)
	return p, base, p.Start(ctx)
}

// Authorize does what the user's browser does with an application's authorization request: it logs in, consents, and ends at
// the redirect to the application, whose query it returns.
func (s *Stack) Authorize(ctx context.Context, user User, request string) (url.Values, error) {
	b, err := newBrowser(user)
	if err != nil {
		return nil, err
	}
	answer, err := b.authorize(ctx, request)
	if err == nil && answer.Get("error") != "" {
		err = fmt.Errorf("the provider says %s: %s", answer.Get("error"), answer.Get("error_description"))
	}
	return answer, err
}
