// What all parts of the page share: making elements, numbers as texts, and the weights as they are packed.

const settings = { smooth: true, strength: 0.85 };

// Texts become text nodes, so that no text of a model or a file is read as markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") for (const [key, part] of Object.entries(value)) element.style.setProperty(key, part);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function percent(share) {
  if (share === null || share === undefined) return "";
  const number = share * 100;
  if (number > 0 && number < 0.1) return "< 0.1 %";
  return `${number >= 99.95 ? 100 : number >= 9.95 ? number.toFixed(0) : number.toFixed(1)} %`;
}

// A token as it is named in a sentence: blanks are made visible.
const spell = (text) => (text === " " ? "␣" : text.replace(/\n/g, "⏎").replace(/\t/g, "⇥"));
const isSpecial = (text) => /^<\w+>$/.test(text);

// Rows are packed as [first column, greatest weight, bytes in base64]; what is left out at both ends is 0.
function unpackWeights(rows, width) {
  return rows.map(([start, peak, bytes]) => {
    const weights = new Float32Array(width);
    const text = atob(bytes);
    for (let i = 0; i < text.length; i++) weights[start + i] = (text.charCodeAt(i) / 255) * peak;
    return weights;
  });
}

function greatest(weights) {
  let best = 0;
  for (let i = 1; i < weights.length; i++) if (weights[i] > weights[best]) best = i;
  return best;
}

function listLargest(weights, count) {
  return Array.from(weights.keys()).filter((i) => weights[i] >= 0.01).sort((a, b) => weights[b] - weights[a]).slice(0, count);
}

// The share of two words' weights that lies in the same places.
function overlap(a, b) {
  let shared = 0;
  for (let i = 0; i < a.length; i++) shared += Math.min(a[i], b[i]);
  return shared;
}

// A list of tokens in which the arrow keys move; it holds one stop of the tab key.
class TokenList {
  constructor(pieces, label, handlers, className = "") {
    this.tokens = pieces.map(([, text], i) =>
      make("span", {
        role: "option", class: isSpecial(text) ? "token special" : "token", tabindex: i ? "-1" : "0", "aria-selected": "false",
        onmouseenter: () => handlers.look(i), onfocus: () => handlers.look(i), onclick: () => handlers.fix(i),
      }, text === "\n" ? "⏎\n" : text));
    this.root = make("div", {
      role: "listbox", dir: "auto", class: `tokens ${className}`, "aria-label": label, "aria-orientation": "horizontal",
      "aria-multiselectable": "true", onkeydown: (event) => this.press(event, handlers), onmouseleave: () => handlers.leave?.(),
    });
    pieces.forEach(([gap], i) => this.root.append(gap, this.tokens[i]));
  }

  press(event, handlers) {
    const at = this.tokens.indexOf(document.activeElement);
    const forward = getComputedStyle(this.root).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const backward = forward === "ArrowRight" ? "ArrowLeft" : "ArrowRight";
    const targets = { [forward]: at + 1, [backward]: at - 1, Home: 0, End: this.tokens.length - 1 };
    const actions = { Enter: () => handlers.fix(at), " ": () => handlers.fix(at), Escape: () => handlers.release(),
      ArrowUp: () => handlers.step?.(-1), ArrowDown: () => handlers.step?.(1) };
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key in targets) this.focus(Math.min(Math.max(targets[event.key], 0), this.tokens.length - 1));
    else if (event.key in actions) actions[event.key]();
    else return;
    event.preventDefault();
  }

  focus(i) {
    this.moveStop(i);
    this.tokens[i]?.focus();
  }

  moveStop(i) {
    for (const token of this.tokens) token.tabIndex = -1;
    if (this.tokens[i]) this.tokens[i].tabIndex = 0;
  }

  // Shade the tokens by weights, and their lower halves by those of a second word if two are compared.
  shade(first, second = null) {
    const rows = [first, second ?? first];
    const peaks = rows.map((row) => (row ? Math.max(...row, 1e-9) : 1));
    this.tokens.forEach((token, i) => {
      ["--w", "--v"].forEach((name, k) => {
        const value = rows[k] ? (rows[k][i] / peaks[k]) * settings.strength * 0.75 : 0;
        token.style.setProperty(name, value.toFixed(3));
      });
    });
    this.root.classList.toggle("compare", second !== null);
  }
}
