// The official JavaScript client of the gateway at BASE_URL, and what its streams were, as they came.
import OpenAI from "openai";

const recorded = [];

// Reads each stream beside the client, so that the tests can check what no client looks at.
async function recording(url, options) {
  const response = await fetch(url, options);
  if (!(response.headers.get("content-type") ?? "").startsWith("text/event-stream")) return response;
  const [read, copy] = response.body.tee();
  const { pathname } = new URL(url);
  recorded.push({ path: pathname, request: JSON.parse(options.body), text: new Response(copy).text() });
  return new Response(read, { status: response.status, headers: response.headers });
}

export const client = new OpenAI({
  baseURL: process.env.BASE_URL,
  apiKey: "none",
  maxRetries: 0,
  fetch: recording,
});
export const model = process.env.MODEL;

// Prints the result, and with it all streams there were, as one JSON object.
export async function print(result) {
  const streams = [];
  for (const { text, ...known } of recorded) streams.push({ ...known, text: await text });
  console.log(JSON.stringify({ result, streams }));
}
