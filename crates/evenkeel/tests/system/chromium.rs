//! A browser as a person uses one: chromium, without a window, told what to do by the `DevTools` protocol.
//!
//! Messages go over two pipes as JSON that a NUL ends (`--remote-debugging-pipe`), so nothing listens and nobody else
//! can tell this browser anything. It has a profile of its own, which goes with it. A pointer and keys are used where
//! a person would use them: what is covered, disabled or out of reach cannot be clicked. Whatever a page complains of
//! is kept, for the test to judge. Nothing here knows the console.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::rig::PATIENCE;

/// How long nothing is done between two looks at a page.
const BETWEEN_LOOKS: Duration = Duration::from_millis(30);

/// Flags that keep it to itself, and still where nobody sees it.
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-breakpad",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--hide-scrollbars",
];

/// Brings an element into sight, waits until that is drawn, and says where it is and notes whether a click reaches it.
const AIM: &str = "async (selector) => {
    const it = document.querySelector(selector);
    if (!it) return null;
    it.scrollIntoView({ block: 'center', behavior: 'instant' });
    await new Promise((drawn) => { requestAnimationFrame(() => requestAnimationFrame(drawn)); setTimeout(drawn, 200); });
    const at = it.getBoundingClientRect(), x = at.x + at.width / 2, y = at.y + at.height / 2;
    if (!it.contains(document.elementFromPoint(x, y))) return null;
    window.reached = false;
    it.addEventListener('click', () => { window.reached = true; }, { once: true, capture: true });
    return [x, y];
}";

/// A running browser; dropped, it ends with everything that it started.
pub(crate) struct Chromium {
    child: Child,
    wire: Arc<Mutex<Wire>>,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// Starts it.
    pub(crate) fn launch() -> Self {
        let missing = "chromium is not installed: `cargo xtask setup` installs what tests need";
        assert!(on_path("chromium"), "{missing}");
        let profile = tempfile::tempdir().unwrap();
        let log = profile.path().join("chromium.log");
        // It reads from descriptor 3 and writes to descriptor 4, where the shell puts what it was given itself.
        let redirected = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null";
        let mut child = Command::new("sh")
            .args(["-c", redirected, "chromium"])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let (sender, answers) = channel();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        // It ends with the pipe, which ends with the browser.
        thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                let told: Value = serde_json::from_slice(&message).expect("chromium speaks JSON");
                if sender.send(told).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let wire = Wire { input: child.stdin.take().unwrap(), answers, log, next: 0, events: Vec::new() };
        let browser = Self { child, wire: Arc::new(Mutex::new(wire)), _profile: profile };
        browser.ask("Browser.getVersion", json!({}));
        browser
    }

