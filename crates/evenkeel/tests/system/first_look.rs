//! What somebody meets who is new to it: a drained instance, an application that ignores `PORT`, a page, the end.

use evenkeel_core::status::{Health, Phase};

use crate::rig::{Rig, all_healthy, free_port, instances};

const KEEL: &str = env!("CARGO_BIN_EXE_keel");

fn said(rig: &Rig, arguments: &[&str]) -> String {
    let output = rig.keel(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_drained_instance_starts_again_and_everything_is_up() {
    let mut rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.web]\nrun = [\"{KEEL}\", \"__shop\"]\nreplicas = 2\n\
         check = {{ http = \"/readyz\", interval = \"200ms\" }}\n"
    ));
    rig.wait_until("all are healthy", |status| all_healthy(status) && instances(status).len() == 2);
    said(&rig, &["drain", "web/1", "--reason", "a look at its memory"]);
    let why = said(&rig, &["why", "web/1"]);
    let first = why.lines().next().unwrap();
    assert!(
        first.contains("gets no new requests, since ") && first.ends_with("drains it: a look at its memory"),
        "{why}"
    );

    assert_eq!(rig.stop(), Some(0));
    let log = rig.log();
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("test is stopped: 2 instances ended within ") && last.ends_with(" s"), "{log}");

    rig.start_again();
    rig.wait_until("it is up", |_| rig.log().contains("test is up"));
    rig.wait_until("the drained one runs", |status| {
        let drained = instances(status).into_iter().find(|instance| instance.name == "web/1");
        drained.is_some_and(|drained| drained.phase == Some(Phase::Running) && drained.health != Health::Healthy)
    });
    let why = said(&rig, &["why", "web/1"]);
    assert!(why.lines().next().unwrap().contains("drains it: a look at its memory"), "{why}");
    said(&rig, &["resume", "web/1"]);
    rig.wait_until("all are healthy again", |status| all_healthy(status) && instances(status).len() == 2);
}

#[test]
fn where_an_application_listens_that_ignores_its_port_is_said() {
    let own = free_port();
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[[routes]]\nservice = \"web\"\n[services.web]\n\
         run = [\"sh\", \"-c\", \"PORT={own} {KEEL} __shop\"]\nreplicas = 1\nfallback = \"sorry\"\n\
         check = {{ http = \"/readyz\", interval = \"200ms\" }}\n[services.sorry]\npage = {{ text = \"Back soon.\" }}\n"
    ));
    let what = format!("its process listens on {own}, not on PORT ");
    rig.wait_until("its port is named", |status| instances(status).iter().any(|one| one.reason.contains(&what)));
    let why = said(&rig, &["why", "web/1"]);
    assert!(why.lines().next().unwrap().contains(&what), "{why}");

    rig.wait_until("who answers is said", |_| {
        said(&rig, &["why", "web"]).starts_with("web has no healthy instance, and sorry answers instead")
    });
    let status = said(&rig, &["status"]);
    assert!(status.lines().any(|line| line.starts_with("sorry") && line.contains("page")), "{status}");
    assert!(!status.contains("why sorry") && !status.contains("requests are held"), "{status}");
}
