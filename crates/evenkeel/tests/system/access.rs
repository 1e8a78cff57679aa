//! Who may do what: every route of the API's description, asked by nobody, by every role, and by pages elsewhere.

use evenkeel_core::access::Role;
use serde_json::{Value, json};

use crate::{
    browser::{Answer, Session, ask, link, token},
    rig::{Rig, instances},
};

fn console(rig: &Rig) -> String {
    rig.status().console.expect("it is served")
}

/// One line of the table.
struct Route {
    method: String,
    /// With something in place of what stands in braces.
    target: String,
    /// Which role it needs.
    role: Role,
}

impl Route {
    fn changes(&self) -> bool {
        self.method != "GET"
    }

    /// What it is asked with: nothing that could be carried out.
    fn body(&self) -> &'static str {
        if self.method == "POST" { "{\"nothing\": 1}" } else { "" }
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// The description, as a table; and the routes that it says are open to everybody.
fn described(description: &Value) -> (Vec<Route>, Vec<String>) {
    let (mut routes, mut open) = (Vec::new(), Vec::new());
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if operation["security"] == json!([]) {
                open.push(path.clone());
                continue;
            }
            let target = path.split('{').enumerate().map(|(index, part)| match index {
                0 => part.to_owned(),
                _ => format!("nothing{}", part.split_once('}').unwrap().1),
            });
            let role = operation["x-keel-role"].as_str().unwrap().parse().unwrap();
            routes.push(Route { method: method.to_uppercase(), target: target.collect(), role });
        }
    }
    (routes, open)
}

/// Everything that the routes are asked with.
struct Everybody {
    address: String,
    tokens: Vec<(Role, String)>,
    ended: String,
    revoked: String,
}

impl Everybody {
    fn of(rig: &Rig) -> Self {
        let tokens: Vec<(Role, String)> = Role::ALL.iter().map(|role| (*role, token(rig, role.as_str()))).collect();
        let create = |name: &str, more: &[&str]| {
            let made = rig.keel(&[&["token", "create", name, "--role", "admin", "--json"], more].concat());
            let made: Value = serde_json::from_slice(&made.stdout).unwrap();
            made["token"].as_str().unwrap().to_owned()
        };
        let revoked = create("revoked", &[]);
        assert!(rig.keel(&["token", "revoke", "revoked"]).status.success());
        let address = console(rig);
        let ended = Session::open(&link(rig, "admin"));
        assert_eq!(ended.ask("POST", "/console/sign-out", "").status, 204);
        Self { address, tokens, ended: ended.cookie, revoked }
    }

    fn ask(&self, route: &Route, fields: &[(&str, &str)]) -> Answer {
        ask(&self.address, &route.method, &route.target, fields, route.body())
    }

    fn admin(&self) -> String {
        format!("Bearer {}", self.tokens[2].1)
    }

    /// A session of its own for each role: some routes end all of them.
    fn session(&self, role: Role) -> Session {
        let body = json!({ "role": role }).to_string();
        let made = ask(&self.address, "POST", "/v1/console/links", &[("authorization", &self.admin())], &body);
        assert_eq!(made.status, 200, "{made:?}");
        let made = made.json();
        let (address, path) = (made["address"].as_str().unwrap(), made["path"].as_str().unwrap());
        Session::open(&format!("http://{address}{path}"))
    }

    /// Nobody in particular gets 401 and learns nothing.
    fn as_nobody(&self, route: &Route) {
        let port = self.address.rsplit_once(':').unwrap().1;
        let garbage = format!("keel_session_{port}={}", "0".repeat(64));
        let revoked = format!("Bearer {}", self.revoked);
        let cut = self.admin();
        let named = format!("keel_session_{port}=");
        for fields in [
            &[][..],
            &[("authorization", "Bearer keel_0000")],
            &[("authorization", "Bearer ")],
            &[("authorization", &cut[..cut.len() - 1])],
            &[("authorization", &revoked)],
            &[("authorization", "Basic YWRtaW46YWRtaW4=")],
            &[("cookie", &garbage)],
            &[("cookie", &named)],
            &[("cookie", &self.ended)],
        ] {
            let answer = self.ask(route, fields);
            assert_eq!(answer.status, 401, "{} with {fields:?}: {answer:?}", route.name());
            assert!(answer.field("www-authenticate").is_some() && answer.json()["error"].is_string(), "{answer:?}");
        }
    }

    /// A role that is too low gets 403; one that suffices gets beyond that.
    fn by_token(&self, route: &Route) {
        for (role, token) in &self.tokens {
            let answer = self.ask(route, &[("authorization", &format!("Bearer {token}"))]);
            judged(route, *role, "token", &answer);
        }
    }

    /// The same by session, where the page of the console asks.
    fn by_session(&self, route: &Route) {
        for role in Role::ALL {
            let session = self.session(role);
            judged(route, role, "session", &session.ask(&route.method, &route.target, route.body()));
        }
    }

