//! Secrets and tokens: what was planted is in the environment of the instances that asked for it, and nowhere else.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use evenkeel_core::status::{Health, Phase, Status};
use rustix::process::Signal;

use crate::rig::{self, Rig, command, instances, prepare};

/// A value that no other test has at the same time, on the whole machine: processes are looked through for it.
fn of_this_test(value: &str) -> &'static str {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        static MARK: String = format!("{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    }
    MARK.with(|mark| format!("{value}-{mark}").leak())
}

fn stored() -> &'static str {
    of_this_test("stored-6f1c9e/plus+and space")
}

fn rotated() -> &'static str {
    of_this_test("rotated-81b2ff/plus+and space")
}

fn filed() -> &'static str {
    of_this_test("filed-0a7d3355bd")
}

fn from_env() -> &'static str {
    of_this_test("env-99e1c0ffee42")
}

fn credential() -> &'static str {
    of_this_test("credential-b7734120")
}

/// What the planted file says later.
fn changed() -> &'static str {
    of_this_test("changed-5512aa0b7e")
}

fn planted_values() -> [&'static str; 5] {
    [stored(), rotated(), filed(), from_env(), credential()]
}

/// Stands in the stack file as it is: whoever looks for it must find it.
fn control() -> &'static str {
    of_this_test("control-value-of-the-search")
}

/// One service that prints all it has, also in two pieces, and serves; one that prints it and fails.
const STACK: &str = r#"
[listeners.web]
bind = "{listen}"

[services.app]
run = ["sh", "-c", "echo all $STORED $FILED $FROM_ENV $CREDENTIAL $CONTROL; printf %.9s \"$STORED\"; sleep 0.2; echo \"${STORED#?????????} end\"; exec \"$0\" __shop", "{keel}"]
replicas = 2
check = { http = "/readyz", interval = "200ms" }
[services.app.env]
SHOP_DATABASE = "{folder}/shop.db"
STORED = "secret:stored"
FILED = "secret:filed"
FROM_ENV = "secret:from-env"
CREDENTIAL = "secret:from_credential"
CONTROL = "{control}"

[services.broken]
run = ["sh", "-c", "echo failing with $FROM_ENV $FILED $CONTROL >&2; exit 3"]
replicas = 1
restart = { attempts = 2, delay = "10ms" }
env = { FROM_ENV = "secret:from-env", FILED = "secret:filed", CONTROL = "{control}" }

[[routes]]
service = "app"

[secrets.filed]
file = "planted/filed"
[secrets.from-env]
env = "PLANTED_HERE"
[secrets.from_credential]
credential = "planted"
"#;

/// A stack with everything in its place, not running.
fn planted(stack: &str) -> (tempfile::TempDir, u16) {
    let stack = stack.replace("{keel}", env!("CARGO_BIN_EXE_keel")).replace("{control}", control());
    let (folder, port) = prepare(&stack);
    let file = folder.path().join("keel.toml");
    let text = fs::read_to_string(&file).unwrap().replace("{folder}", &folder.path().display().to_string());
    fs::write(&file, text).unwrap();
    fs::create_dir_all(folder.path().join("planted/credentials")).unwrap();
    fs::write(folder.path().join("planted/filed"), filed().to_owned() + "\n").unwrap();
    fs::write(folder.path().join("planted/credentials/planted"), credential()).unwrap();
    (folder, port)
}

/// `keel` with the environment that a unit would give it.
fn keel(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = command(folder, arguments);
    command
        .env("KEEL_SECRETS_KEY", folder.join("planted/key"))
        .env("CREDENTIALS_DIRECTORY", folder.join("planted/credentials"))
        .env("PLANTED_HERE", from_env());
    command
}

