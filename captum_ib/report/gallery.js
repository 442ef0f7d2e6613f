"use strict";
// Searching, sorting and scores, and one map large. What is switched off is the style's concern.

const at = (id) => document.getElementById(id);
const all = (selector, home = document) => [...home.querySelectorAll(selector)];
const cards = all(".sample");
const metric = () => at("score").selectedOptions[0]?.dataset;
const numbers = new Map(all("[data-scores]").map((tile) => [tile, JSON.parse(tile.dataset.scores)]));
const minus = (value) => value.replace("-", "−");

function scoreOf(tile, number = at("score").value) {
  return numbers.get(tile)?.[number] ?? null;
}

/** Tiles of a sample that can be seen, or that of one method whether it can or not. */
function tilesOf(card, method = null) {
  const tiles = all(`.tile[data-seeds~="${at("seed").value}"]`, card);
  const wanted = ({ dataset }) => (method === null ? at(`method-${dataset.method}`).checked : dataset.method === method);
  return tiles.filter(wanted);
}

function known(tiles) {
  return tiles.map((tile) => scoreOf(tile)).filter((score) => score !== null);
}

function shown(score, { digits }) {
  return score === null ? "–" : minus(score.toFixed(digits));
}

/** Write the scores of the chosen metric, and mark the best of each sample. */
function judge() {
  if (!metric()) return;
  for (const card of cards) {
    const tiles = tilesOf(card);
    const scores = known(tiles);
    const best = metric().up === "1" ? Math.max(...scores) : Math.min(...scores);
    for (const tile of tiles) {
      const value = tile.querySelector(".value");
      value.textContent = shown(scoreOf(tile), metric());
      value.classList.toggle("best", scores.length > 1 && scoreOf(tile) === best);
      value.title = at("score").selectedOptions[0].text + (value.matches(".best") ? ": the best of this sample" : "");
    }
  }
}

/** What samples are sorted by; null comes last, whichever the direction. */
function keyOf(card, order) {
  if (order in card.dataset) return card.dataset[order] === "" ? null : Number(card.dataset[order]);
  const scores = known(tilesOf(card, order === "mean" ? null : order));
  return scores.length ? scores.reduce((sum, score) => sum + score, 0) / scores.length : null;
}

const textOf = (card, separator) => all("h2, .tag, .caption", card).map((part) => part.textContent).join(separator);

function arrange() {
  const order = at("order").value;
  const reversed = at("direction").getAttribute("aria-pressed") === "true";
  const words = { index: ["Ascending", "Descending"], confidence: ["High first", "Low first"] };
  const highFirst = order === "confidence" || (order !== "index" && metric().up === "1");
  const sign = highFirst === reversed ? 1 : -1;
  const terms = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = cards
    .filter((card) => terms.every((term) => textOf(card, " ").toLowerCase().includes(term)))
    .map((card) => ({ card, key: keyOf(card, order) }));
  found.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    return sign * (a.key - b.key) || a.card.dataset.index - b.card.dataset.index;
  });
  at("cards").replaceChildren(...found.map(({ card }) => card));
  at("empty").hidden = found.length > 0;
  at("status").textContent = `${found.length === cards.length ? "" : `${found.length} of `}${cards.length} samples`;
  at("direction").textContent = (words[order] ?? ["Best first", "Worst first"])[Number(reversed)];
}

// ---- one map, large
let open = null;

function enlarge(tile) {
  open = tile;
  const card = tile.closest(".sample");
  const name = tile.querySelector(".name");
  at("large-title").textContent = name.textContent + (name.title ? ` (${name.title})` : "");
  at("large-sample").textContent = textOf(card, " · ");
  const frame = document.createElement("div");
  frame.className = tile.querySelector(".frame").className;
  frame.append(...tile.querySelector(".frame").cloneNode(true).childNodes);
  at("large-frame").replaceChildren(frame);
  at("large-words").replaceChildren(...all(".words", tile).map((words) => words.cloneNode(true)));
  const most = tile.querySelector(".unit")?.title ?? "";
  at("readout").textContent = most;
  const heat = frame.querySelector(".heat");
  if (heat) {
    frame.onpointermove = (event) => { at("readout").textContent = `${valueAt(heat, event)} here, ${most}`; };
    frame.onpointerleave = () => { at("readout").textContent = most; };
  }
  at("large-scores").replaceChildren(
    ...[...at("score").options].map((option, number) => {
      const row = document.createElement("tr");
      row.insertCell().textContent = option.text;
      row.insertCell().textContent = shown(scoreOf(tile, number), option.dataset);
      return row;
    }),
  );
  if (!at("large").open) at("large").showModal();
}

/** The value of the map's cell under the pointer, from the picture's grey. */
function valueAt(heat, event) {
  const box = heat.getBoundingClientRect();
  const place = (share, size) => Math.max(0, Math.min(size - 1, Math.floor(share * size)));
  const x = place((event.clientX - box.left) / box.width, heat.naturalWidth);
  const y = place((event.clientY - box.top) / box.height, heat.naturalHeight);
  const cell = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
  cell.drawImage(heat, -x, -y);
  const [level] = cell.getImageData(0, 0, 1, 1).data;
  const share = heat.matches(".signed") ? (level - 128) / 127 : level / 255;
  return minus(`${Number((share * heat.dataset.top).toPrecision(2))} ${heat.dataset.unit}`.trim());
}

function step(by) {
  const tiles = tilesOf(open.closest(".sample"));
  enlarge(tiles[(tiles.indexOf(open) + by + tiles.length) % tiles.length]);
}

// ---- controls
function fade() {
  document.documentElement.style.setProperty("--opacity", String(at("opacity").value / 100));
  at("opacity-value").textContent = `${at("opacity").value} %`;
}

function changed() {
  judge();
  arrange();
}

function keys(event) {
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (at("large").open || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector(".settings").open = true;
    at("search").focus();
  } else if (event.key === "j" || event.key === "k") {
    const there = all(".sample");
    const here = there.indexOf(document.activeElement.closest(".sample"));
    const next = there[event.key === "j" ? here + 1 : Math.max(0, here - 1)];
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "start" });
  }
}

function listen() {
  at("search").addEventListener("input", arrange);
  at("order").addEventListener("change", arrange);
  for (const id of ["score", "seed", "methods"]) at(id).addEventListener("change", changed);
  at("opacity").addEventListener("input", fade);
  at("direction").addEventListener("click", (event) => {
    const { target } = event;
    target.setAttribute("aria-pressed", String(target.getAttribute("aria-pressed") !== "true"));
    arrange();
  });
  for (const id of ["all", "none"]) {
    at(id).addEventListener("click", () => {
      for (const box of all("#methods input")) box.checked = id === "all";
      changed();
    });
  }
  at("cards").addEventListener("click", (event) => {
    if (event.target.closest("button.frame")) enlarge(event.target.closest(".tile"));
  });
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  at("close").addEventListener("click", () => at("large").close());
  at("large").addEventListener("click", (event) => { if (event.target === at("large")) at("large").close(); });
  at("large").addEventListener("keydown", ({ key }) => {
    if (key === "ArrowLeft" || key === "ArrowRight") step(key === "ArrowLeft" ? -1 : 1);
  });
  document.addEventListener("keydown", keys);
}

// A sample's picture and its outline stand in the page once; its tiles take them from there.
for (const card of cards) {
  for (const kind of [".picture", ".mark"]) {
    const [first, ...others] = all(kind, card);
    for (const image of others) image.src = first.src;
  }
}
if (matchMedia("(max-width: 52rem)").matches) document.querySelector(".settings").open = false;
listen();
fade();
changed();
