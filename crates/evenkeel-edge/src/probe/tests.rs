//! Probes against servers that are well, wrong, slow and mute.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
};

use super::*;

fn http(range: (u16, u16)) -> Probe {
    Probe::Http { path: "/healthz?x=1".to_owned(), host: None, status: range }
}

async fn probe(address: SocketAddr, probe: Probe, timeout_ms: u64) -> Result<(), Failure> {
    let timeout = Duration::from_millis(timeout_ms);
    Target { resolved: Some(address), address: "shop.test:81".to_owned(), probe, timeout, introduces: None }
        .probe()
        .await
}

/// Accepts once, reads the request's head, sends `answer` in pieces and closes. Returns what was asked.
async fn answers(pieces: &'static [&'static [u8]]) -> (SocketAddr, oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (send, asked) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0);
        }
        send.send(String::from_utf8(head).unwrap()).unwrap();
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    (address, asked)
}

#[tokio::test]
async fn asks_and_passes() {
    let (address, asked) = answers(&[b"HTTP/1.1 20", b"4 No Content\r\n\r\n"]).await;
    probe(address, http((200, 299)), 5_000).await.unwrap();
    let asked = asked.await.unwrap();
    assert!(
        asked.starts_with("GET /healthz?x=1 HTTP/1.1\r\nHost: shop.test:81\r\nUser-Agent: keel-check\r\n"),
        "{asked}"
    );
    assert!(asked.contains("\r\nConnection: close\r\n"), "{asked}");
}

#[tokio::test]
async fn passes_over_interim_answers() {
    let (address, _asked) =
        answers(&[b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 2", b"00 OK\r\n\r\n"]).await;
    probe(address, http((200, 200)), 5_000).await.unwrap();
}

#[tokio::test]
async fn failures_say_what_was_seen() {
    let cases: [(&'static [&'static [u8]], &str); 6] = [
        (&[b"HTTP/1.1 503 Service Unavailable\r\n\r\n"], "status 503"),
        (&[b"SSH-2.0-OpenSSH_9.2\r\n"], "the answer is not HTTP"),
        (&[b"HTTP/1.1 99 x\r\n"], "the answer is not HTTP"),
        (&[b"HTTP/1.1 +20 x\r\n"], "the answer is not HTTP"),
        (&[b"HTTP/1.1 2"], "the answer is not HTTP"),
        (&[], "closed without an answer"),
    ];
    for (pieces, expected) in cases {
        let (address, _asked) = answers(pieces).await;
        let failure = probe(address, http((200, 299)), 5_000).await.unwrap_err();
        assert_eq!(failure.to_string(), expected);
    }
}

#[tokio::test]
async fn an_endless_line_is_bounded() {
    static LINE: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.write_all(&LINE).await.is_ok() {}
    });
    let failure = probe(address, http((200, 299)), 60_000).await.unwrap_err();
    assert_eq!(failure.to_string(), "the answer is not HTTP");
}

#[tokio::test]
async fn silence_times_out_and_a_closed_port_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let failure = probe(address, http((200, 299)), 100).await.unwrap_err();
    assert_eq!(failure.to_string(), "timed out after 100 ms");
    probe(address, Probe::Tcp, 5_000).await.unwrap();
    drop(listener);
    let failure = probe(address, Probe::Tcp, 5_000).await.unwrap_err();
    assert_eq!(failure.to_string(), "connect: refused");
    let target = Target {
        resolved: None,
        address: "a:1".to_owned(),
        probe: Probe::Tcp,
        timeout: Duration::from_secs(1),
        introduces: None,
    };
    assert_eq!(target.probe().await.unwrap_err().to_string(), "the host name does not resolve");
    assert_eq!(in_words(Duration::from_secs(2)), "2 s");
}

#[tokio::test]
async fn a_socket_whose_queue_is_full_is_slow_and_not_gone() {
    let folder = std::env::temp_dir().join(format!("keel-probe-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("full.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let waits = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let address = format!("{UNIX}{}", path.display());
    let timeout = Duration::from_millis(100);
    let target = Target { resolved: None, address, probe: Probe::Tcp, timeout, introduces: None };
    assert_eq!(target.probe().await.unwrap_err().to_string(), "timed out after 100 ms");
    drop((listener, waits));
    assert_eq!(target.probe().await.unwrap_err().to_string(), "connect: refused");
    std::fs::remove_dir_all(&folder).unwrap();
}
