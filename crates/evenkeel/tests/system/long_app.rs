//! An application with everything that lasts: exports that begin late or come slowly, uploads, server-sent events,
//! connections of WebSocket, and beside them a call of five milliseconds.
//!
//! It is this test's own binary, started as an instance: one process, one thread, tokio. It speaks just enough HTTP.

use std::{env, fs::OpenOptions, io::Write, net::SocketAddr, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

/// Set where this binary is to be the application, to the file where exchanges are noted.
const SERVES: &str = "KEEL_TEST_SERVES_LONG_APP";

/// Time between two pieces of whatever comes in pieces.
pub(crate) const BEAT: Duration = Duration::from_millis(250);

/// The lines of a service in a stack file that start it. Each exchange with an `X-Exchange` is noted in the file `begun`
/// where it begins: one that is there twice was sent twice.
pub(crate) fn run(begun: &Path) -> String {
    let program = env::current_exe().unwrap();
    format!(
        "run = [\"{}\", \"--exact\", \"long_app::it_is_an_application\", \"--nocapture\"]\nenv = {{ {SERVES} = \"{}\" }}\n",
        program.display(),
        begun.display()
    )
}

/// As an instance, the application; as a test, a look whether it is one.
#[test]
fn it_is_an_application() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if env::var_os(SERVES).is_some() {
        let port: u16 = env::var("PORT").unwrap().parse().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        return runtime.block_on(async { serve(TcpListener::bind(address).await.unwrap()).await });
    }
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /call HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut reader = Reader::new(stream);
        assert!(reader.head().await.unwrap().starts_with("HTTP/1.1 200 "));
        assert_eq!(reader.take(2).await.unwrap(), b"ok");
    });
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        // A client that goes away ends its connection and nothing else.
        tokio::spawn(async move { drop(connection(Reader::new(stream)).await) });
    }
}

async fn connection(mut client: Reader) -> std::io::Result<()> {
    while let Some(head) = client.head().await {
        if let (Some(exchange), Some(begun)) = (field(&head, "x-exchange"), env::var_os(SERVES)) {
            let mut begun = OpenOptions::new().create(true).append(true).open(begun)?;
            begun.write_all(format!("{exchange}\n").as_bytes())?;
        }
        let target = head.split(' ').nth(1).unwrap_or("/").to_owned();
        let (path, query) = target.split_once("?ms=").unwrap_or((&target, "0"));
        let lasts = Duration::from_millis(query.parse().unwrap_or(0));
        match path {
            "/late" => {
                sleep(lasts).await;
                client.answer(b"late").await?;
            }
            "/slow" => client.stream(lasts, "application/octet-stream", &[b'x'; 1024]).await?,
            "/events" => client.stream(lasts, "text/event-stream", b"data: tick\n\n").await?,
            "/upload" => {
                let length = field(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
                let Some(body) = client.take(length).await else { return Ok(()) };
                client.answer(body.len().to_string().as_bytes()).await?;
            }
            "/chat" => return client.chat().await,
            "/call" => {
                sleep(Duration::from_millis(5)).await;
                client.answer(b"ok").await?;
            }
            _ => client.answer(b"ok").await?,
        }
    }
    Ok(())
}

/// The value of a field of a head.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

/// A connection and what was read of it and not used.
pub(crate) struct Reader {
    pub(crate) stream: TcpStream,
    bytes: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, bytes: Vec::new() }
    }

    /// The next head; `None` at the end of the connection.
    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.bytes.drain(..end + 4).collect();
                return String::from_utf8(head).ok();
            }
            self.more().await?;
        }
    }

    /// So many bytes; `None` if the connection ends before.
    pub(crate) async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.bytes.len() < count {
            self.more().await?;
        }
        Some(self.bytes.drain(..count).collect())
    }

    /// The content of a chunked body; `None` if the connection ends before it does.
    pub(crate) async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            let end = loop {
                match self.bytes.windows(2).position(|two| two == b"\r\n") {
                    Some(end) => break end,
                    None => self.more().await?,
                }
            };
            let line = String::from_utf8(self.bytes.drain(..end + 2).collect()).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let chunk = self.take(size + 2).await?;
            if size == 0 {
                return Some(content);
            }
            content.extend_from_slice(&chunk[..size]);
        }
    }

    /// Payload and kind of the next frame of a WebSocket (RFC 6455 section 5.2), of up to 125 bytes.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let head = self.take(2).await?;
        let mask = if head[1] & 0x80 == 0 { vec![0; 4] } else { self.take(4).await? };
        let payload = self.take(usize::from(head[1] & 0x7f)).await?;
        Some((head[0] & 0x0f, payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()))
    }

    async fn more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.bytes).await.ok()?;
        (read > 0).then_some(())
    }

    async fn answer(&mut self, body: &[u8]) -> std::io::Result<()> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        self.stream.write_all(&[head.as_bytes(), body].concat()).await
    }

    /// A piece on every beat, and an end.
    async fn stream(&mut self, lasts: Duration, kind: &str, piece: &[u8]) -> std::io::Result<()> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
        self.stream.write_all(head.as_bytes()).await?;
        let ends = Instant::now() + lasts;
        while Instant::now() < ends {
            let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
            self.stream.write_all(&chunk).await?;
            sleep(BEAT).await;
        }
        self.stream.write_all(b"0\r\n\r\n").await
    }

    /// Says back what it hears until it hears the end.
    async fn chat(&mut self) -> std::io::Result<()> {
        self.stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            .await?;
        while let Some((kind, payload)) = self.frame().await {
            let length = u8::try_from(payload.len()).unwrap();
            self.stream.write_all(&[&[0x80 | kind, length], payload.as_slice()].concat()).await?;
            if kind == 8 {
                break;
            }
        }
        Ok(())
    }
}
