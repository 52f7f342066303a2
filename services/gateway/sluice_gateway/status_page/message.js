// What is said in the chat.

function userMessage(text) {
  return element("div", "message user", element("p", "said", text));
}

const ENDS = { length: "cut at the most tokens", content_filter: "filtered", tool_calls: "tool calls" };

/** An answer that comes in pieces, and what became of it. */
class AnswerMessage {
  root = element("div", "message answer");
  text = "";
  #reasoning = element("p", "reasoning quiet");
  #said = element("p", "said");
  #error = element("p", "reason");
  #bar = new Bar("Progress of the model");
  #note = element("p", "note quiet");
  #actions = element("div", "row");
  #asked = performance.now();
  #first = null;
  #last = null;

  constructor(model) {
    this.root.append(
      element("p", "who quiet", model), this.#reasoning, this.#said, this.#error, this.#bar.root,
      this.#note, this.#actions,
    );
    this.#reasoning.hidden = this.#error.hidden = true;
    this.#bar.show(null);
    say(this.#note, "…");
  }

  reason(piece) {
    this.#arrived();
    say(this.#reasoning, this.#reasoning.textContent + piece);
  }

  say(piece) {
    this.#arrived();
    this.text += piece;
    say(this.#said, this.text);
  }

  #arrived() {
    this.#last = performance.now();
    if (this.#first !== null) return;
    this.#first = this.#last;
    this.progress(null);
    say(this.#note, this.#firstToken());
  }

  /** How far the model is that this waits for. What is measured begins when it is there. */
  progress(loading) {
    this.#bar.show(loading);
    if (!loading) return;
    this.#asked = performance.now();
    say(this.#note, `${stateOf(loading.state).word}. The answer comes when the model is ready.`);
  }

  #firstToken() {
    const [number, unit] = secondsInWords((this.#first - this.#asked) / 1000);
    return `First token after ${number} ${unit}`;
  }

  end({ finish, tokens }) {
    const parts = this.#first === null ? [] : [this.#firstToken()];
    const seconds = (this.#last - this.#first) / 1000;
    if (tokens > 1 && seconds > 0) parts.push(`${rateInWords((tokens - 1) / seconds)} tokens/s`);
    if (tokens !== null) parts.push(plural(tokens, "token"));
    if (ENDS[finish]) parts.push(ENDS[finish]);
    say(this.#note, parts.join(" · "));
  }

  stopped() {
    this.#bar.show(null);
    say(this.#note, "Stopped.");
  }

  /** The model's being on its way is no fault. */
  fail(words, code) {
    mark(this.root, "data-tone", code === "model_loading" ? "busy" : "bad");
    say(this.#error, words);
    this.#bar.show(null);
    say(this.#note, code ?? "");
  }

  /** Show how far a model is that was not there when this failed. */
  failedWhile(loading) {
    this.#bar.show(loading);
  }

  /** A button below; it goes when it is pressed. */
  offer(words, then) {
    const button = element("button", "", words);
    button.type = "button";
    button.addEventListener("click", () => {
      button.remove();
      then();
    });
    this.#actions.append(button);
  }
}
