//! What a stack file may say although it does nothing, and how its writer is told.

#![allow(clippy::unwrap_used)]

use evenkeel_core::stack::{Severity, parse, parse_with_warnings};

/// The rendered warnings of a file that is accepted.
fn told(text: &str) -> String {
    let (_, found) = parse_with_warnings(text, "keel.toml").unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    assert!(found.faults.iter().all(|fault| fault.severity == Severity::Warning));
    assert!(!found.has_errors() && parse(text, "keel.toml").is_ok(), "a warning refuses nothing");
    found.to_string()
}

fn stack(rest: &str) -> String {
    format!("[stack]\nname = \"t\"\n{rest}\n")
}

#[test]
fn all_of_them_stand_in_their_places() {
    insta::assert_snapshot!(told(&stack(
        r#"
[[routes]]
host = "*.shop.example"
service = "shop"

[[routes]]
host = "a.shop.example"
service = "next"

[services.shop]
run = ["shop"]
replicas = 3
eject = { max_percent = 30 }
sticky = { cookie = "at" }
fallback = "sorry"

[services.next]
instances = ["10.0.0.5:80", { address = "10.0.0.6:80", weight = 3 }]
replicas = 2
balance = "round-robin"
sticky = { cookie = "at" }

[services.sorry]
page = { text = "Back soon." }
retries.max = 1
[services.sorry.hold]
max = "1s"

[services.lost]
run = ["lost"]
"#
    )));
}

#[test]
fn keys_that_do_nothing() {
    let of = |service: &str| told(&stack(&format!("[services.a]\n{service}")));
    for key in
        ["balance = \"random\"", "check = { http = \"/\" }", "hold.max = \"1s\"", "retries = { max = 1 }", "env = {}"]
    {
        let told = of(&format!("page = {{ text = \"x\" }}\n{key}"));
        assert!(told.contains("does nothing here: the edge answers with the page itself"), "{key}\n{told}");
        assert_eq!(told.matches("warning: ").count(), 1, "{told}");
    }
    for key in ["replicas = 2", "restart.attempts = 3", "deploy = {}", "user = \"www\"", "dir = \"x\""] {
        let told = of(&format!("instances = [\"10.0.0.5:80\"]\n{key}"));
        assert!(told.contains("something else runs the `instances`"), "{key}\n{told}");
    }
    for fine in [
        "run = [\"a\"]\nreplicas = 2\nenv = { A = \"b\" }",
        "instances = [\"10.0.0.5:80\"]\ncheck = { exec = [\"./check\"] }\ndir = \"x\"",
        "files = \"public\"\nreplicas = 1",
        "page = { text = \"x\" }",
    ] {
        assert_eq!(of(fine), "", "{fine}");
    }
}

#[test]
fn weights_and_bounds_that_never_count() {
    let of = |service: &str| told(&stack(&format!("[services.a]\n{service}")));
    let weighted = "instances = [{ address = \"10.0.0.5:80\", weight = 2 }, \"10.0.0.6:80\"]";
    assert!(of(&format!("{weighted}\nbalance = \"round-robin\"")).contains("does not look at weights"));
    for balance in ["ip-hash", "maglev", "consistent-hash", "random", "power-of-two", "least-connections"] {
        assert_eq!(of(&format!("{weighted}\nbalance = \"{balance}\"")), "", "{balance}");
    }
    let elastic = "replicas = { min = 1, max = 4, target = { concurrency = 1 } }";
    for (service, said) in [
        ("replicas = 3\neject = { max_percent = 33 }".to_owned(), "at least 34"),
        ("eject.max_percent = 49".to_owned(), "at least 50"),
        (format!("{elastic}\neject.max_percent = 20"), "at least 25"),
        ("replicas = 3\neject = { max_percent = 34 }".to_owned(), ""),
        (format!("{elastic}\neject.max_percent = 25"), ""),
        ("replicas = 1\neject = { max_percent = 10 }".to_owned(), ""),
        ("eject = { max_percent = 0 }".to_owned(), ""),
        ("eject = { max_percent = 10, consecutive = 0, percent = 0 }".to_owned(), ""),
    ] {
        let told = of(&format!("run = [\"a\"]\n{service}"));
        assert!(told.contains(said) && told.is_empty() == said.is_empty(), "{service}\n{told}");
    }
}

#[test]
fn cookies_meet_only_where_hosts_do() {
    let of = |routes: &str, name: &str| {
        told(&stack(&format!(
            "{routes}\n[services.a]\nrun = [\"a\"]\nsticky = {{ cookie = \"at\" }}\n\
             [services.b]\nrun = [\"b\"]\nsticky = {{ cookie = \"{name}\" }}\n"
        )))
    };
    let two = |one: &str, other: &str| {
        format!("[[routes]]\n{one}\nservice = \"a\"\n[[routes]]\n{other}\nservice = \"b\"\npath = \"/b\"")
    };
    for meet in [
        two("", ""),
        two("host = \"x.example\"", ""),
        two("host = \"*.example\"", "host = \"X.example\""),
        "[[routes]]\nservice = \"a\"\nsplit = [{ service = \"b\", percent = 5 }]".to_owned(),
    ] {
        assert!(of(&meet, "at").contains("set the same cookie `at`"), "{meet}");
        assert_eq!(of(&meet, "at-b"), "", "{meet}");
    }
    assert_eq!(of(&two("host = \"x.example\"", "host = \"y.example\""), "at"), "");
    assert_eq!(of(&two("host = \"*.x.example\"", "host = \"*.y.example\""), "at"), "");
}

#[test]
fn what_is_wrong_is_told_before_what_is_useless() {
    let wrong = "[services.a]\ninstances = [\"10.0.0.5\"]\nreplicas = 2\n";
    let faults = parse_with_warnings(&stack(wrong), "keel.toml").unwrap_err();
    assert_eq!(faults.faults.len(), 1, "{faults}");
    assert!(faults.has_errors());
}
