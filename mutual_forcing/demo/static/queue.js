// How far a visitor's request has come in the queue: mutualForcing.watchQueue. In the page's head, after texts.js.
// Gradio tells how many wait, not which one we are; nobody overtakes, so the least seen is our place.
window.mutualForcing.watchQueue = (show) => {
  let place = Infinity, watching = true;
  const timer = setInterval(async () => {
    try {
      const base = (window.gradio_config && window.gradio_config.root) || "";
      const response = await fetch(`${base}/gradio_api/queue/status`);
      const waiting = (await response.json()).queue_size;
      place = Math.min(place, waiting);
      if (watching && place > 0) show({ place, waiting });
    } catch { /* the next second tries again */ }
  }, 1000);
  return () => { watching = false; clearInterval(timer); };
};
