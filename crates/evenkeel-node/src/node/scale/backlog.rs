//! Asking how many entries wait in a queue: a small client that bounds everything it takes.
//!
//! A task asks every two seconds and keeps the newest answer, so that whoever looks never waits. An answer is a plain
//! number, or metrics in the text format of Prometheus ("Text-based format" of its exposition formats), of which all
//! series of one metric are added up. A failure is an unknown number with its cause.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use evenkeel_core::{scale::Reading, stack::Backlog};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::AbortHandle};

/// How often is asked.
const EVERY: Duration = Duration::from_secs(2);

/// How long an answer may take, from connecting to its last byte.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The largest answer.
const MOST_BYTES: usize = 1 << 20;

/// Asks for one backlog until it is dropped.
#[derive(Debug)]
pub(super) struct Asker {
    settings: Backlog,
    newest: Arc<Mutex<Reading>>,
    task: AbortHandle,
}

impl Asker {
    /// Begins to ask.
    pub(super) fn start(settings: Backlog) -> Self {
        let newest = Arc::new(Mutex::new(Reading::Unknown("nobody has answered yet".to_owned())));
        let (theirs, asked) = (Arc::clone(&newest), settings.clone());
        let task = tokio::spawn(async move {
            let mut turns = tokio::time::interval(EVERY);
            turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                turns.tick().await;
                let reading = match tokio::time::timeout(TIMEOUT, ask(&asked)).await {
                    Ok(Ok(waiting)) => Reading::Known(waiting),
                    Ok(Err(why)) => Reading::Unknown(format!("{}: {why}", asked.url)),
                    Err(_) => Reading::Unknown(format!("{}: no answer within {} s", asked.url, TIMEOUT.as_secs())),
                };
                *theirs.lock().unwrap_or_else(PoisonError::into_inner) = reading;
            }
        });
        Self { settings, newest, task: task.abort_handle() }
    }

    /// What is asked for.
    pub(super) fn settings(&self) -> &Backlog {
        &self.settings
    }

    /// The newest answer.
    pub(super) fn newest(&self) -> Reading {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One question. The error is a clause.
async fn ask(settings: &Backlog) -> Result<f64, String> {
    let rest = settings.url.strip_prefix("http://").ok_or("only http:// is asked")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let ends_in_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if ends_in_port { authority.to_owned() } else { format!("{authority}:80") };
    let stream = TcpStream::connect(&address).await.map_err(|error| error.to_string())?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Where the question is given up in the middle, the connection ends for want of anybody who could use it.
    let driver = tokio::spawn(driver);
    let answer = async {
        let request = Request::get(path).header(header::HOST, authority).header(header::ACCEPT, "text/plain");
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let (head, body) = sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
        if !head.status.is_success() {
            return Err(format!("it answers {}", head.status.as_u16()));
        }
        let body = Limited::new(body, MOST_BYTES).collect().await;
        Ok(body.map_err(|_| "its answer is cut off or longer than 1 MiB")?.to_bytes())
    };
    let answer = answer.await;
    driver.abort();
    let text = String::from_utf8(answer?.to_vec()).map_err(|_| "its answer is not text")?;
    read(&text, settings.metric.as_deref())
}

/// The number in an answer.
fn read(text: &str, metric: Option<&str>) -> Result<f64, String> {
    let Some(metric) = metric else {
        let number = text.trim().parse::<f64>().ok().and_then(plausible);
        return number.ok_or_else(|| "its answer is not a number; name the `metric`".to_owned());
    };
    let samples = text.lines().filter_map(|line| sample(line, metric));
    let mut found = false;
    let mut sum = 0.0;
    for value in samples {
        found = true;
        let value = value.parse::<f64>().ok().and_then(plausible);
        sum += value.ok_or_else(|| format!("a sample of `{metric}` is not a number"))?;
    }
    if found { Ok(sum) } else { Err(format!("its answer has no metric `{metric}`")) }
}

/// The value in a line as it is written, if it is of this metric: `name{labels} value [timestamp]`.
fn sample<'a>(line: &'a str, metric: &str) -> Option<&'a str> {
    let rest = line.trim_start().strip_prefix(metric)?;
    let value = match rest.as_bytes().first()? {
        b'{' => rest.rsplit_once('}')?.1,
        b' ' | b'\t' => rest,
        _ => return None,
    };
    value.split_ascii_whitespace().next()
}

/// What a number of waiting entries can be.
fn plausible(value: f64) -> Option<f64> {
    (value.is_finite() && value >= 0.0).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    const METRICS: &str = "# HELP jobs_waiting Jobs.\n# TYPE jobs_waiting gauge\njobs_waiting{queue=\"a b}\"} 40\n\
        jobs_waiting{queue=\"mail\"} 2.5 1700000000\njobs_waiting_total 99\nup 1\n";

    #[test]
    fn plain_numbers_and_metrics_are_read() {
        assert_eq!(read(" 17\n", None), Ok(17.0));
        assert_eq!(read(METRICS, Some("jobs_waiting")), Ok(42.5));
        assert_eq!(read(METRICS, Some("up")), Ok(1.0));
    }

    #[test]
    fn the_rest_is_refused_with_its_cause() {
        for (text, metric) in [("", None), ("-1", None), ("NaN", None), (METRICS, None), (METRICS, Some("jobs"))] {
            assert!(read(text, metric).is_err(), "{text} {metric:?}");
        }
        assert!(read("jobs many\n", Some("jobs")).unwrap_err().contains("not a number"));
    }

    /// One answer to one connection.
    fn answer_once(answer: Vec<u8>) -> (String, std::thread::JoinHandle<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/metrics?q=1", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let read = stream.read(&mut head).unwrap();
            // Whoever asked may have had enough of it.
            let _ = stream.write_all(&answer);
            String::from_utf8_lossy(&head[..read]).into_owned()
        });
        (url, thread)
    }

    fn asked(answer: Vec<u8>) -> (Result<f64, String>, String) {
        let (url, thread) = answer_once(answer);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(ask(&Backlog { url, metric: None, each: 1 }));
        (result, thread.join().unwrap())
    }

    #[test]
    fn a_server_is_asked_and_bounded() {
        let (result, head) = asked(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n42\n".to_vec());
        assert_eq!(result, Ok(42.0));
        assert!(head.starts_with("GET /metrics?q=1 HTTP/1.1\r\n"), "{head}");
        let (result, _) = asked(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec());
        assert_eq!(result.unwrap_err(), "it answers 503");
        let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        endless.resize(2 << 20, b'1');
        assert!(asked(endless).0.unwrap_err().contains("longer than 1 MiB"));
    }

    #[test]
    fn a_server_that_hangs_costs_no_more_than_the_question() {
        for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n42"] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (end, wait) = std::sync::mpsc::channel::<()>();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
                assert!(wait.recv().is_err(), "it holds the connection until the test is over");
            });
            runtime.block_on(async {
                let asked = Backlog { url, metric: None, each: 1 };
                assert!(tokio::time::timeout(Duration::from_millis(300), ask(&asked)).await.is_err());
                tokio::time::sleep(Duration::from_millis(20)).await;
                assert_eq!(runtime.metrics().num_alive_tasks(), 0, "after {answer:?}");
            });
            drop(end);
            server.join().unwrap();
        }
    }
}
