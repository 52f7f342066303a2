// The models, and what to do when there is none.

class ModelCard {
  root = element("li", "card model");
  #name = element("h3", "name");
  #state = new StateWord();
  #facts = element("p", "facts quiet");
  #steps = element("ol", "steps");
  #bar = new Bar("Progress");
  #reason = element("p", "reason");
  #means = element("p", "means quiet");

  constructor() {
    for (const step of STEPS) {
      const entry = element("li", "", stateOf(step).word);
      entry.dataset.step = step;
      this.#steps.append(entry);
    }
    const head = element("div", "head", this.#name, this.#facts, this.#state.root);
    this.root.append(head, this.#steps, this.#bar.root, this.#reason, this.#means);
  }

  show(model) {
    const state = stateOf(model.state);
    mark(this.root, "data-tone", state.tone);
    mark(this.root, "data-state", model.state);
    say(this.#name, model.id);
    this.#state.show(state);
    say(this.#facts, factsOf(model));
    this.#showSteps(model.state);
    this.#bar.show(model.loading);
    say(this.#reason, sentence(model.message ?? model.loading?.message ?? ""));
    say(this.#means, state.means);
  }

  #showSteps(state) {
    const at = STEPS.indexOf(state);
    this.#steps.hidden = at < 0;
    [...this.#steps.children].forEach((step, index) => {
      mark(step, "class", index < at ? "done" : index === at ? "now" : "later");
      if (index === at) mark(step, "aria-current", "step");
      else step.removeAttribute("aria-current");
    });
  }
}

function factsOf(model) {
  const parts = [];
  if (model.parent) parts.push(`adapter of ${model.parent}`);
  if (model.max_model_len) parts.push(`${countInWords(model.max_model_len)} tokens of context`);
  if (model.workers > 1 || model.workers_ready !== model.workers) {
    parts.push(`${model.workers_ready} of ${plural(model.workers, "worker")} ready`);
  } else {
    parts.push(plural(model.workers, "worker"));
  }
  return parts.join(" · ");
}

/** The models, each with the one whose adapter it is: after that one. */
function withParents(health) {
  const parents = new Map();
  for (const worker of health.workers) {
    for (const adapter of worker.adapters ?? []) parents.set(adapter, worker.model);
  }
  const own = new Set(health.workers.map((worker) => worker.model));
  const models = health.models.map((model) => ({
    ...model,
    parent: own.has(model.id) ? null : parents.get(model.id) ?? null,
  }));
  const group = (model) => model.parent ?? model.id;
  return models.sort((one, other) => order(group(one), group(other))
    || Boolean(one.parent) - Boolean(other.parent) || order(one.id, other.id));
}

function order(one, other) {
  return one < other ? -1 : Number(one > other);
}

class Models {
  #entries = new Entries(byId("models"), () => new ModelCard());
  #nothing = byId("nothing");

  show(health, models) {
    this.#entries.show(models, (model) => model.id);
    byId("while-loading").hidden = !models.some((model) => model.loading);
    this.#nothing.hidden = models.length > 0;
    if (!models.length) this.#showNothing(health.workers);
  }

  #showNothing(workers) {
    const addresses = workers.map((worker) => worker.address).join(", ");
    if (this.#nothing.dataset.of === addresses && this.#nothing.hasChildNodes()) return;
    this.#nothing.dataset.of = addresses;
    this.#nothing.replaceChildren(
      element("h3", "", "There is no model yet"),
      element("p", "", addresses
        ? `The gateway looks for workers at ${addresses} and has reached none. A worker that has just`
          + " been started is found within seconds."
        : "The name in WORKER_ADDRESSES leads to no address yet: no worker runs under it."),
      element("dl", "advice",
        element("dt", "", "On this machine"),
        element("dd", "", element("code", "", "make run"), " starts a worker and a gateway. One alone: ",
          element("code", "", `WORKER_ADDRESS=${workers[0]?.address ?? ""} python -m sluice_worker`)),
        element("dt", "", "On Kubernetes"),
        element("dd", "", element("code", "", "kubectl get pods"), " shows whether a worker's pod runs,",
          " and ", element("code", "", "kubectl describe pod"), " why it does not."),
        element("dt", "", "Elsewhere"),
        element("dd", "", "The gateway's setting ", element("code", "", "WORKER_ADDRESSES"),
          " has to name where the workers listen."),
      ),
    );
  }
}
