// Questions before something is done, and what came of it.

const dialog = $("#ask");

function open(title, wide, ...content) {
  dialog.className = wide ? "wide" : "";
  const heading = make("h2", { id: "ask-title", tabindex: "-1" }, title);
  dialog.replaceChildren(heading, ...content.filter(Boolean));
  if (!dialog.open) dialog.showModal();
  // What there is to read stands before the button that ends it.
  if (!$("form", dialog)) heading.focus();
  dialog.scrollTop = 0;
}

function closing(label = "Close") {
  const button = make("button", { type: "button", class: "act primary" }, label);
  button.addEventListener("click", () => dialog.close());
  return make("div", { class: "buttons" }, button);
}

/** A clause as a sentence. */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?:]$/.test(text) ? "" : ".");

/** What was refused, with the way out. */
function refusal(reason) {
  const { error, hint, diagnostics } = reason?.error ? reason : { error: String(reason) };
  return make("div", { class: "error", role: "alert" }, make("strong", {}, ...prose(error)),
    hint ? make("p", {}, ...prose(hint)) : null, diagnostics ? make("pre", {}, diagnostics) : null);
}

function list(lines, kind = "ul", name = "list") {
  return make(kind, { class: name }, ...lines.map((line) => make("li", {}, ...prose(line))));
}

/** What came of an order. */
function outcome(title, answer) {
  const lines = [...(answer?.changes ?? []), ...(answer?.notes ?? [])];
  const said = lines.length ? list(lines) : make("p", {}, answer?.said ?? "It is so already: there was nothing to change.");
  open(title, false, said, make("p", { class: "hint" }, "The page shows it being carried out; events say why."), closing());
}

function field({ name, label, hint, type = "text", options, ...rest }) {
  if (type === "checkbox") return make("label", { class: "switch" }, make("input", { type, name, ...rest }), label);
  let input;
  if (options) input = make("select", { name }, ...options.map(([value, text]) => make("option", { value }, text)));
  else if (type === "textarea") input = make("textarea", { name, rows: 3, spellcheck: "false", ...rest });
  else input = make("input", { type, name, autocomplete: "off", spellcheck: "false", ...rest });
  return make("label", {}, label, input, hint ? make("small", {}, hint) : null);
}

/** Asks; `send` gets what was filled in and answers with what came of it, or throws. */
function ask({ title, text = [], body = [], fields = [], yes, danger = false, typed = "", send }) {
  const all = typed ? [...fields, { name: "typed", label: `Type ${typed} to go on`, required: true, pattern: escapeRegExp(typed) }] : fields;
  const go = make("button", { type: "submit", class: danger ? "act danger" : "act primary" }, yes);
  const no = make("button", { type: "button" }, "Cancel");
  no.addEventListener("click", () => dialog.close());
  const wrong = make("div");
  const form = make("form", {}, make("div", { class: "fields" }, ...all.map(field)), wrong, make("div", { class: "buttons" }, no, go));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    go.textContent = "One moment…";
    wrong.replaceChildren();
    try {
      const answer = await send(Object.fromEntries(new FormData(form)), (words) => { go.textContent = words; });
      if (answer instanceof Element) open(title, false, answer, closing());
      else if (answer !== null) outcome(title, answer);
    } catch (reason) {
      wrong.replaceChildren(refusal(reason));
    }
    go.disabled = false;
    go.textContent = yes;
  });
  open(title, false, ...text.map((line) => make("p", {}, ...prose(line))), ...body, form);
}

const escapeRegExp = (text) => text.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
