// Views of what is attended to as text: a source, the cells of a table, or the context of a continuation.

const SMALL = 24; // tokens on both sides of a matrix that is open at first
const SHORT = 3; // cells of a row of a table that needs no line of its own
const LARGEST = 6000; // cells of a matrix that is a table; a larger one is an image

class SourceView {
  constructor(item, panel) {
    this.panel = panel;
    const handlers = { look: (j) => panel.lookBack(j), fix: (j) => panel.lookBack(j), release: () => panel.release(), leave: () => panel.lookBack(-1) };
    this.isTable = item.kind === "table";
    const name = this.isTable ? "Table" : item.kind === "text" ? "Context" : "Source";
    const pieces = panel.model.source;
    this.list = new TokenList(pieces, name, handlers, this.isTable ? "cells" : "context");
    if (this.isTable) this.groupRows(panel.model.rows);
    this.root = make("div", {}, make("h4", {}, name), this.list.root);
    this.table = make("div", { class: "scroll" });
    const isSmall = pieces.length <= SMALL && panel.weights.length <= SMALL;
    this.details = make("details", { open: isSmall }, make("summary", {}, "Matrix"), this.table);
    this.details.addEventListener("toggle", () => this.refresh());
    if (item.kind === "text" || !panel.attends) this.details.hidden = true;
  }

  // Put the cells of each row of the table on lines of their own; those of short rows stand side by side.
  groupRows(rows) {
    const lines = new Map();
    this.list.tokens.forEach((token, j) => {
      if (!lines.has(rows[j])) lines.set(rows[j], make("div", { role: "group", class: "row", "aria-label": `row ${rows[j]}` }));
      lines.get(rows[j]).append(token);
    });
    this.list.root.replaceChildren(...lines.values());
    this.list.root.classList.toggle("flat", [...lines.values()].every((line) => line.children.length <= SHORT));
  }

  // Scroll a large table to a cell.
  reveal(cell) {
    const { root } = this.list, top = cell.offsetTop - root.offsetTop;
    if (top < root.scrollTop || top + cell.offsetHeight > root.scrollTop + root.clientHeight) root.scrollTop = top - root.clientHeight / 2;
  }

  // The weights of a row over the tokens of the source, without those over the output itself.
  take(row) {
    return row ? row.slice(0, this.list.tokens.length) : null;
  }

  draw() {
    const { panel } = this;
    const rows = panel.attends ? panel.shown.map((i) => panel.weights[i]) : [];
    const [first, second] = panel.back >= 0 ? [null, null] : [rows[0] ?? null, rows[1] ?? null];
    this.list.shade(this.take(first), second && this.take(second));
    this.list.tokens.forEach((token, j) => token.classList.toggle("active", j === panel.back));
    if (first && this.isTable) this.reveal(this.list.tokens[greatest(first)]);
    panel.words.shade(panel.back >= 0 ? panel.weights.map((row) => row[panel.back]) : this.takeOwn(first), second && this.takeOwn(second));
    this.markMatrix();
  }

  // The weights over the output itself, of a language model that attends to what it wrote.
  takeOwn(row) {
    const begin = this.list.tokens.length;
    return row && row.length > begin ? row.slice(begin, begin + this.panel.words.tokens.length) : null;
  }

  // Draw what depends on the output and the settings.
  refresh() {
    const { panel } = this, { weights } = panel, source = panel.model.source;
    if (!this.details.open) return;
    this.table.replaceChildren(weights.length * source.length <= LARGEST ? this.makeTable(weights, source) : this.makeImage(weights, source));
    this.markMatrix();
  }

  makeTable(weights, source) {
    const peak = Math.max(...weights.map((row) => row[greatest(row)]), 1e-9);
    const head = make("tr", {}, make("td"), ...source.map(([, text]) => make("th", { scope: "col", dir: "auto" }, spell(text))));
    const rows = weights.map((row, i) => make("tr", { onmouseenter: () => this.panel.look(i) },
      make("th", { scope: "row", dir: "auto" }, spell(this.panel.output.pieces[i][1])),
      ...source.map(([, text], j) => make("td", { style: { "--w": (row[j] / peak).toFixed(3) }, title: `${spell(text)} ${percent(row[j])}` }))));
    return make("table", { class: "matrix" }, make("thead", {}, head), make("tbody", {}, ...rows));
  }

  makeImage(weights, source) {
    const canvas = make("canvas", { role: "img", "aria-label": "weights of each token of the output (rows) over the source (columns)",
      style: { "image-rendering": "pixelated", background: "transparent" } });
    canvas.width = source.length;
    canvas.height = weights.length;
    const context = canvas.getContext("2d"), pixels = context.createImageData(canvas.width, canvas.height);
    const peak = Math.max(...weights.map((row) => row[greatest(row)]), 1e-9);
    weights.forEach((row, i) => source.forEach((_, j) => pixels.data.set([0, 114, 178, (255 * row[j]) / peak], 4 * (i * canvas.width + j))));
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  markMatrix() {
    const shown = new Set(this.panel.back >= 0 ? [] : this.panel.shown);
    this.table.querySelectorAll("tbody tr").forEach((row, i) => row.classList.toggle("shown", shown.has(i)));
  }

  describe(token) {
    if (!this.panel.attends) return "";
    const row = this.panel.weights[token], { model, output } = this.panel;
    const name = (j) => spell((model.source[j] ?? output.pieces[j - model.source.length])[1]);
    const found = listLargest(row, 3).map((j) => `${name(j)} ${percent(row[j])}`).join(", ");
    return found && `looks at ${found}`;
  }

  // Which tokens of the output looked at a token of the source.
  describeBack(j) {
    const column = this.panel.weights.map((row) => row[j]);
    return listLargest(column, 4).map((i) => `${spell(this.panel.output.pieces[i][1])} ${percent(column[i])}`).join(", ");
  }
}
