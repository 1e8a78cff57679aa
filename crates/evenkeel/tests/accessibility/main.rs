//! Whether everybody can use the console and read a report: axe-core looks at the pages in a real browser, and finds
//! no fault that it calls serious or critical.
//!
//! `cargo xtask conformance accessibility` installs axe-core and runs this; `KEEL_AXE` names its `axe.min.js`. The
//! rules are theirs: nothing here decides what is a fault, or leaves one of their rules out. Lesser faults are printed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../system/browser.rs"]
#[expect(dead_code, reason = "links are made here, and nothing is asked by hand")]
mod browser;
#[path = "../system/chromium.rs"]
#[expect(dead_code, reason = "no file is chosen here")]
mod chromium;
#[path = "../system/ports.rs"]
mod ports;
#[path = "../system/rig.rs"]
#[expect(dead_code, reason = "one stack is enough here")]
mod rig;

use std::fs;

use serde_json::{Value, json};

use crate::{
    browser::link,
    chromium::{Chromium, Page},
    rig::{Rig, all_healthy},
};

/// The windows that each page is looked at in.
const LOOKS: [(&str, u32, u32); 3] = [("light", 1400, 900), ("dark", 1400, 900), ("light", 390, 844)];

/// Looks at pages, and keeps what is found.
struct Eyes {
    axe: String,
    looks: u32,
    found: Vec<String>,
}

impl Eyes {
    /// With the rules that the environment names.
    fn open() -> Self {
        let named = std::env::var_os("KEEL_AXE");
        let path = named.expect("KEEL_AXE does not name axe.min.js: `cargo xtask conformance accessibility` does");
        let axe = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { axe, looks: 0, found: Vec::new() }
    }

    /// Looks at a page in light and dark, and as a phone shows it.
    fn look(&mut self, page: &Page, what: &str) {
        for (scheme, width, height) in LOOKS {
            page.scheme(scheme);
            page.size(width, height);
            self.look_once(page, &format!("{what}, {scheme}, {width} wide"));
        }
        page.scheme("light");
        page.size(1400, 900);
    }

    fn look_once(&mut self, page: &Page, what: &str) {
        println!("looking: {what}");
        // The browser's own console may run what the policy of the page forbids to the page.
        page.value(&format!("{}; null", self.axe));
        let seen = page.value("axe.run(document, { resultTypes: ['violations'] })");
        assert!(seen["passes"].as_array().is_some_and(|rules| !rules.is_empty()), "{what}: nothing was looked at");
        for fault in seen["violations"].as_array().unwrap() {
            let told = told(what, fault);
            if matches!(fault["impact"].as_str(), Some("serious" | "critical")) {
                self.found.push(told);
            } else {
                println!("{told}");
            }
        }
        self.looks += 1;
    }
}

/// A fault, and the first places that have it.
fn told(what: &str, fault: &Value) -> String {
    let places = fault["nodes"].as_array().unwrap();
    let place =
        |node: &Value| format!("    {} {}", node["target"], node["failureSummary"].as_str().unwrap_or_default());
    let first: Vec<String> = places.iter().take(3).map(place).collect();
    let [impact, id, help] = ["impact", "id", "help"].map(|key| fault[key].as_str().unwrap_or_default());
    format!("{what}: {impact}: {id}: {help}, {} times\n{}", places.len(), first.join("\n"))
}

/// The console, signed in.
fn console(browser: &Chromium, rig: &Rig, role: &str) -> Page {
    let page = browser.page();
    page.open(&link(rig, role));
    if page.value("document.querySelector('form [name=code]') !== null") == true {
        page.click("form button");
    }
    page.until_there("#live.on");
    page
}

/// Every question that the page can ask, by the act and what it is about.
fn questions(page: &Page) -> Vec<(String, String)> {
    let all = page.value(
        "[...new Map([...document.querySelectorAll('[data-act]:not([data-act=output])')]\
         .map((it) => [it.dataset.act, [it.dataset.act, it.dataset.subject]])).values()]",
    );
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.as_array().unwrap().iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

#[test]
fn everybody_can_use_the_console_and_read_a_report() {
    let mut eyes = Eyes::open();
    let rig = Rig::demo();
    let browser = Chromium::launch();

    // Who finds nothing must not be blind.
    let stranger = browser.page();
    stranger.open("data:text/html,<html lang=en><title>A picture</title><main><h1>One</h1><img src=x></main>");
    eyes.look_once(&stranger, "a picture without words");
    assert!(eyes.found.iter().all(|fault| fault.contains("image-alt")) && eyes.found.len() == 1, "{:?}", eyes.found);
    eyes.found.clear();

    stranger.open(&format!("http://{}/", rig.status().console.unwrap()));
    eyes.look(&stranger, "sign-in");

    let page = console(&browser, &rig, "admin");
    eyes.look(&page, "the page at first");
    page.value("document.querySelectorAll('details').forEach((it) => { it.open = true; })");
    page.until(
        "document.querySelector('#stack-text').value !== '' && document.querySelector('#tokens').textContent !== ''",
    );
    eyes.look(&page, "the page, everything open");

    let copies = rig.folder.path().join("copies");
    let drill = rig.keel(&["drill", "run", "kill-instance", "--service", "shop", "--report", copies.to_str().unwrap()]);
    assert!(drill.status.success(), "{drill:?}");
    rig.wait_until("all is well again", all_healthy);
    page.until_there(".runs details");
    page.value("document.querySelectorAll('details').forEach((it) => { it.open = true; })");
    eyes.look(&page, "the page after a drill");

    for (act, subject) in questions(&page) {
        page.click(&format!("[data-act={act}][data-subject={}]", json!(subject)));
        page.until("document.querySelector('#ask').open && document.querySelector('#ask').textContent !== ''");
        eyes.look(&page, &format!("the question of {act}"));
        page.key("Escape");
        page.until("!document.querySelector('#ask').open");
    }
    page.click("#help-open");
    page.until_there("#help[open]");
    eyes.look(&page, "help");
    page.key("Escape");

    eyes.look(&console(&browser, &rig, "viewer"), "the page of a viewer");

    // As a file, since the console lets no script run in one, not even those of a browser's own console.
    let mut files = fs::read_dir(&copies).unwrap().map(|file| file.unwrap().path());
    let report = files.find(|file| file.extension().is_some_and(|ending| ending == "html")).unwrap();
    page.open(&format!("file://{}", report.display()));
    eyes.look(&page, "a report");

    println!("{} looks, {} faults", eyes.looks, eyes.found.len());
    assert!(eyes.found.is_empty(), "{}", eyes.found.join("\n"));
}
