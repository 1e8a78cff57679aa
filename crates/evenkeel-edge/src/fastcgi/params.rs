//! From a request's head, as the edge wrote it for the instance, to the parameters of CGI (RFC 3875 section 4.1).
//!
//! Only fields whose names have letters, digits and hyphens become `HTTP_…`, so that no two of them mean the same
//! parameter; `Proxy` never does, since scripts would take it for the proxy of their own requests. Fields of the same
//! name become one. Pure.

use evenkeel_core::snapshot::FastCgi;
use httparse::Header;

use super::path::{BadPath, Script, script};

/// Parameters in order.
pub type Params = Vec<(Vec<u8>, Vec<u8>)>;

/// A request's head.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Method.
    pub method: &'a str,
    /// Path and query, or `*`.
    pub target: &'a str,
    /// Fields, as the edge wrote them.
    pub fields: &'a [Header<'a>],
    /// Length of the body.
    pub length: u64,
    /// Address of whoever asks.
    pub client: &'a str,
}

/// Everything that the instance is told.
pub fn params(asked: &Asked<'_>, config: &FastCgi) -> Result<Params, BadPath> {
    let (path, query) = asked.target.split_once('?').unwrap_or((asked.target, ""));
    let Script { name, info } = script(path.as_bytes(), config)?;
    let below = |path: &[u8]| [config.root.as_bytes(), path].concat();
    let https = asked.value("x-forwarded-proto").is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https"));
    let (host, port) = asked.authority(https);
    let mut params: Params = Vec::with_capacity(asked.fields.len() + 24);
    let mut set = |name: &str, value: &[u8]| params.push((name.as_bytes().to_vec(), value.to_vec()));
    set("GATEWAY_INTERFACE", b"CGI/1.1");
    set("SERVER_SOFTWARE", b"evenkeel");
    set("SERVER_PROTOCOL", b"HTTP/1.1");
    set("SERVER_NAME", &host);
    set("SERVER_PORT", &port);
    set("REQUEST_METHOD", asked.method.as_bytes());
    set("REQUEST_URI", asked.target.as_bytes());
    set("REQUEST_SCHEME", if https { b"https" } else { b"http" });
    if https {
        set("HTTPS", b"on");
    }
    set("QUERY_STRING", query.as_bytes());
    set("DOCUMENT_ROOT", config.root.as_bytes());
    set("SCRIPT_FILENAME", &below(&name));
    set("DOCUMENT_URI", &[&name[..], &info].concat());
    set("SCRIPT_NAME", &name);
    if !info.is_empty() {
        set("PATH_TRANSLATED", &below(&info));
    }
    set("PATH_INFO", &info);
    set("REMOTE_ADDR", asked.client.as_bytes());
    set("CONTENT_TYPE", asked.value("content-type").unwrap_or_default());
    let length = if asked.has_body() { asked.length.to_string() } else { String::new() };
    set("CONTENT_LENGTH", length.as_bytes());
    // Without it PHP's own CGI program takes a request for one that went past the server.
    set("REDIRECT_STATUS", b"200");
    fields(asked.fields, &mut params);
    for (name, value) in &config.params {
        params.retain(|(known, _)| known != name.as_bytes());
        params.push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    }
    Ok(params)
}

