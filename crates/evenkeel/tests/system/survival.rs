//! Under load, instances are killed and frozen, and no client sees it.

use rustix::process::Signal;

use crate::{
    load::Load,
    rig::{self, Rig, all_healthy, instances},
};

#[test]
fn two_kills_and_a_freeze_cost_no_client_anything() {
    let rig = Rig::demo();
    let before = instances(&rig.status());
    let pid = |index: usize| before[index].pid.unwrap();
    let load = Load::start(rig.port, "/api/products", 32);
    load.wait_for(100);

    rig::signal(pid(0), Signal::KILL);
    load.wait_for(2000);
    rig::signal(pid(1), Signal::KILL);
    load.wait_for(2000);
    rig.wait_until("the killed ones are back", all_healthy);

    rig::signal(pid(2), Signal::STOP);
    rig.wait_until("the frozen one is replaced", |status| {
        all_healthy(status) && instances(status).iter().all(|instance| instance.pid != Some(pid(2)))
    });
    load.wait_for(500);

    load.finish().assert_clean();
    let after = instances(&rig.status());
    for (old, new) in before.iter().zip(&after).filter(|(old, _)| old.name.starts_with("shop/")) {
        assert_ne!(old.pid, new.pid, "{} was replaced", old.name);
    }
}

#[test]
fn a_frozen_instance_is_found_and_started_again() {
    let rig = Rig::demo();
    let frozen = instances(&rig.status())[0].clone();
    let load = Load::start(rig.port, "/api/products", 8);
    load.wait_for(100);
    rig::signal(frozen.pid.unwrap(), Signal::STOP);
    rig.wait_until("it has a new process", |status| {
        all_healthy(status) && instances(status).iter().all(|instance| instance.pid != frozen.pid)
    });
    load.finish().assert_clean();
    let why = String::from_utf8(rig.keel(&["why", &frozen.name]).stdout).unwrap();
    assert!(why.contains("liveness"), "`keel why` names the cause: {why}");
}

#[test]
fn a_lone_instance_that_dies_is_waited_for() {
    let database = tempfile::tempdir().unwrap();
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\nrun = [\"{}\", \"__shop\"]\nreplicas = 1\n\
         env = {{ SHOP_DATABASE = \"{}\" }}\ncheck = {{ http = \"/readyz\" }}\n",
        env!("CARGO_BIN_EXE_keel"),
        database.path().join("shop.db").display()
    ));
    let (before, _) = rig.wait_until("it is healthy", all_healthy);
    let load = Load::start(rig.port, "/api/products", 8);
    load.wait_for(100);
    rig::signal(instances(&before)[0].pid.unwrap(), Signal::KILL);
    load.wait_for(500);
    load.finish().assert_clean();
}
