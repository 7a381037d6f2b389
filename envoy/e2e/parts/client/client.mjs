// Speaks to a LangGraph server through the official SDK, for tests that are written in another language.
//
// It reads one JSON object per line and writes one per line:
//
//     in   {"id": 1, "url": "http://...", "token": "...", "call": "threads.create", "args": [{}]}
//     out  {"id": 1, "value": {...}}                          the call's result
//          {"id": 1, "event": {...}}                          one event of a stream, as soon as the SDK hands it over
//          {"id": 1, "done": true}                            the stream has ended
//          {"id": 1, "error": {"status": 404, "message": ""}} the call failed; status is 0 where there was no answer
//     in   {"id": 1, "abort": true}                           ends a stream from the client's side
//
// Calls run beside each other. An empty token sends no Authorization header.

import { Client } from "@langchain/langgraph-sdk";
import { createInterface } from "node:readline";

const running = new Map();
const write = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

async function run({ id, url, token, call, args }) {
  const client = new Client({
    apiUrl: url,
    apiKey: null,
    defaultHeaders: token ? { authorization: `Bearer ${token}` } : {},
    callerOptions: { maxRetries: 0 },
  });
  const [group, method] = call.split(".");
  const abort = new AbortController();
  running.set(id, abort);
  const result = client[group][method](...args);
  if (typeof result?.[Symbol.asyncIterator] === "function") {
    for await (const event of result) {
      write({ id, event });
      if (abort.signal.aborted) break;
    }
    write({ id, done: true });
  } else {
    write({ id, value: (await result) ?? null });
  }
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const request = JSON.parse(line);
  if (request.abort) return running.get(request.id)?.abort();
  run(request)
    .catch((error) => write({ id: request.id, error: { status: error.status ?? 0, message: String(error.message ?? error) } }))
    .finally(() => running.delete(request.id));
});
