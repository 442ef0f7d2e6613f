// The page: reads the data beside it, makes the cards, and listens to the controls.

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const { methods, metrics, samples, seeds } = data;
const state = {
  search: "", score: 0, order: "data", reversed: false, seed: 0, smooth: true,
  shown: methods.map(() => true),
};
const SIDE = 144; // pixels of a map's canvas; the large one has twice as many
const palettes = { true: palette(data.palettes.signed), false: palette(data.palettes.unsigned) };

// Everything from the data goes into text nodes and properties: it is never parsed as HTML.
function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  const { attributes = {}, ...properties } = options;
  Object.assign(element, properties);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

// ---- what a sample's methods gave
function resultOf(item, method) {
  const all = item.results[method];
  if (!all) return null;
  const one = all[state.seed];
  return one === "same" ? all[0] : one;
}

function scoreOf(item, method, metric = state.score) {
  const result = resultOf(item, method);
  const score = result && result.scores ? result.scores[metric] : null;
  return score === undefined ? null : score;
}

function bestOf(item) {
  const scores = methods.map((_, m) => (state.shown[m] ? scoreOf(item, m) : null));
  const known = scores.filter((score) => score !== null);
  if (known.length < 2) return null;
  return metrics[state.score].up ? Math.max(...known) : Math.min(...known);
}

function shownScore(score, metric) {
  return score === null ? "–" : score.toFixed(metrics[metric].digits).replace("-", "−");
}

function largest(result, method) {
  return `max ${Number(result.top.toPrecision(2))} ${method.unit}`.trim();
}

function frameOf(item, method, result, side, tag) {
  const { signed, title } = methods[method];
  const picture = make("img", { className: "picture", src: item.image, alt: "" });
  const canvas = make("canvas", {
    width: side,
    height: side,
    attributes: { role: "img", "aria-label": `${title}: map of ${item.id}` },
  });
  draw(canvas, result, signed, palettes, state.smooth);
  const mark = item.outline ? make("img", { className: "mark", src: item.outline, alt: "" }) : null;
  const options = { className: "frame map" };
  if (tag === "button") Object.assign(options, { type: "button", title: "Open large" });
  return make(tag, options, picture, canvas, mark);
}

function wordsOf(result, method) {
  if (!result.words) return null;
  const signed = methods[method].signed;
  const top = Math.max(0, ...result.weights.map(Math.abs));
  const spans = result.words.map((word, i) => {
    const rgb = colour(result.weights[i], top, signed, palettes);
    const span = make("span", { textContent: word, title: String(Number(result.weights[i].toPrecision(3))) });
    span.style.backgroundColor = `rgb(${rgb.join(", ")})`;
    span.style.color = readable(rgb);
    return span;
  });
  return make("div", { className: "words", attributes: { "aria-label": "Caption by attribution" } }, ...spans);
}

/** A name that may be broken where a word begins inside it, as in IntegratedGradients. */
function breakable(name) {
  return name.split(/(?<=[a-z])(?=[A-Z])/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));
}

function tileOf(item, method) {
  const info = methods[method];
  const result = resultOf(item, method);
  const tile = make("figure", { className: "tile" });
  tile.dataset.method = info.label;
  if (!result || !result.map) {
    const reason = result && result.reason ? `Failed: ${result.reason}` : "No map";
    tile.append(make("div", { className: "frame failed", textContent: reason }));
  } else {
    const frame = frameOf(item, method, result, SIDE, "button");
    frame.addEventListener("click", () => openLarge(item, method));
    tile.append(frame);
  }
  const score = scoreOf(item, method);
  const best = score !== null && score === bestOf(item);
  const metric = metrics[state.score];
  const value = metric
    ? make("span", {
        className: best ? "value best" : "value",
        textContent: shownScore(score, state.score),
        title: metric.title + (best ? ": the best of this sample" : ""),
      })
    : null;
  const most = result && result.map ? largest(result, info) : "";
  const short = most && info.unit.length > 8 ? largest(result, { unit: "" }) : most; // tiles are narrow
  const unit = most ? make("span", { className: "unit", textContent: short, title: most }) : null;
  tile.append(
    make(
      "figcaption",
      {},
      make("div", { className: "name", title: info.paper || "" }, ...breakable(info.title)),
      make("div", { className: "facts" }, value, unit),
      result && result.words ? wordsOf(result, method) : null,
    ),
  );
  return tile;
}

