//! The guard guards: a parser that takes 5 % more instructions is caught, by its name, and so is one that takes fewer.
//!
//! Needs valgrind. Where there is none, the tests say so and pass; where `CI` is set, they fail.

use fanfare_bench::instructions::baseline::Baseline;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CASE: &str = "http/request/small";

/// A folder of one test's own.
struct Guard {
    folder: PathBuf,
}

impl Guard {
    fn new(name: &str) -> Option<Self> {
        if Command::new("valgrind").arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "valgrind is missing");
            eprintln!("valgrind is not installed: nothing was tried");
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // What an interrupted run has left.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let guard = Self { folder };
        let written = guard.run(&["--case", CASE, "--write"]);
        assert!(written.status.success(), "{written:?}");
        Some(guard)
    }

    fn file(&self) -> PathBuf {
        self.folder.join("counts.json")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fanfare-instructions"))
            .arg("--baseline")
            .arg(self.file())
            .arg("--profiles")
            .arg(&self.folder)
            .args(arguments)
            .output()
            .expect("the program starts")
    }

    /// Compares the case; exit status and what was said.
    fn compare(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(&[&["--case", CASE], arguments].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn rewrite(&self, change: impl FnOnce(&mut Baseline)) {
        let mut recorded = Baseline::read(&self.file()).expect("it was written");
        change(&mut recorded);
        recorded.write(&self.file()).expect("it can be written");
    }
}

#[test]
fn five_percent_more_are_caught_by_name() {
    let Some(guard) = Guard::new("worse") else { return };
    let (status, said) = guard.compare(&[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("instructions: 1 cases, largest deviation +0.00 % (http/request/small)"), "{said}");

    let (status, said) = guard.compare(&["--slower", "5"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("worse   http/request/small: ") && said.contains("(+5.0 %)"), "{said}");
    assert!(said.contains("--write"), "how to accept it: {said}");
}

#[test]
fn five_percent_fewer_are_caught_too() {
    let Some(guard) = Guard::new("better") else { return };
    guard.rewrite(|recorded| *recorded.instructions.get_mut(CASE).expect("counted") *= 1.06);
    let (status, said) = guard.compare(&[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("better  http/request/small: ") && said.contains("--write"), "{said}");
}

#[test]
fn with_other_tools_no_count_fails_and_it_is_said_why() {
    let Some(guard) = Guard::new("tools") else { return };
    guard.rewrite(|recorded| recorded.tools.rustc = "rustc 1.2.3".to_owned());
    let (status, said) = guard.compare(&["--slower", "35"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("(recorded: rustc 1.2.3)") && said.contains("no count fails"), "{said}");
    assert!(said.contains("other   http/request/small: ") && said.contains("(+3"), "{said}");
    assert!(said.contains("--write"), "how to refresh the file: {said}");

    guard.rewrite(|recorded| recorded.tools.processor = "abacus".to_owned());
    let (status, said) = guard.compare(&["--slower", "35"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("(recorded: abacus)"), "{said}");

    guard.rewrite(|recorded| recorded.instructions.clear());
    let (status, said) = guard.compare(&[]);
    assert_eq!(status, Some(1), "a case without a count fails with any tools: {said}");
    assert!(said.contains("new     http/request/small"), "{said}");

    guard.rewrite(|recorded| recorded.tools.profile = "another".to_owned());
    let output = guard.run(&["--case", CASE]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--profile instructions"), "{output:?}");
}
