//! What must hold of a path's normal form whatever the bytes: no panic, one form for one place, and nothing above the root.
//! The fuzz target of this name runs it, and a test replays what was found.
//!
//! The input is a target, a line's end, and a prefix.

use evenkeel_core::path::{is_unusual, normal, strip_prefix, without_query};

/// Whether the target has a normal form.
pub fn run(input: &[u8]) -> bool {
    let mut lines = input.splitn(2, |&byte| byte == b'\n');
    let (target, prefix) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let path = without_query(target);
    if path.starts_with(b"/")
        && let Some(rest) = strip_prefix(path, prefix)
    {
        assert!(path.ends_with(rest), "the rest stays as it was sent");
        assert!(rest.is_empty() || rest.starts_with(b"/"), "only at a segment's end");
    }
    // What the parser of requests lets through.
    if !target.starts_with(b"/") || !target.iter().all(|&byte| matches!(byte, 0x21..=0x7e) && byte != b'#') {
        return false;
    }
    let Ok(form) = normal(path) else {
        assert!(is_unusual(target), "only what is unusual can be refused");
        return false;
    };
    assert!(form.len() <= path.len() && form.starts_with(b"/"));
    assert!(!form.windows(2).any(|two| two == b"//") && !form.contains(&b'?'));
    assert!(form.split(|&byte| byte == b'/').all(|segment| !matches!(segment, b"." | b"..")));
    assert!(is_unusual(target) || form == path, "what is usual is its own form");
    // Any other spelling of the same place has the same form.
    let spelled: String = path.iter().fold(String::new(), |mut spelled, &byte| {
        match byte {
            b'/' => spelled.push_str("//"),
            // An escape and what belongs to it stay, and so does what lies behind a percent sign that is none.
            b'%' => spelled.push('%'),
            byte if spelled.ends_with('%') || spelled.len() > 1 && spelled.as_bytes()[spelled.len() - 2] == b'%' => {
                spelled.push(char::from(byte));
            }
            byte => spelled.push_str(&format!("%{byte:02x}")),
        }
        spelled
    });
    assert_eq!(normal(spelled.as_bytes()).as_deref(), Ok(form.as_slice()), "{spelled}");
    true
}
