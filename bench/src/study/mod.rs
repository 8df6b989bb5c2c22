//! The peer study: questions about servers that hold WebSockets, each answered by one table and one plot.
//!
//! A [`Question`] is a row of cases along one axis. It is measured as every comparison is ([`crate::compare`]): all
//! servers in turns, ratios of the same round. [`page`] writes what came out, [`plot`] draws it. The program is
//! `fanfare-peers`.

pub mod page;
pub mod plot;
mod question;

use crate::compare::report::CaseResult;

pub use question::{Point, Question, all};

/// One point of a question, measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Where on the axis.
    pub point: Point,
    /// What every server gave there.
    pub result: CaseResult,
}
