//! A `server` with its locations, as routes.
//!
//! What a location answers goes into a [`Plan`], which knows how the places of a server bear on each other. A location
//! or server with a guard is never led to an instance, whatever else stands in it. It reads nothing but directives.

use super::{
    super::{answers::Closed, found::Page, toml::string},
    guards::{self, Guard},
    patterns::{self, Spot},
    plan::{self, Answer, Plan, Planned},
    rails,
    syntax::Directive,
    transform,
    translate::{Place, WITHOUT_TLS, Work, authority_and_uri, places},
};

/// A server that is being read.
struct Around<'a> {
    /// Its own directives.
    server: &'a [Directive],
    plan: Plan,
}

impl Work {
    /// Makes routes of a server, which `outer` guards from around it.
    pub(super) fn server(&mut self, server: &Directive, outer: &[Guard]) {
        if self.without_tls && only_moves_to_tls(server) {
            return self.leave_out(server, "whatever has TLS for now must do this too");
        }
        let mut listeners = self.listen(server);
        let hosts = self.hosts(server);
        if listeners.is_empty() {
            self.leave_out(server, "none of its addresses can be bound, so clients reach it at 127.0.0.1:8080 for now");
            listeners.push(self.listener(WITHOUT_TLS));
        }
        let mut all = guards::in_force(outer, server.inside());
        let mut around = Around { server: server.inside(), plan: Plan::default() };
        if let Some(answer) = server.inside().iter().find(|one| one.name == "return") {
            // It answers before any location is looked for, and before anybody's address or password is.
            all.retain(is_before_return);
            self.answer(&mut around, answer, &all, ("/", false, false));
        } else {
            for directive in server.inside() {
                match directive.name.as_str() {
                    "listen" | "server_name" => {}
                    "location" => self.location(&mut around, directive, &all, None),
                    // Locations without one of their own have it from here.
                    "limit_req" if self.declared.rate(directive).is_some() => {}
                    _ => self.setting(directive),
                }
            }
        }
        around.plan.settle(&self.source, &all);
        let unnamed = hosts.is_empty() && around.plan.places.iter().any(|one| one.answer.is_shut());
        if unnamed {
            let what =
                "all of its names are patterns, and something in it is closed: see that no other route leads there";
            self.leave_out(server, what);
        }
        self.expand(around.plan, &places(&listeners, &hosts));
    }

    /// `within`: the path of the location in which it stands.
    fn location(&mut self, around: &mut Around<'_>, location: &Directive, outer: &[Guard], within: Option<&str>) {
        let all = guards::in_force(outer, location.inside());
        let spot = patterns::spot(location);
        if !matches!(spot, Spot::Pattern(_)) {
            for nested in location.inside().iter().filter(|one| one.name == "location") {
                let own = if let Spot::Prefix { path, .. } = &spot { Some(path.as_str()) } else { within };
                self.location(around, nested, &all, own);
            }
        }
        match spot {
            Spot::Prefix { path, firm } => {
                let begins = location.args.last().is_some_and(|text| !text.ends_with('/'));
                self.place(around, location, &all, (&path, false, !firm), begins);
            }
            Spot::Exact(path) => self.place(around, location, &all, (&path, true, false), false),
            Spot::Pattern(_) | Spot::Odd if guards::any(location.inside()) => {
                let covers = if let Spot::Pattern(covers) = spot { covers } else { vec!["/".to_owned()] };
                around.plan.refuse(covers, refusal(location), within);
            }
            Spot::Named | Spot::Pattern(_) => {
                self.leave_out(location, "a pattern or a name; routes match whole parts of a path");
            }
            Spot::Odd => self.leave_out(location, "no path"),
        }
    }

