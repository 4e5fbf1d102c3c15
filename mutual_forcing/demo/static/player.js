// Plays one growing MP4 through MediaSource. The server's messages arrive as JSON in props.value:
// {id, path, mime, seconds, expected_rate, mode, continues}, then {id, status, fps, rate, nfe, made, done};
// mode and status are phrases of texts.js. What is shown comes from the table of texts.
// The other props are the ids of the buttons: start_button, stop_button and perhaps continue_button.
const { say, watchQueue } = window.mutualForcing;
const find = (selector) => element.querySelector(selector);
const root = find(".mf-player"), video = find(".mf-video"), wait = find(".mf-wait"), tap = find(".mf-tap");
const Source = window.ManagedMediaSource || window.MediaSource;
const film = { id: null, queue: [], generation: 0 };
let clicked = performance.now();
let leaveQueue = () => {};
const onButton = (event, id) => !!id && !!event.target.closest(`#${id}`);

const figure = (name, text) => { find(`[data-figure="${name}"]`).textContent = text; };
// What changes all the time is shown; screen readers are told of the rest.
function put(line, text, aloud) {
  line.setAttribute("aria-live", aloud ? "polite" : "off");
  if (line.textContent !== text) line.textContent = text;
}
const tell = (phrase, values, aloud = true) => put(find(".mf-status"), say(phrase, values), aloud);
const showWait = (phrase, values) => {
  wait.hidden = !phrase;
  put(find(".mf-wait span"), say(phrase, values), phrase !== film.waitingFor);
  film.waitingFor = phrase;
};
// The stage has the shape of what it shows.
const shape = (width, height) => { if (width && height) root.style.setProperty("--ratio", (width / height).toFixed(4)); };
find(".mf-poster").addEventListener("load", (event) => shape(event.target.naturalWidth, event.target.naturalHeight));
for (const kind of ["loadedmetadata", "resize"]) video.addEventListener(kind, () => shape(video.videoWidth, video.videoHeight));
const bufferedEnd = () => video.buffered.length ? video.buffered.end(video.buffered.length - 1) : 0;

document.addEventListener("click", (event) => {
  const starts = onButton(event, props.start_button);
  if (starts || onButton(event, props.continue_button)) {
    clicked = performance.now();
    if (starts) showWait("player.preparing");
    leaveQueue();
    leaveQueue = watchQueue((places) => showWait("player.queue", places));
    // On a phone the stage is elsewhere.
    find(".mf-stage").scrollIntoView({ block: innerWidth <= 640 ? "start" : "nearest", behavior: "smooth" });
  }
  if (onButton(event, props.stop_button)) { film.stopped = true; video.pause(); showWait(""); }
}, true);

function open(message) {
  leaveQueue();
  const append = message.continues && film.source && film.source.readyState !== "closed";
  film.generation += 1;
  Object.assign(film, { id: message.id, total: message.seconds, expected: message.expected_rate, queue: [],
    started: false, stopped: false, finished: false, done: false, firstShown: false, arrivals: [], append });
  root.dataset.state = "playing";
  find(".mf-idle").hidden = true;
  find(".mf-poster").hidden = true;
  tap.hidden = true;
  figure("first", "–");
  if (!Source) { tell("player.no-stream"); return; }
  const generation = film.generation;
  if (!append) film.buffer = null;
  if (append) { watchFirstPicture(); download(message, generation); return; }
  const source = film.source = new Source();
  if (window.ManagedMediaSource) video.disableRemotePlayback = true;
  if (film.url) URL.revokeObjectURL(film.url);
  film.url = video.src = URL.createObjectURL(source);
  source.addEventListener("sourceopen", () => {
    film.buffer = source.addSourceBuffer(message.mime);
    film.buffer.addEventListener("updateend", pump);
    pump();
  }, { once: true });
  watchFirstPicture();
  download(message, generation);
}

function watchFirstPicture() {
  const shown = () => {
    if (film.firstShown) return;
    film.firstShown = true;
    figure("first", `${Math.round(performance.now() - clicked)} ms`);
  };
  if (film.append) return; // the old pictures are still there: no meaningful first picture
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(shown);
  else video.addEventListener("loadeddata", shown, { once: true });
}

async function download(message, generation) {
  try {
    const base = (window.gradio_config && window.gradio_config.root) || "";
    const response = await fetch(base + message.path, { cache: "no-store" });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (generation !== film.generation) { reader.cancel(); return; }
      if (done) break;
      film.queue.push(value);
      pump();
    }
  } catch (error) {
    if (generation !== film.generation) return;
    tell("player.broke-off", { reason: error.message });
  }
  film.finished = true;
  pump();
}

