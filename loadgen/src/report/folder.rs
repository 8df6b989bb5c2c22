//! `--out DIR`: the folder of one run, claimed before the first connection and filled after the last.

use super::series::Series;
use super::{Report, hlog, junit, page, timeline};
use crate::failure::{Exit, Failure};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What a person reads first.
pub const SUMMARY: &str = "summary.txt";
/// Everything, for programs; `report` and `compare` read it.
pub const RESULT: &str = "result.json";
/// Latencies by interval, for the tools of HdrHistogram.
pub const LATENCY_LOG: &str = "latency.hlog";
/// One line an interval.
pub const TIMELINE: &str = "timeline.csv";
/// For build servers.
pub const JUNIT: &str = "junit.xml";
/// To look at.
pub const PAGE: &str = "report.html";

/// A report with its series: what `result.json` holds.
#[derive(Debug, Serialize)]
struct Whole<'r> {
    #[serde(flatten)]
    report: &'r Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    series: Option<&'r Series>,
}

/// An empty folder that is ours.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    made: bool,
}

impl Folder {
    /// Makes the folder, or takes an empty one. Results are never written over.
    pub fn claim(path: &Path) -> Result<Self, Failure> {
        let place = format!("--out {}", path.display());
        let refuse = |cause: &str, remedy: &str| Err(Failure::usage(cause, place.clone(), remedy));
        let made = match fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return refuse(
                        "the folder is not empty",
                        "name one that does not exist: results are not written over",
                    );
                }
                false
            }
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return refuse("a file is in the way", "name a folder that does not exist yet");
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(path).map_err(|error| unusable(path, "cannot be made", &error))?;
                true
            }
            Err(error) => return Err(unusable(path, "cannot be read", &error)),
        };
        let folder = Self { path: path.to_owned(), made };
        // Better now than after an hour of measuring.
        let trial = path.join(RESULT);
        if let Err(error) = fs::write(&trial, b"{}\n").and_then(|()| fs::remove_file(&trial)) {
            folder.give_up();
            return Err(unusable(path, "cannot be written to", &error));
        }
        Ok(folder)
    }

    /// The run gave nothing: leaves no empty folder behind.
    pub fn give_up(&self) {
        if self.made {
            // One that somebody has put something into stays.
            let _ = fs::remove_dir(&self.path);
        }
    }

    /// Where the page is.
    pub fn page(&self) -> PathBuf {
        self.path.join(PAGE)
    }

    /// Writes all files.
    pub fn write(&self, report: &Report) -> Result<(), Failure> {
        let record = &report.record;
        let series = Series::of(record, report.server.is_some());
        let whole = Whole { report, series: series.as_ref() };
        self.file(SUMMARY, |out| out.write_all(report.summary().as_bytes()))?;
        self.file(RESULT, |out| {
            serde_json::to_writer_pretty(&mut *out, &whole)?;
            writeln!(out)
        })?;
        self.file(LATENCY_LOG, |out| hlog::write(record, out))?;
        if let Some(series) = &series {
            self.file(TIMELINE, |out| timeline::write(series, out))?;
        }
        self.file(JUNIT, |out| junit::write(report, out))?;
        self.file(PAGE, |out| page::write(&serde_json::to_value(&whole)?, out))
    }

    fn file(&self, name: &str, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), Failure> {
        write_file(&self.path.join(name), fill)
    }
}

/// Writes one file; a full file system is told apart from the rest.
pub fn write_file(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), Failure> {
    let written = File::create(path).map(BufWriter::new).and_then(|mut out| {
        fill(&mut out)?;
        out.flush()
    });
    written.map_err(|error| {
        let place = path.display().to_string();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Failure::failed(
                "there is no room for the result",
                place,
                "free some, or name a folder on another file system; what standard output says is all there is of this run",
            ),
            _ => Failure::failed(format!("the file cannot be written: {error}"), place, "name another place for it"),
        }
    })
}

fn unusable(path: &Path, what: &str, error: &io::Error) -> Failure {
    let cause = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "there is no room for results".to_owned(),
        _ => format!("the folder {what}: {error}"),
    };
    let remedy = "name a folder that this user may make and write to, on a file system with room";
    Failure::new(Exit::NotStarted, cause, format!("--out {}", path.display()), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fanfare-folder-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let path = scratch("full");
        fs::create_dir_all(&path).expect("a folder");
        fs::write(path.join("mine.txt"), "mine").expect("a file");
        let failure = Folder::claim(&path).expect_err("not empty");
        assert!(failure.cause.contains("not empty") && failure.place.contains("--out"), "{failure}");
        assert_eq!(failure.exit, Exit::Usage);
        let failure = Folder::claim(&path.join("mine.txt")).expect_err("a file");
        assert!(failure.cause.contains("a file is in the way"), "{failure}");
        fs::remove_dir_all(&path).expect("removed");
    }

    #[test]
    fn a_folder_is_made_and_goes_when_nothing_came_of_the_run() {
        let path = scratch("made");
        let folder = Folder::claim(&path.join("deep")).expect("made");
        assert!(path.join("deep").is_dir() && !path.join("deep").join(RESULT).exists());
        folder.give_up();
        assert!(!path.join("deep").exists());
        // One that was there before stays.
        Folder::claim(&path).expect("empty").give_up();
        assert!(path.is_dir());
        fs::remove_dir_all(&path).expect("removed");
    }

    #[test]
    fn a_full_file_system_is_named() {
        let failure = write_file(Path::new("/dev/full"), |out| out.write_all(&[b'x'; 100])).expect_err("full");
        assert!(failure.cause.contains("no room") && failure.place == "/dev/full", "{failure}");
        let failure = write_file(Path::new("/proc/nothing"), |_| Ok(())).expect_err("no such place");
        assert!(failure.cause.contains("cannot be written"), "{failure}");
    }
}
