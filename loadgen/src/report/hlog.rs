//! `latency.hlog`: a HdrHistogram interval log, format 1.3, as the standard tools read it.
//!
//! Values are microseconds. Lines without a tag are deliveries from their planned time, lines tagged `last` are last
//! receivers. The sum of all untagged lines is `latency_us.from_intended` of the result.

use super::series::Record;
use crate::latency::Distribution;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

/// Tag of last receivers.
pub const LAST: &str = "last";

/// What the Java tools write above the histograms, and skip.
const LEGEND: &str = r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;

/// Writes the log of an aligned record. A run without latencies has a log without lines.
pub fn write(record: &Record, out: &mut impl Write) -> io::Result<()> {
    let mut serializer = V2DeflateSerializer::new();
    let started = record.started.unwrap_or(SystemTime::UNIX_EPOCH);
    IntervalLogWriterBuilder::new()
        .add_comment("[fanfare-loadgen: microseconds from the planned time; Tag=last: last receivers]")
        .add_comment("[Histogram log format version 1.3]")
        .with_base_time(started)
        .with_start_time(started)
        .begin_log_with(out, &mut serializer)?;
    writeln!(out, "{LEGEND}")?;
    let mut log = IntervalLogWriterBuilder::new().begin_log_with(out, &mut serializer)?;
    let mut lines = |distribution: &Distribution, from_ns: u64, until_ns: u64, tag: Option<Tag>| {
        if distribution.count() == 0 {
            return Ok(());
        }
        let (start, length) = (Duration::from_nanos(from_ns), Duration::from_nanos(until_ns - from_ns));
        let written = log.write_histogram(distribution.histogram(), start, length, tag);
        written.map_err(|error| io::Error::other(error.to_string()))
    };
    let mut cells = record.cells().into_iter();
    for stretch in &record.samples.stretches {
        let mut from_ns = stretch.started_ns;
        for sample in &stretch.samples {
            if let Some(cell) = cells.next().flatten() {
                lines(&cell.deliveries, from_ns, sample.at_ns, None)?;
                lines(&cell.last, from_ns, sample.at_ns, Tag::new(LAST))?;
            }
            from_ns = sample.at_ns;
        }
    }
    Ok(())
}
