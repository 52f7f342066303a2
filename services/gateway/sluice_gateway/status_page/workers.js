// The workers, as their heartbeats tell.

/** A share in use, as a small bar behind its words. */
class Meter {
  root = element("div", "meter");
  #words = element("span", "");
  #fill = element("div", "fill");

  constructor(name) {
    this.root.append(
      element("span", "quiet", name), this.#words, element("div", "bar", this.#fill),
    );
  }

  show(words, share) {
    say(this.#words, words);
    this.#fill.style.width = `${(Math.min(Math.max(share, 0), 1) * 100).toFixed(1)}%`;
  }
}

class WorkerCard {
  root = element("li", "card worker");
  #address = element("h3", "name");
  #state = new StateWord();
  #facts = element("p", "facts quiet");
  #bar = new Bar("Progress");
  #reason = element("p", "reason");
  #meters = element("div", "meters");
  #rows = new Meter("Batch");
  #cache = new Meter("KV cache");

  constructor() {
    this.#meters.append(this.#rows.root, this.#cache.root);
    const head = element("div", "head", this.#address, this.#facts, this.#state.root);
    this.root.append(head, this.#bar.root, this.#reason, this.#meters);
  }

  show(worker) {
    const state = stateOf(worker.state);
    mark(this.root, "data-tone", state.tone);
    mark(this.root, "data-state", worker.state);
    say(this.#address, worker.address);
    this.#state.show(state);
    say(this.#facts, this.#factsOf(worker));
    this.#bar.show(worker.loading?.bytes_done === null ? null : worker.loading);
    say(this.#reason, sentence(worker.message ?? ""));
    this.#meters.hidden = worker.state !== "ready" || worker.batch_max === null;
    this.#showLoad(worker);
  }

  #showLoad({ rows_running: running, rows_waiting: waiting, batch_max: most, kv_cache_usage: usage }) {
    const queue = waiting ? `, ${waiting} waiting` : "";
    this.#rows.show(`${running} of ${most}${queue}`, running / Math.max(most, 1));
    this.#cache.show(`${Math.round((usage ?? 0) * 100)} %`, usage ?? 0);
  }

  #factsOf(worker) {
    const parts = [worker.model ?? "model not known yet"];
    if (worker.adapters?.length) parts.push(plural(worker.adapters.length, "adapter"));
    if (worker.version) parts.push(`release ${worker.version}`);
    const ago = worker.last_heard_seconds_ago;
    if (ago === null) parts.push("never heard");
    else if (ago >= 2) parts.push(`last heard ${countInWords(ago)} s ago`);
    return parts.join(" · ");
  }
}

class Workers {
  #entries = new Entries(byId("workers"), () => new WorkerCard());

  show(workers) {
    this.#entries.show(workers, (worker) => worker.address);
    byId("no-workers").hidden = workers.length > 0;
  }
}
