// What can be ordered, with the question before each and what it asks the API for.

const LENGTHS = [["900000", "15 minutes"], ["3600000", "an hour"], ["14400000", "4 hours"], ["86400000", "a day"]];
const post = (path, body) => api("POST", path, body);

const ACTS = {
  restart: (subject) => ask({
    title: `Restart ${subject}`, yes: "Restart",
    text: [subject.includes("/")
      ? "It is replaced by a new process. The new one is ready before the former one drains, so no request waits for it."
      : "Its instances are replaced one by one. Each new one is ready before a former one drains, so no request waits for it."],
    send: () => post("/v1/restart", { subject }),
  }),
  scale: (subject, now) => ask({
    title: `Scale ${subject}`, yes: "Scale",
    text: [`It is to have ${now} now. Instances that are too many finish their requests before they are stopped.`],
    fields: [
      { name: "replicas", label: "Instances", type: "number", min: 0, max: 1000, value: now, hint: "0 stops them all" },
      { name: "auto", label: "As the stack file says", type: "checkbox" },
    ],
    send: ({ replicas, auto }) => post("/v1/scale", { service: subject, replicas: auto ? null : Number(replicas) }),
  }),
  drain: (subject, last) => ask({
    title: `Drain ${subject}`, yes: "Drain", danger: last === "last",
    text: ["It gets no new requests, finishes those that it has, and goes on running until it is resumed.",
      ...(last === "last" ? ["It is the last healthy instance of its service: requests will wait, and then be refused."] : [])],
    fields: [
      { name: "reason", label: "Why, for whoever finds it drained", maxlength: 500 },
      ...(last === "last" ? [{ name: "force", label: "Also although it is the last healthy one", type: "checkbox" }] : []),
    ],
    typed: last === "last" ? subject : "",
    send: ({ reason, force }) => post("/v1/drain", { instance: subject, reason, force: Boolean(force) }),
  }),
  resume: (subject) => ask({
    title: `Resume ${subject}`, yes: "Resume",
    text: ["A drain, a pause, or a stay away from what is preferred ends now."],
    send: () => post("/v1/resume", { subject }),
  }),
  pause: (subject) => ask({
    title: `Pause decisions about ${subject}`, yes: "Pause",
    text: ["Nothing of it is started again, killed, ejected, scaled or rolled back meanwhile. What is ordered is done. It ends by itself."],
    fields: [
      { name: "length", label: "For", options: LENGTHS },
      { name: "reason", label: "Why, for whoever finds it paused", required: true, maxlength: 500 },
    ],
    send: ({ length, reason }) => post("/v1/pause", { subject, for_ms: Number(length), reason }),
  }),
  rollback: (subject, to) => ask({
    title: `Roll ${subject} back`, yes: "Roll back",
    text: [to === "0" ? "What the stack file says is put in force again, instance by instance." : `Release ${to} is put in force again, instance by instance.`],
    send: async () => said(await post("/v1/rollback", { service: subject, to: Number(to) })),
  }),
  "abort-deploy": (subject) => ask({
    title: `End the deploy of ${subject}`, yes: "End the deploy", danger: true,
    text: ["The release that was in force before comes back, instance by instance."],
    send: async () => said(await post("/v1/rollback", { service: subject })),
  }),
  deploy: (subject) => ask({
    title: `Deploy ${subject}`, yes: "Deploy",
    text: ["Instances are replaced one by one. Each new one is on trial; if it fails, the former release comes back by itself."],
    fields: [
      { name: "archive", label: "Artefact", type: "file", accept: ".tar,.tgz,.gz", hint: "a tar archive, gzipped or not; without one only what follows changes" },
      { name: "run", label: "Command", hint: "words apart by spaces, in quotes where they have some; empty: as before" },
      { name: "env", label: "Environment", type: "textarea", hint: "NAME=value, one a line; secret:NAME stands for a secret" },
      { name: "canary", label: "Share of the requests for the first new instance, in percent", type: "number", min: 1, max: 50 },
      { name: "watch", label: "Trial, in seconds", type: "number", min: 1, max: 86400 },
    ],
    send: (wanted, progress) => deploy(subject, wanted, progress),
  }),
  drill: (name) => rehearse(name),
  why: (subject) => explain(subject),
  output: (subject) => searchLogs(subject, ""),
  apply: () => applyFile(),
  "secret-set": (name) => askSecret(name, "set"),
  "secret-rotate": (name) => askSecret(name, "rotate"),
  "secret-remove": (name) => ask({
    title: `Remove the secret ${name}`, yes: "Remove", danger: true, typed: name,
    text: ["Its value is gone for good. Services that use it cannot be started any more until it is set again."],
    send: async () => reloaded("secrets", (await post("/v1/secrets", { remove: { name } })) && { said: `${name} is removed.` }),
  }),
  "rotate-key": () => ask({
    title: "Make another key", yes: "Make another key", danger: true,
    text: ["Every secret of the store is encrypted anew with another key, and the former key is removed. Values stay as they are."],
    send: async () => reloaded("secrets", (await post("/v1/secrets", { "rotate-key": {} })) && { said: "The store has another key now." }),
  }),
  "token-create": () => ask({
    title: "Make a token", yes: "Make it",
    fields: [
      { name: "name", label: "Name", required: true, maxlength: 64, hint: "for whom or what it is" },
      { name: "role", label: "Role", options: [["viewer", "viewer: reads"], ["operator", "operator: runs what is there"], ["admin", "admin: everything"]] },
      { name: "expires", label: "Ends after", options: [["2592000", "30 days"], ["86400", "a day"], ["31536000", "a year"], ["", "never"]] },
    ],
    send: (wanted) => makeToken(wanted),
  }),
  "token-revoke": (name) => ask({
    title: `Revoke the token ${name}`, yes: "Revoke", danger: true,
    text: ["Whoever uses it is refused from now on, and signed out of this console."],
    send: async () => reloaded("tokens", { said: (await api("DELETE", `/v1/tokens/${encodeURIComponent(name)}`)) && `${name} is revoked.` }),
  }),
};

