//! What leads to which service, and what is spoken there: routes, listeners, and who answers in whose place.
//!
//! For whoever tells an operator about a service: nothing here refuses a file, and nothing decides about a request.

use std::collections::BTreeSet;

use super::{
    Service, Stack,
    stream::{asked, reached},
};
use crate::snapshot::{Probe, Protocol};

/// Services whose clients speak this, and whoever answers in their place.
pub fn led_to(stack: &Stack, protocol: Protocol) -> BTreeSet<&str> {
    match protocol {
        Protocol::Http => asked(stack),
        _ => reached(stack, |listener| listener.protocol == protocol),
    }
}

/// What clients of this service speak, in the order of [`Protocol`]'s variants; empty where nothing leads to it.
pub fn speaks(stack: &Stack, service: &str) -> Vec<Protocol> {
    let all = [Protocol::Http, Protocol::Tcp, Protocol::Udp].into_iter();
    all.filter(|protocol| led_to(stack, *protocol).contains(service)).collect()
}

/// Services that nothing leads to: no route, be it by `split` or `mirror`, no listener, and no service with clients that
/// names them as `fallback`. One that fetches its work itself is none of them: its check is a command, or its number
/// follows a backlog.
pub fn unreached(stack: &Stack) -> Vec<&str> {
    let (requests, others) = (asked(stack), reached(stack, |_| true));
    let leads = |name: &str| requests.contains(name) || others.contains(name);
    let all = stack.services.iter().filter(|(name, service)| !leads(name) && !fetches(service));
    all.map(|(name, _)| name.as_str()).collect()
}

/// Whether a service gets its work elsewhere.
fn fetches(service: &Service) -> bool {
    let by_command = || {
        let check = super::compile_service("", service, Vec::new()).check;
        check.is_some_and(|check| matches!(check.probe, Probe::Exec { .. }))
    };
    service.replicas.elastic().is_some_and(|elastic| elastic.target.backlog.is_some()) || by_command()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::parse;

    const STACK: &str = r#"
[stack]
name = "a"
[listeners.web]
bind = "0.0.0.0:80"
[listeners.sql]
bind = "0.0.0.0:5432"
protocol = "tcp"
service = "db"
[listeners.names]
bind = "0.0.0.0:53"
protocol = "udp"
service = "names"
[[routes]]
service = "shop"
split = [{ service = "next", percent = 5 }]
mirror = { service = "copy", percent = 10 }
[services]
shop = { run = ["shop"], fallback = "spare" }
spare = { run = ["spare"], fallback = "sorry" }
sorry = { page = { text = "Back soon." } }
next = { run = ["shop"] }
copy = { run = ["shop"] }
db = { instances = ["10.0.0.5:5432"] }
names = { instances = ["10.0.0.6:53"] }
worker = { run = ["work"], check = { exec = ["./alive"] } }
jobs = { run = ["work"], replicas = { min = 1, max = 4, target = { backlog = { url = "http://127.0.0.1:9/m", metric = "j", each = 5 } } } }
"#;

    #[test]
    fn what_leads_where() {
        let stack = parse(STACK, "keel.toml").map_err(|faults| faults.to_string()).unwrap();
        assert_eq!(unreached(&stack), Vec::<&str>::new());
        assert_eq!(speaks(&stack, "sorry"), [Protocol::Http]);
        assert_eq!((speaks(&stack, "db"), speaks(&stack, "names")), (vec![Protocol::Tcp], vec![Protocol::Udp]));
        assert_eq!(speaks(&stack, "worker"), []);
        let forgotten = "lost = { run = [\"x\"], fallback = \"its-spare\" }\nits-spare = { page = { text = \"x\" } }\n";
        let stack = parse(&format!("{STACK}{forgotten}"), "keel.toml").map_err(|faults| faults.to_string()).unwrap();
        assert_eq!(unreached(&stack), ["its-spare", "lost"], "a fallback of nobody's is reached by nobody");
    }
}