    /// A location with a path; `at` has the path, whether it is meant alone, and whether patterns come before it.
    fn place(
        &mut self,
        around: &mut Around<'_>,
        location: &Directive,
        all: &[Guard],
        at: (&str, bool, bool),
        begins: bool,
    ) {
        let inside = location.inside();
        if let Some(answer) = inside.iter().find(|one| one.name == "return") {
            let before: Vec<Guard> = all.iter().filter(|guard| is_before_return(guard)).cloned().collect();
            return self.answer(around, answer, &before, at);
        }
        let pass = inside.iter().find(|one| one.name == "proxy_pass");
        let open = pass.and_then(|pass| Some((self.destination(pass)?, pass)));
        let open = open.map(|(service, pass)| {
            let (_, uri) = authority_and_uri(pass.arg());
            let keys = transform::keys(location, around.server, uri);
            let rates = self.rates(location, around.server);
            (service, rates.into_iter().chain(self.split(pass)).chain(keys).collect::<Vec<_>>())
        });
        let was = open.as_ref().map(|(service, more)| {
            std::iter::once(("service", string(service))).chain(more.iter().cloned()).collect::<Vec<_>>()
        });
        let (path, exact, tested) = at;
        let planned = |answer| Planned { path: path.to_owned(), exact, tested, answer };
        if !all.is_empty() {
            let beside = beside(path, exact, begins);
            let closed = Closed { was: was.unwrap_or_default(), ..plan::closed(&self.source, all, &beside) };
            around.plan.add(planned(Answer::Closed(closed)));
            return;
        }
        let Some((service, mut more)) = open else {
            if pass.is_none() && !inside.iter().any(|one| one.name == "location") {
                self.leave_out(location, "it leads to no instance");
            }
            return self.settings(location);
        };
        self.settings(location);
        let others = inside.iter().find_map(|one| self.methods(one, was.as_deref().unwrap_or_default()));
        let others = others.map(|(methods, closed)| {
            more.push(("methods", methods));
            closed
        });
        if exact {
            self.leave_out(location, "translated, but it covers what lies below it too");
        }
        if !around.plan.add(planned(Answer::Open { service, more, others })) {
            self.leave_out(location, "another location of this path is translated, and routes do not tell them apart");
        }
    }

