// The figures, each with its last two minutes.

const SPARK_POINTS = 120;
const SPARK_HEIGHT = 28;

const NO_METRICS = "The gateway's /metrics cannot be read from here, so there are no rates.";

class Sparkline {
  root = svgElement("svg", {
    viewBox: `0 0 ${SPARK_POINTS - 1} ${SPARK_HEIGHT}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
    class: "spark",
  });
  #area = svgElement("path", { class: "area" });
  #line = svgElement("path", { class: "line" });
  #values = [];

  constructor() {
    this.root.append(this.#area, this.#line);
  }

  /** null leaves a gap. */
  push(value) {
    this.#values.push(value);
    if (this.#values.length > SPARK_POINTS) this.#values.shift();
    const most = Math.max(...this.#values.map((each) => each ?? 0)) || 1;
    const offset = SPARK_POINTS - this.#values.length;
    const height = (value) => SPARK_HEIGHT - 1.5 - (value / most) * (SPARK_HEIGHT - 4);
    const point = (index) => `${offset + index} ${height(this.#values[index]).toFixed(1)}`;
    const pieces = this.#runs().map(([first, last]) => ({
      begin: offset + first,
      points: range(first, last).map(point).join("L"),
      end: first === last ? "h0" : "", // a run of one is a dot: a line of no length, with round ends
    }));
    const line = ({ points, end }) => `M${points}${end}`;
    const area = ({ begin, points }) => `M${begin} ${SPARK_HEIGHT}L${points}V${SPARK_HEIGHT}Z`;
    mark(this.#line, "d", pieces.map(line).join(""));
    mark(this.#area, "d", pieces.map(area).join(""));
  }

  /** The first and last index of each piece without gaps. */
  #runs() {
    const runs = [];
    this.#values.forEach((value, index) => {
      if (value === null) return;
      if (runs.length && runs.at(-1)[1] === index - 1) runs.at(-1)[1] = index;
      else runs.push([index, index]);
    });
    return runs;
  }
}

function range(first, last) {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

class Figure {
  #value = element("span", "value", "–");
  #unit = element("span", "unit quiet");
  #spark = new Sparkline();

  constructor(list, name, title) {
    const root = element("div", "figure");
    root.title = title;
    const told = element("p", "", this.#value, this.#unit);
    root.append(element("dt", "quiet", name), element("dd", "", told, this.#spark.root));
    list.append(root);
  }

  show(value, words, unit = "") {
    say(this.#value, value === null ? "–" : words);
    say(this.#unit, value === null ? "" : unit);
    this.#spark.push(value);
  }
}

function figure(name, title) {
  return new Figure(byId("figures"), name, title);
}

class Figures {
  #recent = new RecentCounts();
  #tokens = figure("Tokens per second", "Tokens sent to clients");
  #firstToken = figure(
    "First token", "From a request's arrival to its first token: the median of the last ten seconds",
  );
  #active = figure("Live answers", "Answers under way, of the gateway that answers this page");
  #batch = figure("In the batch", "Rows that the workers compute together, of those that fit");
  #waiting = figure("Waiting", "Rows that wait at the workers for a place in the batch");

  /** `counts` is null when the gateway does not show its metrics. */
  show(health, counts) {
    if (counts) this.#recent.add(performance.now(), counts);
    this.#showRates(counts);
    this.#showBatch(health.workers.filter((each) => each.state === "ready" && each.batch_max !== null));
    say(byId("totals"), counts ? totalsOf(counts) : NO_METRICS);
  }

  #showRates(counts) {
    const rate = counts && this.#recent.tokensPerSecond;
    this.#tokens.show(rate, rateInWords(rate ?? 0));
    const median = counts && this.#recent.firstTokenMedian;
    this.#firstToken.show(median, ...secondsInWords(median ?? 0));
    this.#active.show(counts && counts.active, countInWords(counts?.active ?? 0));
  }

  #showBatch(workers) {
    const sum = (name) => workers.reduce((total, worker) => total + worker[name], 0);
    const none = workers.length === 0;
    const [running, waiting] = [sum("rows_running"), sum("rows_waiting")];
    const most = `of ${countInWords(sum("batch_max"))}`;
    this.#batch.show(none ? null : running, countInWords(running), most);
    this.#waiting.show(none ? null : waiting, countInWords(waiting));
  }
}

function totalsOf({ answers, tokens, refused }) {
  const reasons = [...refused].sort(([, one], [, other]) => other - one);
  const total = reasons.reduce((sum, [, count]) => sum + count, 0);
  const why = reasons.slice(0, 3).map(([reason, count]) => `${countInWords(count)} ${reason}`).join(", ");
  return `Since this gateway began: ${plural(answers, "answer")}, ${plural(tokens, "token")}, `
    + `${countInWords(total)} refused${total ? ` (${why}${reasons.length > 3 ? ", …" : ""})` : ""}.`;
}
