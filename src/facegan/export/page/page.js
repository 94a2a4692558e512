import { MAX_SEED, randn, slerp, truncate } from "./latents.js";

const RANDOM_FACES = 12, MORPH_SECONDS = 0.8;
const element = (id) => document.getElementById(id);
const controls = {
  from: element("from"), to: element("to"), morph: element("morph"),
  truncation: element("truncation"),
};

let info; // generator.json
let previous = ""; // what the face shows
let failed = false;

function fail(reason) {
  failed = true;
  element("loading").hidden = true;
  element("error").hidden = false;
  element("reason").textContent = reason;
  for (const control of document.querySelectorAll("input, button")) control.disabled = true;
}

// The worker draws one face after the other. Of several that wait for the same place, the last one
// counts.
const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map(); // place -> {z, show}, in order
let drawing = null;

function draw(place, z, show) {
  if (place === "face") {
    const others = [...waiting];
    waiting.clear();
    waiting.set(place, { z, show });
    for (const [key, value] of others) if (key !== place) waiting.set(key, value);
  } else {
    waiting.set(place, { z, show });
  }
  next();
}

function next() {
  if (drawing || waiting.size === 0) return;
  const [place, { z, show }] = waiting.entries().next().value;
  waiting.delete(place);
  drawing = show;
  worker.postMessage({ z });
}

worker.onerror = (event) => fail(event.message || "its script does not run in this browser");
worker.onmessage = ({ data }) => {
  if (data.error) {
    fail(data.error);
  } else if (data.loaded) {
    element("loaded").textContent = `${(data.loaded / 1e6).toFixed(1)} MB`;
  } else if (data.ready && !failed) {
    element("loading").hidden = true;
    element("page").hidden = false;
    document.body.dataset.ready = "true";
  } else if (data.pixels) {
    element("speed").textContent = `${data.milliseconds.toFixed(0)} ms`;
    drawing(data.pixels);
    drawing = null;
    next();
  }
};

function paint(canvas, pixels) {
  const [height, width, channels] = info.shape;
  const colours = new Uint8ClampedArray(height * width * 4).fill(255);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) {
      colours[4 * i + c] = pixels[channels * i + (channels === 3 ? c : 0)];
    }
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(colours, width, height), 0, 0);
}

const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1e6;
const isSeed = (text) => /^\d{1,10}$/.test(text) && Number(text) <= MAX_SEED;

function latent(seed) {
  const z = randn(seed, info.latent_dim);
  return state().truncation === null ? z : truncate(z, state().truncation);
}

// What the controls say; the last position of truncation is none.
function state() {
  const { from, to, morph, truncation } = controls;
  const isLast = truncation.value === truncation.max;
  return {
    from: Number(from.value), to: Number(to.value), share: Number(morph.value) / 100,
    truncation: isLast ? null : Number(truncation.value),
  };
}

function caption({ from, to, share, truncation }) {
  const faces = share === 0 ? `Seed ${from}` : share === 1 ? `Seed ${to}`
    : `${Math.round(100 * share)}% of the way from seed ${from} to seed ${to}`;
  return truncation === null ? faces : `${faces}, truncation ${truncation.toFixed(1)}`;
}

function update() {
  if (![controls.from, controls.to].every((control) => isSeed(control.value))) {
    element("caption").textContent = `A seed is a whole number from 0 to ${MAX_SEED}`;
    previous = "";
    return;
  }
  const now = state(), text = caption(now);
  element("truncation-value").textContent = now.truncation?.toFixed(1) ?? "none";
  controls.truncation.setAttribute("aria-valuetext", element("truncation-value").textContent);
  controls.morph.setAttribute("aria-valuetext", text);
  if (text === previous) return;
  previous = text;
  const z = slerp(latent(now.from), latent(now.to), now.share);
  draw("face", z, (pixels) => {
    paint(element("face"), pixels);
    element("face").setAttribute("aria-label", text);
    element("caption").textContent = text;
    document.body.dataset.shown = text;
  });
  const address = new URLSearchParams({ seed: now.from, to: now.to, morph: controls.morph.value });
  if (now.truncation !== null) address.set("truncation", now.truncation);
  history.replaceState(null, "", `#${address}`);
}

function readAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  const { from, to, morph, truncation } = controls;
  from.value = isSeed(address.get("seed") ?? "") ? address.get("seed") : randomSeed();
  to.value = isSeed(address.get("to") ?? "") ? address.get("to") : randomSeed();
  morph.value = Number(address.get("morph")) || 0; // the browser limits it
  truncation.value = Number(address.get("truncation")) || truncation.max;
}

// From the face that is shown to another one.
let animation = 0;
function morphTo(seed) {
  cancelAnimationFrame(animation);
  const { from, to, share } = state();
  controls.from.value = share > 0.5 ? to : from;
  controls.to.value = seed;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const begin = performance.now(), seconds = calm ? 0 : MORPH_SECONDS;
  const step = (now) => {
    const done = seconds ? Math.min(Math.max((now - begin) / 1000 / seconds, 0), 1) : 1;
    controls.morph.value = Math.round(100 * done);
    update();
    if (done < 1) animation = requestAnimationFrame(step);
  };
  step(begin);
}

function showRandomFaces() {
  const place = element("random-faces");
  const buttons = Array.from({ length: RANDOM_FACES }, () => {
    const seed = randomSeed();
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    button.type = "button";
    button.setAttribute("aria-label", `Morph to seed ${seed}`);
    button.title = `Seed ${seed}`;
    button.dataset.seed = seed;
    [canvas.height, canvas.width] = info.shape;
    button.append(canvas);
    button.onclick = () => morphTo(seed);
    return button;
  });
  place.replaceChildren(...buttons);
  drawRandomFaces();
}

function drawRandomFaces() {
  for (const [i, button] of [...element("random-faces").children].entries()) {
    const z = latent(Number(button.dataset.seed));
    draw(i, z, (pixels) => {
      paint(button.firstChild, pixels);
      button.dataset.drawn = "true";
    });
  }
}

function download() {
  element("face").toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    const name = [info.model ?? info.sha256.slice(0, 12), info.version && `v${info.version}`];
    const text = [...name, previous].filter(Boolean).join(" ");
    link.download = `${text.replace(/[^A-Za-z0-9.]+/g, "-")}.png`;
    link.click();
    URL.revokeObjectURL(link.href);
  }, "image/png");
}

async function start() {
  const response = await fetch("generator.json");
  if (!response.ok) throw new Error(`generator.json: the server answers ${response.status}`);
  info = await response.json();
  readAddress();
  for (const control of Object.values(controls)) {
    control.addEventListener("input", () => {
      cancelAnimationFrame(animation);
      update();
    });
  }
  controls.truncation.addEventListener("input", drawRandomFaces);
  element("new-face").onclick = () => morphTo(randomSeed());
  element("more-faces").onclick = showRandomFaces;
  element("download").onclick = download;
  addEventListener("hashchange", () => {
    readAddress();
    update();
  });
  update();
  showRandomFaces();
}

start().catch((error) => fail(error.message));
