// A Model Context Protocol client that knows a URL and a client id, and nothing else: where to log in it finds out by
// itself, all of it the official SDK's doing.
//
//     node client.mjs URL CLIENT_ID REDIRECT_URI
//
// It writes and reads one JSON object per line:
//
//     out  {"login": "https://..."}         what the user's browser must open
//     in   {"code": "..."}                  what came back to the redirect URI
//     out  {"tools": ["agent"]}
//     in   {"tool": "agent", "arguments": {}}
//     out  {"result": {...}}                or {"error": "..."}
//     out  {"asked": ["GET http://... 401"]}   every request that was made, and its status

import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { createInterface } from "node:readline";

const [url, clientID, redirectURI] = process.argv.slice(2);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const read = async () => JSON.parse((await lines.next()).value);
const write = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

const kept = {};
const authProvider = {
  redirectUrl: redirectURI,
  clientMetadata: { client_name: "test", redirect_uris: [redirectURI], token_endpoint_auth_method: "none" },
  clientInformation: () => ({ client_id: clientID }),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  redirectToAuthorization: (address) => write({ login: String(address) }),
};

const asked = [];
async function noting(input, init) {
  const response = await fetch(input, init);
  asked.push(`${init?.method ?? "GET"} ${input} ${response.status}`);
  return response;
}
const newTransport = () => new StreamableHTTPClientTransport(new URL(url), { authProvider, fetch: noting });

async function connect() {
  const client = new Client({ name: "test", version: "1" });
  const transport = newTransport();
  try {
    await client.connect(transport);
    return client;
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
  }
  await transport.finishAuth((await read()).code);
  const again = new Client({ name: "test", version: "1" });
  await again.connect(newTransport());
  return again;
}

try {
  const client = await connect();
  write({ tools: (await client.listTools()).tools.map((tool) => tool.name) });
  const { tool, arguments: given } = await read();
  write({ result: await client.callTool({ name: tool, arguments: given }) });
} catch (error) {
  write({ error: `${error.name}: ${error.message}` });
}
write({ asked });
process.exit(0);