fn with_input(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn up(folder: tempfile::TempDir, port: u16) -> Rig {
    let log = fs::File::options().create(true).append(true).open(folder.path().join("keel.log")).unwrap();
    let mut keel = keel(folder.path(), &["up", "keel.toml", "--ends-with", &std::process::id().to_string()]);
    let child = keel.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    Rig::around(folder, port, child)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The app serves, and the other one has given up.
fn settled(status: &Status) -> bool {
    let of = |name: &str| instances(status).into_iter().filter(|i| i.name.starts_with(name)).collect::<Vec<_>>();
    let (app, broken) = (of("app/"), of("broken/"));
    let rolled = status.services.iter().filter(|service| service.name == "app").all(|s| s.rollout.is_none());
    rolled
        && app.len() == 2
        && app.iter().all(|instance| instance.health == Health::Healthy)
        && broken.iter().all(|instance| instance.phase == Some(Phase::GaveUp))
}

/// Every regular file below a folder, except where the test itself planted something.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && !path.ends_with("planted") {
            files(&path, found);
        } else if kind.is_file() {
            found.push(path);
        }
    }
}

fn holds(bytes: &[u8], value: &str) -> bool {
    bytes.windows(value.len()).any(|window| window == value.as_bytes())
}

/// Files of the stack in which a value stands in clear.
fn on_disk(rig: &Rig, value: &str) -> Vec<PathBuf> {
    let lock = fs::read(rig.folder.path().join("state/lock")).unwrap();
    let holder: serde_json::Value = serde_json::from_slice(&lock).unwrap();
    let mut all = Vec::new();
    files(rig.folder.path(), &mut all);
    files(Path::new(holder["runtime_dir"].as_str().unwrap()), &mut all);
    all.retain(|path| holds(&fs::read(path).unwrap_or_default(), value));
    all
}

/// Processes of this machine whose command line or environment shows a value.
fn in_processes(value: &str) -> BTreeSet<u32> {
    let shows = |pid: &u32| {
        ["environ", "cmdline"]
            .iter()
            .any(|file| fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|bytes| holds(&bytes, value)))
    };
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(shows).collect()
}

fn pids_of_app(status: &Status) -> BTreeSet<u32> {
    instances(status).iter().filter(|instance| instance.name.starts_with("app/")).filter_map(|i| i.pid).collect()
}

/// What every command that shows anything says.
fn everything_said(rig: &Rig) -> String {
    let commands: [&[&str]; 17] = [
        &["status"],
        &["status", "--json"],
        &["events"],
        &["events", "--json"],
        &["why", "app"],
        &["why", "app/1", "--json"],
        &["why", "broken"],
        &["why", "broken", "--json"],
        &["why", "stack"],
        &["logs", "app"],
        &["logs", "app", "--json"],
        &["logs", "broken"],
        &["secret", "list"],
        &["secret", "list", "--json"],
        &["validate", "keel.toml"],
        &["apply", "--diff", "keel.toml"],
        &["drill", "run", "kill-instance", "--service", "app"],
    ];
    let said: Vec<String> = commands.into_iter().map(|arguments| text(&rig.keel(arguments))).collect();
    said.concat() + &rig.log()
}

/// Nothing but the instances has any of the values, and the search would have found them.
fn nowhere_else(rig: &Rig, present: &[&str]) {
    let said = everything_said(rig);
    let (status, _) = rig.wait_until("the stack is settled", settled);
    for value in planted_values() {
        assert!(!said.contains(value), "`{value}` was said in:\n{said}");
        assert_eq!(on_disk(rig, value), Vec::<PathBuf>::new(), "`{value}` is on disk");
        let expected = if present.contains(&value) { pids_of_app(&status) } else { BTreeSet::new() };
        assert_eq!(in_processes(value), expected, "`{value}` belongs to the instances alone: {status:#?}");
    }
    assert!(said.contains(control()), "what is no secret is said:\n{said}");
    assert!(on_disk(rig, control()).iter().any(|path| path.ends_with("logs/app-1.log")));
    assert_eq!(in_processes(control()), pids_of_app(&status));
    for name in ["stored", "filed", "from-env", "from_credential"] {
        assert!(said.contains(&format!("[secret {name}]")), "{name} is masked:\n{said}");
    }
    assert!(said.contains("[secret stored] end"), "also where it came in two pieces:\n{said}");
}

