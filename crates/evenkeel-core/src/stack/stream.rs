//! What goes with listeners that are not HTTP and with PROXY headers: which keys need one another, and which mean
//! nothing there.

use std::collections::BTreeSet;

use super::{Check, ClientLimits, Listener, Route, Service, Stack};
use crate::snapshot::{HashBy, Protocol, Sticky};

/// Takes a fault: where, what, and what helps.
type Add<'a> = dyn FnMut(&[&str], String, Option<String>) + 'a;

/// Fills in what goes without saying: the route to the only service that no listener leads to, and how a service is
/// checked of which nothing but datagrams is known.
pub(super) fn fill_in(stack: &mut Stack) {
    let led_to: BTreeSet<String> = stack.listeners.values().filter_map(|listener| listener.service.clone()).collect();
    let has_http = stack.listeners.values().any(|listener| listener.protocol == Protocol::Http);
    if stack.routes.is_empty() && has_http {
        let mut others = stack.services.keys().filter(|name| !led_to.contains(*name));
        if let (Some(only), None) = (others.next(), others.next()) {
            stack.routes.push(Route::everything_to(only));
        }
    }
    let datagrams = reached(stack, |listener| listener.protocol == Protocol::Udp);
    let connections = reached(stack, |listener| listener.protocol == Protocol::Tcp);
    let requests = asked(stack);
    let only_datagrams = |name: &String| {
        datagrams.contains(name.as_str()) && !connections.contains(name.as_str()) && !requests.contains(name.as_str())
    };
    let names: Vec<String> = stack.services.keys().filter(|name| only_datagrams(name)).cloned().collect();
    for name in names {
        if let Some(service) = stack.services.get_mut(&name) {
            service.check.get_or_insert_with(Check::of_datagrams);
        }
    }
}

/// Whether clients have any way to some service: a route, or a listener that leads there.
pub(super) fn leads_somewhere(stack: &Stack) -> bool {
    !stack.routes.is_empty() || stack.listeners.values().any(|listener| listener.service.is_some())
}

/// Finds every fault.
pub(super) fn check(stack: &Stack, add: &mut Add<'_>) {
    for (name, listener) in &stack.listeners {
        check_listener(name, listener, stack, add);
    }
    for (index, route) in stack.routes.iter().enumerate() {
        let named = route.listener.as_ref().and_then(|name| stack.listeners.get(name));
        if let Some(listener) = named.filter(|listener| listener.protocol != Protocol::Http) {
            let message = format!("this listener speaks {}: it has no requests that could match", word(listener));
            let help = Some("leave the route out; the listener's own `service` gets everything".to_owned());
            add(&["routes", &index.to_string(), "listener"], message, help);
        }
    }
    let (datagrams, connections) = (
        reached(stack, |listener| listener.protocol == Protocol::Udp),
        reached(stack, |listener| listener.protocol == Protocol::Tcp),
    );
    let requests = asked(stack);
    for (name, service) in &stack.services {
        let (udp, tcp) = (datagrams.contains(name.as_str()), connections.contains(name.as_str()));
        if udp && service.proxy_protocol.is_some() {
            let help = Some("leave it out, or give the datagrams a service of their own".to_owned());
            add(&["services", name, "proxy_protocol"], "datagrams have no PROXY header".to_owned(), help);
        }
        if (udp || tcp) && service.page.is_some() {
            let message = "a page is an answer of HTTP, and a listener that speaks another protocol leads here";
            add(&["services", name, "page"], message.to_owned(), None);
        }
        if (udp || tcp) && service.fastcgi.is_some() && requests.contains(name.as_str()) {
            let message = "whoever speaks FastCGI with PHP can have it run anything, and a listener that speaks another \
                           protocol than HTTP leads here";
            add(&["services", name, "fastcgi"], message.to_owned(), None);
        }
        if service.fastcgi.is_some() && service.proxy_protocol.is_some() {
            let message = "instances of `fastcgi` get the client's address as a parameter";
            add(&["services", name, "proxy_protocol"], message.to_owned(), None);
        }
        if (udp || tcp) && !requests.contains(name.as_str()) {
            for key in keys_of_http(service) {
                let message = format!("`{key}` is for requests, and no route leads to `{name}`");
                add(&["services", name, key], message, Some("leave it out".to_owned()));
            }
        }
    }
}

