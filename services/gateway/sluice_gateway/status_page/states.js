// What each state is called here, and what it means to somebody who waits for a model.

const STATES = {
  ready: { tone: "good", word: "Ready", is: "is ready", means: "" },
  connecting: {
    tone: "busy", word: "Connecting", is: "has not been reached yet",
    means: "The gateway knows an address and has not reached a worker there yet.",
  },
  resolving: {
    tone: "busy", word: "Looking up", is: "is being looked up",
    means: "Its worker asks which files the model has, and which of them are here already.",
  },
  downloading: {
    tone: "busy", word: "Downloading", is: "is downloading",
    means: "Its worker fetches the files. If that is interrupted, it goes on where it stopped.",
  },
  verifying: {
    tone: "busy", word: "Verifying", is: "is being verified",
    means: "Its worker compares each file with its hash before it uses it.",
  },
  loading: {
    tone: "busy", word: "Loading", is: "is loading",
    means: "Its worker reads the weights into memory.",
  },
  warming: {
    tone: "busy", word: "Warming up", is: "is warming up",
    means: "Its worker makes a first computation, so that no request has to wait for it.",
  },
  preparing: {
    tone: "busy", word: "Almost ready", is: "is almost ready",
    means: "Its worker is ready. The gateway fetches the tokenizer.",
  },
  lost: {
    tone: "away", word: "Lost", is: "has lost its workers",
    means: "Its worker was here and is gone; the gateway tries to reach it again. Look whether it"
      + " still runs and, if not, what its log says last.",
  },
  silent: {
    tone: "away", word: "Silent", is: "has workers that may be hung",
    means: "Its worker is connected and says nothing: it may be hung, and gets nothing new to do.",
  },
  draining: {
    tone: "away", word: "Draining", is: "has workers that are shutting down",
    means: "Its worker is shutting down: it ends what it has and takes nothing new.",
  },
  failed: {
    tone: "bad", word: "Failed", is: "has failed",
    means: "It does not come by itself. Mend what is named here and start its worker again; the"
      + " worker's log says more.",
  },
  unusable: {
    tone: "bad", word: "Unusable", is: "cannot be used by the gateway",
    means: "Its worker is ready, but the gateway cannot use the model's tokenizer or template.",
  },
};

const GATEWAY_STATES = {
  ok: { tone: "good", word: "Serving" },
  draining: { tone: "away", word: "Shutting down" },
  "waiting for a model": { tone: "busy", word: "Waiting for a model" },
  "waiting for a worker": { tone: "busy", word: "Waiting for a worker" },
};

/** The way of a model; the states that a worker goes through by itself. */
const STEPS = ["resolving", "downloading", "verifying", "loading", "warming"];

/** A state of a newer release is told by its own name. */
function stateOf(name) {
  const unknown = { tone: "quiet", word: sentence(name).slice(0, -1), is: `is ${name}`, means: "" };
  return STATES[name] ?? unknown;
}

/** A state as a coloured word: the colour is not alone in telling it. */
class StateWord {
  root = element("span", "state");

  show({ tone, word }) {
    mark(this.root, "data-tone", tone);
    say(this.root, word);
  }
}

/** Why models do not answer, without numbers: it is read out whenever it changes. */
function summaryOf(health) {
  const { status, models, workers } = health;
  if (status === "draining") return "This gateway is shutting down: it takes nothing new.";
  if (!models.length) {
    return workers.length ? "No worker has been reached yet, so there is no model to ask."
      : "No worker is known yet, so there is no model to ask.";
  }
  return [...modelsInWords(models), ...unreachedInWords(workers)].join(" ");
}

function modelsInWords(models) {
  const others = models.filter((model) => model.state !== "ready");
  const ready = models.length - others.length;
  if (!others.length) return [ready === 1 ? `${models[0].id} answers.` : `All ${ready} models answer.`];
  const told = others.slice(0, 3).map((model) => `${model.id} ${stateOf(model.state).is}.`);
  if (others.length > 3) told.push(`${others.length - 3} more do not answer either.`);
  if (models.length === 1) return told;
  return [`${ready} of ${models.length} models ${ready === 1 ? "answers" : "answer"}.`, ...told];
}

/** Nobody knows what these will serve: it may be the model that somebody misses. */
function unreachedInWords(workers) {
  const count = workers.filter((worker) => worker.state === "connecting").length;
  return count ? [`${plural(count, "worker")} ${count === 1 ? "has" : "have"} not been reached yet.`] : [];
}
