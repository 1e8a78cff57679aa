//! `retries.hedge_after`: what it becomes, and where it is refused.
#![allow(clippy::unwrap_used)]

use evenkeel_core::stack::{compile_service, parse};

fn stack(service: &str) -> String {
    format!(
        "[stack]\nname = \"shop\"\n[listeners.web]\nbind = \"127.0.0.1:8080\"\n[services.app]\n\
         instances = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\n{service}\n"
    )
}

#[test]
fn it_is_off_by_default_and_otherwise_what_it_says() {
    for (text, wanted) in [("", 0), ("retries = { hedge_after = \"50ms\" }", 50)] {
        let stack = parse(&stack(text), "keel.toml").unwrap();
        assert_eq!(compile_service("app", &stack.services["app"], Vec::new()).retry.hedge_after_ms, wanted);
    }
}

#[test]
fn what_it_cannot_go_with_is_refused() {
    let cases = [
        ("retries = { hedge_after = \"50ms\", max = 0 }", "a hedge is a repetition"),
        ("retries = { hedge_after = \"60s\" }\nlimits = { response_timeout = \"60s\" }", "must be shorter"),
        ("retries = { hedge_after = \"50ms\" }\nsticky = \"address\"", "clients stay with an instance"),
    ];
    for (text, wanted) in cases {
        let refused = parse(&stack(text), "keel.toml").unwrap_err().to_string();
        assert!(refused.contains(wanted), "{text}: {refused}");
    }
}
