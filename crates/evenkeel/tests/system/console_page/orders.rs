//! Every order that the page can give: asked first, given, carried out, and shown.

use std::{fs, process::Command};

use evenkeel_core::status::{InstanceStatus, ServiceStatus, Status};

use super::{app, signed_in};
use crate::{
    chromium::{Chromium, Page},
    rig::{Rig, all_healthy},
};

/// The button of an act.
fn button(act: &str, subject: &str) -> String {
    format!("[data-act=\"{act}\"][data-subject=\"{subject}\"]")
}

/// Opens the question of an act.
fn question(page: &Page, act: &str, subject: &str) {
    page.click(&button(act, subject));
    page.until_there("#ask[open] form");
}

/// Answers the question that is open, and says what came of it.
fn answered(page: &Page, fields: &[(&str, &str)]) -> String {
    for (name, value) in fields {
        page.fill(&format!("#ask [name={name}]"), value);
    }
    page.click("#ask [type=submit]");
    page.until("document.querySelector('#ask form') === null || document.querySelector('#ask .error') !== null");
    let told = page.text("#ask");
    assert!(page.value("document.querySelector('#ask .error') === null") == true, "refused: {told}");
    page.key("Escape");
    page.until("!document.querySelector('#ask').open");
    told
}

/// Gives an order after its question.
fn order(page: &Page, act: &str, subject: &str, fields: &[(&str, &str)]) -> String {
    question(page, act, subject);
    answered(page, fields)
}

fn service(status: &Status) -> &ServiceStatus {
    &status.services[0]
}

fn instance<'a>(status: &'a Status, name: &str) -> Option<&'a InstanceStatus> {
    service(status).instances.iter().find(|instance| instance.name == name)
}

fn is_drained(status: &Status, name: &str) -> bool {
    instance(status, name).is_some_and(|instance| instance.drained.is_some())
}

/// The page, the stack, and nothing that the browser complains of at the end.
fn with_console(test: impl FnOnce(&Page, &Rig)) {
    let rig = app();
    let browser = Chromium::launch();
    let page = signed_in(&browser, &rig, "admin");
    test(&page, &rig);
    assert_eq!(page.complaints(), [""; 0]);
}

#[test]
fn instances_are_ordered_about() {
    with_console(|page, rig| {
        let names = ["app/1", "app/2"];
        question(page, "restart", names[0]);
        page.key("Escape");
        page.until("!document.querySelector('#ask').open");
        assert!(
            names.iter().all(|name| instance(&rig.status(), name).is_some()),
            "who does not confirm orders nothing"
        );
        order(page, "restart", names[0], &[]);
        let (status, _) = rig.wait_until("another one took its place", |status| {
            instance(status, names[0]).is_none() && service(status).instances.len() == 2 && all_healthy(status)
        });
        let newest = &service(&status).instances[1].name;
        page.until_there(&format!("[id='instance-{newest}']"));

        order(page, "drain", names[1], &[("reason", "to look at it")]);
        rig.wait_until("it drains", |status| is_drained(status, names[1]));
        page.until("document.querySelector('#services').textContent.includes('to look at it')");
        order(page, "resume", names[1], &[]);
        rig.wait_until("it does not", |status| !is_drained(status, names[1]) && all_healthy(status));
        page.until("!document.querySelector('#services').textContent.includes('to look at it')");

        order(page, "scale", "app", &[("replicas", "3")]);
        rig.wait_until("there are three", |status| service(status).instances.len() == 3 && all_healthy(status));
        page.until("document.querySelectorAll('#service-app tbody tr[id]').length === 3");

        for subject in ["app", "stack"] {
            let told = order(page, "pause", subject, &[("length", "3600000"), ("reason", "a look around")]);
            assert!(told.contains(subject), "{told}");
            rig.wait_until("it is paused", |status| service(status).hands_off.is_some());
            page.until("document.querySelector('#attention').textContent.includes('a look around')");
            order(page, "resume", subject, &[]);
            rig.wait_until("it is not", |status| service(status).hands_off.is_none());
            page.until("!document.querySelector('#attention').textContent.includes('a look around')");
        }

        page.click(&button("why", newest));
        page.until("document.querySelectorAll('#ask[open] .entry').length > 0 && document.querySelector('#ask .now').textContent");
        page.key("Escape");
        page.click(&button("output", newest));
        page.until("document.querySelector('#log-lines').textContent.includes('good morning')");
    });
}

