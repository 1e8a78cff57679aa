// The stack file, secrets and tokens: read when somebody opens them, and again after each change.

let stackFile = null;

const LOADERS = {
  async stack() {
    stackFile = await api("GET", "/v1/stack");
    $("#stack-text").value = stackFile.text;
  },
  async secrets() {
    const { secrets } = await api("GET", "/v1/secrets");
    const rows = secrets.map((secret) => [secret.name, secret.source, secret.services.join(", ") || "nobody", secret.problem ?? "",
      acts(["Rotate…", "secret-rotate", secret.name], ["Remove…", "secret-remove", secret.name])]);
    $("#secrets").replaceChildren(table(["Name", "From", "Used by", "Problem", "Orders"], rows, "There is no secret."));
  },
  async tokens() {
    const { tokens } = await api("GET", "/v1/tokens");
    const rows = tokens.map((token) => [token.name, token.role, new Date(token.created).toLocaleDateString(),
      token.expires ? new Date(token.expires).toLocaleDateString() : "never", acts(["Revoke…", "token-revoke", token.name])]);
    $("#tokens").replaceChildren(table(["Name", "Role", "Made", "Ends", "Orders"], rows, "There is no token."));
  },
};

function acts(...all) {
  return make("div", { class: "acts" }, ...all.map(([label, act, subject]) =>
    make("button", { type: "button", class: "act", "data-act": act, "data-needs": "admin", "data-subject": subject, "data-value": "" }, label)));
}

function table(heads, rows, nothing) {
  if (!rows.length) return make("p", { class: "empty" }, nothing);
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, cell))))));
}

async function load(what) {
  const place = $(`details[data-load="${what}"]`);
  $(".error", place)?.remove();
  try {
    await LOADERS[what]();
  } catch (reason) {
    place.append(refusal(reason));
  }
}

/** What came of a change, and the list as it is now. */
async function reloaded(what, answer) {
  await load(what);
  return answer;
}

/** What a change of secrets came to. */
function secretSaid({ services, replaced, new_key: newKey }) {
  const notes = [replaced ? "The former value is replaced." : "It is kept, encrypted."];
  if (services.length) notes.push(`Instances of ${services.join(", ")} are replaced one by one.`);
  if (newKey) notes.push(`A key was made for it: ${newKey}. Keep a copy of that file elsewhere.`);
  return { notes };
}

function askSecret(name, how) {
  const isNew = !name;
  ask({
    title: isNew ? "Set a secret" : `Rotate the secret ${name}`, yes: isNew ? "Set" : "Rotate",
    text: ["Services that use it are restarted one by one, each new instance ready before a former one drains."],
    fields: [
      ...(isNew ? [{ name: "name", label: "Name", required: true }] : []),
      { name: "value", label: "Value", type: "password", required: isNew, autocomplete: "new-password", hint: isNew ? "it is never shown again" : "empty: read its source again, or make a random one" },
    ],
    send: async (wanted) => {
      const order = isNew ? { name: wanted.name, value: wanted.value } : { name, value: wanted.value || null };
      return reloaded("secrets", secretSaid(await post("/v1/secrets", { [how]: order })));
    },
  });
}

async function makeToken({ name, role, expires }) {
  const made = await post("/v1/tokens", { name, role, expires_s: expires ? Number(expires) : null });
  await load("tokens");
  const text = make("input", { type: "text", readonly: true, value: made.token, "aria-label": "The token" });
  return make("div", { class: "fields" }, make("p", {}, "Copy it now: it is not shown again."), text, make("p", { class: "hint" }, made.warning ?? ""));
}

/** Shows what a file would change, and applies it if wanted. */
async function applyFile() {
  const reset = $("#stack-reset").checked;
  const order = { text: $("#stack-text").value, file: stackFile?.file ?? "keel.toml", reset, expect: stackFile?.revision };
  try {
    const difference = await post("/v1/diff", order);
    const keys = difference.keys.length ? make("pre", {}, difference.keys.join("\n")) : null;
    if (difference.refused) {
      const [error, hint] = difference.refused;
      open("Apply the stack file", true, keys, refusal({ error, hint }), closing());
    } else if (!difference.differs && !difference.dropped.length) {
      open("Apply the stack file", false, make("p", {}, `Nothing would change: this is what revision ${difference.revision} says.`), closing());
    } else {
      ask({
        title: "Apply the stack file", yes: "Apply",
        text: ["It is in force at once. This would change:"],
        body: [list(difference.changes), keys, difference.kept.length ? list(difference.kept.map((line) => `stays: ${line}`)) : null,
          difference.dropped.length ? list(difference.dropped.map((line) => `is replaced: ${line}`)) : null].filter(Boolean),
        send: async () => reloaded("stack", await post("/v1/apply", order)),
      });
    }
  } catch (reason) {
    // The file on the disk is another text, which may well be right.
    if (reason?.diagnostics) reason.error = "What stands in the editor is not valid";
    open("Apply the stack file", true, refusal(reason), closing());
  }
}

function beginAdmin() {
  for (const place of $$("details[data-load]")) {
    place.addEventListener("toggle", () => {
      if (place.open && $("textarea, .loaded", place)) load(place.dataset.load);
    });
  }
}
