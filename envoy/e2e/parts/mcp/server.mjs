// A Model Context Protocol server before a LangGraph server, as LangGraph's Python server is one itself at /mcp (its
// JavaScript server is not): each assistant is a tool, and a call is a run without a thread. It has no auth code.
//
//     node server.mjs PORT LANGGRAPH_URL
//
// What is sent to /mcp with x-user-id is run for that user; the answer says who that was. All else is answered 200.

import { Client } from "@langchain/langgraph-sdk";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { CallToolRequestSchema, ListToolsRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { createServer } from "node:http";

const [port, backend] = process.argv.slice(2);

function newServer(user) {
  const langgraph = new Client({ apiUrl: backend, apiKey: null, defaultHeaders: { "x-user-id": user } });
  const server = new Server({ name: "langgraph", version: "1" }, { capabilities: { tools: {} } });
  server.setRequestHandler(ListToolsRequestSchema, async () => ({
    tools: (await langgraph.assistants.search()).map((assistant) => ({ name: assistant.graph_id, inputSchema: { type: "object" } })),
  }));
  server.setRequestHandler(CallToolRequestSchema, async ({ params }) => {
    const values = await langgraph.runs.wait(null, params.name, { input: params.arguments });
    return { content: [{ type: "text", text: JSON.stringify({ user, values }) }] };
  });
  return server;
}

const listener = createServer(async (request, response) => {
  if (request.url !== "/mcp") return response.writeHead(200).end("ok");
  if (request.method !== "POST") return response.writeHead(405, { allow: "POST" }).end();
  const server = newServer(request.headers["x-user-id"] ?? "");
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
  response.on("close", () => server.close());
  await server.connect(transport);
  await transport.handleRequest(request, response);
});
listener.listen(Number(port), "127.0.0.1", () => console.log(`tools of ${backend} at port ${port}`));
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    listener.closeAllConnections();
    listener.close(() => process.exit(0));
  });
}
