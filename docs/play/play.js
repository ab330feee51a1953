"use strict";
// The page: reads the settings, draws a mask by masks.js, and mixes the two pictures by it.

/**
 * @typedef {object} Settings
 * @property {"cow" | "box" | "mixup"} kind
 * @property {number} sigma in pixels
 * @property {number} proportion in [0, 1]
 * @property {number} area in [0, 1]
 * @property {number} boxes
 * @property {number} alpha
 * @property {number} side of the image, in pixels
 * @property {number} seed
 */

const BUILT_IN = { Astronaut: "pictures/astronaut.jpg", Cat: "pictures/cat.jpg", Coffee: "pictures/coffee.jpg" };
const FIRST_SHOWN = { a: "Cat", b: "Coffee" };
const LARGEST_SIDE = 512;
const SMALLEST_SIGMA = 3;

const find = (id) => document.getElementById(id);
const form = find("settings");
/** @type {Map<string, HTMLCanvasElement>} by the name that the reader chooses them by, LARGEST_SIDE square */
const pictures = new Map();

// Settings

/** @returns {Settings} */
function readSettings() {
  const number = (id) => Number(find(id).value);
  return {
    kind: form.elements.kind.value,
    sigma: Number((SMALLEST_SIGMA * 2 ** number("sigma")).toFixed(1)), // the slider is logarithmic
    proportion: number("proportion") / 100,
    area: number("area") / 100,
    boxes: number("boxes"),
    alpha: number("alpha"),
    side: number("side"),
    seed: number("seed"),
  };
}

/** Return what stands beside each slider, by its id. */
function describeSettings({ sigma, proportion, area, boxes, alpha, side, seed }) {
  return {
    sigma: `${sigma.toFixed(1)} px, ${((100 * sigma) / side).toFixed(1)}% of the side`,
    proportion: `${percent(proportion)} of the image`,
    area: `${percent(area)} of the image`,
    boxes: boxes === 1 ? "1 box" : `${boxes} boxes`,
    alpha: alpha.toFixed(1),
    side: `${side} × ${side} px`,
    seed: String(seed),
  };
}

/** Return the call of cowmask whose masks are like those shown. */
function pythonCall({ kind, sigma, proportion, area, boxes, alpha }) {
  if (kind === "cow") return `CowMix(sigma=${sigma.toFixed(1)}, proportion=${proportion})`;
  if (kind === "box") return boxes === 1 ? `CutMix(area=${area})` : `CutMix(area=${area}, n_boxes=${boxes})`;
  return `MixUp(alpha=${alpha.toFixed(1)})`;
}

function percent(fraction, digits = 0) {
  return `${(100 * fraction).toFixed(digits)}%`;
}

function showSettings(settings) {
  for (const [id, text] of Object.entries(describeSettings(settings))) {
    find(id).setAttribute("aria-valuetext", text);
    find(id).parentElement.querySelector(".value").textContent = text;
  }
  for (const part of form.querySelectorAll("[data-kind]")) part.hidden = part.dataset.kind !== settings.kind;
  find("call").textContent = pythonCall(settings);
}

// Masks

/** Keep the last result of a function, and return it for as long as the arguments stay the same. */
function rememberLast(compute) {
  let [last, result] = [[], undefined];
  return (...values) => {
    if (values.length !== last.length || values.some((value, i) => value !== last[i])) {
      result = compute(...values);
      last = values;
    }
    return result;
  };
}

const noiseOfSeed = rememberLast((seed) =>
  drawNoise(countCoefficients(LARGEST_SIDE, SMALLEST_SIGMA), uniformFrom(seed)),
);
const fieldOf = rememberLast((seed, side, sigma) =>
  cowField(noiseOfSeed(seed), { height: side, width: side }, sigma),
);

/**
 * Draw the mask of these settings.
 * @param {Settings} settings
 * @returns {Uint8Array} how much of each pixel (side, side) is from picture B: 0 to 255
 */
function drawMask({ kind, sigma, proportion, area, boxes, alpha, side, seed }) {
  const size = { height: side, width: side };
  if (kind === "mixup") return new Uint8Array(side * side).fill(255 * drawWeight(alpha, uniformFrom(seed)));
  const mask = kind === "cow"
    ? thresholdField(fieldOf(seed, side, sigma), proportion)
    : fillBoxes(size, drawBoxes(size, area, boxes, uniformFrom(seed)));
  return mask.map((value) => 255 * value);
}

// Painting

/** Return the context of a canvas, made square with this side and cleared. */
function blank(canvas, side) {
  canvas.width = canvas.height = side;
  return canvas.getContext("2d");
}

/** Paint a mask as white of which picture B's share is the opacity. */
function paintMask(canvas, mask, side) {
  const image = new ImageData(side, side);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < mask.length; i++) pixels[i] = (mask[i] << 24) | 0xffffff;
  blank(canvas, side).putImageData(image, 0, 0);
}

