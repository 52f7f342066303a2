// Agents with the official JavaScript client: the model calls a tool, gets its result and answers.
// For tests/conformance/test_javascript_agent.py.
import { zodFunction } from "openai/helpers/zod";
import { z } from "zod";
import { client, model, print } from "./gateway.mjs";

const common = { model, max_tokens: 60, temperature: 0 };
const questions = { weather: "What is the weather in Paris?", sum: "What is 12 * 7?" };
const functions = {
  get_weather: ({ city }) => JSON.stringify({ city, temperature: 21, condition: "sunny" }),
  calculator: ({ expression }) => {
    const [left, right] = expression.split("*").map(Number);
    return String(left * right);
  },
};

function schema(argument) {
  return { type: "object", properties: { [argument]: { type: "string" } }, required: [argument] };
}

const described = [
  { name: "get_weather", description: "The weather in a city.", parameters: schema("city") },
  { name: "calculator", description: "Computes an expression.", parameters: schema("expression") },
];
const tools = described.map((each) => ({ type: "function", function: each }));

async function whole(fields) {
  const { choices, usage } = await client.chat.completions.create({ ...common, tools, ...fields });
  return { message: choices[0].message, finish: choices[0].finish_reason, usage };
}

// Puts the chunks together as the client's documentation says: whatever comes is appended.
async function streamed(fields) {
  const options = { ...common, tools, ...fields, stream: true, stream_options: { include_usage: true } };
  const message = { role: "", content: "" };
  const calls = [];
  let finish = null;
  let usage = null;
  for await (const chunk of await client.chat.completions.create(options)) {
    usage = chunk.usage ?? usage;
    for (const { delta, finish_reason } of chunk.choices) {
      message.role += delta.role ?? "";
      message.content += delta.content ?? "";
      for (const piece of delta.tool_calls ?? []) {
        const call = (calls[piece.index] ??= { id: "", type: "", function: { name: "", arguments: "" } });
        call.id += piece.id ?? "";
        call.type += piece.type ?? "";
        call.function.name += piece.function.name ?? "";
        call.function.arguments += piece.function.arguments ?? "";
      }
      finish = finish_reason ?? finish;
    }
  }
  if (calls.length) message.tool_calls = calls;
  return { message, finish, usage };
}

async function agent(ask, question, choice = "auto") {
  const messages = [{ role: "user", content: question }];
  const asked = await ask({ messages, tool_choice: choice });
  messages.push(asked.message);
  for (const call of asked.message.tool_calls ?? []) {
    const content = functions[call.function.name](JSON.parse(call.function.arguments));
    messages.push({ role: "tool", tool_call_id: call.id, content });
  }
  return { asked, answered: await ask({ messages }) };
}

// The client's own loop, which runs the functions itself.
async function ran(question, stream, offered) {
  const runner = client.chat.completions.runTools({
    ...common,
    messages: [{ role: "user", content: question }],
    tools: offered,
    stream,
  });
  const called = [];
  const results = [];
  runner.on("functionToolCall", (call) => called.push(call));
  runner.on("functionToolCallResult", (result) => results.push(result));
  const answer = await runner.finalContent();
  return { called, results, answer, roles: runner.messages.map(({ role }) => role) };
}

const runnable = described.map((each) => ({
  type: "function",
  function: { ...each, function: functions[each.name], parse: JSON.parse },
}));
const typed = [
  zodFunction({
    name: "get_weather",
    description: "The weather in a city.",
    parameters: z.object({ city: z.string() }),
    function: functions.get_weather,
  }),
];

async function events(question) {
  const stream = client.chat.completions.stream({
    ...common,
    tools: typed,
    messages: [{ role: "user", content: question }],
  });
  const found = { contents: [], deltas: [], done: [], finals: 0 };
  stream.on("content", (delta) => found.contents.push(delta));
  stream.on("tool_calls.function.arguments.delta", (each) => found.deltas.push(each));
  stream.on("tool_calls.function.arguments.done", (each) => found.done.push(each));
  stream.on("finalChatCompletion", () => (found.finals += 1));
  const { choices } = await stream.finalChatCompletion();
  return { ...found, choice: choices[0] };
}

const named = { type: "function", function: { name: "calculator" } };
const loops = {};
for (const [mode, ask] of Object.entries({ whole, streamed })) {
  loops[mode] = {
    weather: await agent(ask, questions.weather),
    sum: await agent(ask, questions.sum),
    required: await agent(ask, questions.weather, "required"),
    named: await agent(ask, questions.sum, named),
    none: await ask({ messages: [{ role: "user", content: questions.sum }], tool_choice: "none" }),
  };
}
await print({
  loops,
  runners: {
    whole: await ran(questions.weather, false, runnable),
    streamed: await ran(questions.weather, true, runnable),
    sum: await ran(questions.sum, true, runnable),
    typed: await ran(questions.weather, false, typed),
    typedStreamed: await ran(questions.weather, true, typed),
  },
  called: await events(questions.weather),
  said: await events("Say hello"),
});