#[test]
fn a_planted_secret_is_in_the_instances_environment_and_nowhere_else() {
    let (folder, port) = planted(STACK);
    let set = with_input(keel(folder.path(), &["secret", "set", "stored"]), &(stored().to_owned() + "\n"));
    assert!(set.status.success(), "{set:?}");
    let said = text(&set);
    assert!(said.contains("one newline at the end") && said.contains("back that file up"), "{said}");
    assert!(!said.contains(stored()));
    let key = fs::metadata(folder.path().join("planted/key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);

    let rig = up(folder, port);
    rig.wait_until("the stack is settled", settled);
    nowhere_else(&rig, &[stored(), filed(), from_env(), credential()]);

    let again = with_input(keel(rig.folder.path(), &["secret", "rotate", "stored"]), rotated());
    assert!(again.status.success(), "{again:?}");
    assert!(text(&again).contains("every instance that uses it"), "{again:?}");
    rig.wait_until("the stack is settled", settled);
    nowhere_else(&rig, &[rotated(), filed(), from_env(), credential()]);

    // By a deploy, too.
    let refused = rig.keel(&["deploy", "app", "--env", "SECOND=secret:nobodys"]);
    assert!(!refused.status.success() && text(&refused).contains("no secret `nobodys`"), "{refused:?}");
    let deployed = rig.keel(&["deploy", "app", "--env", "SECOND=secret:filed", "--watch", "3s"]);
    assert!(deployed.status.success(), "{deployed:?}");
    let (status, _) = rig.wait_until("the stack is settled", settled);
    for pid in pids_of_app(&status) {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(holds(&environment, &format!("SECOND={}", filed())), "process {pid} has what was deployed");
    }
    nowhere_else(&rig, &[rotated(), filed(), from_env(), credential()]);

    // A node process that is started again knows the same values and replaces nothing.
    let (before, _) = rig.wait_until("the stack is settled", settled);
    rig::signal(before.node.pid, Signal::KILL);
    let (after, _) = rig.wait_until("the node process is back", |s| s.node.pid != before.node.pid && settled(s));
    assert_eq!(pids_of_app(&before), pids_of_app(&after));
    nowhere_else(&rig, &[rotated(), filed(), from_env(), credential()]);

    let key_before = fs::read(rig.folder.path().join("planted/key")).unwrap();
    let (before, _) = rig.wait_until("the stack is settled", settled);
    let another = rig.keel(&["secret", "rotate", "--key"]);
    assert!(another.status.success(), "{another:?}");
    assert_ne!(fs::read(rig.folder.path().join("planted/key")).unwrap(), key_before);
    assert_eq!(pids_of_app(&rig.status()), pids_of_app(&before), "another key replaces no instance");
    let removed = rig.keel(&["secret", "remove", "stored"]);
    assert_eq!(removed.status.code(), Some(1));
    assert!(text(&removed).contains("is used by service `app`"), "{removed:?}");
}

#[test]
fn a_secret_that_nobody_knows_is_refused_and_named() {
    let (folder, port) = planted(STACK);
    let refused = keel(folder.path(), &["up", "keel.toml", "--quiet"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = text(&refused);
    assert!(said.contains("no secret `stored`") && said.contains("keel secret set stored"), "{said}");

    assert!(with_input(keel(folder.path(), &["secret", "set", "stored"]), stored()).status.success());
    let rig = up(folder, port);
    rig.wait_until("the stack is settled", settled);
    let file = rig.folder.path().join("keel.toml");
    let former = fs::read_to_string(&file).unwrap();
    fs::write(&file, former.replace("\"secret:stored\"", "\"secret:storde\"")).unwrap();
    let applied = rig.keel(&["apply", "keel.toml"]);
    assert_eq!(applied.status.code(), Some(1), "{applied:?}");
    assert!(text(&applied).contains("id you mean `stored`?"), "{applied:?}");
    assert_eq!(rig.status().revision, 1);
    fs::write(&file, former).unwrap();

    // A source that changed is read again when the file is.
    let (before, _) = rig.wait_until("the stack is settled", settled);
    fs::write(rig.folder.path().join("planted/filed"), changed()).unwrap();
    rig::signal(before.guard.pid, Signal::HUP);
    let (after, _) = rig.wait_until("all of its users are replaced", |status| {
        settled(status) && pids_of_app(status).is_disjoint(&pids_of_app(&before))
    });
    assert!(in_processes(changed()).is_superset(&pids_of_app(&after)));
    assert_eq!(after.revision, 1);
    let why = text(&rig.keel(&["why", "app"]));
    assert!(why.contains("the secret `filed` has another value"), "{why}");

    // A key that is gone is an error with the way out, and never made anew.
    let key = rig.folder.path().join("planted/key");
    fs::remove_file(&key).unwrap();
    let set = with_input(keel(rig.folder.path(), &["secret", "set", "other"]), "another value");
    assert_eq!(set.status.code(), Some(1), "{set:?}");
    assert!(text(&set).contains("put it back from its backup") && !key.exists(), "{set:?}");
}

/// One service that goes on printing its secret, and one that has none.
const TALKER: &str = r#"
[listeners.web]
bind = "{listen}"
[services.talker]
run = ["sh", "-c", "while sleep 0.1; do echo it is $FILED; done & exec \"$0\" __shop", "{keel}"]
replicas = 1
check = { http = "/readyz", interval = "200ms" }
env = { FILED = "secret:filed", SHOP_DATABASE = "{folder}/talker.db" }
[services.app]
run = ["{keel}", "__shop"]
replicas = 1
check = { http = "/readyz", interval = "200ms" }
env = { SHOP_DATABASE = "{folder}/shop.db" }
[[routes]]
service = "app"
[secrets.filed]
file = "planted/filed"
"#;

#[test]
fn a_source_that_went_away_shows_nothing_and_keeps_nobody_else_waiting() {
    let (folder, port) = planted(TALKER);
    let source = folder.path().join("planted/filed");
    let rig = up(folder, port);
    let healthy = |status: &Status| instances(status).iter().filter(|i| i.health == Health::Healthy).count() == 2;
    let (before, _) = rig.wait_until("both run", healthy);
    let limits = fs::read_to_string(format!("/proc/{}/limits", before.node.pid)).unwrap();
    let cores = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert!(cores.trim_start().starts_with('0'), "the node process leaves no core dump: {cores}");

    fs::remove_file(&source).unwrap();
    let deployed = rig.keel(&["deploy", "app", "--env", "MODE=plain-value-of-a-deploy", "--watch", "3s"]);
    assert!(deployed.status.success(), "{deployed:?}");
    for arguments in [&["status", "--json"][..], &["events", "--json"], &["rollback", "app", "--list", "--json"]] {
        let said = text(&rig.keel(arguments));
        assert!(!said.contains("plain-value-of-a-deploy"), "{arguments:?} shows values of a deploy: {said}");
    }
    let rolled_back = rig.keel(&["rollback", "app"]);
    assert!(rolled_back.status.success(), "{rolled_back:?}");
    let refused = rig.keel(&["deploy", "app", "--env", "MODE=secret:../a value"]);
    assert!(!refused.status.success() && text(&refused).contains("value of `MODE`"), "{refused:?}");
    assert!(!text(&refused).contains("../a value"), "{refused:?}");
    let refused = rig.keel(&["deploy", "talker", "--env", "MODE=x"]);
    assert!(!refused.status.success() && text(&refused).contains("`filed`"), "{refused:?}");

    // A node process that starts without the source still knows what its instances may print.
    let (before, _) = rig.wait_until("both run", healthy);
    rig::signal(before.node.pid, Signal::KILL);
    rig.wait_until("the node process is back and says what it misses", |status| {
        status.node.pid != before.node.pid
            && healthy(status)
            && status.problems.iter().any(|problem| problem.contains("`filed`"))
    });
    let newest = || text(&rig.keel(&["logs", "talker", "--lines", "1", "--json"]));
    let at_first = newest();
    let until = std::time::Instant::now() + rig::PATIENCE;
    while newest() == at_first {
        assert!(std::time::Instant::now() < until, "it goes on printing");
    }
    let said = text(&rig.keel(&["logs", "talker"]));
    assert!(said.contains("it is [secret filed]") && !said.contains(filed()), "{said}");
    assert_eq!(on_disk(&rig, filed()), Vec::<PathBuf>::new());
}

/// `keel ARGUMENTS… --url CONSOLE` with this token.
fn elsewhere(rig: &Rig, token: &str, arguments: &[&str]) -> Output {
    let file = fs::read_to_string(rig.folder.path().join("keel.toml")).unwrap();
    let stack = evenkeel_core::stack::parse(&file, "keel.toml").unwrap();
    let url = format!("http://{}", stack.console.bind);
    let mut command = Command::new(env!("CARGO_BIN_EXE_keel"));
    command.current_dir(rig.folder.path()).args(arguments).args(["--url", &url]).env("KEEL_TOKEN", token);
    command.env_remove("KEEL_STATE_DIR").stdin(Stdio::null()).output().unwrap()
}

#[test]
fn tokens_open_the_api_as_far_as_their_role_goes() {
    let rig = Rig::up(
        "[listeners.web]\nbind = \"{listen}\"\n[services.app]\nrun = [\"sleep\", \"1000\"]\nreplicas = 1\n\
         env = { A = \"plain\" }\n",
    );
    rig.wait_until("it answers", |status| !instances(status).is_empty());
    let make = |name: &str, role: &str| {
        let made = rig.keel(&["token", "create", name, "--role", role, "--json"]);
        assert!(made.status.success(), "{made:?}");
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        made["token"].as_str().unwrap().to_owned()
    };
    let (viewer, operator, admin) = (make("wall", "viewer"), make("ci", "operator"), make("ops", "admin"));

    let status = elsewhere(&rig, &viewer, &["status", "--json"]);
    assert!(status.status.success(), "{status:?}");
    let status: Status = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status.stack, "test");
    let applied = elsewhere(&rig, &operator, &["apply", "keel.toml"]);
    assert_eq!(applied.status.code(), Some(1), "{applied:?}");
    assert!(text(&applied).contains("needs the role admin, and the token `ci` has operator"), "{applied:?}");
    let scaled = elsewhere(&rig, &operator, &["scale", "app", "2", "--no-wait"]);
    assert!(scaled.status.success(), "{scaled:?}");
    let why = text(&rig.keel(&["events", "--subject", "stack", "--json"]));
    assert!(why.contains("by token ci"), "{why}");
    let listed = elsewhere(&rig, &admin, &["token", "list"]);
    assert!(text(&listed).contains("operator"), "{listed:?}");
    for (token, said) in [("keel_0", "not known"), ("", "KEEL_TOKEN holds none")] {
        let refused = elsewhere(&rig, token, &["status"]);
        assert!(!refused.status.success() && text(&refused).contains(said), "{refused:?}");
    }
    let drilled = elsewhere(&rig, &admin, &["drill", "run", "kill-instance"]);
    assert_eq!(drilled.status.code(), Some(2), "{drilled:?}");

    assert!(elsewhere(&rig, &admin, &["token", "revoke", "wall"]).status.success());
    let refused = elsewhere(&rig, &viewer, &["status"]);
    assert!(text(&refused).contains("not known"), "{refused:?}");
    for token in [&viewer, &operator, &admin] {
        assert_eq!(on_disk(&rig, token), Vec::<PathBuf>::new());
        assert!(in_processes(token).is_empty());
    }
}
