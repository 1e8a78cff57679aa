//! What must hold of whatever a FastCGI instance says: no panic, and what becomes of it is one answer of HTTP or none,
//! the same one however its bytes come in pieces. And of paths of clients: no script lies outside of the root. Shared by
//! the fuzzer and by the test that replays its corpus.
#![allow(unreachable_pub)] // Who includes it decides who sees it.

use std::mem::MaybeUninit;

use evenkeel_core::snapshot::{FastCgi, ServiceLimits};
use evenkeel_edge::{
    fastcgi::{path::script, translated},
    http::{head_request::FieldRoom, head_response},
};

/// An answer's head grows a little where it becomes one of HTTP.
const SERVICE: ServiceLimits = ServiceLimits { head_bytes: 64 << 10, ..super::limits::SERVICE };

/// Whether it became an answer.
pub fn run(input: &[u8]) -> bool {
    leads_to_a_script_below_the_root(input);
    for to_head in [false, true] {
        let whole = translated(input, usize::MAX, to_head);
        for piece in [1, 3, 100] {
            let pieces = translated(input, piece, to_head);
            assert_eq!(whole.is_some(), pieces.is_some(), "pieces of {piece}");
            if let (Some(whole), Some(pieces)) = (&whole, &pieces) {
                assert_eq!(understood(whole, to_head), understood(pieces, to_head), "pieces of {piece}");
            }
        }
    }
    translated(input, usize::MAX, false).is_some()
}

/// Status and body, as the edge reads them; `None` where it refuses the head.
fn understood(answer: &[u8], to_head: bool) -> Option<(u16, Vec<u8>)> {
    let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
    let head = head_response::parse(answer, &mut room, &SERVICE, to_head).ok()?.expect("a whole head");
    let (mut body, mut content) = (head.body, Vec::new());
    let rest = &answer[head.length..];
    let step = body.advance_with(rest, |part| content.extend_from_slice(part)).expect("a body");
    assert!(step.done && step.taken == rest.len(), "nothing is missing, and nothing follows");
    Some((head.status, content))
}

fn leads_to_a_script_below_the_root(path: &[u8]) {
    let config = FastCgi {
        root: "/srv".to_owned(),
        index: "index.php".to_owned(),
        ending: ".php".to_owned(),
        folders: vec!["/a/".to_owned()],
        params: Vec::new(),
    };
    let Ok(script) = script(path, &config) else { return };
    assert!(script.name.starts_with(b"/") && script.name.ends_with(b".php"));
    for part in [&script.name, &script.info] {
        assert!(part.split(|&byte| byte == b'/').all(|segment| !matches!(segment, b"." | b"..")));
    }
}
