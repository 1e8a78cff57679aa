//! What a browser sends to the console, written by hand: the tests decide about every field of a request.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::rig::{PATIENCE, Rig};

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in small letters, with their values.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Asks once, on a connection of its own. `fields` has whole lines of the head beside `Host`, or `Host` too.
pub(crate) fn ask(address: &str, method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
    let mut fields = fields.to_vec();
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        fields.push(("host", address));
    }
    if !body.is_empty() && !fields.iter().any(|(name, _)| *name == "content-type") {
        fields.push(("content-type", "application/json"));
    }
    let length = body.len().to_string();
    fields.push(("content-length", &length));
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
    let mut text = Vec::new();
    // An answer may come before a body is read, and the connection be closed at once.
    let _ = stream.read_to_end(&mut text);
    read(&String::from_utf8_lossy(&text), method, target)
}

fn read(text: &str, method: &str, target: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {target}: {text}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let is_chunked = fields.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    Answer { status, fields, body }
}

/// RFC 9112, section 7.1. Pieces end where characters do, as text of ours is written.
fn unchunked(mut rest: &str) -> String {
    let mut whole = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(&after[..length]);
        rest = after[length..].trim_start_matches("\r\n");
    }
    whole
}

/// A browser that is signed in.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) address: String,
    /// The value of the `Cookie` field.
    pub(crate) cookie: String,
    pub(crate) csrf: String,
    pub(crate) origin: String,
}

impl Session {
    /// Opens a link as somebody does who clicks it in a terminal.
    pub(crate) fn open(url: &str) -> Self {
        let (address, target) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        Self::begun(address, &ask(address, "GET", &format!("/{target}"), &BY_HAND, ""))
    }

    /// As an answer says that signs in.
    pub(crate) fn begun(address: &str, answer: &Answer) -> Self {
        assert_eq!((answer.status, answer.field("location")), (303, Some("/")), "{answer:?}");
        let cookie = answer.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let page = ask(address, "GET", "/", &[("cookie", &cookie)], "");
        let csrf = page.body.split("name=\"csrf\" content=\"").nth(1).and_then(|rest| rest.split('"').next());
        let csrf = csrf.unwrap_or_else(|| panic!("the page has none: {}", page.body)).to_owned();
        Self { address: address.to_owned(), cookie, csrf, origin: format!("http://{address}") }
    }

    /// Asks as a script of our own page does.
    pub(crate) fn ask(&self, method: &str, target: &str, body: &str) -> Answer {
        let fields = [
            ("cookie", self.cookie.as_str()),
            ("x-keel-csrf", &self.csrf),
            ("origin", &self.origin),
            ("sec-fetch-site", "same-origin"),
        ];
        ask(&self.address, method, target, &fields, body)
    }
}

/// What a browser sends of a link that somebody opened from a terminal.
pub(crate) const BY_HAND: [(&str, &str); 3] =
    [("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];

/// A link of `keel console` for this role.
pub(crate) fn link(rig: &Rig, role: &str) -> String {
    let made = rig.keel(&["console", "--role", role, "--json"]);
    assert!(made.status.success(), "{made:?}");
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    made["url"].as_str().unwrap().to_owned()
}

/// A token for this role.
pub(crate) fn token(rig: &Rig, role: &str) -> String {
    let made = rig.keel(&["token", "create", &format!("{role}-token"), "--role", role, "--json"]);
    assert!(made.status.success(), "{made:?}");
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    made["token"].as_str().unwrap().to_owned()
}
