//! The part of `docs/benchmarks.md` that this bench writes, and its plots. The rest of the page is left as it is.

use std::{error::Error, fs, path::Path};

use crate::{
    plot::{bars, spans},
    report::{mib, time},
    results::{Measured, Results, Round, Spread},
};

const BEGIN: &str = "<!-- Written by `cargo xtask bench edge --write-docs`: -->";
const END: &str = "<!-- Up to here. -->";

/// Replaces what is between the two marks of `benchmarks.md` in `docs`, and the plots in `docs/benchmarks`.
pub fn write(results: &Results, docs: &Path) -> Result<(), Box<dyn Error>> {
    let path = docs.join("benchmarks.md");
    let page = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let marks = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = marks else {
        return Err(format!("{} has no part between {BEGIN} and {END}", path.display()).into());
    };
    let plots = docs.join("benchmarks");
    fs::create_dir_all(&plots)?;
    for (name, plot) in self::plots(results) {
        fs::write(plots.join(name), plot)?;
    }
    fs::write(&path, format!("{before}{BEGIN}\n\n{}\n{END}{after}", text(results)))?;
    Ok(())
}

fn plots(results: &Results) -> [(&'static str, String); 4] {
    let names = results.names();
    let kept = |case: &&Measured| case.name.starts_with("keep-alive");
    // One connection keeps nobody busy, which makes a request several times as dear: its bars would hide the rest.
    let saturated = |case: &&Measured| kept(case) && case.name != "keep-alive-1";
    let group = |label: &str, of: &dyn Fn(&str) -> Option<Spread>| bars::Group {
        label: label.to_owned(),
        bars: names.iter().map(|name| of(name)).collect(),
    };
    let cpu: Vec<bars::Group> =
        results.cases.iter().filter(saturated).map(|case| group(part(case, 1), &|name| case.cpu(name))).collect();
    let others: Vec<bars::Group> = results
        .cases
        .iter()
        .filter(|case| !saturated(case))
        .map(|case| group(part(case, usize::from(kept(&case))), &|name| case.ratio(name, names[0])))
        .collect();
    let percentiles = |case: &Measured, name: &str| -> Vec<f64> {
        let of: [fn(&Round) -> f64; 3] =
            [|round| round.load.p50_us, |round| round.load.p99_us, |round| round.load.p999_us];
        of.into_iter().filter_map(|value| case.median(name, value)).collect()
    };
    let latency: Vec<spans::Group> = results
        .cases
        .iter()
        .filter(kept)
        .map(|case| spans::Group {
            label: part(case, 1).to_owned(),
            spans: names.iter().map(|name| percentiles(case, name)).collect(),
        })
        .collect();
    let idle = [group("bytes for each of 5,000 idle connections", &|name| results.idle_bytes(name))];
    let first = names[0];
    [
        ("cpu.svg", bars::draw("CPU time per request in µs, 1 KiB, keep-alive: less is better", &names, &cpu, 1)),
        (
            "cpu-other.svg",
            bars::draw(&format!("CPU time per request, {first} = 1: less is better"), &names, &others, 2),
        ),
        ("latency.svg", spans::draw("Latency at full load: p50, p99, p99.9", &names, &latency, time)),
        ("idle.svg", bars::draw("User memory of an idle connection: less is better", &names, &idle, 0)),
    ]
}

/// A case's title is what it is about and, behind a comma, how many connections there are.
fn part(case: &Measured, at: usize) -> &str {
    case.title.split(", ").nth(at).unwrap_or(&case.title)
}

fn text(results: &Results) -> String {
    let machine = &results.machine;
    let versions: Vec<&str> = results.contenders.iter().map(|contender| contender.version.as_str()).collect();
    let mut text = format!(
        "Measured on {} on {} ({} cores), {}, {}, with {}. Medians of {} interleaved rounds of {} s; ratios are taken pair \
         by pair within a round, their range is in brackets. Quote the ratios: absolute times are the machine's.\n\n",
        machine.date,
        machine.processor,
        machine.cores,
        machine.system,
        machine.kernel,
        versions.join("; "),
        results.rounds,
        results.seconds
    );
    text.push_str("## CPU time per request\n\n![CPU time per request](benchmarks/cpu.svg)\n\n");
    text.push_str(&cpu_table(results));
    text.push_str("\n![CPU time per request by kind of load](benchmarks/cpu-other.svg)\n\n");
    text.push_str("## Rate and latency\n\n![Latency](benchmarks/latency.svg)\n\n");
    text.push_str(&rate_table(results));
    text.push_str("\n## Memory\n\n![Memory of an idle connection](benchmarks/idle.svg)\n\n");
    text.push_str(&memory_table(results));
    text.push_str("\n## System calls per request\n\n");
    text.push_str(&calls_table(results));
    text.push_str("\n## Configurations\n");
    for contender in &results.contenders {
        let (name, configuration) = (&contender.name, contender.configuration.trim());
        text.push_str(&format!("\n<details><summary>{name}</summary>\n\n```\n{configuration}\n```\n\n</details>\n"));
    }
    text
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    format!("| {} |\n", cells.into_iter().collect::<Vec<_>>().join(" | "))
}

/// The line of names and the line below it.
fn head(cells: &[String]) -> String {
    row(cells.iter().cloned()) + &row(cells.iter().map(|_| "---".to_owned()))
}

fn cpu_table(results: &Results) -> String {
    let names = results.names();
    let (first, others) = (names[0], &names[1..]);
    let columns = names.iter().map(|name| format!("{name}, µs"));
    let ratios = others.iter().map(|other| format!("{first} / {other}"));
    let mut text = head(&std::iter::once("load".to_owned()).chain(columns).chain(ratios).collect::<Vec<_>>());
    for case in &results.cases {
        let times = names.iter().map(|name| case.cpu(name).map_or_else(none, |cpu| format!("{:.1}", cpu.median)));
        let ratios = others.iter().map(|other| {
            let shown = |ratio: Spread| format!("**{:.2}** ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max);
            case.ratio(first, other).map_or_else(none, shown)
        });
        text.push_str(&row(std::iter::once(case.title.clone()).chain(times).chain(ratios)));
    }
    text
}

fn rate_table(results: &Results) -> String {
    let mut text = head(&["load", "", "requests/s", "core used", "p50", "p99", "p99.9"].map(str::to_owned));
    for case in &results.cases {
        for name in results.names() {
            let median = |value: fn(&Round) -> f64| case.median(name, value).unwrap_or(0.0);
            text.push_str(&row([
                case.title.clone(),
                name.to_owned(),
                format!("{:.0}", median(|round| round.per_second)),
                format!("{:.0} %", median(|round| round.busy_percent)),
                time(median(|round| round.load.p50_us)),
                time(median(|round| round.load.p99_us)),
                time(median(|round| round.load.p999_us)),
            ]));
        }
    }
    text
}

fn memory_table(results: &Results) -> String {
    let columns = [
        "",
        "an idle connection",
        "PSS without",
        "PSS with 5,000 idle",
        "USS without",
        "USS with",
        "most under load (PSS)",
    ];
    let mut text = head(&columns.map(str::to_owned));
    for name in results.names() {
        let (Some(bytes), Some(idle)) = (results.idle_bytes(name), results.idle_of(name).next()) else { continue };
        let loaded = results.cases.iter().filter_map(|case| case.median(name, |round| round.memory.pss_bytes as f64));
        text.push_str(&row([
            name.to_owned(),
            format!("{:.0} bytes", bytes.median),
            mib(idle.without.pss_bytes as f64),
            mib(idle.with.pss_bytes as f64),
            mib(idle.without.uss_bytes as f64),
            mib(idle.with.uss_bytes as f64),
            mib(loaded.fold(0.0, f64::max)),
        ]));
    }
    text.push_str(
        "\nAll processes of a contender. For `keel` that includes the node process, which serves no request. An idle \
         connection is what 5,000 of them, each of which has had an answer, add to anonymous memory.\n",
    );
    text
}

fn calls_table(results: &Results) -> String {
    let mut calls = results.cases.iter().flat_map(|case| &case.calls);
    let Some(counter) = calls.next().map(|calls| &calls.counter) else {
        return "Not counted in this run.\n".to_owned();
    };
    let mut text = format!("Counted by {counter} under load.\n\n");
    text.push_str(&head(&["load", "", "calls", "which"].map(str::to_owned)));
    for case in &results.cases {
        for name in results.names() {
            let Some(calls) = case.calls(name) else { continue };
            let which: Vec<String> =
                calls.by_name.iter().take(6).map(|(name, count)| format!("{name} {count:.2}")).collect();
            text.push_str(&row([
                case.title.clone(),
                name.to_owned(),
                format!("{:.2}", calls.per_request),
                which.join(", "),
            ]));
        }
    }
    text
}

fn none() -> String {
    "–".to_owned()
}
