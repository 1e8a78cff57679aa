//! The console: whose address is whose, who gets in and how, and that pages elsewhere do not.

use std::{fs, net::TcpListener};

use rustix::process::Signal;

use crate::{
    browser::{Answer, BY_HAND, Session, ask, link, token},
    rig::{Rig, all_healthy, instances, signal},
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

/// A stack with one service.
fn shop() -> Rig {
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\nrun = [\"{}\", \"__shop\"]\nreplicas = 1\n\
         check = {{ http = \"/readyz\", interval = \"200ms\" }}\n",
        env!("CARGO_BIN_EXE_keel")
    ));
    rig.wait_until("it is healthy", |status| all_healthy(status) && !instances(status).is_empty());
    rig
}

fn encoded(answer: &Answer) -> String {
    let code = answer.body.split("name=\"code\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    format!("code={code}")
}

#[test]
fn a_link_signs_in_once_and_outlives_the_node_process() {
    let rig = shop();
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
    let rig = shop();
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
    let rig = shop();
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