/** Paint picture b, as opaque as the mask is, over picture a. */
function paintMixed(canvas, a, b, mask) {
  const layer = document.createElement("canvas");
  const context = blank(layer, mask.width);
  context.drawImage(mask, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.drawImage(b, 0, 0);
  const mixed = blank(canvas, mask.width);
  mixed.drawImage(a, 0, 0);
  mixed.drawImage(layer, 0, 0);
}

function paintPicture(slot, side) {
  const name = find(`picture-${slot}`).value;
  find(slot).setAttribute("aria-label", `Picture ${slot.toUpperCase()}: ${name}`);
  blank(find(slot), side).drawImage(pictures.get(name), 0, 0, side, side);
}

/** Draw everything anew from the settings. */
function draw() {
  const start = performance.now();
  const settings = readSettings();
  const mask = drawMask(settings);
  paintPicture("a", settings.side);
  paintPicture("b", settings.side);
  paintMask(find("mask"), mask, settings.side);
  paintMixed(find("mixed"), find("a"), find("b"), find("mask"));
  showSettings(settings);
  showShare(mask, settings.kind);
  find("time").textContent = `${(performance.now() - start).toFixed(1)} ms`;
}

function showShare(mask, kind) {
  const share = percent(mask.reduce((sum, value) => sum + value, 0) / (255 * mask.length), 1);
  const text = kind === "mixup" ? `${share} of every pixel is from B` : `${share} of the pixels are from B`;
  find("share").textContent = text;
  find("mixed").setAttribute("aria-label", `Mixed image: ${text}`);
  find("mask").setAttribute("aria-label", `Mask: ${text}`);
}

let scheduled = 0;
/** Draw before the next frame, once for all changes until then. */
function drawSoon() {
  cancelAnimationFrame(scheduled);
  scheduled = requestAnimationFrame(draw);
}

// Pictures

/** Keep the middle square of a picture under a name that the reader can choose. */
function addPicture(name, source) {
  const canvas = document.createElement("canvas");
  const context = blank(canvas, LARGEST_SIDE);
  const side = Math.min(source.width, source.height);
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // seen through what is transparent
  context.fillRect(0, 0, LARGEST_SIDE, LARGEST_SIDE);
  context.drawImage(
    source, (source.width - side) / 2, (source.height - side) / 2, side, side, 0, 0, LARGEST_SIDE, LARGEST_SIDE,
  );
  if (!pictures.has(name)) {
    for (const slot of ["a", "b"]) find(`picture-${slot}`).add(new Option(name));
  }
  pictures.set(name, canvas);
}

async function loadBuiltIn() {
  for (const [name, path] of Object.entries(BUILT_IN)) {
    const image = new Image();
    image.src = path;
    await image.decode();
    addPicture(name, image);
  }
  for (const [slot, name] of Object.entries(FIRST_SHOWN)) find(`picture-${slot}`).value = name;
}

/**
 * Show the reader's own pictures: one in the slot, or two in both.
 * @param {FileList} files
 * @param {"a" | "b"} slot
 */
async function openFiles(files, slot) {
  const slots = files.length > 1 ? ["a", "b"] : [slot];
  find("message").textContent = "";
  for (const [i, name] of slots.entries()) {
    if (files[i]) await openFile(files[i], name);
  }
}

async function openFile(file, slot) {
  try {
    addPicture(file.name, await createImageBitmap(file));
  } catch {
    find("message").textContent = `${file.name} cannot be read as a picture: choose a PNG, JPEG or WebP file.`;
    return;
  }
  find(`picture-${slot}`).value = file.name;
  drawSoon();
}

// What the reader does

function showNextMask() {
  const seed = find("seed");
  seed.value = (Number(seed.value) + 1) % (Number(seed.max) + 1);
  drawSoon();
}

async function copyCall() {
  getSelection().selectAllChildren(find("call"));
  try {
    await navigator.clipboard.writeText(find("call").textContent);
    find("message").textContent = "Copied.";
  } catch {
    find("message").textContent = "The browser does not let this page copy. The call is selected: copy it from there.";
  }
}

function listenForDrops() {
  const mark = (isDragging) => document.body.classList.toggle("dragging", isDragging);
  document.addEventListener("dragover", (event) => {
    event.preventDefault(); // or the browser would open the picture in place of the page
    mark(true);
  });
  document.addEventListener("dragleave", (event) => mark(event.relatedTarget !== null));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    openFiles(event.dataTransfer.files, event.target.closest("[data-slot]")?.dataset.slot ?? "a");
  });
}

async function start() {
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("input", (event) => {
    if (event.target.type !== "file") drawSoon();
  });
  for (const input of document.querySelectorAll("input[type=file]")) {
    input.addEventListener("change", () => openFiles(input.files, input.dataset.slot));
  }
  find("new-mask").addEventListener("click", showNextMask);
  find("copy").addEventListener("click", copyCall);
  listenForDrops();
  await loadBuiltIn();
  draw();
}

start();
