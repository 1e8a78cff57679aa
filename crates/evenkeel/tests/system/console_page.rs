//! The console in a real browser, as somebody uses it who has it open: orders, drills, keys, a phone.
//!
//! What the page shows is compared with what `keel` says itself. Whatever the browser complains of, such as an error
//! of the script or something that the page's policy forbids, fails a test.

mod orders;

use serde_json::json;

use crate::{
    browser::link,
    chromium::{Chromium, Page},
    rig::{Rig, all_healthy, instances},
};

/// A stack with one service, whose instances print a line when they start.
fn app() -> Rig {
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\n\
         run = [\"sh\", \"-c\", \"echo good morning; exec {} __shop\"]\nreplicas = 2\n\
         check = {{ http = \"/readyz\", interval = \"200ms\" }}\nstop = {{ drain = \"1s\" }}\n",
        env!("CARGO_BIN_EXE_keel")
    ));
    rig.wait_until("it is healthy", |status| all_healthy(status) && instances(status).len() == 2);
    rig
}

/// The console, as somebody sees it who was given a link of this role.
pub(crate) fn signed_in(browser: &Chromium, rig: &Rig, role: &str) -> Page {
    opened(browser, &link(rig, role))
}

/// The console, as somebody sees it who opened this link.
fn opened(browser: &Chromium, url: &str) -> Page {
    let page = browser.page();
    page.open(url);
    // A browser that does not say that a person opened the link shows a button first.
    if page.value("document.querySelector('form [name=code]') !== null") == true {
        page.click("form button");
    }
    page.until_there("#live.on");
    page
}

/// Waits until the page was brought up to date so many times more.
fn beats(page: &Page, count: u32) {
    page.value(&format!(
        "new Promise((done) => {{ let left = {count}; source.addEventListener('beat', () => {{ if (--left <= 0) done(); }}); }})"
    ));
}

/// Nothing is wider than the window.
fn fits(page: &Page, width: u32) {
    let wide = page.value("document.documentElement.scrollWidth");
    let who = "[...document.querySelectorAll('main *')].filter((it) => it.getBoundingClientRect().right > innerWidth + 1 \
               && !it.closest('.hidden')).slice(0, 5).map((it) => it.outerHTML.slice(0, 200))";
    assert!(wide.as_u64().unwrap() <= u64::from(width), "{wide} at {width}: {:#}", page.value(who));
}

/// How many bars the picture of the newest run has.
const BARS: &str = "document.querySelectorAll('.latest .timeline .rate').length";

#[test]
fn a_drill_is_seen_as_it_happens() {
    let rig = Rig::demo();
    let browser = Chromium::launch();
    let page = signed_in(&browser, &rig, "operator");
    page.until("document.querySelector('.runs').textContent.includes('No drill was run yet')");
    assert!(page.text("#objectives").contains("99.9 % answered"), "{}", page.text("#objectives"));

    page.click("[data-act=drill][data-subject=kill-instance]");
    page.until("document.querySelectorAll('#ask[open] .plan li').length > 0");
    let plan = page.text("#ask");
    assert!(plan.contains("Rehearse kill-instance") && plan.contains("SIGKILL"), "the plan is shown: {plan}");
    assert!(page.value("document.querySelector('.latest') === null") == true, "nothing begins before it is confirmed");
    page.fill("#ask select[name=service]", "shop");
    page.until("!document.querySelector('#ask [type=submit]').disabled");
    page.click("#ask [type=submit]");

    // It runs: the picture grows, nothing else can be rehearsed, and the harm is marked.
    page.until_there(".latest .state.busy");
    page.until("document.querySelector('#ask').open === false");
    assert!(page.value("[...document.querySelectorAll('.proof button')].every((it) => it.disabled)") == true);
    let before = page.until(&format!("{BARS} > 2 && {BARS}"));
    page.until(&format!("{BARS} > {before}"));
    page.until_there(".latest .timeline rect.fault");

    // It is over: a verdict, measured times, and a report.
    page.until("document.querySelector('.latest .state.busy') === null");
    page.until_there(".runs details");
    let run = page.text(".runs details");
    assert!(run.contains("passed") && run.contains("recovered after") && run.contains("errors"), "{run}");
    page.until("document.querySelector('.proof[data-key=kill-instance]').textContent.includes('passed')");
    page.click(".runs details > summary");
    let report = page.clicked_through(&browser, ".runs details a[href$='report.html']");
    let told = report.text("body");
    assert!(told.contains("kill-instance") && told.to_lowercase().contains("pass"), "{told}");
    assert_eq!(report.complaints(), [""; 0], "the report");

    for (width, height) in [(390, 844), (1400, 900)] {
        page.size(width, height);
        fits(&page, width);
        report.size(width, height);
        fits(&report, width);
    }
    assert_eq!(page.complaints(), [""; 0]);
}

