// Output of instances: searched, followed, and no more of it kept than somebody can read.

const MOST_LINES = 2000;
const MOST_MARKS = 10;
let reading = null;

function logLine({ at, instance, line }, wanted) {
  const text = make("span");
  // A letter stands thousands of times in a long line: what comes after the first marks is shown without.
  let rest = line;
  for (let marks = 0, at; wanted && marks < MOST_MARKS && (at = rest.indexOf(wanted)) >= 0; marks += 1) {
    text.append(rest.slice(0, at), make("mark", {}, wanted));
    rest = rest.slice(at + wanted.length);
  }
  text.append(rest);
  const date = new Date(at);
  const time = make("time", { datetime: date.toISOString(), title: date.toISOString() }, CLOCK.format(date));
  return make("li", {}, time, make("span", { class: "of" }, instance), text);
}

/** Reads lines as they come; one that is followed goes on until something else is asked. */
async function readLogs(subject, wanted, follow) {
  reading?.abort();
  const mine = (reading = new AbortController());
  const [lines, state] = [$("#log-lines"), $("#log-state")];
  lines.replaceChildren();
  let count = 0;
  const say = (end) => { state.textContent = `${count} line${count === 1 ? "" : "s"}${wanted ? ` with “${wanted}”` : ""} of ${subject || "everything"}${end}`; };
  try {
    const query = new URLSearchParams({ subject, lines: "500", grep: wanted, follow: String(follow) });
    const answer = await fetch(`/v1/logs?${query}`, { signal: mine.signal });
    if (!answer.ok) throw (await answer.json());
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    say(follow ? ", following" : "");
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const pieces = (rest + value).split("\n");
      rest = pieces.pop();
      const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
      const fresh = pieces.filter(Boolean).map((piece) => logLine(JSON.parse(piece), wanted));
      count += fresh.length;
      lines.append(...fresh);
      while (lines.childElementCount > MOST_LINES) lines.firstElementChild.remove();
      if (atEnd) lines.scrollTop = lines.scrollHeight;
      if (fresh.length) say(follow ? ", following" : "");
    }
    say(follow ? "; nothing follows any more" : "");
  } catch (reason) {
    if (mine.signal.aborted) return;
    state.textContent = reason?.error ? `${reason.error}. ${reason.hint ?? ""}` : "The answer ended; press Show to ask again.";
  }
}

function searchLogs(subject, wanted) {
  const choice = $("#log-subject");
  if (![...choice.options].some((option) => option.value === subject)) choice.append(make("option", { value: subject }, subject));
  choice.value = subject;
  $("#log-search").value = wanted;
  $("#logs").scrollIntoView();
  readLogs(subject, wanted, $("#log-form").follow.checked);
}

function beginLogs() {
  $("#log-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const { subject, grep, follow } = event.target;
    readLogs(subject.value, grep.value, follow.checked);
  });
}
