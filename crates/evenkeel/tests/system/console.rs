//! The console: whose address is whose, who gets in and how, and that pages elsewhere do not.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

use crate::{
    browser::{Answer, BY_HAND, Session, ask, link, token},
    rig::{PATIENCE, Rig, all_healthy, free_port, instances, signal},
};

#[test]
fn a_taken_console_is_named_nowhere() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap().to_string();
    let stack = format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\nrun = [\"{}\", \"__shop\"]\nreplicas = 1\n\
         check = {{ http = \"/readyz\", interval = \"200ms\" }}\n",
        env!("CARGO_BIN_EXE_keel")
    );
    let rig = Rig::up_with(&stack, |folder| {
        let file = folder.join("keel.toml");
        let text = fs::read_to_string(&file).unwrap();
        let bind = text.lines().find(|line| line.starts_with("bind = ")).unwrap();
        fs::write(&file, text.replacen(bind, &format!("bind = \"{address}\""), 1)).unwrap();
    });
    rig.wait_until("it is healthy", |status| all_healthy(status) && !instances(status).is_empty());
    rig.wait_until("it is announced", |_| rig.log().contains("metrics: "));
    assert!(rig.log().contains("metrics: not served"), "{}", rig.log());
    let made = rig.keel(&["token", "create", "ci", "--role", "viewer"]);
    let made = String::from_utf8(made.stdout).unwrap();
    assert!(made.contains("the console is not served now") && !made.contains("--url"), "{made}");

    drop(stranger);
    rig.wait_until("it is served", |status| status.console.as_ref() == Some(&address));
    let made = rig.keel(&["token", "create", "cd", "--role", "viewer"]);
    let made = String::from_utf8(made.stdout).unwrap();
    assert!(made.contains(&format!("--url http://{address}")), "{made}");
}

fn encoded(answer: &Answer) -> String {
    let code = answer.body.split("name=\"code\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    format!("code={code}")
}

#[test]
fn a_link_signs_in_once_and_outlives_the_node_process() {
    let rig = Rig::shop();
    let url = link(&rig, "operator");
    let (address, target) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let target = format!("/{target}");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let origin = format!("http://{address}");

    // Whatever looks at a link without a person does not use it up, and neither does a page elsewhere.
    let shown = ask(address, "GET", &target, &[], "");
    assert_eq!((shown.status, shown.field("set-cookie")), (200, None));
    let ahead = [&BY_HAND[..], &[("sec-purpose", "prefetch")]].concat();
    assert_eq!(ask(address, "GET", &target, &ahead, "").status, 200);
    for foreign in [&[form][..], &[form, ("origin", "http://evil.example")], &[form, ("sec-fetch-site", "cross-site")]]
    {
        let answer = ask(address, "POST", "/console/sign-in", foreign, &encoded(&shown));
        assert!(answer.status == 403 && answer.field("set-cookie").is_none(), "{answer:?}");
    }
    let answer = ask(address, "POST", "/console/sign-in", &[form, ("origin", &origin)], &encoded(&shown));
    let cookie = answer.field("set-cookie").unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && cookie.contains("; Path=/;"), "{cookie}");
    let session = Session::begun(address, &answer);
    for again in [
        ask(address, "GET", &target, &BY_HAND, ""),
        ask(address, "POST", "/console/sign-in", &[form, ("origin", &origin)], &encoded(&shown)),
    ] {
        assert!(again.status == 401 && again.body.contains("used already"), "{again:?}");
    }

    // What it does is known to be done by whom, and an operator is no admin.
    let scaled = session.ask("POST", "/v1/scale", "{\"service\": \"app\", \"replicas\": 2}");
    assert_eq!(scaled.status, 200, "{scaled:?}");
    let why = String::from_utf8(rig.keel(&["why", "app"]).stdout).unwrap();
    assert!(why.contains(", in the console"), "{why}");
    let refused = session.ask("GET", "/v1/secrets", "");
    assert!(refused.status == 403 && refused.body.contains("signed in as operator"), "{refused:?}");

    let node = rig.status().node.pid;
    signal(node, Signal::KILL);
    rig.wait_until("another node process serves it", |status| status.node.pid != node && status.console.is_some());
    assert_eq!(session.ask("GET", "/v1/status", "").status, 200, "nobody is signed out by that");

    let ended = rig.keel(&["console", "--sign-out"]);
    assert!(String::from_utf8(ended.stdout).unwrap().starts_with("1 session was ended"));
    assert_eq!(session.ask("GET", "/v1/status", "").status, 401);
}

