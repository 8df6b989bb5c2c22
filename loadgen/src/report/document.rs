//! A `result.json` that somebody else wrote: read with doubt.

use super::{SCHEMA, folder};
use crate::failure::Failure;
use crate::threshold::{DISTRIBUTIONS, FIGURES};
use serde_json::Value;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Largest file that is read.
pub const RESULT_BYTES_MAX: u64 = 64 << 20;

/// A result, as far as it is known to be one.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it was found.
    pub path: PathBuf,
    /// What it says.
    pub value: Value,
}

impl Document {
    /// Reads a result file, or the one in a folder written by `--out`.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let path = if path.is_dir() { path.join(folder::RESULT) } else { path.to_owned() };
        let place = path.display().to_string();
        let fail = |cause: String, remedy: &str| Failure::failed(cause, place.clone(), remedy);
        let unreadable = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => fail(
                "there is no such result".to_owned(),
                "name a folder that --out has filled, or a file that --json has written",
            ),
            _ => fail(format!("the result cannot be read: {error}"), "check that this user may read it"),
        };
        let bytes = fs::metadata(&path).map_err(unreadable)?.len();
        if bytes > RESULT_BYTES_MAX {
            let cause = format!("a file of {bytes} bytes is above {RESULT_BYTES_MAX}");
            return Err(fail(cause, "no result is as large: name the result.json of a run"));
        }
        let text = fs::read_to_string(&path).map_err(unreadable)?;
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            fail(format!("this is not a result: {error}"), "name the result.json of a run, or what --json has written")
        })?;
        check_schema(&value).map_err(|(cause, remedy)| fail(cause, remedy))?;
        Ok(Self { path, value })
    }

    /// The figure a threshold names; `None` when this run has none.
    pub fn figure(&self, metric: &str) -> Option<f64> {
        let number = |pointer: &str| self.value.pointer(pointer).and_then(Value::as_f64);
        if let Some((distribution, point)) = metric.split_once('.')
            && DISTRIBUTIONS.contains(&distribution)
        {
            let place = place_of_distribution(distribution);
            return number(&format!("{place}/count")).filter(|&n| n > 0.0).and(number(&format!("{place}/{point}")));
        }
        match metric {
            "connected" => number("/connect/opened"),
            // Each of them stands in one of these places only.
            _ if FIGURES.contains(&metric) => ["", "/connect", "/server", "/guests", "/soak"]
                .iter()
                .find_map(|place| number(&format!("{place}/{metric}"))),
            _ => None,
        }
    }

    /// A text at `pointer`.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.value.pointer(pointer).and_then(Value::as_str)
    }

    /// Whether the run calls itself valid.
    pub fn is_valid(&self) -> bool {
        self.value.pointer("/verdict/valid").and_then(Value::as_bool) == Some(true)
    }
}

/// Where a distribution of a threshold stands in a result.
fn place_of_distribution(name: &str) -> String {
    match name {
        "from_intended" | "from_actual" => format!("/latency_us/{name}"),
        "send_delay" => "/generator/send_delay_us".to_owned(),
        "spread" => "/spread_us".to_owned(),
        _ => format!("/{name}_receiver_us"),
    }
}

fn check_schema(value: &Value) -> Result<(), (String, &'static str)> {
    let (family, ours) = SCHEMA.split_once('/').unwrap_or((SCHEMA, ""));
    let Some(schema) = value.get("schema").and_then(Value::as_str) else {
        return Err(("this is JSON, but not a result: it names no schema".to_owned(), "name the result.json of a run"));
    };
    let Some(number) = schema.strip_prefix(family).and_then(|rest| rest.strip_prefix('/')) else {
        return Err((format!("'{schema}' is no result of this program"), "name the result.json of a run"));
    };
    match (number.parse::<u32>(), ours.parse::<u32>()) {
        (Ok(theirs), Ok(ours)) if theirs == ours => Ok(()),
        (Ok(theirs), Ok(ours)) if theirs > ours => Err((
            format!("the result is of schema {schema}, this program knows {SCHEMA}"),
            "use the version of fanfare-loadgen that wrote it, or a newer one",
        )),
        _ => {
            Err((format!("'{schema}' is a schema that this program does not know"), "measure again with this version"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_results_of_this_schema_are_taken() {
        assert!(check_schema(&json!({"schema": SCHEMA})).is_ok());
        for (value, part) in [
            (json!([1]), "names no schema"),
            (json!({"schema": "other/1"}), "no result of this program"),
            (json!({"schema": "fanfare-loadgen/2"}), "this program knows"),
            (json!({"schema": "fanfare-loadgen/0"}), "does not know"),
            (json!({"schema": "fanfare-loadgen/x"}), "does not know"),
        ] {
            let (cause, remedy) = check_schema(&value).expect_err("refused");
            assert!(cause.contains(part) && !remedy.is_empty(), "{cause}");
        }
    }

    #[test]
    fn files_that_are_no_results_are_explained() {
        let read = |path: &str| Document::read(Path::new(path)).expect_err(path).cause;
        assert!(read("/proc/self/no-such-file").contains("no such result"));
        assert!(read("/proc/self/cmdline").contains("not a result"));
        assert!(read("/proc/self/fdinfo").contains("no such result"));
    }
}
