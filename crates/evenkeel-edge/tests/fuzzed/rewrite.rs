//! What must hold of rewritten targets and of `Accept-Encoding` whatever the bytes: no panic, and no path gets out of the
//! place that it was given. The fuzz target of this name runs it, and a test replays what was found.
//!
//! The input is a target, a line's end, and values of `Accept-Encoding`, one a line.

use evenkeel_core::snapshot::{Encoding, Rewrite};
use evenkeel_edge::http::{compress::Accepts, rewrite::target};

pub fn run(input: &[u8]) {
    let mut lines = input.split(|&byte| byte == b'\n');
    let from = lines.next().unwrap_or_default();
    let accepts = Accepts::parse(lines);
    let ours = [Encoding::Zstd, Encoding::Br, Encoding::Gzip];
    let best = accepts.best(&ours);
    assert_eq!(best, accepts.best(&ours), "the same every time");

    // What the parser of requests lets through.
    if !from.starts_with(b"/") || !from.iter().all(|&byte| matches!(byte, 0x21..=0x7e) && byte != b'#') {
        return;
    }
    let strip = Rewrite { strip_prefix: Some("/api".into()), ..Rewrite::default() };
    let both = Rewrite { add_prefix: Some("/in".into()), ..strip.clone() };
    let query = |text: &[u8]| text.iter().position(|&byte| byte == b'?').map(|at| text[at..].to_vec());
    if let Ok((to, stripped)) = target(&strip, b"GET", from) {
        assert!(to.starts_with(b"/") && !(stripped && to.starts_with(b"//")));
        assert_eq!(query(&to), query(from), "the query stays");
    }
    if let Ok((to, _)) = target(&both, b"GET", from) {
        assert_eq!(query(&to), query(from), "the query stays");
        let path = to.split(|&byte| byte == b'?').next().unwrap_or_default();
        let path =
            String::from_utf8_lossy(path).to_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
        assert!(path == "/in" || path.starts_with("/in/"), "{path}");
        assert!(path.split(['/', '\\']).all(|segment| segment != ".."), "{path}");
    }
}