// ---- cards, filled when they come near the window
const near = new Set();
const observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !near.has(entry.target)) {
        near.add(entry.target);
        fill(entry.target);
      }
    }
  },
  { rootMargin: "600px" },
);

function cardOf(item) {
  const header = make(
    "header",
    {},
    make("h2", { textContent: item.id }),
    item.label ? make("span", { className: "tag", textContent: item.label }) : null,
    item.confidence === null
      ? null
      : make("span", { className: "confidence", textContent: `confidence ${item.confidence.toFixed(3)}` }),
    item.caption ? make("p", { className: "caption", textContent: item.caption }) : null,
  );
  const card = make("article", { className: "sample", tabIndex: -1 }, header, make("div", { className: "tiles" }));
  card.item = item;
  card.text = [item.id, item.label, item.caption].filter(Boolean).join(" ").toLowerCase();
  return card;
}

function fill(card) {
  const { item } = card;
  const input = make(
    "figure",
    { className: "tile" },
    make(
      "div",
      { className: "frame" },
      make("img", { className: "picture", src: item.image, alt: `What the model saw of ${item.id}` }),
      item.outline ? make("img", { className: "mark", src: item.outline, alt: "" }) : null,
    ),
    make("figcaption", {}, make("div", { className: "name", textContent: "Input" })),
  );
  const tiles = methods.map((_, m) => (state.shown[m] ? tileOf(item, m) : null)).filter(Boolean);
  card.querySelector(".tiles").replaceChildren(input, ...tiles);
}

const cards = samples.map(cardOf);

function refill() {
  for (const card of cards) if (near.has(card)) fill(card);
}

/** What samples are sorted by; null comes last, whichever the direction. */
function keyOf(item) {
  if (state.order === "data") return item.index;
  if (state.order === "confidence") return item.confidence;
  if (state.order !== "mean") return scoreOf(item, Number(state.order));
  const scores = methods.map((_, m) => (state.shown[m] ? scoreOf(item, m) : null)).filter((s) => s !== null);
  return scores.length ? scores.reduce((sum, s) => sum + s, 0) / scores.length : null;
}

function arrange() {
  const byScore = state.order !== "data" && state.order !== "confidence";
  const highFirst = state.order === "confidence" || (byScore && metrics[state.score].up);
  const sign = (highFirst ? -1 : 1) * (state.reversed ? -1 : 1);
  const terms = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  const found = cards
    .filter((card) => terms.every((term) => card.text.includes(term)))
    .map((card) => ({ card, key: keyOf(card.item) }));
  found.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    return sign * (a.key - b.key) || a.card.item.index - b.card.item.index;
  });
  at("cards").replaceChildren(...found.map(({ card }) => card));
  at("empty").hidden = found.length > 0;
  at("status").textContent =
    found.length === cards.length ? `${cards.length} samples` : `${found.length} of ${cards.length} samples`;
  const words = byScore ? ["Best first", "Worst first"]
    : state.order === "data" ? ["Ascending", "Descending"] : ["High first", "Low first"];
  at("direction").textContent = words[Number(state.reversed)];
  at("direction").setAttribute("aria-pressed", String(state.reversed));
  for (const card of cards) observer.observe(card);
}

// ---- one map, large
let open = null;

function openLarge(item, method) {
  open = { item, method };
  const info = methods[method];
  const result = resultOf(item, method);
  at("large-title").textContent = info.title + (info.paper ? ` (${info.paper})` : "");
  at("large-sample").textContent = [item.id, item.label, item.caption].filter(Boolean).join(" · ");
  const rest = result && result.map ? largest(result, info) : "";
  at("readout").textContent = rest;
  if (rest) {
    const frame = frameOf(item, method, result, 2 * SIDE, "div");
    frame.addEventListener("pointermove", (event) => {
      const box = frame.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
      if (x < 0 || y < 0 || x >= 1 || y >= 1) return;
      const value = sample(result, info.signed, x, y, state.smooth);
      at("readout").textContent = `${Number(value.toPrecision(2))} ${info.unit} here, ${rest}`;
    });
    frame.addEventListener("pointerleave", () => { at("readout").textContent = rest; });
    at("large-frame").replaceChildren(frame);
  } else {
    const reason = (result && result.reason) || "No map";
    at("large-frame").replaceChildren(make("div", { className: "frame failed", textContent: reason }));
  }
  at("large-words").replaceChildren(...[rest ? wordsOf(result, method) : null].filter(Boolean));
  at("large-scores").replaceChildren(
    ...metrics.map((metric, m) =>
      make(
        "tr",
        {},
        make("td", { textContent: `${metric.title} ${metric.up ? "↑" : "↓"}` }),
        make("td", { textContent: shownScore(scoreOf(item, method, m), m) }),
      ),
    ),
  );
  if (!at("large").open) at("large").showModal();
}