#[test]
fn a_token_signs_in_and_its_end_signs_out() {
    let rig = Rig::shop();
    let address = rig.status().console.unwrap();
    let token = token(&rig, "viewer");
    let form = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
    let wrong = ask(&address, "POST", "/console/sign-in", &form, "token=keel_00");
    assert!(wrong.status == 401 && wrong.body.contains("not known") && wrong.field("set-cookie").is_none());
    let session =
        Session::begun(&address, &ask(&address, "POST", "/console/sign-in", &form, &format!("token={token}")));
    assert_eq!(session.ask("GET", "/v1/status", "").status, 200);
    assert_eq!(session.ask("POST", "/v1/restart", "{\"subject\": \"app\"}").status, 403);
    assert!(rig.keel(&["token", "revoke", "viewer-token"]).status.success());
    assert_eq!(session.ask("GET", "/v1/status", "").status, 401);
    let page = ask(&address, "GET", "/", &[("cookie", &session.cookie)], "");
    assert!(page.status == 200 && page.body.contains("action=\"/console/sign-in\""), "{page:?}");
}

#[test]
fn pages_are_closed_to_pages_elsewhere() {
    let rig = Rig::shop();
    let session = Session::open(&link(&rig, "admin"));
    let address = session.address.as_str();
    let signed_in = ask(address, "GET", "/", &[("cookie", &session.cookie)], "");
    let signed_out = ask(address, "GET", "/", &[], "");
    for page in [&signed_in, &signed_out] {
        assert_eq!(page.status, 200);
        let policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
        assert_eq!(page.field("content-security-policy"), Some(policy));
        assert_eq!(page.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.field("cache-control"), Some("no-store"));
        // What the policy forbids would be missing without a word.
        for inline in [" style=\"", " onclick=\"", " onload=\"", "<style", "javascript:"] {
            assert!(!page.body.contains(inline), "{inline} in {}", page.body);
        }
        let assets = page.body.split("\"/console/assets/").skip(1).map(|rest| rest.split('"').next().unwrap());
        let mut seen = 0;
        for asset in assets {
            seen += 1;
            let asset = ask(address, "GET", &format!("/console/assets/{asset}"), &[], "");
            assert!(asset.status == 200 && asset.field("cache-control").unwrap().contains("immutable"), "{asset:?}");
        }
        assert!(seen >= 2, "{}", page.body);
    }
    assert!(!signed_out.body.contains("csrf") && !signed_out.body.contains("app/1"), "{}", signed_out.body);
    for name in ["evil.example", "127.0.0.1.evil.example:9400", "localhost.evil.example"] {
        for path in ["/", "/console/sign-in", "/metrics"] {
            let answer = ask(address, "GET", path, &[("host", name), ("cookie", &session.cookie)], "");
            assert_eq!(answer.status, 421, "{path} as {name}: {answer:?}");
        }
    }

    // A name that the stack file has is one of ours, from the moment on at which it is applied.
    let file = rig.folder.path().join("keel.toml");
    let text =
        fs::read_to_string(&file).unwrap().replacen("[console]\n", "[console]\nhosts = [\"keel.internal\"]\n", 1);
    fs::write(&file, text).unwrap();
    assert_eq!(ask(address, "GET", "/", &[("host", "keel.internal")], "").status, 421);
    let applied = rig.keel(&["apply", file.to_str().unwrap()]);
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(ask(address, "GET", "/", &[("host", "keel.internal")], "").status, 200);
}

/// Whatever is written to a file fails from now on (`RLIMIT_FSIZE`, setrlimit(2)), as on a full disk.
fn fill_disk_of(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: Some(0), maximum: None }).unwrap();
}

