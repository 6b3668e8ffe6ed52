// An image that is bright and colored where the model looked, dark and gray elsewhere.

const SIDE = 72; // pixels of a smooth map

// The normalized Gaussian weights of the cells for each pixel, with a standard deviation of half a cell.
function makeSmoothing(pixels, cells) {
  return Array.from({ length: pixels }, (_, pixel) => {
    const center = ((pixel + 0.5) / pixels) * cells;
    const kernel = Array.from({ length: cells }, (_, cell) => Math.exp(-0.5 * ((center - cell - 0.5) / 0.5) ** 2));
    const sum = kernel.reduce((a, b) => a + b);
    return kernel.map((value) => value / sum);
  });
}

// Return [light, columns, rows]: the weights spread over the image.
function spreadWeights(weights, regions, smooth) {
  if (regions.boxes) return fillBoxes(weights, regions.boxes);
  const [rows, columns, leading] = regions.grid;
  const grid = weights.slice(leading);
  if (!smooth) return [grid, columns, rows];
  const down = makeSmoothing(SIDE, rows), across = makeSmoothing(SIDE, columns);
  const light = new Float32Array(SIDE * SIDE);
  const wide = down.map((kernel) => Array.from({ length: columns }, (_, c) => kernel.reduce((sum, k, r) => sum + k * grid[r * columns + c], 0)));
  for (let y = 0; y < SIDE; y++)
    for (let x = 0; x < SIDE; x++) light[y * SIDE + x] = across[x].reduce((sum, k, c) => sum + k * wide[y][c], 0);
  return [light, SIDE, SIDE];
}

function fillBoxes(weights, boxes) {
  const size = 160, light = new Float32Array(size * size);
  boxes.forEach(([left, top, right, bottom], i) => {
    for (let y = Math.round(top * size); y < Math.max(bottom * size, top * size + 1); y++)
      for (let x = Math.round(left * size); x < Math.max(right * size, left * size + 1); x++)
        if (x < size && y < size) light[y * size + x] = Math.max(light[y * size + x], weights[i]);
  });
  return [light, size, size];
}