/// `HTTP_…` of all fields that are to be known.
fn fields(fields: &[Header<'_>], params: &mut Params) {
    const NOT: [&str; 12] = [
        "content-type",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "proxy",
        "proxy-connection",
        "proxy-authorization",
    ];
    let first = params.len();
    for field in fields {
        let clear = !field.name.is_empty() && field.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !clear || NOT.iter().any(|not| field.name.eq_ignore_ascii_case(not)) {
            continue;
        }
        let name = format!("HTTP_{}", field.name.to_ascii_uppercase().replace('-', "_"));
        if let Some((_, value)) = params[first..].iter_mut().find(|(known, _)| *known == name.as_bytes()) {
            // RFC 9110 section 5.3; cookies are told apart by semicolons (RFC 6265 section 5.4).
            value.extend_from_slice(if name == "HTTP_COOKIE" { b"; " } else { b", " });
            value.extend_from_slice(field.value);
        } else {
            params.push((name.into_bytes(), field.value.to_vec()));
        }
    }
}

impl Asked<'_> {
    fn value(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    fn has_body(&self) -> bool {
        self.length > 0 || self.value("content-length").is_some() || self.value("transfer-encoding").is_some()
    }

    /// Host and port as the client meant them.
    fn authority(&self, https: bool) -> (Vec<u8>, Vec<u8>) {
        let host = self.value("host").unwrap_or_default();
        let after_brackets = host.iter().rposition(|&byte| byte == b']').map_or(0, |at| at + 1);
        let colon = host[after_brackets..].iter().position(|&byte| byte == b':').map(|at| after_brackets + at);
        let (name, port) = colon.map_or((host, &b""[..]), |at| (&host[..at], &host[at + 1..]));
        let usual = if https { &b"443"[..] } else { b"80" };
        (name.to_vec(), if port.is_empty() { usual } else { port }.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> FastCgi {
        FastCgi {
            root: "/srv/www".to_owned(),
            index: "index.php".to_owned(),
            ending: ".php".to_owned(),
            folders: Vec::new(),
            params: vec![("APP_ENV".to_owned(), "test".to_owned()), ("SERVER_SOFTWARE".to_owned(), "x".to_owned())],
        }
    }

    fn of(target: &str, fields: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
        let fields: Vec<Header<'_>> =
            fields.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        let asked = Asked { method: "POST", target, fields: &fields, length: 5, client: "192.0.2.9" };
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let params = params(&asked, &config()).unwrap();
        let count = params.len();
        let map: std::collections::BTreeMap<String, String> =
            params.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        assert_eq!(map.len(), count, "none stands twice");
        map
    }

    #[test]
    fn a_request_becomes_parameters() {
        let all = of(
            "/x/a.php/info?q=%20&r",
            &[
                ("Host", "shop.test:8080"),
                ("Content-Type", "text/x"),
                ("Content-Length", "5"),
                ("Cookie", "a=1"),
                ("X-One", "1"),
                ("cookie", "b=2"),
                ("x-one", "2"),
                ("X-Forwarded-For", "198.51.100.7, 192.0.2.9"),
                ("X-Forwarded-Proto", "https"),
            ],
        );
        for (name, value) in [
            ("SCRIPT_FILENAME", "/srv/www/x/a.php"),
            ("SCRIPT_NAME", "/x/a.php"),
            ("PATH_INFO", "/info"),
            ("PATH_TRANSLATED", "/srv/www/info"),
            ("DOCUMENT_URI", "/x/a.php/info"),
            ("REQUEST_URI", "/x/a.php/info?q=%20&r"),
            ("QUERY_STRING", "q=%20&r"),
            ("SERVER_NAME", "shop.test"),
            ("SERVER_PORT", "8080"),
            ("HTTPS", "on"),
            ("CONTENT_TYPE", "text/x"),
            ("CONTENT_LENGTH", "5"),
            ("REMOTE_ADDR", "192.0.2.9"),
            ("HTTP_COOKIE", "a=1; b=2"),
            ("HTTP_X_ONE", "1, 2"),
            ("APP_ENV", "test"),
            ("SERVER_SOFTWARE", "x"),
        ] {
            assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!all.contains_key("HTTP_CONTENT_TYPE"));
    }

    #[test]
    fn no_field_can_be_taken_for_something_else() {
        let all = of(
            "/",
            &[
                ("Proxy", "http://evil/"),
                ("X_Forwarded_Proto", "https"),
                ("X.Y", "1"),
                ("Connection", "x"),
                ("Expect", "100-continue"),
                ("Host", "[::1]:81"),
                ("X-Forwarded-For", "198.51.100.7"),
            ],
        );
        let told: Vec<&str> = all.keys().map(String::as_str).filter(|name| name.starts_with("HTTP_")).collect();
        assert_eq!(told, ["HTTP_HOST", "HTTP_X_FORWARDED_FOR"]);
        assert!(!all.contains_key("HTTPS"));
        assert_eq!((all["SERVER_NAME"].as_str(), all["SERVER_PORT"].as_str()), ("[::1]", "81"));
        assert_eq!(all["REMOTE_ADDR"], "192.0.2.9");
    }
}
