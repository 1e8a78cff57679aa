//! The file: what was found, with comments that say what may be wanted next.
//!
//! The first thing found becomes the stack; further ones become a note, since two descriptions of one application
//! cannot both run. A file without anything found is a template that is valid as it stands. It owns no state.

use super::{
    found::{Found, Listener, Page, Route, Service, Source},
    toml::{array, comment, key, string},
};

const DEFAULT_BIND: &str = "127.0.0.1:8080";

/// The text of the stack file. `more_notes` come from what is no stack by itself.
pub(super) fn render(name: &str, all: &[Found], more_notes: &[String]) -> String {
    let template = template();
    let (first, others) = all.split_first().unwrap_or((&template, &[]));
    let made = if all.is_empty() {
        "Made by `keel init`, which found no application that it knows: put its command below.".to_owned()
    } else {
        format!("Made by `keel init` from {}.", first.source)
    };
    let mut parts =
        vec![comment(&made), comment("`keel validate keel.toml` says what it means; `keel up keel.toml` runs it.")];
    parts.extend(others.iter().map(also));
    parts.push(format!("\n[stack]\nname = {}\n", string(name)));
    parts.push(listeners(first));
    parts.push(routes(first));
    parts.extend(first.services.iter().map(service));
    parts.push(DRILLS.to_owned());
    if !first.closed.is_empty() {
        parts.push("\n# Closed, until you decide (the routes above say what):\n".to_owned());
        parts.extend(first.closed.iter().map(|place| comment(&format!("- {place}"))));
    }
    let notes: Vec<String> = first.notes.iter().chain(more_notes).map(|note| comment(&format!("- {note}"))).collect();
    if !notes.is_empty() {
        parts.push("\n# What to look at before this goes live:\n".to_owned());
    }
    parts.extend(notes);
    parts.concat()
}

fn template() -> Found {
    let service = Service::run("web", ["./your-program", "--port", "{port}"])
        .comment("Put the command of your application here: program and arguments, without a shell. Each instance")
        .comment("must listen on the port that it gets as {port} and as the variable PORT.");
    Found { services: vec![service], ..Found::default() }
}

/// Something else that was found.
fn also(other: &Found) -> String {
    let run = other.services.first().and_then(|service| match &service.source {
        Source::Run(command) => {
            Some(format!("; as a service: run = {}", array(command.iter().map(|word| string(word)))))
        }
        Source::Instances(_) | Source::Files(..) | Source::Page(_) => None,
    });
    comment(&format!("Also found: {} ({}){}", other.source, other.what, run.unwrap_or_default()))
}

fn listeners(found: &Found) -> String {
    let table = |(name, bind): (&str, &str)| format!("[listeners.{}]\nbind = {}\n", key(name), string(bind));
    let whole = |(name, listener): (&String, &Listener)| {
        let more = listener.more.iter().map(|(key, value)| format!("{key} = {value}\n"));
        table((name, &listener.bind)) + &more.collect::<String>()
    };
    if found.listeners.is_empty() {
        let lead = "\n# Where clients connect. For everybody: bind = \"0.0.0.0:80\".\n";
        return format!("{lead}{}", table(("web", DEFAULT_BIND)));
    }
    let tables: Vec<String> = found.listeners.iter().map(whole).collect();
    format!("\n# Where clients connect.\n{}", tables.join("\n"))
}

fn routes(found: &Found) -> String {
    let everything = found.services.first().map(|service| Route {
        path: "/".to_owned(),
        service: service.name.clone(),
        ..Route::default()
    });
    let only_others = !found.listeners.is_empty() && !found.listeners.values().any(Listener::is_http);
    if found.routes.is_empty() && only_others {
        return String::new();
    }
    let routes = if found.routes.is_empty() { everything.as_slice() } else { &found.routes };
    let tables: Vec<String> = routes.iter().map(route).collect();
    format!("\n# Which request goes where: by host, then longest path, then order.\n{}", tables.join("\n"))
}

