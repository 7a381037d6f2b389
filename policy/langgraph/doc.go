// Package langgraph is the preset for LangGraph servers: it maps every route of the Python server (langgraph-api 0.16)
// and of the JS server (@langchain/langgraph-api 1.5) to the auth events that the server itself would fire, with the
// values that a handler of its Auth class would get. What was seen on a running server is in testdata, and is replayed
// by the tests; docs/langgraph.md lists where Usher differs and why.
//
// The tables are data and the mappers are pure: routes.go says which route fires what, the other files read bodies.
// What the servers would let through although nobody meant to (langgraph_auth_* in a body, webhooks into the backend
// itself, another thread's id inside a checkpoint) is refused in guard.go, before any event.
package langgraph
