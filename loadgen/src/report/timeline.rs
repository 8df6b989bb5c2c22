//! `timeline.csv`: one line an interval (RFC 4180). An empty field: there is no such figure in this interval.

use super::series::{Points, Row, Series};
use std::io::{self, Write};

/// The first line.
pub const COLUMNS: [&str; 20] = [
    "start_s",
    "seconds",
    "period",
    "sent",
    "received",
    "received_bytes",
    "missing_so_far",
    "p50_us",
    "p99_us",
    "max_us",
    "last_count",
    "last_p50_us",
    "last_p99_us",
    "last_max_us",
    "connections",
    "connect_failed",
    "connections_lost",
    "server_cores",
    "server_rss_bytes",
    "generator_cores",
];

/// Writes the table.
pub fn write(series: &Series, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", COLUMNS.join(","))?;
    series.rows.iter().try_for_each(|row| writeln!(out, "{}", cells(row).join(",")))
}

fn cells(row: &Row) -> [String; COLUMNS.len()] {
    fn some<T: ToString>(value: Option<T>) -> String {
        value.map_or(String::new(), |value| value.to_string())
    }
    let point = |points: Option<Points>, figure: fn(Points) -> u64| some(points.map(figure));
    [
        format!("{:.3}", row.start_s),
        format!("{:.3}", row.seconds),
        row.period.to_owned(),
        row.sent.to_string(),
        row.received.to_string(),
        row.received_bytes.to_string(),
        row.missing_so_far.to_string(),
        point(row.latency_us, |points| points.p50),
        point(row.latency_us, |points| points.p99),
        point(row.latency_us, |points| points.max),
        point(row.last_us, |points| points.count),
        point(row.last_us, |points| points.p50),
        point(row.last_us, |points| points.p99),
        point(row.last_us, |points| points.max),
        row.connections.to_string(),
        row.connect_failed.to_string(),
        row.connections_lost.to_string(),
        some(row.server_cores.map(|cores| format!("{cores:.3}"))),
        some(row.server_rss_bytes),
        format!("{:.3}", row.generator_cores),
    ]
}