function step(by) {
  const shown = methods.map((_, m) => m).filter((m) => state.shown[m]);
  const next = (shown.indexOf(open.method) + by + shown.length) % shown.length;
  openLarge(open.item, shown[next]);
}

// ---- controls
const option = (value, text) => make("option", { value: String(value), textContent: text });

function setUp() {
  at("title").textContent = data.title;
  at("subtitle").textContent = data.subtitle;
  at("notes").append(...data.notes.map((note) => make("li", { textContent: note })));
  at("score").append(...metrics.map((metric, m) => option(m, `${metric.title} ${metric.up ? "↑" : "↓"}`)));
  at("order").append(option("data", "Order of the data"));
  if (samples.some((item) => item.confidence !== null)) at("order").append(option("confidence", "Model confidence"));
  if (metrics.length) {
    const group = make("optgroup", { label: "Score of" }, option("mean", "Shown methods, mean"));
    group.append(...methods.map((method, m) => option(m, method.title)));
    at("order").append(group);
  }
  at("score").closest(".field").hidden = !metrics.length;
  at("seed").append(...seeds.map((seed, s) => option(s, String(seed))));
  at("seed-field").hidden = seeds.length < 2;
  at("outline-field").hidden = !samples.some((item) => item.outline);
  methods.forEach((method, m) => {
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => { state.shown[m] = box.checked; changed(); });
    at("methods").append(make("label", {}, box, make("span", { textContent: method.title })));
  });
  for (const signed of [false, true]) {
    const bar = at(signed ? "bar-signed" : "bar-unsigned");
    bar.hidden = !methods.some((method) => method.signed === signed);
    const context = bar.querySelector("canvas").getContext("2d");
    for (let i = 0; i < 256; i++) {
      context.fillStyle = `rgb(${palettes[signed].subarray(3 * i, 3 * i + 3).join(", ")})`;
      context.fillRect(i, 0, 1, 1);
    }
  }
  at("opacity").value = "60";
  if (matchMedia("(max-width: 52rem)").matches) document.querySelector(".settings").open = false;
}

function changed() {
  refill();
  arrange();
}

function listen() {
  at("search").addEventListener("input", (event) => { state.search = event.target.value; arrange(); });
  at("score").addEventListener("change", (event) => { state.score = Number(event.target.value); changed(); });
  at("order").addEventListener("change", (event) => { state.order = event.target.value; arrange(); });
  at("seed").addEventListener("change", (event) => { state.seed = Number(event.target.value); changed(); });
  at("direction").addEventListener("click", () => { state.reversed = !state.reversed; arrange(); });
  at("smooth").addEventListener("change", (event) => { state.smooth = event.target.checked; refill(); });
  at("grey").addEventListener("change", (event) => document.body.classList.toggle("grey", event.target.checked));
  at("outline").addEventListener("change", (event) => document.body.classList.toggle("outlined", event.target.checked));
  for (const [id, shown] of [["all", true], ["none", false]]) {
    at(id).addEventListener("click", () => {
      state.shown.fill(shown);
      for (const box of at("methods").querySelectorAll("input")) box.checked = shown;
      changed();
    });
  }
  const fade = () => {
    document.documentElement.style.setProperty("--opacity", String(at("opacity").value / 100));
    at("opacity-value").textContent = `${at("opacity").value} %`;
  };
  at("opacity").addEventListener("input", fade);
  fade();
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  at("close").addEventListener("click", () => at("large").close());
  at("large").addEventListener("click", (event) => { if (event.target === at("large")) at("large").close(); });
  at("large").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  document.addEventListener("keydown", keys);
}

function keys(event) {
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (at("large").open || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector(".settings").open = true;
    at("search").focus();
  } else if (event.key === "j" || event.key === "k") {
    const all = [...at("cards").children];
    const here = all.indexOf(document.activeElement.closest(".sample"));
    const next = all[event.key === "j" ? here + 1 : Math.max(0, here - 1)];
    if (next) {
      next.focus({ preventScroll: true });
      next.scrollIntoView({ block: "start" });
    }
  }
}

document.body.classList.add("grey");
setUp();
listen();
arrange();
