//! Groups of servers as services: addresses, how one is chosen, checks, and bounds.
//!
//! A server that answers only without the others becomes part of a second service, which is the `fallback` of the first.
//! It reads no more than the lines of a section.

use super::{
    super::{
        found::Service,
        nginx::is_host,
        toml::{array, string},
    },
    listeners::Notes,
    syntax::{Line, Section},
};

/// Keys with their values.
type Keys = Vec<(&'static str, String)>;

/// The servers of one group.
#[derive(Default)]
struct Servers {
    instances: Vec<(String, u32)>,
    lines: Vec<Line>,
}

/// The services of a group: the one that gets requests first, and who answers in its place. `suffix` ends the name of its
/// cookie, where another group has the same.
pub(super) fn services(
    section: &Section,
    (name, suffix): (&str, &str),
    default_port: Option<u16>,
    notes: &mut Notes,
) -> Vec<Service> {
    let (mut first, mut second) = (Servers::default(), Servers::default());
    let rest = section.all().filter(|line| line.word(0) == "default-server").flat_map(|line| line.words[1..].to_vec());
    let defaults: Vec<String> = rest.collect();
    for line in section.lines.iter().filter(|line| line.word(0) == "server") {
        let mut whole = line.clone();
        // The server's own words come first, and the first of a kind counts here.
        whole.words.extend(defaults.iter().cloned());
        match address(&whole, default_port) {
            Ok((address, _)) if first.instances.iter().chain(&second.instances).any(|(other, _)| *other == address) => {
            }
            Ok(instance) => {
                let servers = if flag(&whole, "backup") { &mut second } else { &mut first };
                servers.instances.push(instance);
                servers.lines.push(whole);
            }
            Err(why) => notes.push((line.number, format!("{} ({why})", line.text()))),
        }
    }
    if first.instances.is_empty() {
        first = std::mem::take(&mut second);
    }
    if first.instances.is_empty() {
        return Vec::new();
    }
    let mut made = vec![service(section, name, suffix, &first, notes)];
    if !second.instances.is_empty() {
        let name: String = name.chars().take(33).collect();
        let mut spare =
            service(section, &format!("{}-backup", name.trim_end_matches('-')), suffix, &second, &mut Vec::new());
        made[0].more.push(("fallback", string(&spare.name)));
        // Clients belong to those that come first.
        spare.more.retain(|(key, _)| *key != "sticky");
        made.push(spare);
    }
    made
}

fn service(section: &Section, name: &str, suffix: &str, servers: &Servers, notes: &mut Notes) -> Service {
    let weighted = servers.instances.iter().any(|(_, weight)| *weight != 1);
    let mut service = Service::fixed(name, servers.instances.clone());
    let (balance, more) = balance(section, weighted, notes);
    service.balance = balance;
    service.more = more;
    let hashes = balance.is_some_and(|name| ["ip-hash", "maglev", "consistent-hash"].contains(&name));
    service.more.extend(sticky(section, hashes, suffix, notes));
    let weighs =
        balance.is_some_and(|name| ["weighted-round-robin", "least-connections", "power-of-two"].contains(&name));
    let slow = servers.lines.iter().filter_map(|line| duration_ms(value(line, "slowstart")?)).max();
    service.more.extend(slow.filter(|ms| weighs && *ms > 0).map(|ms| ("slow_start", string(&format!("{ms}ms")))));
    service.more.extend(check(section, servers, notes));
    service.more.extend(limits(section, servers));
    let says = |flag_name: &str| servers.lines.iter().all(|line| flag(line, flag_name));
    let header = if says("send-proxy-v2") { Some("v2") } else { says("send-proxy").then_some("v1") };
    service.more.extend(header.map(|version| ("proxy_protocol", string(version))));
    service.compress = !section.is_tcp() && section.last(&["compression", "algo"]).is_some();
    service
}

/// Address and weight of a server.
fn address(line: &Line, default_port: Option<u16>) -> Result<(String, u32), &'static str> {
    if flag(line, "ssl") {
        return Err("TLS to instances is not built into this version");
    }
    if flag(line, "disabled") {
        return Err("it is disabled");
    }
    let weight = value(line, "weight").map_or(Some(1), |weight| weight.parse().ok().filter(|weight| *weight <= 256));
    let weight = weight.ok_or("its weight is not from 0 to 256")?;
    if weight == 0 {
        return Err("with a weight of 0 it gets no requests");
    }
    let text = line.word(2);
    let text = text.strip_prefix("ipv4@").or_else(|| text.strip_prefix("ipv6@")).unwrap_or(text);
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.starts_with('[') => (host, port.parse().ok()),
        _ => (text, default_port),
    };
    let port = port.filter(|port| *port > 0).ok_or("no address with a port")?;
    let bare = host.trim_matches(['[', ']']);
    if bare.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok((format!("[{bare}]:{port}"), weight));
    }
    if is_host(host) { Ok((format!("{host}:{port}"), weight)) } else { Err("no address that a stack file could have") }
}

