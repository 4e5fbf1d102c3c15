// Plays one growing MP4 through MediaSource. The server's messages arrive as JSON in props.value:
// {id, path, mime, seconds, expected_rate, mode, continues}, then {id, status, fps, rate, nfe, made, done};
// mode and status are phrases of texts.js. What is shown comes from the table of texts.
// The other props are the ids of the buttons: start_button, stop_button and perhaps continue_button.
// What arrives is kept until the next film: a browser may drop what it has buffered, or play only whole films.
const { say, watchQueue } = window.mutualForcing;
const find = (selector) => element.querySelector(selector);
const root = find(".mf-player"), video = find(".mf-video"), wait = find(".mf-wait"), tap = find(".mf-tap");
const Source = window.ManagedMediaSource || window.MediaSource;
const film = { id: null, queue: [], kept: [], generation: 0 };
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
// Safari asks for data only between startstreaming and endstreaming; others always do.
const wanted = () => film.source.streaming !== false;
// Seconds of film that are here, though Safari may not want all of them in its buffer yet.
const here = () => film.source && !wanted() ? Math.max(bufferedEnd(), film.made || 0) : bufferedEnd();

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
  Object.assign(film, { id: message.id, total: message.seconds, expected: message.expected_rate, queue: [], made: 0,
    started: false, stopped: false, finished: false, done: false, firstShown: false, arrivals: [], append });
  if (!message.continues) Object.assign(film, { kept: [], most: 0 });
  root.dataset.state = "playing";
  find(".mf-idle").hidden = true;
  find(".mf-poster").hidden = true;
  tap.hidden = true;
  figure("first", "–");
  watchFirstPicture();
  if (!append) attach(message);
  download(message, film.generation);
}

// Give the video a source that grows; without one, the film is shown when it is whole.
function attach(message) {
  film.source = film.buffer = film.whole = null;
  try {
    if (!Source) throw new Error("no MediaSource");
    if (!Source.isTypeSupported(message.mime)) throw new Error(message.mime);
  } catch (error) { fallBack(error); return; }
  const source = film.source = new Source();
  if (window.ManagedMediaSource) video.disableRemotePlayback = true;
  display(source);
  source.addEventListener("sourceopen", () => {
    if (source !== film.source) return;
    try { film.buffer = source.addSourceBuffer(message.mime); } catch (error) { fallBack(error); return; }
    film.buffer.addEventListener("updateend", pump);
    pump();
  }, { once: true });
  source.addEventListener("startstreaming", pump);
}

function display(content) {
  if (film.url) URL.revokeObjectURL(film.url);
  film.url = video.src = URL.createObjectURL(content);
}

// The reason is shown until the film is whole; then it is played as any film.
function fallBack(error) {
  film.source = film.buffer = null;
  film.whole = error.message || error.name;
  film.queue = [];
  video.removeAttribute("src");
  video.load();
  pump();
}

function playWhole() {
  if (film.shown === film.id) return;
  film.shown = film.id;
  film.started = true;
  showWait("");
  display(new Blob(film.kept, { type: "video/mp4" }));
  video.play().catch(() => { tap.hidden = false; });
}

video.addEventListener("error", () => {
  if (!video.getAttribute("src") || !film.id) return;
  const reason = (video.error && video.error.message) || "MediaError";
  if (film.shown === film.id) showWait("player.download-only", { reason });
  else fallBack(new Error(reason));
});

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

// A connection that breaks is made again, and goes on where it broke.
const TRIES = 5;
async function download(message, generation) {
  const base = (window.gradio_config && window.gradio_config.root) || "";
  for (let seen = 0, failures = 0; ;) {
    try {
      const response = await fetch(base + message.path, { cache: "no-store" });
      if (!response.ok) {
        failures = TRIES;
        throw new Error(`the server answered ${response.status}`);
      }
      const reader = response.body.getReader();
      for (let skip = seen; ;) {
        const { done, value } = await reader.read();
        if (generation !== film.generation) { reader.cancel(); return; }
        if (done) break;
        const news = value.subarray(Math.min(skip, value.length));
        skip -= value.length - news.length;
        if (!news.length) continue;
        seen += news.length;
        failures = 0;
        film.kept.push(new Blob([news]));
        if (!film.whole) film.queue.push(news);
        pump();
      }
      break;
    } catch (error) {
      if (generation !== film.generation) return;
      failures += 1;
      if (failures >= TRIES) { tell("player.broke-off", { reason: error.message }); break; }
      await new Promise((resume) => setTimeout(resume, 500 * failures));
      if (generation !== film.generation) return;
    }
  }
  film.finished = true;
  pump();
}

function pump() {
  const { source, buffer } = film;
  if (film.whole) {
    if (film.finished) playWhole(); else if (film.id && !film.stopped) showWait("player.no-stream", { reason: film.whole });
    return;
  }
  if (!buffer || source.readyState === "closed" || buffer.updating) return;
  if (film.queue.length && wanted()) {
    const size = film.queue.reduce((sum, part) => sum + part.length, 0);
    const joined = new Uint8Array(size);
    let offset = 0;
    for (const part of film.queue) { joined.set(part, offset); offset += part.length; }
    film.queue = [joined];
    try { buffer.appendBuffer(joined); film.queue = []; } catch (error) {
      // A full buffer takes more when some of it was played.
      if (error.name !== "QuotaExceededError") fallBack(error);
      else if (video.currentTime > 10) buffer.remove(0, video.currentTime - 5);
    }
    return;
  }
  if (film.finished && !film.queue.length && source.readyState === "open") source.endOfStream();
  film.most = Math.max(film.most, bufferedEnd());
  if (here() > (film.arrivals.at(-1) || [0, 0])[1]) film.arrivals.push([performance.now(), here()]);
  maybeStart();
}

// What is to be played was there and is not any more: the browser dropped it. Put all of it in again.
async function refill() {
  const { buffer, source, generation } = film, at = video.currentTime;
  if (!buffer || film.refilling || buffer.updating || !wanted() || at > film.most - 0.1) return;
  for (let i = 0; i < video.buffered.length; i++)
    if (video.buffered.start(i) <= at + 0.1 && at < video.buffered.end(i)) return;
  film.refilling = true;
  let count = 0, all = null;
  while (count < film.kept.length) { // more may arrive while it is read
    count = film.kept.length;
    all = await new Blob(film.kept).arrayBuffer();
  }
  film.refilling = false;
  if (generation !== film.generation || buffer !== film.buffer || buffer.updating) return;
  if (source.readyState === "open") buffer.abort(); // forgets the half of a fragment
  film.queue = [new Uint8Array(all)];
  pump();
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
  if (film.whole || film.started || film.stopped || !bufferedEnd()) return;
  const ahead = here() - video.currentTime, rest = Math.max(0, film.total - here());
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
  if (film.whole || !film.started || film.finished || film.stopped) return;
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
  if (message.done) { film.done = true; if (!film.queue.length && !film.whole) showWait(""); }
}

setInterval(() => {
  if (root.dataset.state === "idle") return;
  const ahead = Math.max(0, here() - video.currentTime), total = film.total || 1;
  figure("buffer", `${ahead.toFixed(1)} s`);
  find(".mf-bar b").style.width = `${Math.min(100, 100 * bufferedEnd() / total)}%`;
  find(".mf-bar i").style.width = `${Math.min(100, 100 * video.currentTime / total)}%`;
  if (film.queue.length) pump(); // the browser did not want it before
  refill();
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
