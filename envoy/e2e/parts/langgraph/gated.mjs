// For the tests of streaming: a graph that says one word at a time and, before each further word, waits until the test
// lets it go on. So a test can prove that a word arrived while the graph was still running, without looking at a clock.
// The input's `gate` is a URL on loopback; each GET of it is answered when the graph may go on.

import { Annotation, END, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({ gate: Annotation(), words: Annotation(), said: Annotation() });

async function speak({ gate, words }, config) {
  if (gate && new URL(gate).hostname !== "127.0.0.1") throw new Error("the gate must be on loopback");
  for (const [i, word] of words.entries()) {
    if (i > 0 && gate) {
      const answer = await fetch(gate, { signal: config.signal });
      if (!answer.ok) throw new Error(`the gate answered ${answer.status}`);
    }
    config.writer?.({ word });
  }
  return { said: words.join(" ") };
}

export const graph = new StateGraph(State)
  .addNode("speak", speak)
  .addEdge(START, "speak")
  .addEdge("speak", END)
  .compile();
