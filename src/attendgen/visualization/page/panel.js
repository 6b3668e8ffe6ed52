// One model's outputs for one input, and what is shown of them.

const SURPRISING = 0.05; // probability below which a token of a continuation is marked
const LEGEND = "The darker a token, the less probable it was; those below 5 % are underlined.";

class Panel {
  constructor(item, model, alone) {
    Object.assign(this, { item, model, chosen: 0, active: 0, back: -1, fixed: [] });
    this.attends = model.outputs.some((output) => output.weights.length && output.width);
    const hasPicture = Boolean(item.picture && model.outputs[0]?.regions && this.attends);
    this.root = make("section", { class: `panel ${item.kind} ${alone ? "wide" : ""} ${item.picture ? "with-picture" : ""}`, "aria-label": model.name });
    if (!alone) this.root.append(make("h3", { class: "full", dir: "auto" }, model.name));
    if (!model.outputs.length) {
      this.root.append(make("p", { class: "note" }, "No output was found."));
      return;
    }
    this.unpack();
    this.view = hasPicture ? new PictureView(item, this) : new SourceView(item, this);
    this.outputBox = make("div", { class: "output" });
    this.status = make("div", { class: "status", role: "status" });
    this.alternatives = make("ol", { class: "alternatives", "aria-label": "Likeliest tokens at this step" });
    this.side = make("div", { class: "side" });
    if (model.outputs.some((output) => output.alternatives.length)) this.side.append(make("h4", {}, "Likeliest here"), this.alternatives);
    if (model.outputs.length > 1) this.side.append(make("h4", {}, "Hypotheses"), this.makeHypotheses());
    const notes = item.kind === "text" ? [LEGEND, model.note] : [model.note];
    this.side.append(...notes.filter(Boolean).map((text) => make("p", { class: "note" }, text)));
    const views = [this.view.root];
    if (item.picture && !hasPicture) views.unshift(make("figure", {}, make("img", { src: item.picture.source, alt: "picture" })));
    this.root.append(make("div", { class: "view" }, ...views), make("div", { class: "written" }, this.outputBox, this.status), this.side, this.view.details);
    this.choose(0);
  }

  get output() { return this.model.outputs[this.chosen]; }

  // The tokens whose weights are shown: the fixed ones, and the one under the pointer if there is room.
  get shown() {
    const tokens = this.fixed.length === 2 ? this.fixed : [...this.fixed, this.active];
    return [...new Set(tokens)].filter((i) => i >= 0);
  }

  unpack() {
    this.weights = unpackWeights(this.output.weights, this.output.width);
    this.isHard = this.weights.length > 0 && this.weights.every((row) => row[greatest(row)] > 0.999);
  }

