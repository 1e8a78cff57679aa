//! From the directives of a group that say how an address is chosen to the keys of a service.
//!
//! What is translated means the same, or nearly so; what would mean something else is left out. It reads nothing but
//! directives.

use super::{super::toml::string, syntax::Directive};

/// How an address of a group is chosen.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) balance: Option<&'static str>,
    /// Further keys with their values as they stand in the file.
    pub(super) more: Vec<(&'static str, String)>,
    slow_start_ms: u64,
}

impl Choice {
    /// Takes a directive; `false` where it has no counterpart.
    pub(super) fn takes(&mut self, directive: &Directive) -> bool {
        let args: Vec<&str> = directive.args.iter().map(String::as_str).collect();
        match (directive.name.as_str(), &args[..]) {
            ("least_conn", []) => self.balance = Some("least-connections"),
            ("ip_hash", []) => self.balance = Some("ip-hash"),
            ("random", []) => self.balance = Some("random"),
            ("random", ["two", ..]) => self.balance = Some("power-of-two"),
            ("hash", [key, rest @ ..]) => return self.hashes(key, rest),
            ("sticky", ["cookie", name, rest @ ..]) => return self.sticks(name, rest),
            _ => return false,
        }
        true
    }

    /// What an address says of its own start.
    pub(super) fn address(&mut self, server: &Directive) {
        let slow = server.args.iter().find_map(|arg| duration_ms(arg.strip_prefix("slow_start=")?));
        self.slow_start_ms = self.slow_start_ms.max(slow.unwrap_or(0));
    }

    /// The algorithm, where none is named.
    pub(super) fn settle(mut self, weighted: bool) -> (&'static str, Vec<(&'static str, String)>) {
        let default = if weighted || self.slow_start_ms > 0 { "weighted-round-robin" } else { "round-robin" };
        let balance = self.balance.unwrap_or(default);
        if self.slow_start_ms > 0 && ["weighted-round-robin", "least-connections"].contains(&balance) {
            self.more.push(("slow_start", string(&format!("{}ms", self.slow_start_ms))));
        }
        (balance, self.more)
    }

    /// `hash KEY [consistent]`: without `consistent` every change of the group moves nearly all, which nobody wants.
    fn hashes(&mut self, key: &str, rest: &[&str]) -> bool {
        let by = match key {
            "$remote_addr" | "$binary_remote_addr" => "address".to_owned(),
            "$uri" | "$document_uri" => "path".to_owned(),
            _ => match (key.strip_prefix("$http_"), key.strip_prefix("$cookie_")) {
                (Some(field), _) => format!("header:{}", field.replace('_', "-")),
                (_, Some(cookie)) => format!("cookie:{cookie}"),
                _ => return false,
            },
        };
        let consistent = match rest {
            [] => false,
            ["consistent"] => true,
            _ => return false,
        };
        self.balance = Some(if consistent { "consistent-hash" } else { "maglev" });
        self.more.push(("hash_by", string(&by)));
        if consistent {
            self.more.push(("hash_bound", "0".to_owned()));
        }
        true
    }

    /// `sticky cookie NAME [expires=…] [domain=…] [httponly] [samesite=…] [secure] [path=…]`
    fn sticks(&mut self, name: &str, rest: &[&str]) -> bool {
        let (mut max_age, mut secure) = (String::new(), "");
        for arg in rest {
            match (*arg, arg.strip_prefix("expires=")) {
                ("secure", _) => secure = ", secure = true",
                ("httponly" | "path=/" | "samesite=lax", _) => {}
                (_, Some(expires)) => match duration_ms(expires) {
                    Some(ms) => max_age = format!(", max_age = \"{}s\"", ms.div_ceil(1000)),
                    None => return false,
                },
                _ => return false,
            }
        }
        self.more.push(("sticky", format!("{{ cookie = {}{max_age}{secure} }}", string(name))));
        true
    }
}

/// A time as nginx writes one, in milliseconds: seconds go without saying.
fn duration_ms(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let each = match &text[digits..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(each)
}