function pump() {
  const { source, buffer } = film;
  if (!buffer || source.readyState === "closed" || buffer.updating) return;
  if (film.queue.length) {
    const size = film.queue.reduce((sum, part) => sum + part.length, 0);
    const joined = new Uint8Array(size);
    let offset = 0;
    for (const part of film.queue) { joined.set(part, offset); offset += part.length; }
    film.queue = [];
    buffer.appendBuffer(joined);
    return;
  }
  if (film.finished && source.readyState === "open") source.endOfStream();
  film.arrivals.push([performance.now(), bufferedEnd()]);
  maybeStart();
}

// Seconds of film that arrive per second, measured once two chunks are here: of all so far or of the last
// two chunks, whichever is slower.
function arrivalRate() {
  const arrived = film.arrivals.filter((a) => a[1] > 0.1), last = arrived.at(-1);
  if (!last || last[1] - arrived[0][1] < CHUNK - 0.1) return film.expected || 1;
  const recent = arrived.findLast((a) => last[1] - a[1] > 2 * CHUNK - 0.1) || arrived[0];
  const rate = (from) => (last[1] - from[1]) / Math.max(0.001, (last[0] - from[0]) / 1000);
  return Math.min(rate(arrived[0]), rate(recent));
}

// Start when what is buffered outlasts the making of the rest, even if it goes on a quarter slower than so far
// and the last chunk comes only when it is whole: then nothing freezes later.
const SLACK = 1.25, CHUNK = 0.64;
function maybeStart() {
  if (film.started || film.stopped || !bufferedEnd()) return;
  const ahead = bufferedEnd() - video.currentTime, rest = Math.max(0, film.total - bufferedEnd());
  const lag = SLACK / arrivalRate() - 1;
  const needed = lag > 0 ? CHUNK + rest * lag : Math.min(0.4, film.total / 2);
  if (!film.finished && ahead < needed) {
    const seconds = Math.ceil((needed - ahead) / SLACK);
    showWait("player.slower", { seconds: Math.max(1, seconds) });
    return;
  }
  film.started = true;
  showWait("");
  video.play().catch(() => { tap.hidden = false; });
}

tap.addEventListener("click", () => { tap.hidden = true; video.play(); });
video.addEventListener("click", () => { if (film.started) video.paused ? video.play() : video.pause(); });
video.addEventListener("play", () => { video.controls = true; tap.hidden = true; });
video.addEventListener("waiting", () => {
  if (!film.started || film.finished || film.stopped) return;
  film.started = false;
  video.pause();
  showWait("player.waiting");
});

function show(message) {
  const badge = find(".mf-badge");
  if (message.mode) { badge.hidden = false; badge.textContent = say(message.mode); }
  if (message.fps) figure("fps", `${message.fps.toFixed(1)} FPS`);
  if (message.rate) figure("rate", `${message.rate.toFixed(2)}×`);
  if (message.nfe) figure("nfe", `${message.nfe}`);
  if (message.seconds) film.total = message.seconds;
  if (message.made !== undefined) film.made = message.made;
  if (message.status !== undefined) tell(message.status, {}, !!message.done);
  if (message.done) { film.done = true; if (!film.queue.length) showWait(""); }
}

setInterval(() => {
  if (root.dataset.state === "idle") return;
  const ahead = Math.max(0, bufferedEnd() - video.currentTime), total = film.total || 1;
  figure("buffer", `${ahead.toFixed(1)} s`);
  find(".mf-bar b").style.width = `${Math.min(100, 100 * bufferedEnd() / total)}%`;
  find(".mf-bar i").style.width = `${Math.min(100, 100 * video.currentTime / total)}%`;
  if (!film.started) maybeStart();
}, 200);

function receive() {
  let message = {};
  try { message = JSON.parse(props.value || "{}"); } catch { return; }
  if (message.error) { leaveQueue(); showWait(""); tell(""); return; }
  if (message.poster !== undefined) {
    const poster = find(".mf-poster"), idle = !film.id || film.done;
    if (idle) { root.dataset.state = "idle"; video.pause(); find(".mf-badge").hidden = true; showWait(""); }
    if (message.poster) poster.src = message.poster;
    else if (idle) root.style.removeProperty("--ratio");
    poster.hidden = !message.poster || !idle;
    find(".mf-idle").hidden = !idle || !!message.poster;
    return;
  }
  if (message.id && message.id !== film.id) open(message);
  show(message);
}

watch("value", receive);
receive();
