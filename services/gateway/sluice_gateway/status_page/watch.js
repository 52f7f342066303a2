// Asks the gateway once a second while the page is seen, and shows what it says.

const ASK_MS = 1000;
const ASK_AT_MOST_MS = 15_000;
const PATIENCE_MS = 5000;

/** Why there is nothing to show, in words for the reader. */
class NotTold extends Error {}

async function ask(path) {
  return fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
}

/** What /health says; it is a 503 too while no model is ready. */
async function askHealth() {
  let response;
  try {
    response = await ask("health");
  } catch {
    throw new NotTold("The gateway does not answer. What is below is the last that it said.");
  }
  const body = await response.json().catch(() => null);
  if (!Array.isArray(body?.models)) {
    const words = `Here /health says ${response.status}: what stands before the gateway does not show it.`;
    throw new NotTold(words);
  }
  return body;
}

/** Null when they are not shown to this page. */
async function askCounts() {
  const response = await ask("metrics").catch(() => null);
  return response?.ok ? new Counts(parseExposition(await response.text())) : null;
}

class Watch {
  #status = new StateWord();
  #models = new Models();
  #workers = new Workers();
  #figures = new Figures();
  #chat = new Chat();
  #delay = ASK_MS;
  #timer = null;
  #asking = false;

  start() {
    byId("status").replaceWith(this.#status.root);
    this.#status.root.id = "status";
    this.#status.show({ tone: "quiet", word: "Asking the gateway" });
    say(byId("base-url"), new URL("v1", document.baseURI).href);
    document.addEventListener("visibilitychange", () => this.#askSoon(0));
    this.#askSoon(0);
  }

  #askSoon(delay) {
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.#ask(), delay);
  }

  async #ask() {
    if (this.#asking) return; // it asks again itself
    this.#asking = true;
    try {
      // One after the other, on one connection: so one gateway of several answers both.
      const health = await askHealth();
      this.#show(health, await askCounts());
      this.#delay = ASK_MS;
    } catch (error) {
      if (!(error instanceof NotTold)) throw error;
      this.#showSilence(error.message);
      this.#delay = Math.min(this.#delay * 2, ASK_AT_MOST_MS);
    } finally {
      this.#asking = false;
      this.#askSoon(this.#delay);
    }
  }

  #show(health, counts) {
    const models = withParents(health);
    const ready = models.filter((model) => model.state === "ready").length;
    const title = models.length ? `${ready} of ${models.length} ready` : "no model yet";
    document.title = `Sluice · ${title}`;
    document.body.classList.remove("stale");
    say(byId("version"), health.version);
    this.#status.show(GATEWAY_STATES[health.status] ?? { tone: "quiet", word: health.status });
    say(byId("summary"), summaryOf(health));
    this.#models.show(health, models);
    this.#workers.show(health.workers);
    this.#figures.show(health, counts);
    this.#chat.show(models);
    say(byId("freshness"), `As of ${new Date().toLocaleTimeString()}.`);
  }

  #showSilence(words) {
    document.title = "Sluice · no answer";
    document.body.classList.add("stale");
    this.#status.show({ tone: "bad", word: "No answer" });
    say(byId("summary"), words);
  }
}

new Watch().start();
