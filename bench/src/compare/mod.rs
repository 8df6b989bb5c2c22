//! Fanfare beside the floor and other people's servers, measured in turns.
//!
//! One server runs at a time, on a core of its own; the load generator has another. A case is measured in rounds: in
//! each round every server is started afresh, loaded, and ended, in an order that turns around from round to round.
//! Only values of the same round are divided by each other, so that a machine whose speed drifts, as virtual ones do,
//! does not drift into the ratios. What is printed is the median of the rounds with the smallest and the largest.
//!
//! The servers and what they stand for are listed in `bench/compare/README.md`.

pub mod case;
pub mod contender;
pub mod kernel;
pub mod loadgen;
pub mod metrics;
pub mod prepare;
pub mod process;
pub mod relay;
pub mod report;
pub mod statistics;
pub mod visit;

use case::Case;
use contender::Contender;
use report::{CaseResult, Sample};
use visit::Visitor;

/// Measures one case in `rounds` rounds among those of its contenders that `takes_part` lets in. `progress` is told
/// what begins.
pub fn measure(
    case: Case,
    rounds: u32,
    visitor: &Visitor,
    takes_part: impl Fn(Contender) -> bool,
    mut progress: impl FnMut(&str),
) -> CaseResult {
    let contenders: Vec<Contender> = case.contenders.iter().copied().filter(|&who| takes_part(who)).collect();
    let mut samples: Vec<(Contender, Vec<Sample>)> = contenders.iter().map(|&who| (who, Vec::new())).collect();
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let index = if round % 2 == 0 { turn } else { contenders.len() - 1 - turn };
            let who = contenders[index];
            progress(&format!("{} round {} of {rounds}: {who}", case.name, round + 1));
            samples[index].1.push(visitor.visit(who, case.work));
        }
    }
    CaseResult { case, samples }
}
