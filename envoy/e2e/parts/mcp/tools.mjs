// A Model Context Protocol client with a token in a header.
//
//     node tools.mjs URL
//
// It reads {"token": "...", "tool": "agent", "arguments": {}}, or without a tool to list them, and writes {"tools": [...]},
// {"result": {...}} or {"error": "...", "status": 403, "rpc": {...}}, one JSON object per line.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { createInterface } from "node:readline";

const url = new URL(process.argv[2]);
const write = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

for await (const line of createInterface({ input: process.stdin })) {
  const { token, tool, arguments: given } = JSON.parse(line);
  let refused = {};
  async function noting(input, init) {
    const response = await fetch(input, init);
    if (init?.method === "POST" && response.status >= 400) {
      const text = await response.clone().text();
      refused = { status: response.status, body: text };
    }
    return response;
  }
  const client = new Client({ name: "test", version: "1" });
  try {
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    await client.connect(new StreamableHTTPClientTransport(url, { requestInit: { headers }, fetch: noting }));
    if (tool) write({ result: await client.callTool({ name: tool, arguments: given }) });
    else write({ tools: (await client.listTools()).tools.map((each) => each.name) });
  } catch (error) {
    write({ error: `${error.name}: ${error.message}`, ...refused });
  }
  await client.close();
}
