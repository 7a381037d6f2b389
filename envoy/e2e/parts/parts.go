// Package parts carries the sources of what the demo and the end-to-end tests run beside Usher and Envoy: an OpenID
// provider, a LangGraph project without auth code, a client that speaks through LangGraph's official SDK, and a server and
// client of the Model Context Protocol. They are written into a working directory and run there with the packages that
// install.sh put into .tools.
package parts

import "embed"

// Files holds the directories provider, langgraph, client and mcp.
//
//go:embed provider langgraph client mcp
var Files embed.FS