fn route(route: &Route) -> String {
    // Keys that are to be copied stay on one line.
    let note = |line: &String| if line.starts_with(' ') { format!("# {line}\n") } else { comment(line) };
    let mut lines: Vec<String> = route.comments.iter().map(note).collect();
    lines.push("[[routes]]\n".to_owned());
    let path = (route.path != "/").then(|| route.path.clone());
    let service = Some(route.service.clone()).filter(|service| !service.is_empty());
    for (name, value) in [("listener", &route.listener), ("host", &route.host), ("path", &path), ("service", &service)]
    {
        lines.extend(value.as_ref().map(|value| format!("{name} = {}\n", string(value))));
    }
    lines.extend(route.more.iter().map(|(name, value)| format!("{name} = {value}\n")));
    lines.concat()
}

fn service(service: &Service) -> String {
    let comments: String = service.comments.iter().map(|line| comment(line)).collect();
    let mut lines = vec![format!("[services.{}]\n", key(&service.name))];
    match &service.source {
        Source::Run(command) => {
            lines.push(format!("run = {}\n", array(command.iter().map(|word| string(word)))));
            lines.push("replicas = 3\n".to_owned());
        }
        Source::Instances(instances) => lines.push(format!("instances = {}\n", fixed(instances))),
        Source::Page(page) => {
            lines.push(format!("page = {}\n", page_of(page)));
            return format!("\n{comments}{}", lines.concat());
        }
        Source::Files(dir, fallback) => {
            lines.push(match fallback {
                None => format!("files = {}\n", string(dir)),
                Some(file) => format!("files = {{ dir = {}, fallback = {} }}\n", string(dir), string(file)),
            });
            lines.push("# So that one can be replaced, or die, while the other answers.\nreplicas = 2\n".to_owned());
        }
    }
    lines.extend(service.balance.map(|balance| format!("balance = {}\n", string(balance))));
    lines.extend(service.compress.then(|| "compress = true\n".to_owned()));
    lines.extend(service.more.iter().map(|(key, value)| format!("{key} = {value}\n")));
    match &service.check {
        Some(path) => lines.push(format!("check = {{ http = {}, interval = \"1s\" }}\n", string(path))),
        None if service.asleep || matches!(service.source, Source::Files(..)) => {}
        None if service.more.iter().any(|(key, _)| *key == "check") => {}
        None => lines.push(CHECK.to_owned()),
    }
    if matches!(service.source, Source::Run(_)) && !service.asleep {
        lines.push(if service.check.is_some() { LIVENESS } else { NO_LIVENESS }.to_owned());
    }
    if !service.env.is_empty() {
        let pairs = service.env.iter().map(|(name, value)| format!("{} = {}", key(name), string(value)));
        lines.push(format!("env = {{ {} }}\n", pairs.collect::<Vec<_>>().join(", ")));
    }
    if service.asleep {
        lines = lines.into_iter().map(|line| format!("# {line}")).collect();
    }
    format!("\n{comments}{}", lines.concat())
}

fn page_of(page: &Page) -> String {
    let kind = page.content_type.as_ref().map_or_else(String::new, |kind| format!(", content_type = {}", string(kind)));
    format!("{{ text = {}, status = {}{kind} }}", string(&page.text), page.status)
}

const CHECK: &str = "\
# Better than \"accepts a connection\": a path that answers 2xx only when an instance can serve.
# check = { http = \"/healthz\", interval = \"1s\" }
";

const LIVENESS: &str = "\
# Kills and restarts an instance that answers nothing for so long; any answer below 500 will do.
liveness = { http = \"/\", after = \"30s\" }
";

const NO_LIVENESS: &str = "\
# Without this an instance that hangs gets no requests, but is not restarted either. It needs a path
# that every healthy instance answers within a second (any status below 500 will do), which only you
# know: on another one it would have good instances killed.
# liveness = { http = \"/\", after = \"30s\" }
";

fn fixed(instances: &[(String, u32)]) -> String {
    array(instances.iter().map(|(address, weight)| match weight {
        1 => string(address),
        weight => format!("{{ address = {}, weight = {weight} }}", string(address)),
    }))
}

const DRILLS: &str = "
# `keel drill run kill-instance` shows what clients see when an instance dies: it reads this path
# all the time, which should answer 2xx.
# [drills]
# read = \"/\"
";
