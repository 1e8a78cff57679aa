"use strict";
// What every part of the script uses: who is signed in, the API, elements, and times.

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const ROLES = ["viewer", "operator", "admin"];

/** By how much the server's clock is ahead of ours. */
let aheadMs = Number(meta("now")) - Date.now();

/** An element. Text stays text, whatever is in it. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Asks the API; throws what it refuses as `{error, hint, diagnostics}`. */
async function api(method, path, body, raw = false) {
  const headers = { "X-Keel-Csrf": meta("csrf") };
  if (body !== undefined && !raw) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined || raw ? body : JSON.stringify(body) });
  } catch {
    throw { error: "the console does not answer", hint: "The node process may be starting again; try again in a second." };
  }
  const text = await answer.text();
  let value = null;
  try { value = JSON.parse(text); } catch { /* Not everything that answers is the API. */ }
  if (answer.ok) return value;
  if (answer.status === 401) throw { error: "you are not signed in any more", hint: "Load the page again, and sign in by a link of `keel console`." };
  throw value?.error ? value : { error: `the answer was ${answer.status}`, hint: text.slice(0, 300) };
}

/** Milliseconds with at most two units, as `3m 12s`. */
function span(ms) {
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const first = units.findIndex(([, length]) => seconds >= length);
  if (first < 0) return "0s";
  const [unit, length] = units[first];
  const [smaller, part] = units[first + 1] ?? ["", 0];
  const rest = part ? Math.floor((seconds % length) / part) : 0;
  return `${Math.floor(seconds / length)}${unit}${rest ? ` ${rest}${smaller}` : ""}`;
}

// Made once: to make one takes longer than to use it a hundred times.
const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat([], { day: "numeric", month: "short" });

/** Says points in time as people want them: ages as they grow, others on the clock of who looks. */
function sayTimes(root) {
  const now = Date.now() + aheadMs;
  for (const time of $$("time[data-say]", root)) {
    const at = Date.parse(time.dateTime);
    const date = new Date(at);
    const text = time.dataset.say === "age" ? span(now - at) : clock(date, now);
    if (time.textContent !== text) time.textContent = text;
    if (!time.title) time.title = time.dateTime;
  }
}

/** A time of day; of another day with its date in place of the seconds. */
function clock(date, now) {
  const text = CLOCK.format(date);
  const today = now - date < 12 * 3600e3 || date.toDateString() === new Date(now).toDateString();
  return today ? text : `${DAY.format(date)}, ${text.slice(0, 5)}`;
}

/** A sentence of ours, in which `this` is code. */
function prose(text) {
  const parts = text.split("`");
  return parts.length % 2 ? parts.map((part, index) => index % 2 ? make("code", {}, part) : part) : [text];
}

/** Disables what the role may not do, and says so. The API refuses it in any case. */
function permit(root) {
  const role = ROLES.indexOf(meta("role"));
  for (const element of $$("[data-needs]", root)) {
    if (ROLES.indexOf(element.dataset.needs) <= role) continue;
    const why = `This needs the role ${element.dataset.needs}; you are signed in as ${meta("role")}.`;
    element.setAttribute("title", why);
    if (element.tagName === "DETAILS") element.replaceChildren($("summary", element), make("p", { class: "hint" }, why));
    else element.setAttribute("aria-disabled", "true");
  }
}
