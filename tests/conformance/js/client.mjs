// What the official JavaScript client makes of answers, streams, models and errors.
// For tests/conformance/test_javascript.py.
import { client, model, print } from "./gateway.mjs";

const messages = [{ role: "user", content: "Say hello" }];
const common = { model, messages, max_tokens: 24, temperature: 0 };

async function streamed(extra = {}) {
  const stream = await client.chat.completions.create({
    ...common,
    stream: true,
    stream_options: { include_usage: true },
    ...extra,
  });
  const texts = {};
  const finishes = {};
  let usage = null;
  for await (const chunk of stream) {
    for (const choice of chunk.choices) {
      texts[choice.index] = (texts[choice.index] ?? "") + (choice.delta.content ?? "");
      if (choice.finish_reason) finishes[choice.index] = choice.finish_reason;
    }
    usage = chunk.usage ?? usage;
  }
  return { texts, finishes, usage };
}

// The client's own accumulator, which throws on a chunk that breaks its rules.
async function accumulated() {
  const runner = client.chat.completions.stream({ ...common, n: 2 });
  const completion = await runner.finalChatCompletion();
  return completion.choices.map((choice) => ({
    index: choice.index,
    content: choice.message.content,
    role: choice.message.role,
    finish: choice.finish_reason,
  }));
}

async function error(call) {
  try {
    await call();
    return null;
  } catch (caught) {
    return { name: caught.constructor.name, status: caught.status, code: caught.code, param: caught.param };
  }
}

const whole = await client.chat.completions.create(common);
const completion = await client.completions.create({
  model,
  prompt: "Say hello",
  max_tokens: 4,
  temperature: 0,
});
const models = [];
for await (const each of client.models.list()) models.push(each.id);

await print({
  whole: whole.choices[0],
  usage: whole.usage,
  streamed: await streamed(),
  two: await streamed({ n: 2 }),
  accumulated: await accumulated(),
  completion: completion.choices[0],
  models,
  unknownModel: await error(() => client.chat.completions.create({ ...common, model: "nobody" })),
  badField: await error(() => client.chat.completions.create({ ...common, temperature: 9 })),
});
