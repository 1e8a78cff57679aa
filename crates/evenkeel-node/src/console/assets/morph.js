// Makes a part of the page like another one by the fewest changes, so that focus, selection, scroll positions and what is open stay.

/** What stands for an element from one text to the next. */
const keyOf = (node) => (node.nodeType === 1 ? node.getAttribute("data-key") ?? node.id ?? "" : "") || null;

/** Attributes that belong to who looks. */
const KEPT = new Set(["open", "value", "checked"]);

function morph(from, to) {
  if (from.nodeType !== 1) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  for (const { name, value } of [...to.attributes]) {
    if (!KEPT.has(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!KEPT.has(name) && !to.hasAttribute(name)) from.removeAttribute(name);
  }
  morphChildren(from, to);
}

function morphChildren(from, to) {
  const wanted = new Set([...to.childNodes].map(keyOf).filter(Boolean));
  const known = new Map();
  for (const child of [...from.childNodes]) {
    const key = keyOf(child);
    if (key && !wanted.has(key)) child.remove();
    else if (key) known.set(key, child);
  }
  let at = from.firstChild;
  for (const next of [...to.childNodes]) {
    const key = keyOf(next);
    let same = key ? known.get(key) : at && !keyOf(at) && at.nodeName === next.nodeName ? at : null;
    if (same && same.nodeName !== next.nodeName) same = null;
    if (!same) from.insertBefore(next, at);
    else {
      if (same === at) at = at.nextSibling;
      else from.insertBefore(same, at);
      morph(same, next);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

/** Puts a panel's new text in place. */
function show(id, html) {
  const place = $(`[data-panel="${CSS.escape(id)}"]`);
  if (!place) return;
  const next = document.createElement("template");
  next.innerHTML = html;
  sayTimes(next.content);
  permit(next.content);
  morphChildren(place, next.content);
}
