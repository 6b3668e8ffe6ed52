// Build the page from its data.

const data = JSON.parse(document.getElementById("data").textContent);
const panels = [];
const MANY = 20; // images; of more, those in view draw every word

function makeItem(item) {
  const models = make("div", { class: "models" });
  for (const model of item.models) {
    const panel = new Panel(item, model, item.models.length === 1);
    if (panel.view) panels.push(panel);
    models.append(panel.root);
  }
  return make("section", { class: "item", "aria-label": item.name }, make("h2", { dir: "auto", hidden: item.kind !== "image" }, item.name), models);
}

document.getElementById("items").replaceChildren(...data.items.map(makeItem));
document.getElementById("help").hidden = false;
document.getElementById("toolbar").hidden = !panels.some((panel) => panel.attends);
document.getElementById("map").hidden = !panels.some((panel) => panel.view instanceof PictureView);
document.getElementById("toolbar").addEventListener("input", (event) => {
  if (event.target.name === "map") settings.smooth = event.target.value === "smooth";
  else settings.strength = Number(event.target.value) / 100;
  for (const panel of panels) { panel.update(); panel.view.refresh(); }
});
document.getElementById("toolbar").addEventListener("submit", (event) => event.preventDefault());
function showWords(panel) {
  panel.view.isWaiting = false;
  panel.view.refresh();
}

const pictured = panels.filter((panel) => panel.view instanceof PictureView);
if (pictured.length > MANY) {
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((found) => found.isIntersecting)) {
      observer.unobserve(entry.target);
      showWords(pictured.find((panel) => panel.root === entry.target));
    }
  }, { rootMargin: "600px" });
  for (const panel of pictured) observer.observe(panel.root);
} else for (const panel of pictured) panel.view.isWaiting = false; // drawn when the image is decoded
addEventListener("beforeprint", () => {
  for (const panel of panels) {
    if (!panel.view.details.hidden) panel.view.details.open = true;
    showWords(panel);
  }
});
Promise.all(panels.map((panel) => panel.view.ready)).then(() => { document.documentElement.dataset.ready = "true"; });
