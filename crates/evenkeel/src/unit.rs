//! What a systemd unit that runs `keel up` says, and what of it would kill what should be adopted.
//!
//! Pure: it judges text, as `systemctl cat UNIT` prints it or as a unit file holds it, by the documented meaning of
//! each setting (systemd.service(5), systemd.exec(5), systemd.kill(5), systemd.resource-control(5)). A later setting
//! overrides an earlier one, so that drop-ins count. It knows nothing of the machine, and a unit that does not run
//! `keel up` has no findings.

use std::collections::BTreeMap;

/// A setting that stands against adoption or against the supervision of instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitFinding {
    /// The setting's name, as `KillMode`.
    pub(crate) key: &'static str,
    /// What it is; the default with the word "default" where the unit does not set it.
    pub(crate) is: String,
    /// What it should be, as it would be written behind the `=`; empty where the line should go.
    pub(crate) should: &'static str,
    /// What it does to instances otherwise.
    pub(crate) why: &'static str,
}

/// A setting that must have one of these values.
struct Rule {
    key: &'static str,
    /// What systemd takes where the unit says nothing.
    default: &'static str,
    good: fn(&str) -> bool,
    should: &'static str,
    why: &'static str,
}

/// In order of harm.
const RULES: &[Rule] = &[
    Rule {
        key: "KillMode",
        default: "control-group",
        good: |value| value == "process",
        should: "process",
        why: "systemd kills every instance when `keel up` ends, however it ends, so nothing is left to adopt",
    },
    Rule {
        key: "PrivatePIDs",
        default: "no",
        good: is_no,
        should: "no",
        why: "every process of the namespace is killed with its first one, which is `keel up`",
    },
    Rule {
        key: "DynamicUser",
        default: "no",
        good: is_no,
        should: "no",
        why: "the user may be another one after a restart, and instances are adopted by their own user only",
    },
    Rule {
        key: "PrivateUsers",
        default: "no",
        good: is_no,
        should: "no",
        why: "each start gets a user namespace of its own, from which instances of the former one cannot be signalled",
    },
    Rule {
        key: "OOMPolicy",
        default: "stop",
        good: |value| value == "continue",
        should: "continue",
        why: "one instance that runs out of memory stops the whole stack instead of being started again",
    },
    Rule {
        key: "Restart",
        default: "no",
        good: |value| value == "always",
        should: "always",
        why: "nobody starts `keel up` again after a crash, and until then nobody answers clients or restarts instances",
    },
    Rule {
        key: "ExitType",
        default: "main",
        good: |value| value == "main",
        should: "main",
        why: "systemd takes the unit for running as long as any instance does, so nobody starts `keel up` again after a \
              crash",
    },
    Rule {
        key: "Type",
        default: "simple",
        good: |value| matches!(value, "notify" | "notify-reload"),
        should: "notify",
        why: "systemd then neither knows when the stack is up nor watches it, and keeps no listening sockets for it",
    },
    Rule {
        key: "FileDescriptorStoreMax",
        default: "0",
        good: |value| value.parse::<u32>().is_ok_and(|most| most > 0),
        should: "1024",
        why: "listening sockets are closed with `keel up`: connections are refused until it is back, unless a socket \
              unit holds them",
    },
    Rule {
        key: "Delegate",
        default: "no",
        good: |value| !is_no(value),
        should: "yes",
        why: "systemd may move or remove the control groups of instances; memory bounds of services do not apply",
    },
    Rule {
        key: "PrivateTmp",
        default: "no",
        good: is_no,
        should: "no",
        why: "each start gets a /tmp of its own and the former one is removed: adopted instances lose their files, and \
              sockets of a runtime folder in /tmp are not found again",
    },
    Rule {
        key: "ProcSubset",
        default: "all",
        good: |value| value == "all",
        should: "all",
        why: "instances inherit it: without /proc/meminfo, /proc/cpuinfo and /proc/sys runtimes as Java size \
              themselves wrongly or do not start",
    },
    Rule {
        key: "ProtectProc",
        default: "default",
        good: |value| matches!(value, "default" | "ptraceable" | ""),
        should: "default",
        why: "an unprivileged guard cannot see instances that run as other users, and does not adopt what it cannot \
              verify",
    },
    Rule {
        key: "RemoveIPC",
        default: "no",
        good: is_no,
        should: "no",
        why: "shared memory and semaphores of running instances are removed when `keel up` ends",
    },
    Rule {
        key: "MemoryDenyWriteExecute",
        default: "no",
        good: is_no,
        should: "no",
        why: "instances inherit it: just-in-time compilers, as of Java and Node, do not start",
    },
    Rule {
        key: "PrivateNetwork",
        default: "no",
        good: is_no,
        should: "no",
        why: "each start gets a network of its own, in which adopted instances are not reached",
    },
];

/// What of this unit would kill, cut off or hide what should be adopted; empty where nothing would, or where the
/// unit does not run `keel up`. In order of harm.
pub(crate) fn findings(text: &str) -> Vec<UnitFinding> {
    let unit = service_section(text);
    if !runs_keel_up(&unit) {
        return Vec::new();
    }
    let mut found: Vec<UnitFinding> = RULES.iter().filter_map(|rule| judge(rule, &unit)).collect();
    if unit.contains_key("RuntimeDirectory") {
        let rule = Rule {
            key: "RuntimeDirectoryPreserve",
            default: "no",
            good: |value| matches!(value, "restart") || is_yes(value),
            should: "yes",
            why: "systemd removes the folder by whose sockets instances are adopted when `keel up` ends",
        };
        found.extend(judge(&rule, &unit));
    }
    if last(&unit, "WatchdogSec").is_none_or(|value| value == "0" || value == "infinity") {
        let is = last(&unit, "WatchdogSec").map_or_else(|| "0 (default)".to_owned(), str::to_owned);
        let why = "a guard that hangs is not noticed: systemd watches it only where it is told how closely";
        found.push(UnitFinding { key: "WatchdogSec", is, should: "10s", why });
    }
    found
}