/** How the newest deploy is, as an outcome. */
const said = (history) => ({ said: history.deploys.at(-1)?.message ?? "It has begun." });

/** A command line as words; quotes keep spaces together. */
function words(line) {
  return [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2] ?? match[3]);
}

async function deploy(service, { archive, run, env, canary, watch }, progress) {
  const order = { service, env: {} };
  for (const line of env.split("\n").filter((line) => line.trim())) {
    const at = line.indexOf("=");
    if (at < 1) throw { error: `\`${line}\` is no variable`, hint: "One a line, as NAME=value." };
    order.env[line.slice(0, at).trim()] = line.slice(at + 1);
  }
  if (run.trim()) order.run = words(run);
  if (canary) order.canary_percent = Number(canary);
  if (watch) order.watch_ms = Number(watch) * 1000;
  if (archive?.size) {
    progress("Sending the artefact…");
    order.release = (await api("POST", `/v1/releases?service=${encodeURIComponent(service)}`, archive, true)).release;
  }
  progress("Beginning…");
  return said(await post("/v1/deploy", order));
}

/** Shows what a drill would do, and does it if wanted. */
async function rehearse(name) {
  const services = $$(".service-block").map((block) => block.dataset.key);
  const plan = async (service) => api("GET", `/console/plan?drill=${encodeURIComponent(name)}&service=${encodeURIComponent(service)}`);
  try {
    let seen = await plan("");
    const body = make("div");
    const draw = () => body.replaceChildren(...(seen.refused
      ? [refusal({ error: "Not now", hint: seen.refused })]
      : [list(seen.lines.map(sentence), "ol", "plan"), ...(seen.notes.length ? [list(seen.notes)] : [])]));
    draw();
    ask({
      title: `Rehearse ${name}`, yes: "Rehearse it now", danger: true,
      text: [`${sentence(seen.summary)} It takes ${seen.usual_s[0]} to ${seen.usual_s[1]} seconds. This is real: if the stack does not bear it, clients notice.`],
      body: [body],
      fields: services.length > 1 ? [{ name: "service", label: "Service", options: [["", "as the stack says"], ...services.map((one) => [one, one])] }] : [],
      send: async ({ service }) => {
        await post("/v1/drills", { drill: name, ...(service ? { service } : {}) });
        dialog.close();
        $("#drills").scrollIntoView();
        return null;
      },
    });
    // What is confirmed is what was shown: nothing can be, while another plan is on its way or could not be had.
    const yes = $("button[type=submit]", dialog);
    let newest = 0;
    const settle = (shown) => { seen = shown; draw(); if (yes) yes.disabled = Boolean(seen.refused); };
    settle(seen);
    $("select[name=service]", dialog)?.addEventListener("change", async (event) => {
      const mine = ++newest;
      if (yes) yes.disabled = true;
      body.replaceChildren();
      let shown;
      try { shown = await plan(event.target.value); } catch (reason) { shown = { refused: reason.message || "the plan could not be had" }; }
      if (mine === newest) settle(shown);
    });
  } catch (reason) {
    open(`Rehearse ${name}`, false, refusal(reason), closing());
  }
}

/** How something is, and the decisions that led there. */
async function explain(subject) {
  try {
    const { now, entries } = await api("GET", `/v1/why?subject=${encodeURIComponent(subject)}`);
    const shown = entries.map((entry) => make("div", { class: "entry" },
      make("div", { class: "line" }, make("time", { datetime: new Date(entry.at).toISOString(), "data-say": "clock" }), make("b", {}, entry.subject), make("span", {}, entry.kind)),
      make("p", {}, ...prose(entry.message)),
      entry.reasons.length ? make("ul", { class: "reasons" }, ...entry.reasons.map(({ role, text }) => make("li", {}, make("span", { class: "role" }, role.replace("-", " ")), " ", make("span", {}, ...prose(text))))) : null));
    open(`Why is ${subject} as it is?`, true, make("p", { class: "now" }, ...prose(now)), ...shown, closing());
    sayTimes(dialog);
  } catch (reason) {
    open(`Why is ${subject} as it is?`, true, refusal(reason), closing());
  }
}
