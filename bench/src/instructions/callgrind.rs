//! Runs a case in a process of its own under `valgrind --tool=callgrind` and reads the count.

use super::meter::SWITCHES;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What went wrong while counting. Says what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct CountError(pub String);

/// The count of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    /// Instructions per operation.
    pub instructions: f64,
    /// The processor as the process under valgrind saw it.
    pub processor: String,
}

/// The tool that counts.
#[derive(Clone, Debug)]
pub struct Callgrind {
    valgrind: PathBuf,
    version: String,
    /// Where profiles are kept, one per case.
    profiles: PathBuf,
}

impl Callgrind {
    /// Finds valgrind on the path. Profiles go into `profiles`, which is made.
    pub fn find(profiles: &Path) -> Result<Self, CountError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let valgrind = std::env::split_paths(&path).map(|folder| folder.join("valgrind")).find(|file| file.is_file());
        let valgrind = valgrind.ok_or_else(|| {
            CountError("no valgrind on the path. Install the package `valgrind`; nothing else can count.".to_owned())
        })?;
        let output = Command::new(&valgrind).arg("--version").output();
        let output = output.map_err(|error| CountError(format!("{} does not start: {error}", valgrind.display())))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        std::fs::create_dir_all(profiles)
            .map_err(|error| CountError(format!("cannot make {}: {error}", profiles.display())))?;
        Ok(Self { valgrind, version, profiles: profiles.to_owned() })
    }

    /// As it says of itself.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The profile of a case, for `callgrind_annotate`.
    pub fn profile(&self, case: &str) -> PathBuf {
        self.profiles.join(format!("{}.callgrind", case.replace('/', "-")))
    }

    /// Counts the case: `program arguments` runs it in a [`super::Meter`] and prints [`report`].
    pub fn count<A: AsRef<OsStr>>(&self, case: &str, program: &Path, arguments: &[A]) -> Result<Count, CountError> {
        let failed = |what: String| CountError(format!("{case} cannot be counted: {what}"));
        let profile = self.profile(case);
        let mut command = Command::new(&self.valgrind);
        command
            .args(["--tool=callgrind", "--quiet", "--collect-atstart=no", "--error-exitcode=0"])
            .args(SWITCHES.map(|switch| format!("--toggle-collect={switch}")))
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(program)
            .args(arguments)
            // An environment can choose other code, in the C library for one.
            .env_clear();
        let output = command.output().map_err(|error| failed(format!("valgrind does not start: {error}")))?;
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return Err(failed(format!("{}\n{complained}", output.status)));
        }
        let text = std::fs::read_to_string(&profile)
            .map_err(|error| failed(format!("no profile {}: {error}", profile.display())))?;
        let total = read_total(&text).filter(|&total| total > 0);
        let total = total.ok_or_else(|| {
            failed(format!(
                "callgrind saw nothing between its switches. Are the functions {SWITCHES:?} still there, not inlined, \
                 and the symbols not stripped?"
            ))
        })?;
        let (operations, processor) = read_report(&said).ok_or_else(|| failed(format!("it said: {said}")))?;
        Ok(Count { instructions: total as f64 / operations as f64, processor })
    }
}

/// What a process that ran a case has to say.
pub fn report(operations: u64, processor: &str) -> String {
    format!("operations {operations}\nprocessor {processor}\n")
}

fn read_report(said: &str) -> Option<(u64, String)> {
    let value = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let operations = value("operations")?.parse().ok().filter(|&operations| operations > 0)?;
    Some((operations, value("processor")?.to_owned()))
}

/// The sum of a profile: a line `totals: N`, behind everything that was counted.
fn read_total(profile: &str) -> Option<u64> {
    profile.lines().rev().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_reports_are_read_as_they_are_written() {
        let profile = "version: 1\nevents: Ir\nsummary: 40\n\nfn=(1) a\n1 40\n\ntotals: 1234\n";
        assert_eq!(read_total(profile), Some(1234));
        assert_eq!(read_total("events: Ir\n"), None);
        assert_eq!(read_report(&report(20, "x86_64+avx2")), Some((20, "x86_64+avx2".to_owned())));
        assert_eq!(read_report("operations 0\nprocessor x\n"), None);
        assert_eq!(read_report(""), None);
    }
}