/// Whether a server has this word.
fn flag(line: &Line, name: &str) -> bool {
    line.words.iter().skip(3).any(|word| word == name)
}

/// The word after this one.
fn value<'a>(line: &'a Line, name: &str) -> Option<&'a str> {
    let at = line.words.iter().skip(3).position(|word| word == name)?;
    line.words.get(at + 4).map(String::as_str)
}

/// How a server is chosen.
fn balance(section: &Section, weighted: bool, notes: &mut Notes) -> (Option<&'static str>, Keys) {
    let in_turn = if weighted { "weighted-round-robin" } else { "round-robin" };
    let Some(line) = section.last(&["balance"]) else { return (Some(in_turn), Vec::new()) };
    let consistent = section.last(&["hash-type"]).is_some_and(|line| line.word(1) == "consistent");
    let hashed = |by: &str| {
        let by = ("hash_by", string(by));
        let keys = if consistent { vec![by, ("hash_bound", "0".to_owned())] } else { vec![by] };
        (Some(if consistent { "consistent-hash" } else { "maglev" }), keys)
    };
    match line.word(1) {
        "roundrobin" | "static-rr" => (Some(in_turn), Vec::new()),
        "leastconn" => (Some("least-connections"), Vec::new()),
        "source" => (Some("ip-hash"), Vec::new()),
        "uri" if !section.is_tcp() => hashed("path"),
        random if random.starts_with("random") => (Some("power-of-two"), Vec::new()),
        header if header.starts_with("hdr(") && !section.is_tcp() && is_host(header[4..].trim_end_matches(')')) => {
            hashed(&format!("header:{}", header[4..].trim_end_matches(')').to_ascii_lowercase()))
        }
        _ => {
            notes.push((line.number, format!("{} (requests go round in turn instead; see `balance`)", line.text())));
            (Some(in_turn), Vec::new())
        }
    }
}

/// What keeps a client with a server.
fn sticky(section: &Section, hashes: bool, suffix: &str, notes: &mut Notes) -> Option<(&'static str, String)> {
    if let Some(line) = section.last(&["cookie"]).filter(|_| !section.is_tcp()) {
        let has = |word: &str| line.words.iter().any(|other| other == word);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let name = line.word(1);
        let prefixed = name.get(..2).is_some_and(|start| start == "__") && !has("secure");
        if has("insert") && !name.is_empty() && name.len() <= 100 && name.bytes().all(fits) && !prefixed {
            let age = line.words.iter().position(|word| word == "maxlife");
            let age = age.and_then(|at| duration_ms(line.word(at + 1))).filter(|ms| *ms > 0);
            let age = age.map_or_else(String::new, |ms| format!(", max_age = \"{}s\"", ms.div_ceil(1000)));
            let secure = if has("secure") { ", secure = true" } else { "" };
            let name = format!("{name}{suffix}");
            return Some(("sticky", format!("{{ cookie = {}{age}{secure} }}", string(&name))));
        }
        notes.push((line.number, format!("{} (see `sticky` of a service)", line.text())));
    }
    let stick = section.lines.iter().find(|line| line.is(&["stick", "on", "src"]))?;
    (!hashes && stick.words.len() == 3).then(|| ("sticky", string("address")))
}

/// What decides whether a server gets requests.
fn check(section: &Section, servers: &Servers, notes: &mut Notes) -> Option<(&'static str, String)> {
    let checked = servers.lines.iter().find(|line| flag(line, "check"))?;
    let mut keys: Vec<String> = Vec::new();
    let sent = section.all().rev().find(|line| line.is(&["http-check", "send"]));
    match section.option("httpchk") {
        Some(line) => {
            let words: Vec<&str> = line.words[2..].iter().map(String::as_str).collect();
            let plain = if words.len() == 1 { words.first() } else { words.get(1) };
            let uri = sent.and_then(|line| after(line, "uri")).or(plain.copied()).unwrap_or("/");
            let fits = uri.starts_with('/') && uri.bytes().all(|byte| byte.is_ascii_graphic()) && !uri.contains('#');
            let uri = if fits { uri } else { "/" };
            keys.push(format!("http = {}", string(uri)));
            let host = sent.filter(|line| after(line, "hdr").is_some_and(|name| name.eq_ignore_ascii_case("host")));
            let host =
                host.and_then(|line| line.words.iter().position(|word| word == "hdr").map(|at| line.word(at + 2)));
            keys.extend(host.filter(|host| is_host(host)).map(|host| format!("host = {}", string(host))));
            let method =
                sent.and_then(|line| after(line, "meth")).or(words.first().copied().filter(|_| words.len() > 1));
            if method != Some("GET") {
                notes.push((line.number, format!("{} (checks ask with GET)", line.text())));
            }
            keys.extend(expected(section, notes));
        }
        None => keys.push("tcp = true".to_owned()),
    }
    let interval = value(checked, "inter").and_then(duration_ms).filter(|ms| *ms > 0).unwrap_or(2000);
    keys.push(format!("interval = \"{interval}ms\""));
    let count = |name: &str| value(checked, name)?.parse::<u16>().ok().filter(|count| (1..=1000).contains(count));
    keys.extend(count("rise").map(|count| format!("rise = {count}")));
    keys.extend(count("fall").map(|count| format!("fall = {count}")));
    let timeout = section.last(&["timeout", "check"]).and_then(|line| duration_ms(line.word(2))).filter(|ms| *ms > 0);
    keys.extend(timeout.map(|ms| format!("timeout = \"{ms}ms\"")));
    Some(("check", format!("{{ {} }}", keys.join(", "))))
}

