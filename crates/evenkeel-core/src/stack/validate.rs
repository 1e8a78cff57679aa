//! What the types alone cannot say: names that must exist, numbers that must fit each other, addresses that need
//! a port. All faults are found, not just the first.
//!
//! What concerns listeners and routes is in `reach`, what concerns one service in `service`; keys that have a module of
//! their own are checked there.

mod reach;
mod service;

use crate::snapshot::Protocol;

pub(super) use self::{reach::is_host, service::signal_number};
use self::{
    reach::{check_listener, check_route},
    service::check_service,
};
use super::{
    Listener, Service, Stack, choice, console,
    diagnostics::{Diagnostic, Severity},
    drills,
    listener::ClientLimits,
    names::nearest,
    objectives, order, secrets, stream, transform,
    tree::Tree,
    useless,
};

/// Fills in what an empty file means and returns every fault; where there is none, every warning. `useless` is what is
/// meant to have an effect and has none, although nothing is wrong with it otherwise.
pub(super) fn validate(stack: &mut Stack, tree: &Tree, useless: Severity) -> Vec<Diagnostic> {
    fill_in(stack);
    let mut faults = Faults { tree, useless, found: Vec::new() };
    check_head(stack, &mut faults);
    for (name, listener) in &stack.listeners {
        check_listener(name, listener, stack, &mut faults);
    }
    for (index, route) in stack.routes.iter().enumerate() {
        check_route(index, route, stack, &mut faults);
    }
    for (name, service) in &stack.services {
        check_service(name, service, stack, &mut faults);
    }
    secrets::check(stack, &mut |path, message, help| faults.add(path, message, help));
    transform::check(stack, &mut |path, message, help| faults.add(path, message, help));
    choice::check(stack, &mut |path, message, help| faults.add(path, message, help));
    stream::check(stack, &mut |path, message, help| faults.add(path, message, help));
    console::check(stack, &mut |path, message, help| faults.add(path, message, help));
    order::check(stack, &mut |path, message, help| faults.useless(path, message, help));
    objectives::check(stack, &mut |path, message, help| faults.add(path, message, help));
    check_drills(stack, &mut faults);
    drills::check_schedule(stack, &mut |path, message, help| faults.add(path, message, help));
    if stack.journal.size < super::Journal::LEAST {
        let message = format!("`{}` is too small for a journal", stack.journal.size);
        faults.add(&["journal", "size"], message, Some(format!("at least {}", super::Journal::LEAST)));
    }
    if faults.found.iter().all(|fault| fault.severity == Severity::Warning) {
        useless::check(stack, tree, &mut |path, message, help| {
            faults.say(Severity::Warning, path, message, Some(help));
        });
    }
    faults.found.sort_by_key(|fault| fault.span.as_ref().map_or(0, |span| span.start));
    faults.found
}

/// One listener and one route go without saying where they can mean only one thing.
fn fill_in(stack: &mut Stack) {
    if stack.listeners.is_empty() {
        let bind = std::net::SocketAddr::from(([127, 0, 0, 1], 8080));
        let listener = Listener {
            bind,
            protocol: Protocol::Http,
            service: None,
            proxy_protocol: false,
            trusted: Vec::new(),
            strict: crate::snapshot::Strictness::default(),
            limits: ClientLimits::default(),
            error_pages: std::collections::BTreeMap::new(),
        };
        stack.listeners.insert("web".to_owned(), listener);
    }
    stream::fill_in(stack);
    for service in stack.services.values_mut().filter(|service| service.files.is_some()) {
        service.check.get_or_insert_with(Service::default_check_of_files);
    }
}

/// Collects faults and knows where each path stands.
struct Faults<'a> {
    tree: &'a Tree<'a>,
    /// How much it matters that something has no effect.
    useless: Severity,
    found: Vec<Diagnostic>,
}

impl Faults<'_> {
    fn add(&mut self, path: &[&str], message: impl Into<String>, help: Option<String>) {
        self.say(Severity::Error, path, message, help);
    }

    fn useless(&mut self, path: &[&str], message: impl Into<String>, help: Option<String>) {
        self.say(self.useless, path, message, help);
    }

    fn say(&mut self, severity: Severity, path: &[&str], message: impl Into<String>, help: Option<String>) {
        self.found.push(Diagnostic { severity, message: message.into(), help, span: self.tree.span(path) });
    }

    /// A name that must be a key of something.
    fn must_exist<'n>(
        &mut self,
        path: &[&str],
        kind: &str,
        name: &str,
        known: impl Iterator<Item = &'n String> + Clone,
    ) {
        if known.clone().any(|other| other == name) {
            return;
        }
        let help = nearest(name, known.clone().map(String::as_str)).map_or_else(
            || {
                let all: Vec<&str> = known.map(String::as_str).collect();
                if all.is_empty() { format!("the file has no {kind}") } else { format!("there is: {}", all.join(", ")) }
            },
            |near| format!("did you mean `{near}`?"),
        );
        self.add(path, format!("there is no {kind} `{name}`"), Some(help));
    }
}

fn check_head(stack: &Stack, faults: &mut Faults) {
    if !is_name(&stack.stack.name) {
        faults.add(&["stack", "name"], format!("`{}` is not a name", stack.stack.name), Some(NAME_RULE.to_owned()));
    }
    if stack.services.is_empty() {
        let help = "add one, as [services.web] with run = [\"node\", \"server.js\"]".to_owned();
        faults.add(&["services"], "the file has no service", Some(help));
    }
    if !stream::leads_somewhere(stack) && stack.services.len() > 1 {
        let help = "add [[routes]] with host or path, and service".to_owned();
        faults.add(&["services"], "several services but no route: nobody could reach them", Some(help));
    }
    if stack.edge.threads.is_some_and(|threads| threads == 0 || threads > 256) {
        faults.add(&["edge", "threads"], "`edge.threads` must be from 1 to 256", None);
    }
    if stack.logs.files == 0 {
        faults.add(&["logs", "files"], "`logs.files` must be at least 1", None);
    }
}

const NAME_RULE: &str = "lower-case letters, digits and hyphens, starting with a letter, at most 40 characters";

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 40 && text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(fits)
}

fn check_drills(stack: &Stack, faults: &mut Faults) {
    if !stack.drills.read.starts_with('/') {
        faults.add(&["drills", "read"], format!("`{}` is not a path", stack.drills.read), None);
    }
    if let Some(write) = &stack.drills.write {
        if !write.post.starts_with('/') {
            faults.add(&["drills", "write", "post"], format!("`{}` is not a path", write.post), None);
        }
        if !write.verify.starts_with('/') || !write.verify.contains("{key}") {
            let help = Some("as `/api/orders?key={key}`".to_owned());
            faults.add(&["drills", "write", "verify"], "must be a path with `{key}` in it", help);
        }
    }
    if let Some(name) = &stack.drills.dependency {
        faults.must_exist(&["drills", "dependency"], "service", name, stack.services.keys());
    }
}