  makeHypotheses() {
    this.buttons = this.model.outputs.map((output, n) => make("button", {
      type: "button", role: "radio", "aria-checked": "false", tabindex: "-1", onclick: () => this.choose(n),
      onkeydown: (event) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (step) { this.step(step); this.buttons[this.chosen].focus(); event.preventDefault(); }
      },
    }, make("span", { dir: "auto" }, output.text || "(empty)"), make("span", {}, output.score === null ? "" : output.score.toFixed(2).replace("-", "−"))));
    return make("div", { class: "hypotheses", role: "radiogroup", "aria-label": "Hypotheses, best first" }, ...this.buttons);
  }

  step(by) {
    const count = this.model.outputs.length;
    if (count > 1) this.choose((this.chosen + by + count) % count, true);
  }

  choose(n, refocus = false) {
    const hadFocus = refocus && this.outputBox.contains(document.activeElement);
    this.chosen = n;
    this.unpack();
    this.fixed = [];
    this.back = -1;
    this.buttons?.forEach((button, k) => { button.setAttribute("aria-checked", String(k === n)); button.tabIndex = k === n ? 0 : -1; });
    const handlers = { look: (i) => this.look(i), fix: (i) => this.fix(i), release: () => this.release(), step: (by) => this.step(by) };
    const letters = this.output.pieces.every(([gap]) => gap === "");
    this.words = new TokenList(this.output.pieces, this.item.kind === "image" ? "Words of the caption" : "Tokens of the output", handlers, letters ? "letters" : "");
    this.words.tokens.forEach((token, i) => this.dress(token, this.output.probabilities[i]));
    this.outputBox.replaceChildren(...(this.item.kind === "image" ? [] : [make("h4", {}, this.item.kind === "text" ? "Continuation" : "Output")]), this.words.root);
    this.active = this.findStart();
    this.words.moveStop(this.active);
    if (hadFocus) this.words.focus(this.active);
    this.update();
    this.view.refresh();
  }

  // Begin with the word that looks most at one place.
  findStart() {
    const texts = this.output.pieces.map(([, text]) => (isSpecial(text) ? "" : text)), length = Math.min(3, Math.max(...texts.map((text) => text.length)));
    const peaks = this.weights.map((row, i) => (texts[i].length < length ? 0 : row[greatest(row)] ?? 0));
    return peaks.length ? greatest(peaks) : 0;
  }

  dress(token, probability) {
    if (probability === null) return;
    token.dataset.p = probability;
    token.style.setProperty("--p", probability);
    if (this.item.kind !== "text") return;
    token.style.setProperty("--shade", Math.min(0.26, -Math.log2(Math.max(probability, 1e-6)) * 0.026).toFixed(3));
    token.classList.toggle("surprising", probability < SURPRISING);
    token.title = percent(probability);
  }

  look(i) {
    this.back = -1;
    this.active = i;
    this.words.moveStop(i);
    this.update();
  }

  lookBack(j) {
    if (!this.attends || j === this.back) return;
    this.back = j;
    this.update();
  }

  fix(i) {
    this.active = i;
    this.fixed = this.fixed.includes(i) ? this.fixed.filter((k) => k !== i) : [...this.fixed.slice(-1), i];
    this.update();
  }

  release() {
    this.fixed = [];
    this.back = -1;
    this.update();
  }

  update() {
    const { shown } = this;
    this.words.tokens.forEach((token, i) => {
      token.classList.toggle("active", this.back < 0 && i === this.active && !this.fixed.includes(i));
      token.classList.toggle("first", this.fixed[0] === i);
      token.classList.toggle("second", this.fixed[1] === i);
      token.setAttribute("aria-selected", String(this.fixed.includes(i)));
    });
    this.view.draw();
    this.status.replaceChildren(...this.describe());
    this.drawAlternatives(this.fixed.includes(this.active) || this.fixed.length < 2 ? this.active : shown.at(-1));
  }

  describe() {
    const { output, fixed, shown } = this;
    if (this.back >= 0) {
      const [, word] = this.model.source[this.back];
      return [make("p", {}, make("b", { dir: "auto" }, spell(word)), ` is looked at by ${this.view.describeBack(this.back) || "no token"}`)];
    }
    const lines = shown.map((i) => {
      const word = make("b", { dir: "auto" }, spell(output.pieces[i]?.[1] ?? ""));
      const parts = [`probability ${percent(output.probabilities[i])}`, this.view.describe(i)];
      return make("p", {}, word, ` · ${parts.filter(Boolean).join(" · ")}`);
    });
    if (this.attends && fixed.length === 2) lines.push(make("p", {}, `The weights of the two words overlap by ${percent(overlap(...fixed.map((i) => this.weights[i])))}`));
    return lines;
  }

  drawAlternatives(i) {
    const found = this.output.alternatives[i] ?? [], word = this.output.pieces[i]?.[1];
    const own = found.some(([text]) => text === word) ? [] : [[word, this.output.probabilities[i]]];
    this.alternatives.replaceChildren(...(found.length ? [...found, ...own] : []).map(([text, probability]) =>
      make("li", { class: text === word ? "chosen" : "" }, make("span", { dir: "auto" }, spell(text)),
        make("span", { class: "bar", "aria-hidden": "true", style: { "--p": probability ?? 0 } }), make("span", {}, percent(probability)))));
  }
}
