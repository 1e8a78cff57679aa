// Keeps the page up to date while somebody looks at it, and says when it is not.

let source = null;
let lastBeat = performance.now();
let range = localStorage.getItem("keel-range") ?? "15m";

function listen() {
  source?.close();
  source = new EventSource(`/console/live?range=${encodeURIComponent(range)}`);
  source.addEventListener("panel", (event) => {
    const { id, html } = JSON.parse(event.data);
    show(id, html);
  });
  source.addEventListener("beat", (event) => {
    lastBeat = performance.now();
    aheadMs = Number(event.data) - Date.now();
  });
}

/** Says whether what is shown is true now. */
function sayLive() {
  const late = performance.now() - lastBeat;
  const [state, words] = late < 3500 ? ["on", "live"] : ["off", `not live, ${span(late)}`];
  const sign = $("#live");
  if (sign.className !== `live ${state}`) sign.className = `live ${state}`;
  const text = sign.lastElementChild;
  if (text.textContent !== words) text.textContent = words;
  if (state === "off" && source?.readyState === EventSource.CLOSED && Math.floor(late / 1000) % 3 === 0) listen();
}

function beginLive() {
  sayRange();
  listen();
  setInterval(() => {
    if (document.hidden) return;
    sayTimes(document);
    sayLive();
  }, 1000);
  // Nobody looks at a hidden page, so nothing is computed for it.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else {
      lastBeat = performance.now();
      listen();
    }
  });
}

function sayRange() {
  for (const button of $$("[data-range]")) button.setAttribute("aria-pressed", String(button.dataset.range === range));
}

function chooseRange(next) {
  range = next;
  localStorage.setItem("keel-range", range);
  sayRange();
  listen();
}
