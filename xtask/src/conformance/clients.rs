//! Clients that everybody uses: curl in its ways of speaking HTTP/1, and wrk, hey and h2load as many at once.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{
    Verdict,
    stand::{Stand, large},
};

/// What curl is asked, and what its output must be: the answer, then status, version and how many connections it opened.
const CURL: [(&str, &[&str], &str); 12] = [
    ("HTTP/1.1", &["/a"], "GET /a 0\n200 1.1 1"),
    ("HTTP/1.0", &["--http1.0", "/a"], "GET /a 0\n200 1.1 1"),
    ("HEAD", &["--head", "--output", "/dev/null", "/a"], "200 1.1 1"),
    ("a query with escapes", &["/a%2Fb?c=%20d"], "GET /a%2Fb?c=%20d 0\n200 1.1 1"),
    ("POST of a form", &["--data", "a=1&b=2", "/"], "POST / 7\n200 1.1 1"),
    (
        "PUT of 4 MiB with Expect",
        &["--header", "Expect: 100-continue", "--upload-file", "@large", "/up"],
        "PUT /up 4194304\n200 1.1 1",
    ),
    (
        "PUT of 4 MiB in chunks",
        &["--header", "Transfer-Encoding: chunked", "--upload-file", "@large", "/up"],
        "PUT /up 4194304\n200 1.1 1",
    ),
    ("DELETE", &["--request", "DELETE", "/x"], "DELETE /x 0\n200 1.1 1"),
    ("OPTIONS *", &["--request", "OPTIONS", "--request-target", "*", "/"], "OPTIONS * 0\n200 1.1 1"),
    ("dots as they are", &["--path-as-is", "/a/../b"], "GET /a/../b 0\n200 1.1 1"),
    ("two over one connection", &["/1", "/2"], "GET /1 0\n200 1.1 1GET /2 0\n200 1.1 0"),
    ("many fields", &["--header", "X-Long: 0123456789012345678901234567890123456789", "/"], "GET / 0\n200 1.1 1"),
];

pub(super) fn curl(stand: &Stand, home: &Path) -> Verdict {
    let file = home.join("stand/public/large.bin");
    let mut found = Vec::new();
    for (what, arguments, expected) in CURL {
        let words = arguments.iter().map(|word| match *word {
            "@large" => file.display().to_string(),
            path if path.starts_with('/') && path != "/dev/null" => format!("http://{}{path}", stand.origin),
            other => other.to_owned(),
        });
        let output = output(
            "curl",
            &[
                "--silent",
                "--show-error",
                "--max-time",
                "20",
                "--write-out",
                "%{http_code} %{http_version} %{num_connects}",
            ],
            words,
        )?;
        if output != expected {
            found.push(format!("{what}: {output:?} instead of {expected:?}"));
        }
    }
    // As a proxy is asked, which makes the target absolute.
    let proxied = [format!("http://{}", stand.origin), "http://a.example/x".to_owned()];
    let answer = output("curl", &["--silent", "--show-error", "--max-time", "20", "--proxy"], proxied)?;
    if answer != "GET /x 0\n" {
        found.push(format!("absolute form: {answer:?}"));
    }
    let range =
        output("curl", &["--silent", "--max-time", "20", "--range", "0-5"], [format!("http://{}/", stand.files)])?;
    if range != "hello\n" {
        found.push(format!("a range: {range:?}"));
    }
    let whole = Command::new("curl")
        .args(["--silent", "--max-time", "60"])
        .arg(format!("http://{}/large.bin", stand.files))
        .output();
    if !whole.is_ok_and(|output| output.stdout == large()) {
        found.push("4 MiB came otherwise than they are".to_owned());
    }
    if found.is_empty() { Ok(format!("{} ways of asking", CURL.len() + 3)) } else { Err(found.join("\n")) }
}

/// Program, arguments, address, and how its report is judged.
type Run<'a> = (&'a str, &'a [&'a str], &'a str, fn(&str) -> Verdict);

