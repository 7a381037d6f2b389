// Package parts carries the sources of what the demo and the end-to-end tests run beside Usher and Envoy: an OpenID
// provider, a LangGraph project without auth code, and a client that speaks through LangGraph's official SDK. They are
// written into a working directory and run there with the packages that install.sh put into .tools.
package parts

import "embed"

// Files holds the directories provider, langgraph and client.
//
//go:embed provider langgraph client
var Files embed.FS
