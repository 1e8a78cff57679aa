//! What must hold of PROXY headers whatever the bytes: no panic, bounds, no byte taken that is not the header's, and one
//! meaning. The fuzz target of this name runs it, and a test replays its corpus.

use evenkeel_core::snapshot::ProxyHeader;
use evenkeel_edge::stream::proxy_header::{MOST_BYTES, Says, parse, write};

/// Returns what the header says, if it is one.
pub(crate) fn run(input: &[u8]) -> Option<Says> {
    let header = match parse(input) {
        Err(_) => return None,
        Ok(None) => {
            assert!(input.len() < MOST_BYTES, "somebody is waited for who has said too much");
            return None;
        }
        Ok(Some(header)) => header,
    };
    assert!(header.length <= input.len() && header.length <= MOST_BYTES);
    assert_eq!(parse(&input[..header.length]), Ok(Some(header)), "what follows does not matter");
    for end in 0..header.length.min(300) {
        assert_eq!(parse(&input[..end]), Ok(None), "a part is no header, and not wrong");
    }
    if let Says::Client { source, destination } = header.says {
        for version in [ProxyHeader::V1, ProxyHeader::V2] {
            let mut out = Vec::new();
            write(version, source, destination, &mut out);
            let again = parse(&out).expect("what the edge writes is strict").expect("and complete");
            assert_eq!(again.length, out.len());
            let Says::Client { source: from, destination: to } = again.says else { panic!("it names a client") };
            assert_eq!((from.ip().to_canonical(), from.port()), (source.ip().to_canonical(), source.port()));
            assert_eq!((to.ip().to_canonical(), to.port()), (destination.ip().to_canonical(), destination.port()));
        }
    }
    Some(header.says)
}
