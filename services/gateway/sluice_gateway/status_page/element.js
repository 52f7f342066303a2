// Elements, made and changed without markup: what comes from a server is only ever text.

const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

/** An element with a class and children, which are elements or text. */
function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function svgElement(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Say `text`, and hide the element when there is none. An unchanged text stays selected. */
function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
  target.hidden = !text;
}

function mark(target, name, value) {
  if (target.getAttribute(name) !== value) target.setAttribute(name, value);
}

/** A list whose entries stay the same elements for as long as their items are there. */
class Entries {
  #list;
  #create;
  #entries = new Map();

  /** `create()` makes an entry: an object with `root`, its element, and `show(item)`. */
  constructor(list, create) {
    this.#list = list;
    this.#create = create;
  }

  /** Show `items`, in their order; `keyOf(item)` tells which is which. */
  show(items, keyOf) {
    const keys = new Set(items.map(keyOf));
    for (const [key, entry] of this.#entries) {
      if (keys.has(key)) continue;
      entry.root.remove();
      this.#entries.delete(key);
    }
    items.forEach((item, index) => {
      const key = keyOf(item);
      if (!this.#entries.has(key)) this.#entries.set(key, this.#create());
      const entry = this.#entries.get(key);
      entry.show(item);
      if (this.#list.children[index] !== entry.root) {
        this.#list.insertBefore(entry.root, this.#list.children[index] ?? null);
      }
    });
  }
}
