//! The commands that read results: `report` and `compare`.

use super::compare::Comparison;
use super::document::Document;
use super::fail_if::FailIf;
use super::folder::{self, write_file};
use super::page;
use crate::failure::{Exit, Failure};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A folder that --out has filled, or a result file
    #[arg(value_name = "RESULT")]
    result: PathBuf,
    /// Where to write the page, or - for standard output [default: report.html beside the result]
    #[arg(long = "output", short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Flags of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The base: a folder that --out has filled, or a result file
    #[arg(value_name = "A")]
    a: PathBuf,
    /// What is compared with it
    #[arg(value_name = "B")]
    b: PathBuf,
    /// What must not be, for example 'last.p99>1.1x' (B against A) or 'missing>0' (B alone); may be repeated
    #[arg(long, value_name = "EXPR", value_parser = FailIf::parse)]
    fail_if: Vec<FailIf>,
    /// Every figure, also those that are the same
    #[arg(long)]
    all: bool,
}

/// Makes the page of a result anew.
pub(crate) fn report(args: &ReportArgs) -> Result<Exit, Failure> {
    let document = Document::read(&args.result)?;
    let beside = document.path.with_file_name(folder::PAGE);
    let path = args.output.as_ref().unwrap_or(&beside);
    if path == Path::new("-") {
        let mut page = Vec::new();
        page::write(&document.value, &mut page).map_err(|error| stdout_gone(&error))?;
        print(&page)?;
    } else {
        write_file(path, |out| page::write(&document.value, out))?;
    }
    Ok(Exit::Done)
}

/// Prints the comparison; the exit code says whether a rule is broken.
pub(crate) fn compare(args: &CompareArgs) -> Result<Exit, Failure> {
    let (a, b) = (Document::read(&args.a)?, Document::read(&args.b)?);
    let comparison = Comparison::of(&a, &b, &args.fail_if);
    print(comparison.text(args.all).as_bytes())?;
    Ok(comparison.exit())
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| stdout_gone(&error))
}

fn stdout_gone(error: &std::io::Error) -> Failure {
    Failure::failed(format!("the output cannot be written: {error}"), "standard output", "check where it leads")
}
