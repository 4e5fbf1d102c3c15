// Says our own HTML in the language that Gradio chose. The table is the one that gr.I18n brought.
// data-t: the element's text; data-t-label: its aria-label; data-t-title: its tooltip. data-values fills places.
(() => {
  const KINDS = { "data-t": "text", "data-t-label": "aria-label", "data-t-title": "title" };
  const ANY = Object.keys(KINDS).map((name) => `[${name}]`).join(",");
  const page = document.documentElement;
  const table = (language) => ((window.gradio_config || {}).i18n_translations || {})[language] || {};
  page.lang = (navigator.language || "").startsWith("ja") ? "ja" : "en";

  // A phrase is a text, or {key, values} whose values may be phrases.
  function say(key, values) {
    if (key && key.key) return say(key.key, key.values);
    const sentence = table(page.lang)[key] || table("en")[key] || key || "";
    const all = values && "count" in values ? { s: +values.count === 1 ? "" : "s", ...values } : values || {};
    const filled = (value) => value && value.key ? say(value) : `${value}`;
    return sentence.replace(/\{(\w+)\}/g, (place, name) => name in all ? filled(all[name]) : place);
  }
  const plain = (sentence) => sentence.replaceAll("**", "");

  function translate(element) {
    let values = {};
    try { values = JSON.parse(element.dataset.values || "{}"); } catch { /* the sentence then shows its places */ }
    for (const [name, kind] of Object.entries(KINDS)) {
      const key = element.getAttribute(name);
      if (!key) continue;
      const sentence = say(key, values);
      if (kind !== "text") { if (element.getAttribute(kind) !== sentence) element.setAttribute(kind, sentence); continue; }
      const safe = sentence.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
      const html = safe.replace(/\*\*(.+?)\*\*/g, "<b>$1</b>");
      if (element.innerHTML !== html) element.innerHTML = html;
    }
  }
  function translateAll(root) {
    if (root.matches && root.matches(ANY)) translate(root);
    if (root.querySelectorAll) root.querySelectorAll(ANY).forEach(translate);
  }
  new MutationObserver((changes) => {
    for (const { target, addedNodes } of changes) {
      const inside = (target.nodeType === Node.ELEMENT_NODE ? target : target.parentElement)?.closest("[data-t]");
      if (inside) translate(inside);
      else if (target.matches && target.matches(ANY)) translate(target);
      addedNodes.forEach(translateAll);
    }
  }).observe(page, { childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: [...Object.keys(KINDS), "data-values"] });

  window.mutualForcing = {
    say: (key, values) => plain(say(key, values)),
    // Gradio's settings may change the language at any time.
    speak(language) { page.lang = table(language)["mf.language"] ? language : "en"; translateAll(page); },
  };
})();
