// Numbers as people read them; the units are those of the API's own sentences.

const UNITS = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]];

function unitOf(bytes) {
  return UNITS.find(([size]) => bytes >= size) ?? [1, "B"];
}

/** 35602370 as "35.6 MB". */
function bytesInWords(bytes) {
  const [size, unit] = unitOf(bytes);
  return `${(bytes / size).toFixed(size === 1 ? 0 : 1)} ${unit}`;
}

/** "10.5 of 35.6 MB". */
function shareInWords(done, total) {
  const [size, unit] = unitOf(total);
  const digits = size === 1 ? 0 : 1;
  return `${(done / size).toFixed(digits)} of ${(total / size).toFixed(digits)} ${unit}`;
}

function timeLeftInWords(seconds) {
  if (seconds < 100) return `about ${Math.max(seconds, 1)} s left`;
  if (seconds < 6000) return `about ${Math.round(seconds / 60)} min left`;
  return `about ${(seconds / 3600).toFixed(1)} h left`;
}

/** [number, unit] of a duration in seconds. */
function secondsInWords(seconds) {
  if (seconds < 0.1) return [(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0), "ms"];
  if (seconds < 1) return [String(Math.round(seconds * 100) * 10), "ms"];
  return [seconds.toFixed(seconds < 10 ? 1 : 0), "s"];
}

function countInWords(number) {
  return Math.round(number).toLocaleString("en");
}

function rateInWords(perSecond) {
  return perSecond > 0 && perSecond < 10 ? perSecond.toFixed(1) : countInWords(perSecond);
}

/** "1 model", "2 models". */
function plural(number, noun) {
  return `${countInWords(number)} ${noun}${number === 1 ? "" : "s"}`;
}

function sentence(text) {
  const whole = text.trim();
  if (!whole) return "";
  return whole[0].toUpperCase() + whole.slice(1) + (/[.!?]$/.test(whole) ? "" : ".");
}

/** The numbers of an object `loading`, as one line; empty when it has none. */
function numbersInWords(loading) {
  const { bytes_done: done, bytes_total: total, bytes_per_second: rate, eta_seconds: eta } = loading;
  const parts = [];
  if (done !== null) parts.push(total ? shareInWords(done, total) : `${bytesInWords(done)} so far`);
  if (rate) parts.push(`${bytesInWords(rate)}/s`);
  if (eta !== null) parts.push(timeLeftInWords(eta));
  return parts.join(" · ");
}
