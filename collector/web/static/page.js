// Keeps the page current: asks for the fragment every few seconds and changes only what differs.
"use strict";
(() => {
  const DEADLINE_MS = 20000; // longer than the collector's own deadline for a slow store
  const BACKOFF_MAX_MS = 10000;

  const root = document.documentElement;
  const EVERY_MS = Number(root.dataset.everyMs); // between an answer and the next question
  const texts = JSON.parse(root.dataset.texts);
  const language = root.dataset.language;
  const live = document.getElementById("live");
  const liveText = document.getElementById("live-text");
  const gone = document.getElementById("gone");

  let etag = null;
  let skew = 0; // collector's clock minus ours, ms
  let lastAnswer = Date.now();
  let failures = 0;
  let timer = null;
  let asking = null;

  // Times are said in the reader's zone.
  const clockFormat = new Intl.DateTimeFormat(root.lang, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const dateFormat = new Intl.DateTimeFormat(root.lang, { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

  function clock(date) {
    const today = new Date().toDateString() === date.toDateString();
    return (today ? clockFormat : dateFormat).format(date);
  }

  function age(date) {
    const seconds = Math.max(0, Math.round((Date.now() + skew - date) / 1000));
    const [unit, n] = seconds < 100 ? ["s", seconds]
      : seconds < 5400 ? ["min", Math.round(seconds / 60)]
      : seconds < 172800 ? ["h", Math.round(seconds / 3600)]
      : ["d", Math.round(seconds / 86400)];
    return texts["age." + unit].replace("{n}", n);
  }

  function zone() {
    const minutes = -new Date().getTimezoneOffset();
    const pad = (n) => String(Math.floor(n)).padStart(2, "0");
    const offset = (minutes < 0 ? "−" : "+") + pad(Math.abs(minutes) / 60) + ":" + pad(Math.abs(minutes) % 60);
    const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
    return `${texts.times_in}: ${name ? name + ", " : ""}UTC${offset}`;
  }

  const SAY = { clock: (e) => clock(new Date(e.dateTime)), age: (e) => age(new Date(e.dateTime)), zone };

  function say(within, which = "[data-as]") {
    for (const element of within.querySelectorAll(which)) {
      const text = SAY[element.dataset.as](element);
      if (element.textContent !== text) element.textContent = text;
    }
  }

  // Make `old` like `wanted`, keeping every node that stays: focus, selection and folding survive.
  function morph(old, wanted) {
    if (old.isEqualNode(wanted)) return;
    const folded = old.localName === "details" && old.dataset.open === wanted.dataset.open;
    for (const { name } of [...old.attributes]) {
      if (!wanted.hasAttribute(name) && !(folded && name === "open")) old.removeAttribute(name);
    }
    for (const { name, value } of wanted.attributes) {
      if (old.getAttribute(name) !== value && !(folded && name === "open")) old.setAttribute(name, value);
    }
    morphChildren(old, wanted);
  }

  function identity(node) {
    if (node.nodeType !== Node.ELEMENT_NODE) return "#text";
    return node.localName + " " + (node.dataset.key ?? node.id ?? "");
  }

  function morphChildren(old, wanted) {
    const stock = new Map();
    for (const child of old.childNodes) {
      const key = identity(child);
      if (!stock.has(key)) stock.set(key, []);
      stock.get(key).push(child);
    }
    let place = old.firstChild;
    for (const child of [...wanted.childNodes]) {
      const kept = stock.get(identity(child))?.shift();
      if (kept === undefined) {
        old.insertBefore(document.importNode(child, true), place);
        continue;
      }
      if (kept === place) place = place.nextSibling;
      else old.insertBefore(kept, place);
      if (kept.nodeType === Node.ELEMENT_NODE) morph(kept, child);
      else if (kept.data !== child.data) kept.data = child.data;
    }
    for (const left of stock.values()) for (const node of left) node.remove();
  }

  function show(html) {
    const wanted = new DOMParser().parseFromString(html, "text/html").getElementById("overview");
    if (wanted === null) throw new Error("no overview in the answer");
    if (wanted.dataset.build !== root.dataset.build) {
      location.reload();
      return;
    }
    say(wanted);
    morph(document.getElementById("overview"), wanted);
  }

  async function ask() {
    if (asking !== null) return;
    asking = new AbortController();
    const deadline = setTimeout(() => asking.abort(), DEADLINE_MS);
    try {
      const headers = etag === null ? {} : { "If-None-Match": etag };
      const answer = await fetch(`/fragment?lang=${language}`, { headers, cache: "no-store", signal: asking.signal });
      if (!answer.ok && answer.status !== 304) throw new Error(`HTTP ${answer.status}`);
      const at = Date.parse(answer.headers.get("Date"));
      // The header has whole seconds: half of one is the best guess of the rest.
      if (!Number.isNaN(at) && Math.abs(at + 500 - Date.now() - skew) > 1500) skew = at + 500 - Date.now();
      if (answer.status !== 304) {
        show(await answer.text());
        etag = answer.headers.get("ETag");
      }
      heard();
    } catch {
      missed();
    } finally {
      clearTimeout(deadline);
      asking = null;
      plan();
    }
  }

  function heard() {
    lastAnswer = Date.now();
    if (failures > 0) {
      failures = 0;
      root.removeAttribute("data-gone");
      live.dataset.live = "yes";
      gone.textContent = "";
    }
    liveText.textContent = `${texts.live} ${clock(new Date())}`;
  }

  function missed() {
    failures += 1;
    if (failures > 1) return;
    root.dataset.gone = "yes";
    live.dataset.live = "no";
    liveText.textContent = texts.lost;
    gone.textContent = texts.gone.replace("{time}", clock(new Date(lastAnswer)));
  }

  function plan() {
    clearTimeout(timer);
    if (document.hidden) return; // nobody looks: ask when somebody does
    const wait = failures === 0 ? EVERY_MS : Math.min(BACKOFF_MAX_MS, EVERY_MS / 2 * 2 ** failures);
    timer = setTimeout(ask, wait * (0.9 + 0.2 * Math.random()));
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ask();
  });
  addEventListener("online", () => ask());
  addEventListener("pageshow", (event) => {
    if (event.persisted) ask();
  });
  setInterval(() => say(document, '[data-as="age"]'), 1000);
  say(document);
  heard();
  plan();
})();
