// The demo's agent: it answers in a scripted sentence, word by word, as a language model would, without a model and
// without a network. It knows nothing of users or tokens: there is no auth code in this project.

import { AIMessageChunk, AIMessage } from "@langchain/core/messages";
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { ChatGenerationChunk } from "@langchain/core/outputs";
import { END, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { setTimeout as sleep } from "node:timers/promises";

// The pause between two words, so that a person sees the answer grow.
const pause = Number(process.env.DEMO_WORD_PAUSE_MS ?? 80);

class ScriptedModel extends BaseChatModel {
  _llmType() {
    return "scripted";
  }

  answer(messages) {
    const question = messages.at(-1)?.text ?? "";
    return `You said: "${question}". I answer word by word, and nobody but you can read this conversation.`;
  }

  async *_streamResponseChunks(messages, _options, run) {
    const words = this.answer(messages).split(" ");
    for (const [i, word] of words.entries()) {
      if (i > 0) await sleep(pause);
      const text = i < words.length - 1 ? `${word} ` : word;
      const chunk = new ChatGenerationChunk({ text, message: new AIMessageChunk({ content: text }) });
      yield chunk;
      await run?.handleLLMNewToken(text, undefined, undefined, undefined, undefined, { chunk });
    }
  }

  async _generate(messages) {
    const text = this.answer(messages);
    return { generations: [{ text, message: new AIMessage(text) }] };
  }
}

const model = new ScriptedModel({});

export const graph = new StateGraph(MessagesAnnotation)
  .addNode("answer", async ({ messages }) => ({ messages: [await model.invoke(messages)] }))
  .addEdge(START, "answer")
  .addEdge("answer", END)
  .compile();
