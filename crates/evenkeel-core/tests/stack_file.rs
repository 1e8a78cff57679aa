//! What the stack file accepts, what it means, and what its writer is told when it is wrong.

use evenkeel_core::{
    snapshot::{Balance, Probe},
    stack::{self, compile_listeners, compile_routes, compile_service, parse},
};

/// The rendered diagnostics of a file that must be refused.
fn refused(text: &str) -> String {
    parse(text, "keel.toml").expect_err("this file must be refused").to_string()
}

const WHOLE: &str = r#"
[stack]
name = "shop"

[listeners.web]
bind = "0.0.0.0:8080"
trusted = ["10.0.0.0/8", "192.168.1.1"]
limits = { body = "10MiB", head_timeout = "5s" }

[[routes]]
listener = "web"
host = "Shop.Example.com"
path = "/api"
headers = { X-Tenant = "one" }
idempotency_key = true
service = "shop"

[[routes]]
service = "legacy"

[services.shop]
run = ["shop", "--port", "{port}"]
replicas = 3
balance = "round-robin"
check = { http = "/healthz", interval = "500ms", status = [200, 204] }
liveness = { http = "/healthz", after = "1.5s" }
env = { RUST_LOG = "info" }
stop = { signal = "INT", drain = "5s", grace = "2s" }
limits = { in_flight = 100, response_timeout = "30s" }
retries = { max = 2 }
hold = { max = "3s" }
fallback = "legacy"

[services.legacy]
instances = ["10.0.0.5:8080", { address = "app.internal:80", weight = 3 }]
balance = "weighted-round-robin"

[edge]
threads = 2
"#;

#[test]
fn a_whole_file_means_what_it_says() {
    let stack = parse(WHOLE, "keel.toml").unwrap();
    let routes = compile_routes(&stack);
    assert_eq!(routes[0].host.as_deref(), Some("shop.example.com"));
    assert_eq!(routes[0].headers, [("x-tenant".to_owned(), "one".to_owned())]);
    assert_eq!(routes[1].path, "/");

    let listeners = compile_listeners(&stack);
    assert_eq!(listeners[0].limits.body_bytes, 10 << 20);
    assert!(listeners[0].trusted[0].contains("10.9.9.9".parse().unwrap()));
    assert!(!listeners[0].trusted[1].contains("192.168.1.2".parse().unwrap()));

    let shop = compile_service("shop", &stack.services["shop"], Vec::new());
    assert_eq!(shop.balance, Balance::RoundRobin);
    let check = shop.check.unwrap();
    assert_eq!((check.interval_ms, check.rise, check.fall), (500, 2, 3));
    assert_eq!(check.probe, Probe::Http { path: "/healthz".into(), host: None, status: (200, 204) });
    assert_eq!(stack.services["shop"].liveness.as_ref().unwrap().after.as_ms(), 1500);
    assert_eq!(stack.services["shop"].stop.signal_number(), 2);
    assert_eq!(shop.limits.in_flight_per_instance, 100);
    assert_eq!(stack.services["legacy"].fixed()[1].weight, 3);
}

#[test]
fn a_short_file_is_enough() {
    let stack = parse("[stack]\nname = \"a\"\n[services.web]\nrun = [\"node\", \"server.js\"]\n", "keel.toml").unwrap();
    assert_eq!(stack.listeners["web"].bind.to_string(), "127.0.0.1:8080");
    assert_eq!((stack.routes[0].path.as_str(), stack.routes[0].service.as_str()), ("/", "web"));
    assert_eq!(stack.services["web"].replicas.min(), 2);
}