fn check_listener(name: &str, listener: &Listener, stack: &Stack, add: &mut Add<'_>) {
    let path = |key| ["listeners", name, key];
    if listener.proxy_protocol && listener.trusted.is_empty() {
        let help = Some("as trusted = [\"10.0.0.0/8\"]: where the proxies are that send the header".to_owned());
        add(&path("proxy_protocol"), "anybody could say to be anybody: `trusted` is empty".to_owned(), help);
    }
    if listener.protocol == Protocol::Http {
        if listener.service.is_some() {
            let help = Some("use [[routes]], or set `protocol = \"tcp\"`".to_owned());
            add(&path("service"), "a listener of HTTP leads where its routes lead".to_owned(), help);
        }
        return;
    }
    let spoken = word(listener);
    match &listener.service {
        None => {
            let help = Some("as service = \"db\"".to_owned());
            add(&["listeners", name], format!("a listener that speaks {spoken} needs a `service`"), help);
        }
        Some(service) if !stack.services.contains_key(service) => {
            let all: Vec<&str> = stack.services.keys().map(String::as_str).collect();
            let near = super::nearest(service, all.iter().copied());
            let help =
                near.map_or_else(|| format!("there is: {}", all.join(", ")), |near| format!("did you mean `{near}`?"));
            add(&path("service"), format!("there is no service `{service}`"), Some(help));
        }
        Some(_) => {}
    }
    if listener.protocol == Protocol::Udp && listener.proxy_protocol {
        add(&path("proxy_protocol"), "datagrams have no PROXY header".to_owned(), None);
    } else if !listener.proxy_protocol && !listener.trusted.is_empty() {
        let message = format!("`trusted` says whose headers are believed, and {spoken} has none");
        add(&path("trusted"), message, Some("leave it out, or set `proxy_protocol`".to_owned()));
    }
    for key in limits_of_http(listener) {
        let message = format!("`{key}` is a bound on requests, and this listener speaks {spoken}");
        add(&["listeners", name, "limits", key], message, Some("leave it out".to_owned()));
    }
    let own = [
        ("strict", listener.strict != crate::snapshot::Strictness::default()),
        ("error_pages", !listener.error_pages.is_empty()),
    ];
    for (key, _) in own.into_iter().filter(|(_, given)| *given) {
        add(&path(key), format!("`{key}` is for requests, and this listener speaks {spoken}"), None);
    }
}

fn word(listener: &Listener) -> &'static str {
    match listener.protocol {
        Protocol::Http => "HTTP",
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

/// Limits that differ from their defaults and mean something in HTTP only.
fn limits_of_http(listener: &Listener) -> Vec<&'static str> {
    let (limits, default) = (&listener.limits, ClientLimits::default());
    let udp = listener.protocol == Protocol::Udp;
    let keys = [
        ("head", limits.head != default.head),
        ("headers", limits.headers != default.headers),
        ("target", limits.target != default.target),
        ("body", limits.body != default.body),
        ("head_timeout", limits.head_timeout != default.head_timeout && !listener.proxy_protocol),
        ("body_idle", limits.body_idle != default.body_idle),
        ("min_rate", limits.min_rate != default.min_rate),
        // Of UDP it is how long a client's session may be idle.
        ("keep_alive", limits.keep_alive != default.keep_alive && !udp),
        ("connections_per_client", limits.connections_per_client != default.connections_per_client && udp),
    ];
    keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect()
}

/// Keys of a service that mean something in HTTP only.
fn keys_of_http(service: &Service) -> Vec<&'static str> {
    let choice = super::compile_service("", service, Vec::new()).choice;
    let keys = [
        ("sticky", matches!(choice.sticky, Some(Sticky::Cookie { .. } | Sticky::Header(_)))),
        ("hash_by", choice.hash_by != HashBy::Address),
        ("fastcgi", service.fastcgi.is_some()),
        ("compress", service.compress.is_some()),
        ("error_pages", !service.error_pages.is_empty()),
    ];
    keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect()
}

/// Services that such listeners lead to, and whoever answers in their place.
pub(super) fn reached(stack: &Stack, is: impl Fn(&Listener) -> bool) -> BTreeSet<&str> {
    let first =
        stack.listeners.values().filter(|listener| is(listener)).filter_map(|listener| listener.service.as_deref());
    with_fallbacks(stack, first)
}

/// Services that requests get to.
pub(super) fn asked(stack: &Stack) -> BTreeSet<&str> {
    let routes = stack.routes.iter().flat_map(|route| {
        let others = route.split.iter().map(|split| split.service.as_str());
        others.chain(route.mirror.iter().map(|mirror| mirror.service.as_str())).chain([route.service.as_str()])
    });
    with_fallbacks(stack, routes)
}