    /// Whoever is signed in changes nothing by a page elsewhere, and reads nothing for it.
    fn by_pages_elsewhere(&self, route: &Route) {
        let (session, other) = (self.session(Role::Admin), self.session(Role::Admin));
        let cookie = ("cookie", session.cookie.as_str());
        let csrf = ("x-keel-csrf", session.csrf.as_str());
        let origin = ("origin", session.origin.as_str());
        let port = self.address.rsplit_once(':').unwrap().1;
        let name = format!("evil.example:{port}");
        let mut refused: Vec<(u16, Vec<(&str, &str)>)> = vec![
            (403, vec![cookie, csrf, ("sec-fetch-site", "cross-site")]),
            (403, vec![cookie, csrf, ("sec-fetch-site", "same-site")]),
            (403, vec![cookie, csrf, ("origin", "http://evil.example")]),
            (403, vec![cookie, csrf, ("origin", "http://127.0.0.1:1")]),
            (403, vec![cookie, csrf, ("origin", "null")]),
            (403, vec![cookie, csrf, origin, ("sec-fetch-site", "cross-site")]),
            (421, vec![cookie, csrf, origin, ("host", &name)]),
        ];
        if route.changes() {
            refused.extend([
                (403, vec![cookie]),
                (403, vec![cookie, origin]),
                (403, vec![cookie, ("sec-fetch-site", "same-origin")]),
                (403, vec![cookie, csrf]),
                (403, vec![cookie, csrf, ("sec-fetch-site", "none")]),
                (403, vec![cookie, origin, ("x-keel-csrf", "")]),
                (403, vec![cookie, origin, ("x-keel-csrf", &other.csrf)]),
            ]);
        }
        for (status, fields) in refused {
            let answer = self.ask(route, &fields);
            assert_eq!(answer.status, status, "{} with {fields:?}: {answer:?}", route.name());
        }
        assert_eq!(session.ask("GET", "/v1/status", "").status, 200, "the session itself was a good one");
    }

    /// A method that a path has not is nobody's, and only an admin learns that it has not.
    fn by_other_methods(&self, routes: &[Route], path: &str) {
        let has = |method: &str| routes.iter().any(|route| route.target == path && route.method == method);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].into_iter().filter(|method| !has(method)) {
            let route = Route { method: method.to_owned(), target: path.to_owned(), role: Role::Admin };
            assert_eq!(self.ask(&route, &[]).status, 401, "{}", route.name());
            let answer = self.ask(&route, &[("authorization", &self.admin())]);
            assert_eq!(answer.status, 405, "{}: {answer:?}", route.name());
        }
    }
}

fn judged(route: &Route, role: Role, by: &str, answer: &Answer) {
    let what = format!("{} by {by} as {role}: {answer:?}", route.name());
    assert_eq!(answer.status == 403, role < route.role, "{what}");
    if role < route.role {
        assert!(answer.body.contains(&format!("needs the role {}", route.role)), "{what}");
    } else {
        assert!(answer.status != 401 && answer.status < 500, "{what}");
    }
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{what}");
    assert!(answer.field("access-control-allow-origin").is_none(), "{what}");
}

#[test]
fn every_route_asks_who_is_there_and_what_they_may() {
    let rig = Rig::shop();
    let everybody = Everybody::of(&rig);
    let before = rig.status();
    let description = ask(&everybody.address, "GET", "/v1/openapi.json", &[("authorization", &everybody.admin())], "");
    let (routes, open) = described(&description.json());
    assert_eq!(open, ["/metrics"]);
    for known in ["GET /v1/status", "POST /v1/apply", "POST /v1/deploy", "GET /v1/secrets", "DELETE /v1/tokens/nothing"]
    {
        assert!(routes.iter().any(|route| route.name() == known), "{known} is not described");
    }
    assert!(routes.len() >= 28 && routes.iter().filter(|route| route.changes()).count() >= 16, "{}", routes.len());
    for role in Role::ALL {
        assert!(routes.iter().any(|route| route.role == role), "nothing is described for {role}");
    }

    // Nobody is let wait a little, so that is asked side by side; some of what is permitted ends all sessions.
    std::thread::scope(|scope| {
        for part in routes.chunks(routes.len().div_ceil(12)) {
            let (everybody, routes) = (&everybody, &routes);
            scope.spawn(move || {
                for route in part {
                    everybody.as_nobody(route);
                    everybody.by_other_methods(routes, &route.target);
                }
            });
        }
    });
    for route in &routes {
        everybody.by_pages_elsewhere(route);
        everybody.by_token(route);
        everybody.by_session(route);
    }
    for unknown in ["/v1/", "/v1/nothing", "/v1/status/", "/console/nothing", "/v1", "/nothing"] {
        let route = Route { method: "GET".to_owned(), target: unknown.to_owned(), role: Role::Admin };
        everybody.as_nobody(&route);
        assert_eq!(everybody.ask(&route, &[("authorization", &everybody.admin())]).status, 404, "{unknown}");
    }
    let after = rig.status();
    assert_eq!(after.revision, before.revision, "nobody changed anything");
    assert_eq!(instances(&after)[0].pid, instances(&before)[0].pid, "nobody restarted anything");
    let told = String::from_utf8(rig.keel(&["events", "--json"]).stdout).unwrap();
    let orders = ["\"scaled\"", "\"applied\"", "\"drained\"", "\"paused\"", "\"deploying\"", "nothing\\\": 1"];
    assert!(!orders.iter().any(|order| told.contains(order)), "{told}");
}

#[test]
fn the_live_stream_and_signing_out_ask_too() {
    let rig = Rig::shop();
    let address = console(&rig);
    assert_eq!(ask(&address, "GET", "/console/live", &[], "").status, 401);
    let session = Session::open(&link(&rig, "viewer"));
    let fields = [("cookie", session.cookie.as_str()), ("sec-fetch-site", "same-site")];
    assert_eq!(ask(&address, "GET", "/console/live", &fields, "").status, 403);
    assert_eq!(ask(&address, "POST", "/console/sign-out", &[("cookie", &session.cookie)], "").status, 403);
    assert_eq!(session.ask("GET", "/v1/status", "").status, 200);
    assert_eq!(session.ask("POST", "/console/sign-out", "").status, 204);
    assert_eq!(session.ask("GET", "/v1/status", "").status, 401);
}