#[test]
fn what_changes_moves_nothing_else() {
    let rig = Rig::demo();
    let browser = Chromium::launch();
    // The demo itself says how to get there.
    let log = rig.log();
    let url = log.lines().find_map(|line| line.strip_prefix("console  ")).expect("it prints a link");
    let page = opened(&browser, url);
    // What came after the page itself is there after two rounds.
    beats(&page, 2);
    page.value(
        "window.moved = []; new PerformanceObserver((list) => list.getEntries().forEach((entry) => moved.push([entry.value, \
         entry.sources.map((source) => source.node?.parentElement?.outerHTML.slice(0, 200))]))).observe({ type: 'layout-shift' })",
    );
    let before = page.text("#service-shop dl.numbers");
    let url = format!("http://127.0.0.1:{}/api/products?[1-300]", rig.port);
    let visitors = std::process::Command::new("curl").args(["-sS", "-o", "/dev/null", &url]).status();
    assert!(visitors.unwrap().success());
    beats(&page, 6);
    assert_ne!(page.text("#service-shop dl.numbers"), before, "the numbers change");
    let moved = page.value("moved.reduce((sum, [value]) => sum + value, 0)");
    assert!(moved.as_f64().unwrap() < 0.01, "{moved}: {:#}", page.value("moved"));
    assert_eq!(page.complaints(), [""; 0]);
}

#[test]
fn keys_lead_everywhere_and_a_phone_shows_all() {
    let rig = app();
    let browser = Chromium::launch();
    let page = signed_in(&browser, &rig, "admin");
    let focus = |what: &str| {
        page.value("document.activeElement?.matches(WHAT)".replace("WHAT", &json!(what).to_string()).as_str())
    };

    page.key("?");
    page.until_there("#help[open]");
    page.key("Escape");
    page.until("!document.querySelector('#help').open");
    page.key("/");
    assert_eq!(focus("#log-search"), true);
    page.write("morning");
    page.key("Enter");
    page.until("document.querySelectorAll('#log-lines mark').length >= 2");
    assert_eq!(page.text("#log-lines mark"), "morning");
    page.key("t");
    assert!(page.value("document.querySelector('#theme').textContent") == "Theme: system", "a key in a field is text");

    // From the first thing on, tab by tab, to what can be ordered; a question takes the focus and gives it back.
    page.value("document.activeElement.blur(); scrollTo(0, 0); document.querySelector('.skip').focus()");
    let order = "[data-act=restart][data-subject=app]";
    let steps = (0..300).find(|_| {
        page.key("Tab");
        focus(order) == true
    });
    assert!(steps.is_some(), "no way leads there: {}", page.value("document.activeElement?.outerHTML"));
    page.key("Enter");
    page.until_there("#ask[open] form");
    page.key("Escape");
    page.until("!document.querySelector('#ask').open");
    assert_eq!(focus(order), true, "{}", page.value("document.activeElement?.outerHTML"));
    let ground = || page.value("getComputedStyle(document.body).backgroundColor");
    let light = ground();
    page.scheme("dark");
    assert_ne!(ground(), light, "it is as the system has it");
    page.key("t");
    assert_eq!((page.value("document.documentElement.dataset.theme"), ground()), (json!("light"), light));

    page.size(390, 844);
    page.value("document.querySelectorAll('details').forEach((it) => { it.open = true; })");
    page.until("document.querySelector('#stack-text').value.includes('[services.app]')");
    page.until("document.querySelector('#tokens').textContent !== ''");
    beats(&page, 2);
    fits(&page, 390);
    assert_eq!(page.complaints(), [""; 0]);
}

#[test]
fn a_viewer_may_look_and_nothing_else() {
    let rig = app();
    let browser = Chromium::launch();
    let page = signed_in(&browser, &rig, "viewer");
    beats(&page, 2);
    let forbidden = "button[data-needs=operator], button[data-needs=admin]";
    let count = page.value(&format!("document.querySelectorAll('{forbidden}').length")).as_u64().unwrap();
    assert!(count > 10, "{count}");
    let enabled = format!(
        "[...document.querySelectorAll('{forbidden}')].filter((it) => it.getAttribute('aria-disabled') !== 'true' && !it.disabled).map((it) => it.outerHTML)"
    );
    assert_eq!(page.value(&enabled), json!([]));
    assert_eq!(page.value("document.querySelectorAll('#admin details button, #admin details textarea').length"), 0);
    page.click("[data-act=restart][data-subject=app]");
    let opened = page.value(&format!(
        "[...document.querySelectorAll('{forbidden}')].filter((it) => {{ it.click(); return document.querySelector('#ask').open; }}).length"
    ));
    assert_eq!(opened, 0, "a question was opened");
    assert_eq!(page.complaints(), [""; 0]);

    // Whoever gets around the page meets the API.
    let refused =
        page.value("api('POST', '/v1/restart', { subject: 'app' }).then(() => 'done', (reason) => reason.error)");
    assert!(refused.as_str().unwrap().contains("viewer"), "{refused}");
    assert_eq!(page.complaints().len(), 1, "the browser says that it was refused");

    page.click("[data-act=why][data-subject=app]");
    page.until_there("#ask[open] .now");
    page.key("Escape");
    page.click("#sign-out");
    page.until_there("body.sign-in");
}