// A small canvas that is opaque where nothing was looked at.
function makeShadow(weights, regions, smooth) {
  const [light, columns, rows] = spreadWeights(weights, regions, smooth);
  const peak = light[greatest(light)] || 1;
  const canvas = make("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"), pixels = context.createImageData(columns, rows);
  light.forEach((value, i) => { pixels.data[4 * i + 3] = 255 * (1 - value / peak); });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// Where a region lies: left, top, right, bottom as shares of the image; null if it has no place.
function locate(region, regions) {
  if (regions.boxes) return regions.boxes[region] ?? null;
  const [rows, columns, leading] = regions.grid, cell = region - leading;
  if (cell < 0) return null;
  const row = Math.floor(cell / columns), column = cell % columns;
  return [column / columns, row / rows, (column + 1) / columns, (row + 1) / rows];
}

function namePlace(region, regions) {
  const box = locate(region, regions);
  if (!box) return "whole picture";
  const x = (box[0] + box[2]) / 2, y = (box[1] + box[3]) / 2;
  const row = y < 1 / 3 ? "top" : y > 2 / 3 ? "bottom" : "middle", column = x < 1 / 3 ? "left" : x > 2 / 3 ? "right" : "center";
  return row === "middle" && column === "center" ? "center" : `${row} ${column}`;
}

function outline(context, box, size, color, width) {
  const [left, top, right, bottom] = box.map((share, i) => share * size[i % 2]);
  context.strokeStyle = color;
  context.lineWidth = width;
  context.strokeRect(left + width / 2, top + width / 2, right - left - width, bottom - top - width);
}

class PictureView {
  constructor(item, panel) {
    this.panel = panel;
    this.picture = item.picture;
    this.image = new Image();
    this.image.src = item.picture.source;
    this.isWaiting = true; // until `start.js` lets it draw every word
    this.root = make("div", { class: "pictures" });
    this.strip = make("div", { class: "strip" });
    this.details = make("details", { open: true }, make("summary", {}, "Every word"), this.strip);
    this.details.addEventListener("toggle", () => this.refresh());
    this.ready = this.image.decode().catch(() => {}).then(() => { this.draw(); this.refresh(); });
  }

  paint(canvas, token, width, annotated = true) {
    const output = this.panel.output, regions = output.regions;
    canvas.width = width;
    canvas.height = Math.max(1, Math.round((width * this.picture.height) / this.picture.width));
    const context = canvas.getContext("2d"), size = [canvas.width, canvas.height];
    if (this.image.naturalWidth) context.drawImage(this.image, 0, 0, ...size);
    if (token === null) return;
    const weights = this.panel.weights[token];
    const shadow = makeShadow(weights, regions, settings.smooth);
    context.imageSmoothingEnabled = settings.smooth;
    for (const [operation, share] of [["saturation", 1], ["source-over", 0.78]]) {
      context.globalCompositeOperation = operation;
      context.globalAlpha = settings.strength * share;
      context.drawImage(shadow, 0, 0, ...size);
    }
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = 1;
    if (annotated) this.annotate(context, size, token, weights);
  }

  // Outline the strongest region of a grid; if attention is hard, draw the places of all words with their numbers.
  annotate(context, size, token, weights) {
    const regions = this.panel.output.regions, line = Math.max(2, size[0] / 300);
    const best = locate(greatest(weights), regions);
    if (this.panel.isHard) this.drawPlaces(context, size, token, line);
    else if (!settings.smooth && best) outline(context, best, size, "#ffffff", line);
  }

  drawPlaces(context, size, token, line) {
    const places = new Map();
    this.panel.weights.forEach((weights, i) => {
      const region = greatest(weights);
      places.set(region, [...(places.get(region) ?? []), i]);
    });
    context.font = `600 ${Math.max(11, size[0] / 42)}px sans-serif`;
    context.textBaseline = "top";
    for (const [region, words] of places) {
      const box = locate(region, this.panel.output.regions);
      if (!box) continue;
      const shown = words.includes(token);
      outline(context, box, size, shown ? "#ffffff" : "rgba(255, 255, 255, .55)", shown ? 1.5 * line : line / 2);
      context.fillStyle = shown ? "#ffffff" : "rgba(255, 255, 255, .75)";
      context.fillText(words.map((i) => i + 1).join(" "), box[0] * size[0] + 2 * line, box[1] * size[1] + 2 * line);
    }
  }

  // Draw what depends on the output and the settings.
  refresh() {
    if (!this.details.open || this.isWaiting) return;
    this.strip.replaceChildren(...this.panel.output.pieces.map(([, word], i) => {
      const canvas = make("canvas", { role: "img", "aria-label": `${spell(word)} ${this.describe(i)}` });
      this.paint(canvas, i, 240, false);
      return make("button", { type: "button", onmouseenter: () => this.panel.look(i), onclick: () => this.panel.fix(i) },
        make("figure", {}, canvas, make("figcaption", { dir: "auto" }, spell(word))));
    }));
    this.markStrip();
  }

  // Draw what depends on the words that are shown.
  draw() {
    const shown = this.panel.shown.length ? this.panel.shown : [null];
    const width = Math.min(this.picture.width, 900);
    this.root.replaceChildren(...shown.map((token, k) => {
      const word = token === null ? "" : spell(this.panel.output.pieces[token][1]);
      const canvas = make("canvas", { role: "img", "aria-label": token === null ? "picture" : `${word} ${this.describe(token)}` });
      this.paint(canvas, token, width);
      const compared = shown.length > 1 || this.panel.fixed.includes(token);
      return make("figure", { class: compared ? ["first", "second"][k] : "" }, canvas, make("figcaption", { dir: "auto" }, word));
    }));
    this.markStrip();
  }

  markStrip() {
    [...this.strip.children].forEach((child, i) => child.classList.toggle("shown", this.panel.shown.includes(i)));
  }

  describe(token) {
    const weights = this.panel.weights[token], best = greatest(weights);
    const place = `looks at the ${namePlace(best, this.panel.output.regions)}`;
    return this.panel.isHard ? place : `${place}, ${percent(weights[best])} of the weight on one region`;
  }
}
