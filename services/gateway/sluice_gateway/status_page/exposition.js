// Prometheus' text format, and what differences of its counters tell.

/** Samples by name: arrays of {labels, value}. */
function parseExposition(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const [, name, labels, value] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line) ?? [];
    if (!name) continue;
    if (!samples.has(name)) samples.set(name, []);
    samples.get(name).push({ labels: parseLabels(labels ?? ""), value: Number(value) });
  }
  return samples;
}

function parseLabels(text) {
  const found = {};
  for (const [, name, value] of text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) found[name] = value;
  return found;
}

/** What this page needs of a gateway's metrics. */
class Counts {
  constructor(samples) {
    const sum = (name) => (samples.get(name) ?? []).reduce((total, each) => total + each.value, 0);
    this.gateway = sum("process_start_time_seconds");
    this.tokens = sum("sluice_gateway_generation_tokens_total");
    this.answers = sum("sluice_request_success_total");
    this.active = sum("sluice_streams_active");
    this.refused = sumsBy(samples.get("sluice_requests_rejected_total") ?? [], "reason");
    this.firstTokens = sumsBy(samples.get("sluice_time_to_first_token_seconds_bucket") ?? [], "le");
  }
}

function sumsBy(samples, label) {
  const sums = new Map();
  for (const { labels, value } of samples) sums.set(labels[label], (sums.get(labels[label]) ?? 0) + value);
  return sums;
}

/** The seconds that half of `buckets` (cumulative counts by upper bound) stay below; null for none. */
function medianOf(buckets) {
  const bounds = [...buckets.keys()].map((le) => [le === "+Inf" ? Infinity : Number(le), buckets.get(le)]);
  bounds.sort(([one], [other]) => one - other);
  const half = (bounds.at(-1)?.[1] ?? 0) / 2;
  if (half <= 0) return null;
  let [below, before] = [0, 0];
  for (const [bound, count] of bounds) {
    if (count >= half) {
      return bound === Infinity ? below : below + (bound - below) * ((half - before) / (count - before));
    }
    [below, before] = [bound, count];
  }
  return null;
}

const WINDOW_MS = 10_000;

/**
 * Counts of the last ten seconds. Gateways that share an address may answer in turns: each one's
 * counts are compared with its own, and what they tell is added up.
 */
class RecentCounts {
  #byGateway = new Map();

  add(at, counts) {
    const samples = this.#byGateway.get(counts.gateway) ?? [];
    samples.push({ at, counts });
    this.#byGateway.set(counts.gateway, samples);
    for (const [gateway, kept] of this.#byGateway) {
      while (kept.length && kept[0].at < at - WINDOW_MS) kept.shift();
      if (!kept.length) this.#byGateway.delete(gateway);
    }
  }

  /** Null before there is anything to compare. */
  get tokensPerSecond() {
    let total = null;
    for (const samples of this.#byGateway.values()) {
      if (samples.length < 2) continue;
      const [before, now] = samples.slice(-2);
      total = (total ?? 0) + ((now.counts.tokens - before.counts.tokens) * 1000) / (now.at - before.at);
    }
    return total;
  }

  get firstTokenMedian() {
    const buckets = new Map();
    for (const samples of this.#byGateway.values()) {
      const [first, last] = [samples[0].counts.firstTokens, samples.at(-1).counts.firstTokens];
      for (const [le, count] of last) {
        buckets.set(le, (buckets.get(le) ?? 0) + count - (first.get(le) ?? 0));
      }
    }
    return medianOf(buckets);
  }
}
