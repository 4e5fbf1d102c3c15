// Plays finished variants together. The server's messages arrive as JSON in props.value:
// {id, ratio, status, variants: [{steps, mode, state, made, total, path}]}; ratio is width over height.
// Every message is complete.
const { say, watchQueue } = window.mutualForcing;
const find = (selector) => element.querySelector(selector);
const root = find(".mf-compare"), grid = find(".mf-variants"), play = find(".mf-play"), scrub = find(".mf-scrub"),
  differ = find(".mf-differ");
const EAR = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 9.5v5h3.5L12 18.5v-13L7.500 9.500Z"/>' +
  '<path class="on" d="M15.500 9a4.200 4.200 0 0 1 0 6M18 6.500a8 8 0 0 1 0 11"/><path class="off" d="m16 9.500 5 5m0-5-5 5"/></svg>';
const STATES = { waiting: "variant.waiting", making: "variant.starting", measuring: "variant.measuring", stopped: "variant.stopped" };
let leaveQueue = () => {};
const set = { id: null, variants: new Map(), playing: false, scrubbing: false, chosen: false };

const ready = () => [...set.variants.values()].filter((variant) => variant.ready);
const master = () => ready().find((variant) => !variant.video.muted) || ready()[0];
const length = () => Math.max(0, ...ready().map((variant) => variant.video.duration || 0));

function addVariant(data) {
  const box = document.createElement("div");
  box.className = "mf-variant";
  const name = say("variant.steps", { count: data.steps });
  box.innerHTML = `<div class="mf-cell"><video playsinline muted preload="auto" aria-label="${name}"></video><canvas hidden></canvas>` +
    `<div class="mf-note"><span></span><b><i></i></b></div><span class="mf-tag ${data.mode.toLowerCase()}">${name}</span>` +
    `<button class="mf-ear" type="button" hidden aria-pressed="false" aria-label="${say("variant.sound", { name })}">${EAR}</button></div>`;
  grid.append(box);
  const variant = { box, steps: data.steps, video: box.querySelector("video"), canvas: box.querySelector("canvas"), ear: box.querySelector(".mf-ear"), note: box.querySelector(".mf-note"),
    ready: false, path: "" };
  variant.video.muted = true;
  variant.ear.addEventListener("click", () => { set.chosen = true; listen(variant, variant.video.muted); });
  for (const picture of [variant.video, variant.canvas]) picture.addEventListener("click", toggle);
  return variant;
}

function listen(variant, on) {
  variant.video.muted = !on;
  variant.ear.setAttribute("aria-pressed", String(on));
  variant.box.dataset.audible = String(on);
}

async function load(variant, path) {
  variant.path = path;
  const id = set.id, base = (window.gradio_config && window.gradio_config.root) || "";
  try {
    // As a whole, so that every position can be reached at once and no variant stalls alone.
    const response = await fetch(base + path, { cache: "no-store" });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    variant.url = URL.createObjectURL(await response.blob());
  } catch (error) {
    find(".mf-status").textContent = say("compare.not-loaded", { reason: error.message });
    return;
  }
  if (id !== set.id) { URL.revokeObjectURL(variant.url); return; }
  variant.video.addEventListener("loadeddata", () => { if (id === set.id) join(variant); }, { once: true });
  variant.video.addEventListener("error", () => {
    const reason = variant.video.error?.message || "MediaError";
    if (id === set.id) find(".mf-status").textContent = say("compare.not-loaded", { reason });
  }, { once: true });
  variant.video.src = variant.url;
}

function join(variant) {
  const first = ready().length === 0, leader = master();
  variant.ready = true;
  variant.note.hidden = true;
  variant.ear.hidden = false;
  if (first && !set.chosen) listen(variant, true);
  if (leader) variant.video.currentTime = leader.video.currentTime;
  if (set.playing) variant.video.play().catch(() => pause());
  play.disabled = scrub.disabled = false;
  differ.disabled = ready().length < 2;
  draw();
}

// What of a variant differs from the one with the most steps, at the pictures that both show now.
let drawing = 0;
function drawDifference() {
  cancelAnimationFrame(drawing);
  const on = differ.getAttribute("aria-pressed") === "true", films = ready();
  const most = films.reduce((a, b) => (a && a.steps > b.steps ? a : b), null);
  for (const { canvas, video, steps } of films) {
    canvas.hidden = !on || steps === most.steps;
    if (canvas.hidden) continue;
    if (canvas.width !== video.videoWidth) { canvas.width = video.videoWidth; canvas.height = video.videoHeight; }
    const pen = canvas.getContext("2d");
    pen.globalCompositeOperation = "copy";
    pen.drawImage(most.video, 0, 0);
    pen.globalCompositeOperation = "difference";
    pen.drawImage(video, 0, 0);
  }
  if (on) drawing = requestAnimationFrame(drawDifference);
}

differ.addEventListener("click", () => {
  differ.setAttribute("aria-pressed", String(differ.getAttribute("aria-pressed") !== "true"));
  drawDifference();
});

