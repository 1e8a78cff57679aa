// Buttons, keys and the theme; and the beginning of everything.

const THEMES = ["system", "light", "dark"];

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("keel-theme", theme);
  $("#theme").textContent = `Theme: ${theme}`;
}

const theme = () => localStorage.getItem("keel-theme") ?? "system";
const nextTheme = () => setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || button.getAttribute("aria-disabled") === "true") return;
  if (button.dataset.act) ACTS[button.dataset.act]?.(button.dataset.subject, button.dataset.value);
  else if (button.dataset.range) chooseRange(button.dataset.range);
});

document.addEventListener("change", (event) => {
  if (event.target.dataset.toggle === "events-warnings") $("#events").classList.toggle("only-warnings", event.target.checked);
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, dialog[open]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    $("#logs").scrollIntoView();
    $("#log-search").focus({ preventScroll: true });
  } else if (event.key === "?") $("#help").showModal();
  else if (event.key === "t") nextTheme();
  else if (/^[1-9]$/.test(event.key)) $$(".sections a")[Number(event.key) - 1]?.click();
});

$("#theme").addEventListener("click", nextTheme);
$("#help-open").addEventListener("click", () => $("#help").showModal());
$("#sign-out").addEventListener("click", async () => {
  await api("POST", "/console/sign-out").catch(() => null);
  location.assign("/");
});

setTheme(theme());
sayTimes(document);
permit(document);
beginLogs();
beginAdmin();
beginLive();
