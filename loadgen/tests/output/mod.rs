//! A run with its files, and the published schema.

use clap::Parser;
use fanfare_loadgen::cli::Cli;
use fanfare_loadgen::report::Report;
use fanfare_loadgen::report::document::Document;
use fanfare_loadgen::report::folder::Folder;
use fanfare_loadgen::threshold::{DISTRIBUTIONS, FIGURES, POINTS};
use jsonschema::Validator;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A run's folder, removed when the test is over.
pub(crate) struct Output {
    /// What the run gave.
    pub(crate) report: Report,
    /// The folder.
    pub(crate) path: PathBuf,
}

impl Output {
    /// Runs `COMMAND FLAGS` with --out.
    pub(crate) fn of(name: &str, target: &str, flags: &str) -> Self {
        let path = scratch(name);
        let (command, flags) = flags.split_once(' ').expect("a command and flags");
        let out = path.display().to_string();
        let line = ["fanfare-loadgen", command, "--target", target, "--quiet", "--out", &out];
        let words: Vec<&str> = line.into_iter().chain(flags.split_whitespace()).collect();
        let mut job = Cli::try_parse_from(&words).expect("good flags").command.into_job().expect("a job");
        job.output.arguments = words.iter().map(|&word| word.to_owned()).collect();
        let folder = Folder::claim(&path).expect("a folder");
        let report = fanfare_loadgen::run(job).unwrap_or_else(|failure| panic!("{flags}: {failure}"));
        folder.write(&report).expect("files");
        Self { report, path }
    }

    /// One of its files.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// `result.json`.
    pub(crate) fn result(&self) -> Value {
        serde_json::from_str(&self.read("result.json")).expect("JSON")
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // A test that has failed has more to say than this.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A place for a folder that is not there yet.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("fanfare-reports-{}-{number}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    path
}

/// Every object of the schema closed: what a result has must be described.
fn strict(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut fields: serde_json::Map<String, Value> =
                fields.iter().map(|(name, value)| (name.clone(), strict(value))).collect();
            if fields.get("type") == Some(&json!("object")) {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            Value::Object(fields)
        }
        Value::Array(items) => Value::Array(items.iter().map(strict).collect()),
        value => value.clone(),
    }
}

/// Holds every figure of a result read again against that of the run. Returns how many there are.
pub(crate) fn figures_read_again(output: &Output) -> usize {
    let document = Document::read(&output.path).expect("a result");
    let points = DISTRIBUTIONS.iter().flat_map(|name| POINTS.map(|point| format!("{name}.{point}")));
    let names: Vec<String> = points.chain(FIGURES.map(str::to_owned)).collect();
    for name in &names {
        let (read, known) = (document.figure(name), output.report.figure(name));
        let same = read.zip(known).is_some_and(|(read, known)| (read - known).abs() <= 1e-9 * known.abs());
        assert!(same || read == known, "{name}: {read:?} against {known:?}");
    }
    names.iter().filter(|name| document.figure(name).is_some()).count()
}

/// The schema of the repository, as published and with every object closed.
pub(crate) struct Published {
    /// Others may add fields.
    pub(crate) open: Validator,
    /// We may not: what a result has must be described.
    pub(crate) closed: Validator,
}

impl Published {
    pub(crate) fn read() -> Self {
        let schema: Value = serde_json::from_str(include_str!("../../schema/result.schema.json")).expect("JSON");
        let validator = |schema: &Value| jsonschema::validator_for(schema).expect("a schema");
        Self { open: validator(&schema), closed: validator(&strict(&schema)) }
    }

    /// Holds a result against both.
    pub(crate) fn check(&self, result: &Value, whose: &str) {
        for (validator, kind) in [(&self.open, "open"), (&self.closed, "closed")] {
            let errors: Vec<String> =
                validator.iter_errors(result).map(|error| format!("{error} at {}", error.instance_path())).collect();
            assert!(errors.is_empty(), "{whose} against the {kind} schema: {errors:#?}");
        }
    }
}
