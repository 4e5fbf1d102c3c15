// Shows what is said when. Messages arrive as JSON in props.value, each complete in itself:
// {id, made, planned, done, chunk, chunks: [[start, steps, mode, style, steering]], words: [[word, start, end]]}.
const { say } = window.mutualForcing;
const find = (selector) => element.querySelector(selector);
const root = find(".mf-timeline"), strip = find(".mf-strip"), track = find(".mf-track"), head = find(".mf-head");
const SCALE = 160; // pixels a second
const line = { id: null, words: [], touched: 0 };
const px = (seconds) => `${(12 + seconds * SCALE).toFixed(1)}px`;
const video = () => document.querySelector("#live-player video");

function put(parent, tag, text, start, width) {
  const node = document.createElement(tag);
  node.textContent = text;
  node.style.left = px(start);
  if (width !== undefined) node.style.width = `${Math.max(3, width * SCALE - 2).toFixed(1)}px`;
  parent.append(node);
  return node;
}

function show(message) {
  root.dataset.state = "running";
  const seconds = Math.max(message.planned, message.made);
  track.style.width = `${24 + seconds * SCALE + 40}px`;
  const chunks = find(".mf-chunks"), words = find(".mf-words"), ticks = find(".mf-ticks");
  chunks.replaceChildren(); words.replaceChildren(); ticks.replaceChildren();
  let last = "";
  for (const [start, steps, mode, style, steering] of message.chunks) {
    put(chunks, "span", "", start, message.chunk).className = mode;
    const named = style.split(", ").map((word, place) => say(`${place ? "motion" : "emotion"}.${word}`)).join(say("timeline.comma"));
    const change = say("timeline.change", { count: steps, style: named });
    const label = Object.keys(steering).length ? say("timeline.posed", { change }) : change;
    if (label !== last) { put(words, "em", label, start).className = "mf-change"; last = label; }
  }
  if (!message.done && message.planned > message.made)
    put(chunks, "span", "", message.made, message.planned - message.made).className = "next";
  line.words = message.words.filter((word) => !message.done || word[1] < message.made)
    .map(([word, start, end]) => ({ node: put(words, "span", word, start), start, end }));
  spread();
  for (let second = 0; second <= seconds; second += 1) put(ticks, "span", say("time.seconds", { seconds: second }), second);
  head.hidden = false;
}

// Short words must not run into each other: each is narrowed to the room before the next.
function spread() {
  line.words.forEach((word, index) => {
    const next = line.words[index + 1], room = next ? (next.start - word.start) * SCALE - 4 : Infinity;
    const wide = word.node.offsetWidth;
    if (wide > room) { word.node.style.transformOrigin = "left"; word.node.style.transform = `scaleX(${Math.max(0.7, room / wide)})`; }
  });
}

function follow() {
  const player = video();
  if (line.id && player && root.dataset.state === "running") {
    const now = player.currentTime;
    head.style.left = px(now);
    for (const word of line.words) {
      const state = now < word.start ? "future" : now < word.end ? "now" : "";
      if (word.node.className !== state) word.node.className = state;
    }
    if (performance.now() - line.touched > 4000 && !player.paused)
      strip.scrollLeft = 12 + now * SCALE - strip.clientWidth * 0.35;
  }
  requestAnimationFrame(follow);
}

for (const kind of ["pointerdown", "wheel", "keydown"]) strip.addEventListener(kind, () => { line.touched = performance.now(); }, { passive: true });

function receive() {
  let message = {};
  try { message = JSON.parse(props.value || "{}"); } catch { return; }
  if (!message.id) return;
  if (message.id !== line.id) { line.id = message.id; line.touched = 0; strip.scrollLeft = 0; }
  show(message);
}

watch("value", receive);
receive();
requestAnimationFrame(follow);