pub(super) fn load(stand: &Stand, home: &Path) -> Verdict {
    let (page, asks) = (url(stand.files, "/"), url(stand.origin, "/"));
    let body = home.join("stand/public/index.html").display().to_string();
    let runs: [Run<'_>; 6] = [
        ("wrk", &["-t2", "-c64", "-d5s"], &page, wrk),
        ("wrk", &["-t2", "-c500", "-d5s", "-H", "Connection: close"], &page, wrk),
        ("hey", &["-n", "20000", "-c", "100"], &page, hey),
        ("hey", &["-n", "5000", "-c", "50", "-m", "POST", "-d", "0123456789"], &asks, hey),
        ("h2load", &["--h1", "-n", "20000", "-c", "100", "-t", "2"], &page, h2load),
        ("h2load", &["--h1", "-n", "5000", "-c", "50", "-d", &body], &asks, h2load),
    ];
    let mut done = Vec::new();
    for (program, arguments, url, judge) in runs {
        let report = output(program, arguments, [url.to_owned()])?;
        let found = judge(&report).map_err(|found| format!("{program} {}: {found}\n{report}", arguments.join(" ")))?;
        done.push(format!("{program} {found}"));
    }
    Ok(done.join(", "))
}

fn url(address: SocketAddr, path: &str) -> String {
    format!("http://{address}{path}")
}

fn output(program: &str, arguments: &[&str], more: impl IntoIterator<Item = String>) -> Result<String, String> {
    let output = Command::new(program).args(arguments).args(more).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{program}: {}: {}", output.status, text(&output.stderr)))
    }
}

/// Good if it says nothing of errors, and how many requests there were.
fn wrk(report: &str) -> Verdict {
    if report.contains("Socket errors") || report.contains("Non-2xx") {
        return Err("errors".to_owned());
    }
    let count = report.lines().find_map(|line| line.trim().split_once(" requests in ")).map(|(count, _)| count);
    match count.and_then(|count| count.parse::<u64>().ok()) {
        Some(count @ 1..) => Ok(count.to_string()),
        _ => Err("no requests".to_owned()),
    }
}

fn hey(report: &str) -> Verdict {
    let codes: Vec<&str> =
        report.lines().filter(|line| line.trim().starts_with('[') && line.contains("responses")).collect();
    match codes.as_slice() {
        [one] if one.contains("[200]") && !report.contains("Error distribution") => {
            Ok(one.split_whitespace().nth(1).unwrap_or_default().to_owned())
        }
        _ => Err("other answers than 200".to_owned()),
    }
}

fn h2load(report: &str) -> Verdict {
    let line = report.lines().find(|line| line.starts_with("requests:")).ok_or("no line of requests")?;
    let number = |word: &str| {
        let before = line.split(word).next()?;
        before.split([' ', ',']).rfind(|part| !part.is_empty())?.parse::<u64>().ok()
    };
    let answered = report.lines().find(|line| line.starts_with("status codes:")).unwrap_or_default();
    match (number(" total"), number(" succeeded")) {
        (Some(total @ 1..), Some(succeeded)) if total == succeeded && answered.contains(&format!(" {total} 2xx")) => {
            Ok(total.to_string())
        }
        _ => Err("not all succeeded".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_judged() {
        let report = "  Requests/sec\n  1234 requests in 5.00s, 1MB read\n";
        assert_eq!(wrk(report), Ok("1234".to_owned()));
        assert!(wrk(&format!("{report}  Socket errors: connect 0, read 1")).is_err() && wrk("").is_err());
        let report = "Status code distribution:\n  [200]\t500 responses\n";
        assert_eq!(hey(report), Ok("500".to_owned()));
        assert!(hey(&format!("{report}  [502]\t1 responses\n")).is_err());
        assert!(hey(&format!("{report}Error distribution:\n")).is_err() && hey("").is_err());
        let report = "requests: 70 total, 70 started, 70 done, 70 succeeded, 0 failed, 0 errored, 0 timeout\n\
            status codes: 70 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        assert_eq!(h2load(report), Ok("70".to_owned()));
        assert!(h2load(&report.replace("70 succeeded", "69 succeeded")).is_err());
        assert!(h2load(&report.replace("70 2xx, 0 3xx", "69 2xx, 1 3xx")).is_err() && h2load("").is_err());
    }
}