#[test]
fn who_signed_out_stays_so_although_nothing_could_be_written() {
    let rig = Rig::shop();
    let first = Session::open(&link(&rig, "admin"));
    let node = rig.status().node.pid;
    fill_disk_of(node);
    let unwritten = Session::open(&link(&rig, "viewer"));
    assert_eq!(unwritten.ask("GET", "/v1/status", "").status, 200, "the console opens when it is needed");
    assert_eq!(first.ask("POST", "/console/sign-out", "").status, 204);
    assert_eq!(first.ask("GET", "/v1/status", "").status, 401);

    signal(node, Signal::KILL);
    rig.wait_until("another node process serves it", |status| status.node.pid != node && status.console.is_some());
    assert_eq!(first.ask("GET", "/v1/status", "").status, 401, "nobody who signed out comes back");
    assert_eq!(unwritten.ask("GET", "/v1/status", "").status, 401, "nothing was written meanwhile");
}

#[test]
fn what_was_made_from_another_revision_is_refused_with_who_came_first() {
    let rig = Rig::shop();
    let session = Session::open(&link(&rig, "admin"));
    let stack = session.ask("GET", "/v1/stack", "").json();
    let text = stack["text"].as_str().unwrap().replace("replicas = 1", "replicas = 3");
    let order = |expect: &Value| json!({ "text": text, "file": stack["file"], "expect": expect }).to_string();
    assert!(rig.keel(&["scale", "app", "2"]).status.success());
    for path in ["/v1/diff", "/v1/apply"] {
        let refused = session.ask("POST", path, &order(&stack["revision"]));
        assert_eq!(refused.status, 409, "{refused:?}");
        let refused = refused.json();
        assert!(refused["error"].as_str().unwrap().contains("is in force"), "{refused}");
        let hint = refused["hint"].as_str().unwrap();
        assert!(
            hint.contains("It came at ") && hint.contains("(uid ") && hint.contains("nothing was changed"),
            "{hint}"
        );
    }
    let now = session.ask("GET", "/v1/stack", "").json();
    assert!(now["revision"].as_u64() > stack["revision"].as_u64() && now["text"] == stack["text"], "{now}");
    let applied = session.ask("POST", "/v1/apply", &order(&now["revision"]));
    assert_eq!(applied.status, 200, "{applied:?}");
    assert_eq!(
        session.ask("POST", "/v1/apply", &order(&Value::Null)).status,
        200,
        "who expects nothing is not refused"
    );
}

#[test]
fn what_a_drill_writes_is_for_those_who_read_the_stack_file() {
    let rig = Rig::shop();
    let file = rig.folder.path().join("keel.toml");
    let write = "write = { post = \"/orders\", body = '{\"pin\": \"4711\"}', verify = \"/orders/{key}\" }";
    fs::write(&file, format!("{}\n[drills]\n{write}\n", fs::read_to_string(&file).unwrap())).unwrap();
    let applied = rig.keel(&["apply", file.to_str().unwrap()]);
    assert!(applied.status.success(), "{applied:?}");
    let run = rig.folder.path().join("state/drills/1700000000000-kill-instance");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("plan.json"), r#"{"writes":{"post":"/orders","body":"4711"}}"#).unwrap();
    let [viewer, operator, admin] = ["viewer", "operator", "admin"].map(|role| Session::open(&link(&rig, role)));
    for target in ["/v1/drills/plan?drill=kill-instance", "/v1/drills/runs/1700000000000-kill-instance"] {
        for (session, sees) in [(&viewer, false), (&operator, false), (&admin, true)] {
            let told = session.ask("GET", target, "");
            assert!(told.status == 200 && told.body.contains("/orders"), "{told:?}");
            assert_eq!(told.body.contains("4711"), sees, "{target}: {told:?}");
        }
    }
}