    /// A page in a window of its own: cookies and storage are those of no other.
    pub(crate) fn page(&self) -> Page {
        let context = self.ask("Target.createBrowserContext", json!({}));
        let wanted = json!({ "url": "about:blank", "browserContextId": context["browserContextId"] });
        let target = self.ask("Target.createTarget", wanted);
        let attached = self.ask("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let page = Page { wire: Arc::clone(&self.wire), session };
        for domain in ["Page", "Runtime", "Log", "DOM"] {
            page.ask(&format!("{domain}.enable"), json!({}));
        }
        // What only the window in front gets, such as frames, every page gets.
        page.ask("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        page.size(1400, 900);
        page
    }

    fn ask(&self, method: &str, parameters: Value) -> Value {
        lock(&self.wire).ask(None, method, parameters).unwrap_or_else(|refused| panic!("{method}: {refused}"))
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It was not awaited, so the number is its own.
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        let _ = self.child.wait();
    }
}

fn on_path(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    // A test that failed may have held it, and the browser is to be ended all the same.
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both directions, and what came meanwhile.
struct Wire {
    input: ChildStdin,
    answers: Receiver<Value>,
    /// What it says when it cannot go on.
    log: PathBuf,
    next: u64,
    events: Vec<Value>,
}

impl Wire {
    /// Asks the browser, or the page of a session, and waits for the answer. `Err`: why it was refused.
    fn ask(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value, Value> {
        self.next += 1;
        let id = self.next;
        let mut message = json!({ "id": id, "method": method });
        message["params"] = parameters;
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        // Where it has ended, nothing comes back either.
        let _ = self.input.write_all(&bytes);
        loop {
            let Ok(mut told) = self.answers.recv_timeout(PATIENCE) else {
                // That there is no desktop around it is known.
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let said: Vec<&str> = log.lines().filter(|line| !line.contains("dbus/")).collect();
                panic!("chromium does not answer {message}: {}", said.join("\n"));
            };
            if told["id"] == id {
                return if told["error"].is_null() { Ok(told["result"].take()) } else { Err(told["error"].take()) };
            }
            self.events.push(told);
        }
    }
}

/// A page of the browser.
pub(crate) struct Page {
    wire: Arc<Mutex<Wire>>,
    session: String,
}

impl Page {
    fn ask(&self, method: &str, parameters: Value) -> Value {
        self.try_ask(method, parameters).unwrap_or_else(|refused| panic!("{method}: {refused}"))
    }

    fn try_ask(&self, method: &str, parameters: Value) -> Result<Value, Value> {
        lock(&self.wire).ask(Some(&self.session), method, parameters)
    }

    /// Opens an address, as one types it, and waits until the document is there.
    pub(crate) fn open(&self, url: &str) {
        let gone = self.ask("Page.navigate", json!({ "url": url }));
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        self.until("document.readyState === 'complete'");
    }

    /// What an expression comes to; promises are awaited.
    pub(crate) fn value(&self, expression: &str) -> Value {
        self.try_value(expression).unwrap_or_else(|thrown| panic!("{expression}: {thrown}"))
    }

    /// The same; `Err`: what was thrown, or that the page went away meanwhile.
    fn try_value(&self, expression: &str) -> Result<Value, Value> {
        let wanted = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut told = self.try_ask("Runtime.evaluate", wanted)?;
        match told["exceptionDetails"].take() {
            Value::Null => Ok(told["result"]["value"].take()),
            thrown => Err(thrown),
        }
    }

    /// The text of the first element of a selector, its white space made one.
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.value(&format!("document.querySelector({}).textContent", json!(selector)));
        text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Waits until an expression is true, and says what it came to.
    pub(crate) fn until(&self, expression: &str) -> Value {
        let begun = Instant::now();
        loop {
            let seen = self.try_value(expression);
            match &seen {
                Ok(Value::Null | Value::Bool(false)) | Err(_) => {}
                Ok(Value::String(text)) if text.is_empty() => {}
                Ok(value) => return value.clone(),
            }
            if begun.elapsed() > PATIENCE {
                let text = self.try_value("document.body?.innerText");
                panic!("it never came to pass that {expression}: {seen:?}\nthe page: {text:?}");
            }
            thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// Waits until there is an element.
    pub(crate) fn until_there(&self, selector: &str) {
        self.until(&format!("document.querySelector({}) !== null", json!(selector)));
    }

    /// Clicks the middle of an element once it is in sight and nothing covers it. What moved away meanwhile is clicked
    /// again: what a click does, it does only to whom it reached.
    pub(crate) fn click(&self, selector: &str) {
        let begun = Instant::now();
        loop {
            let place = self.until(&format!("({AIM})({})", json!(selector)));
            for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
                let buttons = u8::from(kind == "mousePressed");
                let event = json!({
                    "type": kind, "x": place[0], "y": place[1], "button": "left", "buttons": buttons, "clickCount": 1,
                });
                self.ask("Input.dispatchMouseEvent", event);
            }
            // Where it led to another page, nothing is known of it any more, and it has reached.
            if !self.try_value("window.reached").is_ok_and(|reached| reached == false) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "no click reaches {selector}");
        }
    }

    /// Writes into a field in place of what it says, or chooses what has this value.
    pub(crate) fn fill(&self, selector: &str, text: &str) {
        let chosen = self.until(&format!(
            "(() => {{ const it = document.querySelector({}); if (!it) return null; it.focus(); \
             if (it.tagName !== 'SELECT') {{ it.select(); return 'write'; }} it.value = {}; \
             it.dispatchEvent(new Event('change', {{ bubbles: true }})); return it.value; }})()",
            json!(selector),
            json!(text)
        ));
        if chosen == "write" {
            self.write(text);
        } else {
            assert_eq!(chosen, text, "{selector} has no such choice");
        }
    }

    /// Types where the focus is.
    pub(crate) fn write(&self, text: &str) {
        self.ask("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key: a character, or a name of UI Events such as `Escape`, `Tab` or `Enter`.
    pub(crate) fn key(&self, key: &str) {
        let (code, number, text) = match key {
            "Escape" => ("Escape", 27, ""),
            "Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            character => ("", 0, character),
        };
        for kind in [if text.is_empty() { "rawKeyDown" } else { "keyDown" }, "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number,
                "text": if kind == "keyDown" { text } else { "" },
            });
            self.ask("Input.dispatchKeyEvent", event);
        }
    }

    /// Chooses a file in a field for files.
    pub(crate) fn choose_file(&self, selector: &str, path: &Path) {
        let wanted = json!({ "expression": format!("document.querySelector({})", json!(selector)) });
        let field = self.ask("Runtime.evaluate", wanted);
        self.ask("DOM.setFileInputFiles", json!({ "files": [path], "objectId": field["result"]["objectId"] }));
    }

    /// Makes the window as large; up to 500 wide it is a phone's.
    pub(crate) fn size(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width <= 500 });
        self.ask("Emulation.setDeviceMetricsOverride", size);
    }

    /// Has the system prefer `light` or `dark`.
    pub(crate) fn scheme(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Where a link of this page leads, once it was clicked and opened a page of its own.
    pub(crate) fn clicked_through(&self, browser: &Chromium, selector: &str) -> Page {
        let known = pages(browser);
        self.click(selector);
        let begun = Instant::now();
        let target = loop {
            if let Some(fresh) = pages(browser).into_iter().find(|page| !known.contains(page)) {
                break fresh;
            }
            assert!(begun.elapsed() < PATIENCE, "{selector} opens nothing");
            thread::sleep(BETWEEN_LOOKS);
        };
        let attached = browser.ask("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        let page = Page { wire: Arc::clone(&self.wire), session: attached["sessionId"].as_str().unwrap().to_owned() };
        for domain in ["Page", "Runtime", "Log"] {
            page.ask(&format!("{domain}.enable"), json!({}));
        }
        page.until("location.href !== 'about:blank' && document.readyState === 'complete'");
        page
    }

    /// What it complained of since this was asked last: errors of scripts, of the policy of its contents, of loading.
    pub(crate) fn complaints(&self) -> Vec<String> {
        // Whatever it had to say comes before the answer.
        self.value("null");
        let mut wire = lock(&self.wire);
        let (mine, others): (Vec<Value>, Vec<Value>) =
            wire.events.drain(..).partition(|event| event["sessionId"] == self.session.as_str());
        wire.events = others;
        mine.iter().filter_map(complaint).collect()
    }
}

/// The pages of a browser.
fn pages(browser: &Chromium) -> Vec<Value> {
    let told = browser.ask("Target.getTargets", json!({}));
    let targets = told["targetInfos"].as_array().cloned().unwrap_or_default();
    targets.into_iter().filter(|target| target["type"] == "page").map(|target| target["targetId"].clone()).collect()
}

/// What an event complains of, if it does.
fn complaint(event: &Value) -> Option<String> {
    let of = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(of["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled" if matches!(of["type"].as_str(), Some("error" | "warning" | "assert")) => {
            Some(of["args"].to_string())
        }
        "Log.entryAdded" if matches!(of["entry"]["level"].as_str(), Some("error" | "warning")) => {
            Some(format!("{}: {} ({})", of["entry"]["source"], of["entry"]["text"], of["entry"]["url"]))
        }
        _ => None,
    }
}
