//! The condition on which a drill is given up: also clients that wait and have no answer at all bring it about.

use super::run;
use crate::{rig::Rig, slow_app};

#[test]
fn a_drill_ends_early_where_every_client_waits() {
    // Requests are held for longer than the freeze lasts, so that none of them fails meanwhile.
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[drills]\nobjectives = {{ worst = \"1s\" }}\n\
         abort = {{ errors = 50, after = \"1s\" }}\n[services.app]\nrun = {}\nreplicas = 1\nhold = {{ max = \"100s\" }}\n\
         check = {{ http = \"/\", interval = \"100ms\" }}\n",
        slow_app::run()
    ));
    let (code, report) = run(&rig, &["hang-instance", "--for", "60s"]);
    assert_eq!((code, &report["verdict"]), (Some(1), &"fail".into()), "{report:#}");
    let aborted = report["aborted"].as_str().unwrap_or_default();
    assert!(aborted.contains("at once waited for more than 1.0 s"), "{report:#}");
    let at = |name: &str| {
        let stage = report["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == name);
        stage.unwrap_or_else(|| panic!("no {name}: {report:#}"))["at_ms"].as_u64().unwrap()
    };
    assert!(at("aborted") - at("fault") < 30_000, "long before the freeze was over: {report:#}");
    let overdue = report["series"].as_array().unwrap().iter().filter_map(|tick| tick["overdue"].as_u64()).max();
    assert!(overdue.is_some_and(|overdue| overdue >= 5), "{overdue:?}");
}
