// Structured answers with the official JavaScript client and zod.
// For tests/conformance/test_javascript_structured.py.
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { client, model, print } from "./gateway.mjs";

const Answer = z.object({
  yes: z.boolean(),
  mood: z.enum(["glad", "sad"]),
  count: z.number().int().nullable(),
});
const Weather = z.object({ city: z.string() });
const format = zodResponseFormat(Answer, "answer");
const hello = [{ role: "user", content: "Say hello" }];
const common = { model, max_tokens: 300, temperature: 0 };

async function parsed(response_format) {
  const { choices } = await client.chat.completions.parse({ ...common, messages: hello, response_format });
  return choices[0].message;
}

async function streamed() {
  const stream = client.chat.completions.stream({ ...common, messages: hello, response_format: format });
  const done = [];
  const snapshots = [];
  stream.on("content.delta", ({ parsed: partial }) => snapshots.push(partial));
  stream.on("content.done", (each) => done.push(each));
  const { choices } = await stream.finalChatCompletion();
  return { message: choices[0].message, done, snapshots };
}

async function arguments_() {
  const { choices } = await client.chat.completions.parse({
    ...common,
    messages: [{ role: "user", content: "What is the weather in Paris?" }],
    tools: [zodFunction({ name: "get_weather", description: "The weather in a city.", parameters: Weather })],
    tool_choice: "required",
  });
  return choices[0];
}

// What the client raises itself, because an answer that was cut off is no answer.
async function cutOff() {
  try {
    await client.chat.completions.parse({ ...common, messages: hello, response_format: format, max_tokens: 3 });
    return null;
  } catch (caught) {
    return caught.constructor.name;
  }
}

const plain = { type: "json_schema", json_schema: { name: "any", schema: z.toJSONSchema(Answer) } };
await print({
  whole: await parsed(format),
  plain: await parsed(plain),
  streamed: await streamed(),
  called: await arguments_(),
  cutOff: await cutOff(),
});