/// `http-check expect status 200` or `200-399`.
fn expected(section: &Section, notes: &mut Notes) -> Option<String> {
    let line = section.all().rev().find(|line| line.is(&["http-check", "expect"]))?;
    let range = after(line, "status").and_then(|text| {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        Some((low.parse::<u16>().ok()?, high.parse::<u16>().ok()?))
    });
    let range = range.filter(|(low, high)| *low >= 100 && low <= high && *high <= 599 && line.word(2) == "status");
    if range.is_none() {
        notes.push((line.number, format!("{} (see `status` of `check`)", line.text())));
    }
    range.map(|(low, high)| format!("status = [{low}, {high}]"))
}

fn after<'a>(line: &'a Line, name: &str) -> Option<&'a str> {
    let at = line.words.iter().position(|word| word == name)?;
    line.words.get(at + 1).map(String::as_str)
}

/// Bounds towards instances.
fn limits(section: &Section, servers: &Servers) -> Keys {
    let timeout =
        |name: &str| section.last(&["timeout", name]).and_then(|line| duration_ms(line.word(2))).filter(|ms| *ms > 0);
    let mut parts = Vec::new();
    let mut part = |key: &str, ms: Option<u64>| parts.extend(ms.map(|ms| format!("{key} = \"{ms}ms\"")));
    part("connect_timeout", timeout("connect"));
    if section.is_tcp() {
        part("tunnel_idle", timeout("tunnel").or(timeout("server")));
    } else {
        part("response_timeout", timeout("server"));
        part("idle_timeout", timeout("server"));
        part("tunnel_idle", timeout("tunnel"));
    }
    // A bound holds for each instance of a service: the smallest one harms nobody.
    let most =
        servers.lines.iter().filter_map(|line| value(line, "maxconn")?.parse::<u32>().ok()).filter(|most| *most > 0);
    parts.extend(most.min().map(|most| format!("in_flight = {most}")));
    let mut keys = Keys::new();
    if !parts.is_empty() {
        keys.push(("limits", format!("{{ {} }}", parts.join(", "))));
    }
    keys.extend(timeout("queue").map(|ms| ("hold", format!("{{ max = \"{ms}ms\" }}"))));
    let retries = section.last(&["retries"]).and_then(|line| line.word(1).parse::<u8>().ok()).filter(|max| *max <= 10);
    keys.extend(retries.map(|max| ("retries", format!("{{ max = {max} }}"))));
    keys
}

/// Bounds of a section's clients, as keys of a listener.
pub(super) fn client_limits(section: &Section) -> Keys {
    let timeout =
        |name: &str| section.last(&["timeout", name]).and_then(|line| duration_ms(line.word(2))).filter(|ms| *ms > 0);
    let mut parts = Vec::new();
    if !section.is_tcp() {
        for (key, name) in
            [("head_timeout", "http-request"), ("body_idle", "client"), ("keep_alive", "http-keep-alive")]
        {
            parts.extend(timeout(name).map(|ms| format!("{key} = \"{ms}ms\"")));
        }
    }
    let most = section.last(&["maxconn"]).and_then(|line| line.word(1).parse::<u32>().ok()).filter(|most| *most > 0);
    parts.extend(most.map(|most| format!("connections = {most}")));
    if parts.is_empty() { Vec::new() } else { vec![("limits", format!("{{ {} }}", parts.join(", ")))] }
}

/// The name of a group's cookie.
pub(super) fn cookie(section: &Section) -> Option<&str> {
    section.last(&["cookie"]).filter(|_| !section.is_tcp()).map(|line| line.word(1))
}

/// The names of an array of text.
pub(super) fn names(all: &[String]) -> String {
    array(all.iter().map(|one| string(one)))
}

/// A time as HAProxy writes one (chapter 2.5), in milliseconds, which go without saying.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let each = match &text[digits..] {
        "us" => return Some(number.div_ceil(1000)),
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(each)
}
