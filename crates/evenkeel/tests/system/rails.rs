//! Guard rails as their user has them: keys of the stack file, what `keel why` and the metrics say, and an apply.

use std::{fs, process::Command};

use evenkeel_core::status::Health;

use crate::{
    rig::{self, Rig},
    slow_app::SlowApp,
};

/// Status, `Location` and `Retry-After` of an answer.
fn ask(rig: &Rig, path: &str) -> String {
    let url = format!("http://127.0.0.1:{}{path}", rig.port);
    let shown = "%{http_code} %header{location} %header{retry-after}";
    let answer = Command::new("curl").args(["-sS", "-o", "/dev/null", "-w", shown, &url]).output().unwrap();
    String::from_utf8(answer.stdout).unwrap().trim().to_owned()
}

fn why(rig: &Rig) -> String {
    String::from_utf8(rig.keel(&["why", "app"]).stdout).unwrap()
}

#[test]
fn a_limit_is_said_where_one_looks_and_applies_without_a_restart() {
    let app = SlowApp::start("app", rig::free_port());
    let stack = format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n\
         [[routes]]\npath = \"/old\"\nredirect = {{ to = \"/new{{path}}\", status = 301 }}\n\
         [[routes]]\npath = \"/api\"\nservice = \"app\"\nrate = {{ requests = 2, per = \"1h\" }}\n\
         [[routes]]\nservice = \"app\"\n\
         [services.app]\ninstances = [\"{}\"]\ncheck = {{ http = \"/\", interval = \"100ms\" }}\n",
        app.address()
    );
    let rig = Rig::up(&stack);
    rig.wait_until("the instance is healthy", |status| {
        status.services.iter().flat_map(|service| &service.instances).any(|one| one.health == Health::Healthy)
    });
    assert_eq!(ask(&rig, "/old/x?y"), "301 /new/old/x");
    assert_eq!([ask(&rig, "/api"), ask(&rig, "/api")], ["200", "200"]);
    let refused = ask(&rig, "/api");
    let (status, wait) = refused.split_once(' ').unwrap();
    assert_eq!(status, "429");
    assert!((1700..=1800).contains(&wait.trim().parse::<u32>().unwrap()), "{refused}");
    assert_eq!(ask(&rig, "/"), "200", "another route is not limited");
    rig.wait_until("it is said", |_| why(&rig).contains("clients of /api get 429"));
    assert!(why(&rig).contains("127.0.0.1 was refused"), "{}", why(&rig));

    // What somebody changes elsewhere forgets nothing; another limit holds at once.
    let file = rig.folder.path().join("keel.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("status = 301", "status = 302")).unwrap();
    let applied = rig.keel(&["apply", "keel.toml"]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    rig.wait_until("it is served", |_| ask(&rig, "/old") == "302 /new/old");
    assert!(ask(&rig, "/api").starts_with("429 "));
    fs::write(&file, text.replace("requests = 2", "requests = 3")).unwrap();
    assert!(rig.keel(&["apply", "keel.toml"]).status.success());
    rig.wait_until("it is served", |_| ask(&rig, "/api") == "200");
}