/// These, and whoever answers in their place.
pub(super) fn with_fallbacks<'a>(stack: &'a Stack, first: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut all = BTreeSet::new();
    for name in first {
        let mut next = Some(name);
        while let Some(name) = next.filter(|name| all.insert(*name)) {
            next = stack.services.get(name).and_then(|service| service.fallback.as_deref());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use crate::{
        snapshot::{Probe, Protocol, ProxyHeader},
        stack::{compile_listeners, compile_routes, compile_service, parse},
    };

    const SERVICES: &str = "[services.shop]\nrun = [\"shop\"]\n[services.db]\ninstances = [\"10.0.0.5:5432\"]\n";

    fn refused(listeners: &str, wanted: &[&str]) {
        let text = format!("[stack]\nname = \"a\"\n{listeners}\n{SERVICES}");
        let faults = parse(&text, "keel.toml").expect_err("this file must be refused").to_string();
        for wanted in wanted {
            assert!(faults.contains(wanted), "`{wanted}` is missing from\n{faults}");
        }
    }

    #[test]
    fn listeners_of_every_protocol() {
        let text = format!(
            "[stack]\nname = \"a\"\n[listeners.web]\nbind = \"0.0.0.0:80\"\ntrusted = [\"10.0.0.0/8\"]\nproxy_protocol = true\n\
             [listeners.sql]\nbind = \"0.0.0.0:5432\"\nprotocol = \"tcp\"\nservice = \"db\"\nlimits.connections = 10\n\
             [listeners.dns]\nbind = \"0.0.0.0:53\"\nprotocol = \"udp\"\nservice = \"names\"\nlimits.keep_alive = \"5s\"\n\
             [listeners.dns-tcp]\nbind = \"0.0.0.0:53\"\nprotocol = \"tcp\"\nservice = \"names-tcp\"\n\
             {SERVICES}proxy_protocol = \"v2\"\n\
             [services.names]\ninstances = [\"10.0.0.6:53\"]\n[services.names-tcp]\ninstances = [\"10.0.0.6:53\"]\n"
        );
        let stack = parse(&text, "keel.toml").map_err(|faults| faults.to_string()).expect("this file is right");
        let listeners = compile_listeners(&stack);
        let named = |name: &str| listeners.iter().find(|listener| listener.name == name).expect("it is there");
        assert!(named("web").accepts_proxy && named("web").protocol == Protocol::Http);
        assert_eq!((named("sql").protocol, named("sql").service.as_deref()), (Protocol::Tcp, Some("db")));
        assert_eq!((named("dns").protocol, named("dns").limits.keep_alive_ms), (Protocol::Udp, 5000));
        let routes = compile_routes(&stack);
        assert_eq!(routes.len(), 1, "requests go to the only service that no listener leads to");
        assert_eq!(routes[0].service, "shop");
        let service = |name: &str| compile_service(name, &stack.services[name], Vec::new());
        assert_eq!(service("db").wire.sends_proxy, Some(ProxyHeader::V2));
        assert_eq!(service("names").check.expect("it has one").probe, Probe::Udp);
        assert!(service("names-tcp").check.is_none() && service("db").check.is_none());
    }

    #[test]
    fn a_stack_of_connections_alone_needs_no_route() {
        let listener = "[listeners.sql]\nbind = \"0.0.0.0:5432\"\nprotocol = \"tcp\"\nservice = \"db\"";
        let text = format!("[stack]\nname = \"a\"\n{listener}\n[services.db]\nrun = [\"db\"]\n");
        let stack = parse(&text, "keel.toml").expect("this file is right");
        assert!(stack.routes.is_empty());
    }

    #[test]
    fn what_does_not_go_together() {
        refused("[listeners.a]\nbind = \"0.0.0.0:1\"\nprotocol = \"tcp\"", &["needs a `service`"]);
        refused(
            "[listeners.a]\nbind = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nservice = \"bd\"",
            &["there is no service `bd`", "did you mean `db`?"],
        );
        refused("[listeners.a]\nbind = \"0.0.0.0:1\"\nservice = \"db\"", &["leads where its routes lead"]);
        refused("[listeners.a]\nbind = \"0.0.0.0:1\"\nproxy_protocol = true", &["`trusted` is empty"]);
        refused("[listeners.a]\nbind = \"0.0.0.0:1\"\nprotocol = \"sctp\"", &["`sctp` is not a value", "did you mean"]);
        refused(
            "[listeners.a]\nbind = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nservice = \"db\"\nstrict = \"report\"\n\
             trusted = [\"10.0.0.0/8\"]\nlimits = { body = \"1MiB\", keep_alive = \"1s\" }",
            &["`strict` is for requests", "`trusted` says", "`body` is a bound on requests", "`keep_alive` is a bound"],
        );
        refused(
            "[listeners.a]\nbind = \"0.0.0.0:1\"\nprotocol = \"udp\"\nservice = \"db\"\nproxy_protocol = true\n\
             trusted = [\"10.0.0.0/8\"]",
            &["datagrams have no PROXY header"],
        );
        refused(
            "[listeners.a]\nbind = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nservice = \"db\"\n[listeners.b]\nbind = \"0.0.0.0:1\"\n\
             [[routes]]\nlistener = \"a\"\nservice = \"shop\"",
            &["have the same address", "this listener speaks TCP"],
        );
        refused(
            "[listeners.a]\nbind = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nservice = \"sorry\"\n[services.sorry]\n\
             page = { text = \"Back soon.\" }\ncompress = true\nbalance = \"maglev\"\nhash_by = \"path\"\n",
            &["a page is an answer of HTTP", "`compress` is for requests", "`hash_by` is for requests"],
        );
        refused(
            "[listeners.a]\nbind = \"0.0.0.0:1\"\nprotocol = \"tcp\"\nservice = \"php\"\n[[routes]]\nservice = \"php\"\n\
             [services.php]\ninstances = [\"10.0.0.5:9000\"]\nfastcgi = { root = \"/srv/www\" }\n",
            &["can have it run anything"],
        );
    }
}
