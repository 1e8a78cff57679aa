//! `keel events`: what happened and what was decided, oldest first.

use std::time::Duration;

use evenkeel_core::{
    journal::{Entry, Level},
    time::WallTime,
};

use crate::{
    api::{Api, Events, encode},
    context::{Context, block_on},
    failure::{Exit, Failure},
    moment,
    style::{Paint, harmless},
    words::now,
};

/// Options of `keel events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with what happens from now on
    #[arg(short, long)]
    follow: bool,
    /// Only what concerns this service, instance or part, as `shop`, `shop/1` or `edge`
    #[arg(short, long)]
    subject: Option<String>,
    /// Only from this time on: `10m` (ago), `14:05` (UTC) or RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// What happened around this time: five minutes before and after
    #[arg(long, value_name = "TIME", conflicts_with_all = ["since", "until", "follow"])]
    at: Option<String>,
    /// How many of the newest [default: 50, or all where a time is given]
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u32>,
}

/// Entries that are shown without a number: of the newest, and of a span of time.
const NEWEST: u32 = 50;
const MOST: u32 = 10_000;
/// What lies around a moment.
const AROUND_MS: u64 = 5 * 60_000;
/// How long the node process waits for something new before it answers with nothing.
const WAIT_MS: u32 = 20_000;
/// How long such an answer may take: what it waits for, and some more.
const FOLLOW_WAIT: Duration = Duration::from_secs(25);

/// Prints what there is, and what comes.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let api = Api::of(&running);
    let subject = args.subject.as_ref().map(|subject| format!("&subject={}", encode(subject))).unwrap_or_default();
    let (times, newest) = times(args)?;
    let limit = args.limit.unwrap_or(newest);
    block_on(async {
        let page: Events = api.get(&format!("/v1/events?limit={limit}{subject}{times}")).await?;
        show(&page.entries, context)?;
        if args.follow {
            return tokio::select! {
                ended = follow(&api, page.next, &subject, context) => ended,
                gone = context.reader_gone() => Err(gone),
            };
        }
        if page.entries.is_empty() && !context.json {
            let about = args.subject.as_ref().map(|subject| format!(" about {subject}")).unwrap_or_default();
            let then = if times.is_empty() { "" } else { " in that time" };
            context.line(format!("nothing was recorded{about}{then}"))?;
        }
        let about = match &args.subject {
            Some(_) if page.entries.is_empty() => "stack",
            Some(subject) => subject,
            None => "SUBJECT",
        };
        context.next(&context.command(&running.state_dir, &format!("why {about}")), "gives the reasons")?;
        Ok(Exit::Done)
    })
}

/// The times that are asked for, as the API takes them, and how many entries go without saying.
fn times(args: &Args) -> Result<(String, u32), Failure> {
    let parse = |text: &Option<String>| text.as_deref().map(|text| moment::parse(text, now())).transpose();
    let parse = |text: &Option<String>| parse(text).map_err(Failure::usage);
    let around = parse(&args.at)?.map(WallTime::as_millis);
    let since = parse(&args.since)?.map(WallTime::as_millis).or(around.map(|at| at.saturating_sub(AROUND_MS)));
    let until = parse(&args.until)?.map(WallTime::as_millis).or(around.map(|at| at.saturating_add(AROUND_MS)));
    let word = |name, ms: Option<u64>| ms.map(|ms| format!("&{name}={ms}")).unwrap_or_default();
    let newest = if since.is_some() { MOST } else { NEWEST };
    Ok((format!("{}{}", word("since_ms", since), word("until_ms", until)), newest))
}

/// Goes on until the stack is gone. A node process that is being restarted breaks off one answer; the journal keeps
/// what was written meanwhile, so nothing is missed by asking again.
async fn follow(api: &Api, mut after: u64, subject: &str, context: &Context) -> Result<Exit, Failure> {
    let mut failed = false;
    loop {
        let next = format!("/v1/events?after={after}&limit=1000&wait_ms={WAIT_MS}{subject}");
        match api.get_within::<Events>(&next, FOLLOW_WAIT).await {
            Ok(page) => {
                failed = false;
                after = page.next;
                show(&page.entries, context)?;
            }
            Err(failure) if failed => return Err(failure),
            Err(_) => failed = true,
        }
    }
}

fn show(entries: &[Entry], context: &Context) -> Result<(), Failure> {
    let width = subject_width(entries);
    for entry in entries {
        if context.json {
            context.json(entry)?;
        } else {
            context.line(line(entry, width, context.paint))?;
        }
    }
    Ok(())
}

/// How wide the column of subjects is, so that messages stand below each other.
pub(crate) fn subject_width(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| entry.subject.chars().count()).max().unwrap_or(0).clamp(8, 24)
}

/// One entry on one line, its subject as wide as `width`.
fn line(entry: &Entry, width: usize, paint: Paint) -> String {
    let level = format!("{:<7}", entry.level);
    let level = match entry.level {
        Level::Info => paint.dim(&level),
        Level::Warning => paint.warn(&level),
        Level::Error => paint.bad(&level),
    };
    let time = paint.dim(&entry.at.to_string());
    format!("{time}  {level}  {:<width$}  {}", harmless(&entry.subject), harmless(&entry.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line() {
        let entry = Entry {
            id: 7,
            at: WallTime::from_millis(1_735_689_599_999),
            level: Level::Warning,
            subject: "shop/1".to_owned(),
            kind: "exited".to_owned(),
            message: "exited by SIGKILL; starting it again at once".to_owned(),
            reasons: Vec::new(),
        };
        assert_eq!(
            line(&entry, 8, Paint::plain()),
            "2024-12-31T23:59:59.999Z  warning  shop/1    exited by SIGKILL; starting it again at once"
        );
        let longer = Entry { subject: "listeners.web".to_owned(), ..entry.clone() };
        assert_eq!(subject_width(std::slice::from_ref(&entry)), 8);
        assert_eq!(subject_width(&[entry, longer]), 13);
    }
}