fn judge(rule: &Rule, unit: &Settings) -> Option<UnitFinding> {
    let set = last(unit, rule.key);
    let value = set.unwrap_or(rule.default);
    // systemd's own default changes where control groups are delegated (systemd.service(5), OOMPolicy=).
    let delegated = last(unit, "Delegate").is_some_and(|value| !is_no(value));
    if (rule.good)(value) || (rule.key == "OOMPolicy" && set.is_none() && delegated) {
        return None;
    }
    let is = set.map_or_else(|| format!("{value} (default)"), str::to_owned);
    Some(UnitFinding { key: rule.key, is, should: rule.should, why: rule.why })
}

/// Values of `[Service]` by key, in order.
type Settings = BTreeMap<String, Vec<String>>;

/// systemd.syntax(7): a line that ends in a backslash goes on in the next one; an empty value forgets those before.
fn service_section(text: &str) -> Settings {
    let mut settings = Settings::new();
    let (mut inside, mut line) = (false, String::new());
    for raw in text.lines() {
        let raw = raw.trim();
        // Comments may stand between the parts of a continued line.
        if raw.starts_with(['#', ';']) {
            continue;
        }
        if let Some(part) = raw.strip_suffix('\\') {
            line.push_str(part);
            line.push(' ');
            continue;
        }
        line.push_str(raw);
        let whole = std::mem::take(&mut line);
        if let Some(name) = whole.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name == "Service";
        } else if let Some((key, value)) = whole.split_once('=').filter(|_| inside) {
            let values = settings.entry(key.trim().to_owned()).or_default();
            match value.trim() {
                "" => values.clear(),
                value => values.push(value.to_owned()),
            }
        }
    }
    settings.retain(|_, values| !values.is_empty());
    settings
}

/// The value in force of a setting that holds one.
fn last<'a>(unit: &'a Settings, key: &str) -> Option<&'a str> {
    unit.get(key)?.last().map(String::as_str)
}

fn runs_keel_up(unit: &Settings) -> bool {
    unit.get("ExecStart").into_iter().flatten().any(|command| {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap_or_default().trim_start_matches(['-', '@', ':', '+', '!']);
        program.rsplit('/').next() == Some("keel") && words.any(|word| word == "up")
    })
}

fn is_no(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "no" | "false" | "off" | "0" | "n" | "f")
}

fn is_yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "yes" | "true" | "on" | "1" | "y" | "t")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = include_str!("../../../deploy/systemd/keel@.service");

    fn keys(text: &str) -> Vec<&'static str> {
        findings(text).into_iter().map(|finding| finding.key).collect()
    }

    #[test]
    fn our_own_unit_has_no_findings() {
        assert_eq!(findings(OURS), []);
    }

    #[test]
    fn a_unit_as_people_write_it_is_told_what_kills() {
        let found = findings("[Service]\nExecStart=/usr/bin/keel up /etc/keel/shop.toml\nRestart=on-failure\n");
        let first = &found[0];
        assert_eq!((first.key, first.is.as_str(), first.should), ("KillMode", "control-group (default)", "process"));
        let keys: Vec<_> = found.iter().map(|finding| finding.key).collect();
        assert_eq!(
            keys,
            ["KillMode", "OOMPolicy", "Restart", "Type", "FileDescriptorStoreMax", "Delegate", "WatchdogSec"]
        );
    }

    #[test]
    fn a_drop_in_overrides_what_stands_before_it() {
        assert_eq!(keys(&format!("{OURS}\n# drop-in\n[Service]\nKillMode=mixed\n")), ["KillMode"]);
        assert_eq!(keys(&format!("{OURS}\n[Service]\nKillMode=mixed\nKillMode=process\n")), [""; 0]);
        assert_eq!(
            keys(&format!("{OURS}\n[Service]\nPrivateTmp=true\nRuntimeDirectoryPreserve=no\n")),
            ["PrivateTmp", "RuntimeDirectoryPreserve"]
        );
        assert_eq!(keys(&format!("{OURS}\n[Service]\nDelegate=\nOOMPolicy=\n")), ["OOMPolicy", "Delegate"]);
        assert_eq!(keys(&format!("{OURS}\n[Service]\nExitType=cgroup\n")), ["ExitType"]);
        assert_eq!(keys(&format!("{OURS}\n[Unit]\nKillMode=mixed\n")), [""; 0], "another section");
    }

    #[test]
    fn continued_lines_and_comments_are_read_as_systemd_does() {
        let text = format!("{OURS}\n[Service]\nKillMode=\\\n# between\n  mixed\n;KillMode=process\n");
        assert_eq!(keys(&text), ["KillMode"]);
    }

    #[test]
    fn other_units_are_none_of_ours() {
        assert_eq!(findings("[Service]\nExecStart=/usr/sbin/nginx\n"), []);
        assert_eq!(findings("[Service]\nExecStart=/usr/bin/keel status\n"), []);
        assert!(!findings("[Service]\nExecStart=-/opt/keel --quiet up\n").is_empty());
        assert_eq!(findings(""), []);
    }
}