    /// `limit_except GET { deny all; }`: the methods that are free, and what becomes of the others.
    fn methods(&self, directive: &Directive, was: &[(&'static str, String)]) -> Option<(String, Closed)> {
        let guards = guards::in_force(&[], directive.inside());
        if directive.name != "limit_except" || guards.is_empty() {
            return None;
        }
        let mut methods: Vec<&str> = directive.args.iter().map(String::as_str).collect();
        // "Allowing the GET method makes the HEAD method also allowed": ngx_http_core_module, limit_except.
        if methods.contains(&"GET") && !methods.contains(&"HEAD") {
            methods.push("HEAD");
        }
        methods.retain(|method| method.bytes().all(|byte| byte.is_ascii_uppercase()) && !method.is_empty());
        let methods: Vec<String> = methods.into_iter().map(string).collect();
        let words = format!("{} {{ {} }}", directive.words(), guards[0].words);
        let guard = Guard::new(directive.line, &words, guards[0].status);
        let closed = plan::closed(&self.source, &[guard], "Other methods go to the route above.");
        Some((super::super::toml::array(methods), Closed { was: was.to_vec(), ..closed }))
    }

    /// A `return` in force for a place, which `all` guards before that.
    fn answer(&mut self, around: &mut Around<'_>, directive: &Directive, all: &[Guard], at: (&str, bool, bool)) {
        let (path, exact, tested) = at;
        let answer = if all.is_empty() {
            let Some(answer) = self.answer_of(directive, around.server) else { return };
            answer
        } else {
            Answer::Closed(plan::closed(&self.source, all, &beside(path, exact, false)))
        };
        if exact && !answer.is_shut() {
            self.leave_out(directive, "translated, but it covers what lies below it too");
        }
        if !around.plan.add(Planned { path: path.to_owned(), exact, tested, answer }) {
            self.leave_out(directive, "another location of this path is translated, and routes do not tell them apart");
        }
    }

    /// What a `return` answers; `None` where nothing is to be made of it.
    fn answer_of(&mut self, directive: &Directive, server: &[Directive]) -> Option<Answer> {
        let because = format!("{} line {}: `{}`", self.source, directive.line, directive.words());
        let closed = |beside: &str| {
            let (because, beside) = (because.clone(), beside.to_owned());
            Some(Answer::Closed(Closed { because, beside, status: 403, was: Vec::new() }))
        };
        let text = directive.args.get(1).map_or("", String::as_str);
        match guards::status(directive) {
            Some(status @ 400..) => {
                // 444 closes the connection without a word, which is no answer of a page.
                let status = if status == 444 || status > 599 { 403 } else { status };
                let service = if text.is_empty() || text.contains('$') {
                    self.closed_page(status)
                } else {
                    self.text_page(status, text, server)
                };
                Some(Answer::Page { service, status, because })
            }
            Some(status @ 200..300) if !text.contains('$') => {
                // A page has a body, which these have not.
                let status = if [204, 205].contains(&status) { 200 } else { status };
                Some(Answer::Page { service: self.text_page(status, text, server), status, because })
            }
            Some(200..300) => closed("Its text has variables, which a page has not."),
            _ => match rails::redirect(directive, self.without_tls) {
                Some(to) if to.contains("https://") && self.without_tls && !directive.words().contains("$scheme") => {
                    self.leave_out(directive, "whatever has TLS for now must do this too");
                    None
                }
                Some(to) => Some(Answer::Redirect(to)),
                None => closed("Where it sends clients has words that `redirect` of a route has not."),
            },
        }
    }

    fn text_page(&mut self, status: u16, text: &str, server: &[Directive]) -> String {
        let kind = server.iter().find(|one| one.name == "default_type").map(|one| one.arg().to_owned());
        let visible = |kind: &String| !kind.is_empty() && kind.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let page = Page { status, text: text.to_owned(), content_type: kind.filter(visible) };
        self.page("answer", page)
    }

    fn settings(&mut self, location: &Directive) {
        for directive in location.inside() {
            match directive.name.as_str() {
                "location" | "proxy_pass" | "return" => {}
                "limit_req" if self.declared.rate(directive).is_some() => {}
                _ => self.setting(directive),
            }
        }
    }

    /// Writes the routes of a plan, for each of these places.
    fn expand(&mut self, plan: Plan, places: &[Place]) {
        for place in plan.places {
            let hosts: Vec<&str> = places.iter().filter_map(|(_, host)| host.as_deref()).collect();
            let hosts = (!hosts.is_empty()).then(|| hosts.join(", "));
            let mut comments = Vec::new();
            let (service, more, others) = match place.answer {
                Answer::Open { service, more, others } => (service, more, others),
                Answer::Redirect(to) => (String::new(), vec![("redirect", to)], None),
                Answer::Page { service, because, .. } => {
                    comments.push(because);
                    (service, Vec::new(), None)
                }
                Answer::Closed(closed) => (String::new(), Vec::new(), Some(closed)),
            };
            let other = others.map(|closed| {
                self.closed.push(closed.summary(hosts.as_deref(), &place.path));
                (self.closed_page(closed.status), closed)
            });
            let mut first = true;
            for (listener, host) in places {
                let route = |service: &str, comments, more| super::super::found::Route {
                    comments,
                    listener: Some(listener.clone()),
                    host: host.clone(),
                    path: place.path.clone(),
                    service: service.to_owned(),
                    more,
                };
                let mut batch = Vec::new();
                if !service.is_empty() || !more.is_empty() {
                    batch.push(route(&service, comments.clone(), more.clone()));
                }
                if let Some((page, closed)) = &other {
                    let short = || vec![format!("CLOSED, as said above: {}.", closed.because)];
                    batch.push(route(page, if first { closed.comments() } else { short() }, Vec::new()));
                }
                first = false;
                self.put(batch);
            }
        }
    }
}

/// What is to be known of a closed place.
fn beside(path: &str, exact: bool, begins: bool) -> String {
    if exact {
        "What lies below it is closed too.".to_owned()
    } else if begins && path != "/" {
        format!("In nginx this took names that only begin so, as {path}-old: those are not closed here.")
    } else {
        String::new()
    }
}

/// What decides before `return` does.
fn is_before_return(guard: &Guard) -> bool {
    ["if ", "internal", "include ", "rewrite_by_lua"].iter().any(|name| guard.words.starts_with(name))
}

/// A pattern that refuses, with what it has inside.
fn refusal(location: &Directive) -> Guard {
    let inside = guards::in_force(&[], location.inside());
    let answer = location.inside().iter().find(|one| guards::refuses(one));
    let status = answer.and_then(guards::status).filter(|status| (400..=599).contains(status) && *status != 444);
    let words = answer.map(Directive::words).or_else(|| inside.first().map(|guard| guard.words.clone()));
    let words = words.unwrap_or_else(|| "…".to_owned());
    let status = status.or_else(|| inside.first().map(|guard| guard.status)).unwrap_or(403);
    Guard::new(location.line, &format!("{} {{ {words} }}", location.words()), status)
}

/// A server that does nothing but send clients to TLS, with a 404 for whatever it does not know.
fn only_moves_to_tls(server: &Directive) -> bool {
    let has = |name: &str| server.inside().iter().any(|one| one.name == name);
    let secure = |one: &Directive| one.inside().iter().any(|one| one.words().contains("https://"));
    let moves = server.inside().iter().any(|one| guards::only_moves(one) && secure(one));
    moves && !has("location") && server.inside().iter().any(guards::refuses)
}
