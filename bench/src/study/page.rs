//! The answer to a question, as a page with one table for each metric and the plot of the first.

use std::fmt::Write as _;

use super::{Measured, Question};
use crate::compare::case::Metric;
use crate::compare::contender::Contender;
use crate::compare::prepare::Machine;
use crate::compare::statistics::Spread;

/// How it was measured.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What it was measured on.
    pub machine: Machine,
    /// Visits to every server.
    pub rounds: u32,
    /// A quarter of the messages.
    pub quick: bool,
    /// Descriptors that a process may have.
    pub descriptors: u64,
    /// Load averages (`/proc/loadavg`, the first number) when it began and when it ended.
    pub load: [f64; 2],
    /// What to run to measure it again.
    pub command: String,
    /// Servers that could not take part, and why.
    pub absent: Vec<String>,
}

/// Two programs that are measured, the kernel's work for them and the starts of the next ones make a load of three, as
/// seen on a quiet machine; above this something else ran as well.
const LOAD_OWN: f64 = 4.0;

/// The page. `None` if nothing was measured.
pub fn write(question: &Question, measured: &[Measured], facts: &Facts) -> Option<String> {
    let (asks, name) = (question.asks, question.name);
    let mut out = format!("# {asks}\n\n![{asks} ({})]({name}.svg)\n\n", drawn(question, measured)?.title());
    for &metric in &question.metrics {
        let none = || format!("{}: no value from any visit, see below.\n", metric.title());
        out.push_str(&table(question, measured, metric).unwrap_or_else(none));
        out.push('\n');
    }
    out.push_str(
        "In brackets the smallest and the largest of all rounds; – was not asked or gave no value. Ratios are of values of \
         the same round: 2.00 is twice as much as Fanfare.\n\n",
    );
    for remark in &question.remarks {
        out.push_str(&format!("- {remark}\n"));
    }
    out.push_str(&told(facts));
    for why in &facts.absent {
        out.push_str(&format!("- Absent: {why}.\n"));
    }
    let failures = failures(measured);
    if !failures.is_empty() {
        out.push_str("\nVisits without a value, or without some, and why:\n\n");
        failures.iter().for_each(|failure| out.push_str(&format!("- {failure}\n")));
    }
    out.push_str(&format!("\n```text\n{}\n```\n", facts.command));
    Some(out)
}

/// Everybody who was asked at any point, in the order in which they are asked.
pub fn servers(measured: &[Measured]) -> Vec<Contender> {
    let mut servers: Vec<Contender> = Vec::new();
    for &(who, _) in measured.iter().flat_map(|measured| &measured.result.samples) {
        // Fanfare has a line of its own, with whatever number of shards.
        if who.shards().is_none() && !servers.contains(&who) {
            servers.push(who);
        }
    }
    servers
}

/// The metric that is drawn: the first one with a value that a logarithm can show.
pub fn drawn(question: &Question, measured: &[Measured]) -> Option<Metric> {
    question.metrics.iter().copied().find(|&metric| spreads(measured, metric).any(|spread| spread.min > 0.0))
}

fn spreads(measured: &[Measured], metric: Metric) -> impl Iterator<Item = Spread> {
    let of = move |Measured { result, .. }: &Measured| -> Vec<Spread> {
        result.samples.iter().filter_map(|(who, _)| result.spread(*who, metric)).collect()
    };
    measured.iter().flat_map(of)
}

fn table(question: &Question, measured: &[Measured], metric: Metric) -> Option<String> {
    let servers = servers(measured);
    spreads(measured, metric).next()?;
    let mut out = format!("| {} | fanfare: {} |", question.axis, metric.title());
    servers.iter().for_each(|who| out.push_str(&format!(" {who} : fanfare |")));
    let _ = writeln!(out, "\n|{}", "---|".repeat(servers.len() + 2));
    for Measured { point, result } in measured {
        let fanfare = point.fanfare();
        let value = cell(result.spread(fanfare, metric), metric.decimals());
        let _ = write!(out, "| {} | {value} |", point.label);
        for &who in &servers {
            let _ = write!(out, " {} |", cell(result.ratio(who, fanfare, metric), 2));
        }
        out.push('\n');
    }
    Some(out)
}

/// `median (min-max)`, or a dash.
fn cell(spread: Option<Spread>, decimals: usize) -> String {
    match spread {
        None => "–".to_owned(),
        Some(Spread { median, min, max, .. }) => format!("{median:.decimals$} ({min:.decimals$}-{max:.decimals$})"),
    }
}

fn told(facts: &Facts) -> String {
    let Facts { machine, rounds, descriptors, load, .. } = facts;
    let mut peers: Vec<String> = machine.crates.clone();
    let npm = machine.npm.as_object().into_iter().flatten();
    peers.extend(npm.map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?"))));
    peers.extend(machine.node.iter().map(|version| format!("Node.js {version}")));
    // It says `nginx version: nginx/1.2.3`.
    peers.extend(machine.nginx.as_deref().map(|said| said.rsplit(' ').next().unwrap_or(said).replace('/', " ")));
    let visits = if facts.quick { "visits with a quarter of the messages" } else { "full visits" };
    let mut out = format!(
        "- {rounds} rounds of {visits}, all servers in turns. {}, {} cores, Linux {}; {descriptors} descriptors. {}.\n",
        machine.processor,
        machine.cores,
        machine.kernel.split('-').next().unwrap_or_default(),
        peers.join(", ")
    );
    let highest = load[0].max(load[1]);
    out.push_str(&format!("- Load average before and after: {:.1}, {:.1}", load[0], load[1]));
    out.push_str(if highest > LOAD_OWN {
        ": other programs ran on both cores. CPU seconds are the server's own all the same, and less exact.\n"
    } else {
        ".\n"
    });
    out
}

/// The first line of what went wrong, once for each server and point with the rounds that it went wrong in.
fn failures(measured: &[Measured]) -> Vec<String> {
    let mut failures: Vec<(String, Vec<String>)> = Vec::new();
    for Measured { point, result } in measured {
        for (who, samples) in &result.samples {
            for (round, sample) in samples.iter().enumerate() {
                for remark in &sample.remarks {
                    let what = format!("{who} at {}: {}", point.label, remark.lines().next().unwrap_or_default());
                    let round = (round + 1).to_string();
                    match failures.iter_mut().find(|(known, _)| *known == what) {
                        Some((_, rounds)) => rounds.push(round),
                        None => failures.push((what, vec![round])),
                    }
                }
            }
        }
    }
    failures.into_iter().map(|(what, rounds)| format!("{what} (round {})", rounds.join(", "))).collect()
}
