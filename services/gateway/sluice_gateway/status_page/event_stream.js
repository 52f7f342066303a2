// A stream of server-sent events, as the API frames it.

/** Takes text as it comes, and returns the whole events: {comment} or {data}. */
class EventParser {
  #rest = "";

  feed(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    return lines.flatMap((line) => {
      if (line.startsWith(":")) return [{ comment: line.slice(1).trim() }];
      if (line.startsWith("data: ")) return [{ data: line.slice(6) }];
      return [];
    });
  }
}

/** The events of a response, until its end. */
async function* eventsOf(response) {
  const parser = new EventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield* parser.feed(value);
  }
}

/** An error as the API words it. */
class ApiError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code ?? error.type ?? null;
    this.loading = error.loading ?? null;
  }
}

async function refusalOf(response) {
  const text = await response.text();
  try {
    return new ApiError(response.status, JSON.parse(text).error);
  } catch {
    // Not Sluice's: something in between has answered.
    const message = `${response.status} ${response.statusText}: ${text.slice(0, 300)}`;
    return new ApiError(response.status, { message });
  }
}

/**
 * Asks for a chat completion. Calls `on.text(piece)`, `on.reasoning(piece)` and `on.waiting(loading)`
 * as these come. Returns {finish, tokens}. Throws ApiError, TypeError when the gateway cannot be
 * reached or breaks off, and AbortError.
 */
async function askForChat(body, headers, signal, on) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.ok) throw await refusalOf(response);
  const end = { finish: null, tokens: null };
  for await (const { comment, data } of eventsOf(response)) {
    if (comment?.startsWith("model_loading ")) on.waiting(JSON.parse(comment.slice(14)));
    if (data === "[DONE]") return end;
    if (data !== undefined) takeChunk(JSON.parse(data), end, on);
  }
  throw new TypeError("The answer broke off.");
}

function takeChunk(chunk, end, on) {
  if (chunk.error) throw new ApiError(200, chunk.error);
  const choice = chunk.choices[0];
  if (choice?.delta.reasoning_content) on.reasoning(choice.delta.reasoning_content);
  if (choice?.delta.content) on.text(choice.delta.content);
  end.finish = choice?.finish_reason ?? end.finish;
  end.tokens = chunk.usage?.completion_tokens ?? end.tokens;
}
