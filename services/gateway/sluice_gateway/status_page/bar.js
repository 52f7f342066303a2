// How far something is.

/** A bar with its numbers below; without a total it only shows that something moves. */
class Bar {
  root = element("div", "progress");
  #bar = element("div", "bar");
  #fill = element("div", "fill");
  #percent = element("span", "percent");
  #numbers = element("span", "numbers");
  #file = element("span", "file quiet");

  constructor(label) {
    this.#bar.append(this.#fill);
    mark(this.#bar, "role", "progressbar");
    mark(this.#bar, "aria-label", label);
    mark(this.#bar, "aria-valuemin", "0");
    mark(this.#bar, "aria-valuemax", "100");
    this.root.append(this.#bar, element("div", "under", this.#percent, this.#numbers, this.#file));
  }

  /** `loading` as the API has it; null hides the bar. */
  show(loading) {
    this.root.hidden = !loading;
    if (!loading) return;
    const { bytes_done: done, bytes_total: total } = loading;
    const known = total !== null && done !== null;
    const percent = known ? Math.min(100, (done * 100) / Math.max(total, 1)) : 0;
    this.#bar.classList.toggle("endless", !known);
    this.#fill.style.width = known ? `${percent.toFixed(2)}%` : "";
    if (known) mark(this.#bar, "aria-valuenow", String(Math.floor(percent)));
    else this.#bar.removeAttribute("aria-valuenow");
    say(this.#percent, known ? `${Math.floor(percent)} %` : "");
    say(this.#numbers, numbersInWords(loading));
    say(this.#file, loading.file ?? "");
  }
}
