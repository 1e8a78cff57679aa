//! The stack file of the demo: an ordinary one, commented, in the demo's state directory.

use std::{net::SocketAddr, path::Path};

use evenkeel_core::stack;

use crate::failure::Failure;

/// The stack file's name in the state directory.
pub(super) const FILE: &str = "keel.toml";

/// Where the demo is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// Port of the shop on 127.0.0.1.
    pub(crate) shop: u16,
    /// Address of the console, where metrics are.
    pub(crate) console: SocketAddr,
}

/// The text of the stack file.
pub(super) fn text(dir: &Path, ports: Ports) -> Result<String, Failure> {
    let binary = super::own_binary()?;
    let (binary, database, till) = (quoted(&binary)?, quoted(&dir.join("shop.db"))?, quoted(&dir.join("till.db"))?);
    let Ports { shop, console } = ports;
    let till_host = evenkeel_shop::TILL_HOST;
    Ok(format!(
        r#"# Written by `keel demo` at each start. Copy it to begin a stack of your own.

[stack]
name = "demo"

[listeners.web]
bind = "127.0.0.1:{shop}"

[console]
bind = "{console}"

[[routes]]
service = "shop"
# The shop answers the same key with the same order, so a request that carries one may be sent again.
idempotency_key = true

# The shop asks for payments under this name, by the same listener as its visitors.
[[routes]]
host = "{till_host}"
service = "till"
idempotency_key = true

[services.shop]
run = [{binary}, "__shop"]
replicas = 3
env = {{ SHOP_DATABASE = {database}, SHOP_TILL = "127.0.0.1:{shop}" }}
check = {{ http = "/readyz", interval = "500ms", timeout = "1s" }}
# A frozen instance may hold the database's write lock, for which the others wait up to 10 s.
liveness = {{ http = "/healthz", interval = "250ms", timeout = "500ms", after = "1500ms" }}
stop = {{ drain = "3s", grace = "5s" }}
# Drills in a row kill each instance every few seconds: that must not look like a loop of crashes.
restart = {{ reset = "5s" }}

# What its visitors may expect: the console shows what is left of the errors that this allows in 30 days.
[objectives.shop]
availability = "99.9%"
p99 = "250ms"

# What the shop depends on: it moves no money and writes down what it was asked.
[services.till]
run = [{binary}, "__shop"]
env = {{ SHOP_ROLE = "till", SHOP_DATABASE = {till} }}
check = {{ http = "/healthz", interval = "500ms", timeout = "1s" }}
stop = {{ drain = "3s", grace = "5s" }}
restart = {{ reset = "5s" }}

[drills]
read = "/api/products"
dependency = "till"

[drills.write]
post = "/api/orders"
body = '{{"items":[{{"product":1,"quantity":1}}],"email":"drill@example.com"}}'
verify = "/api/orders?key={{key}}"
"#
    ))
}

/// A path as a string of TOML.
fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| {
        Failure::new("this path is not UTF-8, so it cannot stand in a stack file")
            .at_path(path)
            .fix("choose another place with --state-dir")
    })?;
    Ok(serde_json::to_string(text).expect("a string serialises"))
}

/// The ports of a demo that runs in `dir`, as its stack file has them.
pub(super) fn ports(dir: &Path) -> Option<Ports> {
    let text = std::fs::read_to_string(dir.join(FILE)).ok()?;
    let stack = stack::parse(&text, FILE).ok()?;
    let shop = stack.listeners.values().next()?.bind.port();
    Some(Ports { shop, console: stack.console.bind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_a_valid_stack_and_says_its_ports() {
        let temp = tempfile::tempdir().unwrap();
        let wanted = Ports { shop: 18_080, console: SocketAddr::from(([127, 0, 0, 1], 19_400)) };
        let text = text(&temp.path().join("odd \"name\""), wanted).unwrap();
        let stack = stack::parse(&text, FILE).unwrap();
        let write = stack.drills.write.unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&write.body).is_ok(), "{}", write.body);
        assert_eq!(stack.services["shop"].replicas.min(), 3);
        assert!(stack.routes[0].idempotency_key);
        assert_eq!(stack.services["shop"].restart.reset.as_ms(), 5000, "drills in a row are no loop of crashes");
        assert_eq!(stack.objectives["shop"].p99.unwrap().as_ms(), 250);
        std::fs::write(temp.path().join(FILE), &text).unwrap();
        assert_eq!(ports(temp.path()), Some(wanted));
    }
}