#[test]
fn a_report_is_shown_in_a_sandbox_and_only_as_large_as_reports_are() {
    let rig = Rig::shop();
    let run = rig.folder.path().join("state/drills/1700000000000-kill-instance");
    fs::create_dir_all(&run).unwrap();
    let session = Session::open(&link(&rig, "viewer"));
    let target = "/v1/drills/runs/1700000000000-kill-instance/report.html";
    fs::write(run.join("report.html"), "<h1>It passed</h1>").unwrap();
    let page = session.ask("GET", target, "");
    assert!(page.status == 200 && page.body.contains("It passed"), "{page:?}");
    let policy = page.field("content-security-policy").unwrap();
    assert!(
        policy.starts_with("sandbox; default-src 'none'; ") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(!policy.contains("allow-") && page.field("x-frame-options") == Some("DENY"), "{page:?}");
    fs::write(run.join("report.html"), vec![b' '; (8 << 20) + 1]).unwrap();
    assert_eq!(session.ask("GET", target, "").status, 404);
}

#[test]
fn numbers_out_of_bounds_are_refused_with_the_bound() {
    let rig = Rig::shop();
    let session = Session::open(&link(&rig, "admin"));
    for (target, bound) in [
        ("/v1/history?service=app&from=0&to=18446744073709551615", "253402300799999"),
        ("/v1/history?service=app&from=18446744073709551615", "253402300799999"),
        ("/v1/history?service=app&most=0", "from 1 to 2000"),
        ("/v1/history?service=app&most=1000000", "from 1 to 2000"),
        ("/v1/events?since_ms=18446744073709551615", "253402300799999"),
        ("/v1/events?until_ms=18446744073709551615", "253402300799999"),
        ("/v1/why?subject=app&at_ms=18446744073709551615", "253402300799999"),
        ("/v1/drills/plan?drill=hang-instance&for_ms=0", "from 1 to 3600000"),
        ("/v1/drills/plan?drill=hang-instance&for_ms=18446744073709551615", "from 1 to 3600000"),
    ] {
        let refused = session.ask("GET", target, "");
        assert!(refused.status == 400 && refused.body.contains(bound), "{target}: {refused:?}");
    }
    let wanted = "{\"drill\": \"hang-instance\", \"for_ms\": 18446744073709551615}";
    let refused = session.ask("POST", "/v1/drills", wanted);
    assert!(refused.status == 400 && refused.body.contains("from 1 to 3600000"), "{refused:?}");
    let wanted = "{\"name\": \"a\", \"role\": \"viewer\", \"expires_s\": 18446744073709551615}";
    assert_eq!(session.ask("POST", "/v1/tokens", wanted).status, 400);
    for most in [0, u64::from(u32::MAX) * 1000, u64::MAX] {
        let pause = json!({ "subject": "app", "for_ms": most, "reason": "a test" }).to_string();
        let refused = session.ask("POST", "/v1/pause", &pause);
        assert!(refused.status == 409 && refused.body.contains("from 1s to 30d"), "{refused:?}");
    }
    assert_eq!(session.ask("GET", "/v1/history?service=app&from=0&to=253402300799999&most=2", "").status, 200);
}

#[test]
fn who_watches_a_console_that_moves_away_is_let_go() {
    let rig = Rig::shop();
    let session = Session::open(&link(&rig, "viewer"));
    let mut stream = TcpStream::connect(&session.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("GET /console/live HTTP/1.1\r\nhost: {}\r\ncookie: {}\r\n\r\n", session.address, session.cookie);
    stream.write_all(head.as_bytes()).unwrap();
    let mut lines = BufReader::new(&mut stream).lines();
    let beats = |line: &Result<String, std::io::Error>| line.as_ref().is_ok_and(|line| line.contains("event: beat"));
    assert!(lines.any(|line| beats(&line)), "it is live");

    let file = rig.folder.path().join("keel.toml");
    let text = fs::read_to_string(&file).unwrap();
    let elsewhere = format!("127.0.0.1:{}", free_port());
    fs::write(&file, text.replacen(&session.address, &elsewhere, 1)).unwrap();
    assert!(rig.keel(&["apply", file.to_str().unwrap()]).status.success());
    assert_eq!(rig.status().console, Some(elsewhere));
    // Each second has a beat: a stream that goes on never gets to its end.
    let end = Instant::now() + PATIENCE;
    assert!(lines.by_ref().all(|line| line.is_ok() && Instant::now() < end), "it ends, and is not cut off");
    assert!(Instant::now() < end, "it ends");
}