#[test]
fn releases_come_and_go() {
    with_console(|page, rig| {
        let archive = rig.folder.path().join("release.tar");
        fs::write(rig.folder.path().join("notes.txt"), "a release").unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(rig.folder.path()).arg("-cf").arg(&archive).arg("notes.txt");
        assert!(tar.status().unwrap().success());

        question(page, "deploy", "app");
        page.choose_file("#ask [name=archive]", &archive);
        answered(page, &[("env", "GREETING=hello\nCOLOUR=blue"), ("watch", "1")]);
        rig.wait_until("it is in force", |status| {
            service(status).release == Some(1) && service(status).deploy.is_none()
        });
        page.until("document.querySelector('#deploys .state.good')?.textContent.includes('done')");
        assert!(page.text("#deploys header").contains("release 1 is in force"), "{}", page.text("#deploys"));

        // One that is on trial is ended from where it is shown.
        order(page, "deploy", "app", &[("env", "COLOUR=red"), ("watch", "3600")]);
        page.until_there(&format!("#attention {}", button("abort-deploy", "app")));
        order(page, "abort-deploy", "app", &[]);
        rig.wait_until("the former is back", |status| service(status).deploy.is_none() && all_healthy(status));
        assert_eq!(service(&rig.status()).release, Some(1));
        page.until("document.querySelector('#deploys .deploys').textContent.includes('rolled back')");

        order(page, "rollback", "app", &[]);
        rig.wait_until("it is as the file says", |status| {
            service(status).release.is_none() && service(status).deploy.is_none()
        });
        page.until("document.querySelector('#deploys header').textContent.includes('as the stack file says')");
    });
}

#[test]
fn secrets_tokens_and_the_stack_file_are_kept() {
    with_console(|page, rig| {
        let listed = |what: &str| String::from_utf8(rig.keel(&[what, "list", "--json"]).stdout).unwrap();
        page.click("details[data-load=secrets] summary");
        page.until("document.querySelector('#secrets').textContent.includes('There is no secret')");
        order(page, "secret-set", "", &[("name", "stripe"), ("value", "sk_first")]);
        assert!(page.text("#secrets").contains("stripe") && listed("secret").contains("stripe"));
        order(page, "secret-rotate", "stripe", &[("value", "sk_second")]);
        order(page, "rotate-key", "", &[]);
        assert!(page.value("!document.documentElement.outerHTML.includes('sk_')") == true, "no value is shown");
        order(page, "secret-remove", "stripe", &[("typed", "stripe")]);
        page.until("document.querySelector('#secrets').textContent.includes('There is no secret')");
        assert!(!listed("secret").contains("stripe"), "{}", listed("secret"));

        page.click("details[data-load=tokens] summary");
        page.until("document.querySelector('#tokens').textContent.includes('There is no token')");
        question(page, "token-create", "");
        page.fill("#ask [name=name]", "grafana");
        page.click("#ask [type=submit]");
        page.until("document.querySelector('#ask input[readonly]')?.value.startsWith('keel_')");
        page.key("Escape");
        assert!(page.text("#tokens").contains("grafana") && listed("token").contains("grafana"));
        order(page, "token-revoke", "grafana", &[]);
        assert!(!listed("token").contains("grafana"), "{}", listed("token"));

        page.click("details[data-load=stack] summary");
        let text = page.until("document.querySelector('#stack-text').value");
        let text = text.as_str().unwrap();
        page.fill("#stack-text", &format!("{text}\n[objectives.app]\navailability = \"99%\"\n"));
        question(page, "apply", "stack");
        assert!(page.text("#ask").contains("objectives.app"), "the difference is shown: {}", page.text("#ask"));
        assert!(service(&rig.status()).objective.is_none(), "and nothing is applied yet");
        answered(page, &[]);
        rig.wait_until("it is in force", |status| service(status).objective.is_some());
        page.until("document.querySelector('#objectives').textContent.includes('99 % answered')");
        page.fill("#stack-text", &format!("{text}\n[services.app2]\nrunn = \"x\"\n"));
        page.click(&button("apply", "stack"));
        page.until_there("#ask[open] .error");
        assert!(page.text("#ask").contains("runn"), "what is wrong is shown: {}", page.text("#ask"));
        page.key("Escape");
        // The browser says that something was refused, which it was.
        assert_eq!(page.complaints().len(), 1);
    });
}
