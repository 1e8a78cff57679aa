//! What FastCGI instances say: no panic, and whatever passes is one answer of HTTP, however its bytes come in pieces. And
//! paths of clients: no script lies outside of the root.
#![no_main]

use evenkeel_core::snapshot::FastCgi;
use evenkeel_edge::{
    fastcgi::{path::script, translated},
    probe::grpc::serving_status,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = serving_status(input);
    if let Some(whole) = translated(input, usize::MAX, false) {
        assert!(whole.starts_with(b"HTTP/1.1 "));
        let pieces = translated(input, 3, false).expect("pieces do not matter");
        assert_eq!(whole[9..12], pieces[9..12], "the status");
    }
    let config = FastCgi {
        root: "/srv".to_owned(),
        index: "index.php".to_owned(),
        ending: ".php".to_owned(),
        folders: vec!["/a/".to_owned()],
        params: Vec::new(),
    };
    if let Ok(script) = script(input, &config) {
        assert!(script.name.starts_with(b"/") && script.name.ends_with(b".php"));
        assert!(script.name.split(|&byte| byte == b'/').all(|segment| segment != b".."));
    }
});