async function start() {
  const variants = ready(), leader = master();
  if (!leader) return;
  const position = leader.video.currentTime >= length() - 0.05 ? 0 : leader.video.currentTime;
  await Promise.all(variants.map((variant) => seek(variant.video, position)));
  set.playing = true;
  root.dataset.state = "playing";
  play.dataset.tLabel = "compare.pause";
  try { await Promise.all(variants.map((variant) => variant.video.play())); } catch { pause(); }
}

function pause() {
  set.playing = false;
  root.dataset.state = "paused";
  play.dataset.tLabel = "compare.play";
  const leader = master();
  for (const variant of ready()) {
    variant.video.pause();
    variant.video.playbackRate = 1;
    if (variant !== leader) variant.video.currentTime = leader.video.currentTime;
  }
}

function toggle() { if (set.playing) pause(); else start(); }

function seek(video, position) {
  if (Math.abs(video.currentTime - position) < 0.001 && !video.seeking) return Promise.resolve();
  return new Promise((done) => {
    video.addEventListener("seeked", done, { once: true });
    setTimeout(done, 1000);
    video.currentTime = position;
  });
}

// The audible variant keeps its pace; the others are nudged towards it, or set when far off.
function align() {
  const leader = master();
  if (!leader || !set.playing || set.scrubbing) return;
  if (ready().every((variant) => variant.video.ended)) { pause(); return; }
  leader.video.playbackRate = 1;
  for (const variant of ready()) {
    const video = variant.video;
    if (variant === leader || video.ended || video.seeking || leader.video.ended) continue;
    const behind = leader.video.currentTime - video.currentTime;
    if (Math.abs(behind) > 0.3) video.currentTime = leader.video.currentTime;
    else video.playbackRate = Math.abs(behind) < 0.012 ? 1 : 1 + Math.max(-0.25, Math.min(0.25, 3 * behind));
    if (video.paused) video.play().catch(() => {});
  }
}

function draw() {
  const leader = master(), total = length(), now = leader ? leader.video.currentTime : 0;
  scrub.max = total || 1;
  if (!set.scrubbing) scrub.value = now;
  scrub.setAttribute("aria-valuetext", say("compare.position", { now: now.toFixed(1), total: total.toFixed(1) }));
  find(".mf-time").textContent = say("compare.time", { now: now.toFixed(1), total: total.toFixed(1) });
  for (const tracks of document.querySelectorAll(".mf-tracks"))
    tracks.style.setProperty("--now", Math.min(1, now / tracks.dataset.seconds));
}

play.addEventListener("click", toggle);
document.addEventListener("click", (event) => {
  if (!event.target.closest("#compare-button")) return;
  find(".mf-status").textContent = say("variant.starting");
  leaveQueue();
  leaveQueue = watchQueue((places) => { find(".mf-status").textContent = say("player.queue", places); });
  root.scrollIntoView({ block: "nearest", behavior: "smooth" }); // on a phone the variants are elsewhere
}, true);
scrub.addEventListener("input", () => {
  set.scrubbing = true;
  for (const variant of ready()) { variant.video.pause(); variant.video.currentTime = Math.min(scrub.value, variant.video.duration); }
});
scrub.addEventListener("change", () => { set.scrubbing = false; if (set.playing) start(); draw(); });
setInterval(() => { align(); if (set.playing || set.scrubbing) draw(); }, 60);

function clear(id) {
  for (const variant of set.variants.values()) { variant.video.pause(); if (variant.url) URL.revokeObjectURL(variant.url); }
  Object.assign(set, { id, variants: new Map(), playing: false, scrubbing: false, chosen: false });
  grid.replaceChildren();
  root.dataset.state = "paused";
  play.disabled = scrub.disabled = differ.disabled = true;
  differ.setAttribute("aria-pressed", "false");
  draw();
}

function show(data, variant) {
  const words = data.state === "making" && data.made ? say("variant.made", { made: data.made.toFixed(1), total: data.total.toFixed(1) }) : say(STATES[data.state]);
  variant.note.querySelector("span").textContent = words;
  variant.note.querySelector("b").hidden = data.state === "stopped";
  variant.note.querySelector("i").style.width = `${Math.min(100, 100 * data.made / (data.total || 1))}%`;
  if (data.path && data.path !== variant.path) load(variant, data.path);
}

function receive() {
  let message = {};
  try { message = JSON.parse(props.value || "{}"); } catch { return; }
  if (message.error || message.variants) leaveQueue();
  if (message.error) { find(".mf-status").textContent = ""; return; }
  if (!message.variants) return;
  if (message.id !== set.id) clear(message.id);
  for (const data of message.variants) {
    if (!set.variants.has(data.steps)) set.variants.set(data.steps, addVariant(data));
    show(data, set.variants.get(data.steps));
  }
  const count = message.variants.length;
  grid.style.setProperty("--columns", count <= 3 ? count : Math.ceil(count / 2));
  grid.style.setProperty("--ratio", message.ratio || 1);
  find(".mf-status").textContent = say(message.status);
}

watch("value", receive);
receive();
draw();