#[test]
fn an_unknown_key_is_shown_with_the_nearest_one() {
    insta::assert_snapshot!(refused("[stack]\nname = \"shop\"\n\n[services.shop]\nrun = [\"shop\"]\nreplica = 3\n"), @r"
    error: unknown key `replica` in `services.shop`
      --> keel.toml:6:1
      |
    6 | replica = 3
      | ^^^^^^^
      = help: did you mean `replicas`?
    ");
}

#[test]
fn an_unknown_part_is_shown_with_the_nearest_one() {
    insta::assert_snapshot!(refused("[stack]\nname = \"shop\"\n[service.shop]\nrun = [\"shop\"]\n"));
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    insta::assert_snapshot!(refused(
        "[stack]\nname = \"shop\"\n[databases.main]\nengine = \"postgres\"\n[services.a]\nrun = [\"a\"]\n"
    ));
    insta::assert_snapshot!(refused(
        "[stack]\nname = \"a\"\n[listeners.web]\nbind = \"0.0.0.0:443\"\ntls = { cert = \"a\" }\n"
    ));
    insta::assert_snapshot!(refused(
        "[stack]\nname = \"a\"\n[services.a]\nrun = [\"a\"]\nreplicas = { min = 2, max = 8 }\n"
    ));
    insta::assert_snapshot!(refused(
        "[stack]\nname = \"a\"\n[services.a]\nrun = [\"a\"]\nenv = { KEY = \"{databases.main.url}\" }\n"
    ));
}

#[test]
fn a_wrong_value_says_what_would_be_right() {
    let file = |line: &str| format!("[stack]\nname = \"a\"\n[services.a]\nrun = [\"a\"]\n{line}\n");
    insta::assert_snapshot!(refused(&file("start_timeout = \"10 sec\"")));
    insta::assert_snapshot!(refused(&file("balance = \"least-connection\"")));
    insta::assert_snapshot!(refused(&file("replicas = \"three\"")));
    insta::assert_snapshot!(refused(&file("check = { http = \"/h\", rise = -1 }")));
    insta::assert_snapshot!(refused(&file("check = { htp = \"/h\" }")));
    insta::assert_snapshot!(refused("[stack]\nname = \"a\"\n[services.a]\nrun = \"node server.js\"\n"));
    insta::assert_snapshot!(refused("[stack]\nname = \"a\"\n[listeners.web]\nbind = \"8080\"\n"));
    let page = refused(&file("page = \"sorry.html\""));
    assert!(
        page.contains("`services.a.page`: invalid type: string \"sorry.html\", expected a table, as { key"),
        "{page}"
    );
}

#[test]
fn every_semantic_fault_is_found_at_once() {
    let text = r#"
[stack]
name = "My Shop"

[listeners.web]
bind = "0.0.0.0:0"

[[routes]]
service = "shp"
listener = "wbe"
path = "api"
host = "http://shop"

[services.shop]
run = []
fallback = "shop"
check = { interval = "1s" }
liveness = { tcp = true, http = "/x" }
stop = { signal = "KILL" }

[services.other]
instances = ["10.0.0.5", "10.0.0.6:80", "10.0.0.6:80"]
liveness = { tcp = true }

[services.third]

[drills.write]
post = "/orders"
body = "{}"
verify = "/orders"
"#;
    insta::assert_snapshot!(refused(text));
}

#[test]
fn syntax_errors_point_at_the_place() {
    insta::assert_snapshot!(refused("[stack\nname = \"a\"\n"));
    insta::assert_snapshot!(refused("[stack]\nname = \"a\"\nname = \"b\"\n"));
    insta::assert_snapshot!(refused(""));
}

#[test]
fn the_reference_names_every_part_of_the_file() {
    let page = stack::reference::markdown();
    for part in ["## `services.NAME.check`", "## `listeners.NAME.limits`", "## `routes[]`", "## `services.NAME.eject`"]
    {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(page.contains("| `interval` | duration | `\"1s\"` |"));
}

proptest::proptest! {
    /// Whatever the text, there is an answer, and every place it names lies in the text.
    #[test]
    fn hostile_text_never_panics(text in "(\\[stack\\]\nname = \"a\"\n)?(\\[services\\.[a-z]{0,3}\\]\n)?[ -~\n]{0,200}") {
        if let Err(diagnostics) = parse(&text, "keel.toml") {
            let _ = diagnostics.to_string();
            for fault in &diagnostics.faults {
                if let Some(span) = &fault.span {
                    proptest::prop_assert!(span.end <= text.len());
                }
            }
        }
    }
}

#[test]
fn checks_by_call_and_by_command() {
    let of = |check: &str| {
        let text = format!("[stack]\nname = \"t\"\n[services.a]\nrun = [\"x\"]\n{check}\n");
        let stack = parse(&text, "keel.toml").unwrap();
        compile_service("a", &stack.services["a"], Vec::new())
    };
    let probe = |check: &str| of(check).check.unwrap().probe;
    assert_eq!(probe("check = { grpc = \"shop.Orders\" }"), Probe::Grpc { service: "shop.Orders".to_owned() });
    let (one, other) = (probe("check = { exec = [\"a\", \"b\"] }"), probe("check = { exec = [\"ab\"] }"));
    assert!(matches!(one, Probe::Exec { .. }) && one != other, "another command is another check");
    assert!(matches!(of("liveness = { exec = [\"a\"] }").liveness.unwrap().probe, Probe::Exec { .. }));
    let wrong =
        |check: &str| refused(&format!("[stack]\nname = \"t\"\n[services.a]\nrun = [\"x\"]\ncheck = {check}\n"));
    assert!(wrong("{ exec = [] }").contains("names no program"));
    assert!(wrong("{ exec = [\"a\"], grpc = \"\" }").contains("both `grpc` and `exec`"));
    assert!(wrong("{}").contains("says not what to probe"));
}

#[test]
fn instances_by_a_name() {
    let text = |of: &str| format!("[stack]\nname = \"t\"\n[services.a]\ninstances = {of}\n");
    let stack = parse(&text("{ dns = \"app.internal:8080\", every = \"20s\" }"), "keel.toml").unwrap();
    let dns = stack.services["a"].dns().unwrap();
    assert_eq!((dns.every.as_ms(), dns.keep.as_ms()), (20_000, 30_000));
    assert!(stack.services["a"].fixed().is_empty() && !stack.services["a"].is_run());
    assert!(refused(&text("{ dns = \"app.internal\" }")).contains("is not a name with a port"));
    assert!(refused(&text("{ dns = \"10.0.0.1:80\" }")).contains("is not a name with a port"));
    assert!(refused(&text("{ dns = \"a:80\", every = \"10ms\" }")).contains("too often"));
    assert!(refused(&text("{ dns = \"a:80\", evry = \"1s\" }")).contains("evry"));
}

#[test]
fn instances_that_speak_fastcgi() {
    let text = |of: &str| format!("[stack]\nname = \"t\"\n[services.a]\n{of}\n");
    let php = "instances = [\"unix:/run/php/fpm.sock\", \"10.0.0.5:9000\"]\nfastcgi = { root = \"/srv/www/\", params = { A = \"1\" } }";
    let stack = parse(&text(php), "keel.toml").unwrap();
    let compiled = compile_service("a", &stack.services["a"], Vec::new());
    let fastcgi = compiled.wire.fastcgi.unwrap();
    assert_eq!((fastcgi.root.as_str(), fastcgi.index.as_str()), ("/srv/www", "index.php"));
    assert_eq!(compiled.limits.silent_after_ms, 0, "a manager whose workers are busy is silent");
    for (wrong, said) in [
        ("instances = [\"unix:/run/x\"]", "cannot be reached over HTTP"),
        ("instances = [\"unix:x\"]\nfastcgi = { root = \"/a\" }", "absolute path of a socket"),
        ("instances = [\"a:1\"]\nfastcgi = { root = \"a\" }", "is not an absolute path"),
        ("run = [\"x\"]\nfastcgi = { root = \"/a/../b\" }", "is not the path of a folder"),
        ("run = [\"x\"]\nfastcgi = { root = \"/a\", index = \"index.html\" }", "ends with `ending`"),
        ("run = [\"x\"]\nfastcgi = { root = \"/a\", folders = [\"/../\"] }", "is not the path of a folder"),
        ("run = [\"x\"]\nfastcgi = { root = \"/a\", params = { HTTP_PROXY = \"x\" } }", "taken for the proxy"),
        ("run = [\"x\"]\nfastcgi = { root = \"/a\" }\ncheck = { http = \"/\" }", "do not speak HTTP"),
        ("files = \"x\"\nfastcgi = { root = \"/a\" }", "need no FastCGI"),
    ] {
        let message = refused(&text(wrong));
        assert!(message.contains(said), "{wrong}: {message}");
    }
}
