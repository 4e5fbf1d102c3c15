// Tells a visitor when the server process that knows their streams is gone. In the page's head, after texts.js.
// Every answer names the process that it comes from (X-Replica); the page knows the one that it was shown by. Gradio would load the page
// anew two seconds after another process answers, and the film on it would be lost: here visitors do so when they want to.
(() => {
  const PING_SECONDS = 10;
  const fetchAny = window.fetch.bind(window);
  const config = () => window.gradio_config || {};
  let lost = false;

  // Gradio's own message says that it tries to connect again.
  const dismiss = () => document.querySelectorAll(".toast-body.error .toast-close").forEach((close) => close.click());

  function tell() {
    if (lost) return;
    lost = true;
    dismiss();
    const bar = document.createElement("div"), text = document.createElement("span"), button = document.createElement("button");
    bar.className = "mf-lost";
    bar.setAttribute("role", "alert");
    text.dataset.t = "replica.lost";
    button.dataset.t = "replica.reload";
    button.addEventListener("click", () => window.location.reload());
    bar.append(text, button);
    document.body.append(bar);
  }

  window.fetch = async (...asked) => {
    const answer = await fetchAny(...asked);
    const replica = answer.headers.get("X-Replica"), own = config().app_id;
    // A number of 64 bits: both lose the same digits.
    if (replica && own !== undefined && Number(replica) !== Number(own)) tell();
    if (!lost || !new URL(answer.url || window.location).pathname.endsWith("/app_id")) return answer;
    dismiss();
    return new Response(null, { status: 503 });
  };

  setInterval(() => {
    if (!lost && !document.hidden) window.fetch(`${config().root || ""}/gradio_api/health`).catch(() => {});
  }, 1000 * PING_SECONDS);
})();
