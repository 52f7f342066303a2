// The chat: a client of the API like any other.

const KEY = "sluice-api-key";

/** The gateway bounds it by its own WAIT_MAX_SECONDS. */
const WAIT = { "x-sluice-wait": "3600" };

class Chat {
  #form = byId("chat");
  #model = byId("chat-model");
  #key = byId("chat-key");
  #log = byId("chat-log");
  #text = byId("chat-text");
  #running = null;
  #chosen = false;
  #models = [];
  /** What was said and answered: the conversation as the API takes it. */
  #turns = [];
  /** The last failure that the state of a model explains, for as long as it does. */
  #failure = null;

  constructor() {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#form.requestSubmit();
    });
    this.#model.addEventListener("change", () => { this.#chosen = true; });
    byId("chat-stop").addEventListener("click", () => this.#running?.abort());
    byId("chat-clear").addEventListener("click", () => this.#clear());
    this.#key.value = sessionStorage.getItem(KEY) ?? "";
    this.#key.addEventListener("input", () => sessionStorage.setItem(KEY, this.#key.value));
    byId("chat-key-row").hidden = !this.#key.value;
    this.#show(null);
  }

  /** Offer these models, and follow the one that could not answer. */
  show(models) {
    this.#models = models;
    this.#showOptions();
    if (!this.#failure) return;
    const { answer, model } = this.#failure;
    const loading = models.find((each) => each.id === model)?.loading ?? null;
    answer.failedWhile(loading);
    if (!loading) this.#failure = null;
  }

  #showOptions() {
    const chosen = this.#model.value;
    const options = this.#models.map(({ id, state }) => [id, optionText(id, state)]);
    const shown = [...this.#model.options].map((option) => option.value).join("\n");
    if (shown !== this.#models.map((model) => model.id).join("\n")) {
      this.#model.replaceChildren(...options.map(([id, words]) => new Option(words, id)));
    }
    options.forEach(([, words], index) => {
      if (this.#model.options[index].text !== words) this.#model.options[index].text = words;
    });
    const ready = this.#models.find((model) => model.state === "ready")?.id;
    const kept = this.#models.some((model) => model.id === chosen) ? chosen : this.#models[0]?.id;
    const wanted = this.#chosen || this.#running ? kept : ready ?? kept;
    if (wanted !== undefined && this.#model.value !== wanted) this.#model.value = wanted;
    this.#model.disabled = byId("chat-send").disabled = !this.#models.length;
  }

  #send() {
    const content = this.#text.value.trim();
    if (this.#running || !content || !this.#models.length) return;
    this.#text.value = "";
    this.#log.append(userMessage(content));
    this.#ask(content, this.#model.value, {});
  }

  async #ask(content, model, headers) {
    const said = { role: "user", content };
    const answer = new AnswerMessage(model);
    const running = this.#running = new AbortController();
    this.#log.append(answer.root);
    this.#show(running);
    const body = { model, messages: [...this.#turns, said], max_tokens: Number(byId("chat-tokens").value) };
    try {
      answer.end(await askForChat(body, { ...this.#authorization(), ...headers }, running.signal, {
        text: (piece) => this.#following(() => answer.say(piece)),
        reasoning: (piece) => this.#following(() => answer.reason(piece)),
        waiting: (loading) => this.#following(() => answer.progress(loading)),
      }));
      if (this.#running === running) this.#remember(said, answer);
    } catch (error) {
      this.#following(() => this.#failed(error, answer, content, model));
      // What was said before a Stop or a fault was said.
      if (answer.text && this.#running === running) this.#remember(said, answer);
    } finally {
      if (this.#running === running) this.#running = null;
      this.#show(this.#running);
    }
  }

  #remember(said, answer) {
    this.#turns.push(said, { role: "assistant", content: answer.text });
  }

  #authorization() {
    return this.#key.value ? { authorization: `Bearer ${this.#key.value}` } : {};
  }

  #failed(error, answer, content, model) {
    if (error.name === "AbortError") {
      answer.stopped();
    } else if (error instanceof ApiError) {
      answer.fail(error.message, error.code);
      this.#offerAnother(error, answer, content, model);
    } else {
      answer.fail("The gateway cannot be reached, or the connection to it broke.", null);
    }
  }

  #offerAnother(error, answer, content, model) {
    const again = (headers) => () => {
      this.#failure = null;
      answer.failedWhile(null);
      this.#ask(content, model, headers);
    };
    if (error.code === "model_loading") {
      this.#failure = { answer, model };
      answer.failedWhile(error.loading);
      answer.offer("Ask again, and wait for it", again(WAIT));
    } else if (error.status === 401) {
      byId("chat-key-row").hidden = false;
      this.#key.focus();
      answer.offer("Ask again with the key", again({}));
    } else if (error.status === 429 || error.status === 503) {
      answer.offer("Ask again", again({}));
    }
  }

  /** Do it, and stay at the end of the log if that is where the reader is. */
  #following(change) {
    const log = this.#log;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    change();
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  #show(running) {
    byId("chat-stop").hidden = !running;
    byId("chat-send").hidden = Boolean(running);
    // A screen reader reads an answer when it is whole.
    mark(this.#log, "aria-busy", String(Boolean(running)));
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  #clear() {
    this.#running?.abort();
    this.#running = this.#failure = null;
    this.#turns = [];
    this.#log.replaceChildren();
    this.#text.focus();
  }
}

function optionText(id, state) {
  return state === "ready" ? id : `${id} (${stateOf(state).word.toLowerCase()})`;
}
