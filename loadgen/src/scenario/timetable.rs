//! Times of a scenario: how long, and when something happens.

use super::file::{Fault, File, Rate, Text};
use super::{Adjustments, Scenario, Spanned};
use crate::failure::Failure;
use crate::plan::{STEPS_MAX, Steps};
use crate::quantity::{parse_duration, parse_rate};
use std::time::Duration;

/// How long to measure when nobody says.
const DURATION: Duration = Duration::from_secs(30);

/// How long those that were cut have to come back: the SDK gives up after its fourth attempt, 42 s and their time-outs.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// Faults of one scenario.
const FAULTS_MAX: usize = 64;

/// All times, as they will be.
#[derive(Debug)]
pub(super) struct Timetable {
    pub(super) duration: Duration,
    pub(super) warmup: Duration,
    pub(super) drain: Duration,
    pub(super) deadline: Duration,
    /// When guests are cut.
    pub(super) cuts: Vec<Duration>,
    /// Which part of the connections they are; 0: none.
    pub(super) part: f64,
    /// Rates one after the other.
    pub(super) steps: Option<Steps>,
}

impl Timetable {
    pub(super) fn new(scenario: &Scenario, file: &File, adjust: &Adjustments) -> Result<Self, Failure> {
        let time = |text: Option<&Text>, otherwise| scenario.value_or(text, parse_duration, otherwise);
        let stepped = file.load.first().and_then(|load| load.get_ref().rate.as_ref());
        let steps = stepped.map(|rate| steps(scenario, rate)).transpose()?.flatten();
        let written = match &steps {
            Some((rates, each)) => {
                let all = *each * rates.len() as u32;
                time(file.duration.as_ref(), all)?
            }
            None => time(file.duration.as_ref(), DURATION)?,
        };
        if written.is_zero() {
            let span = file.duration.as_ref().map_or(0..0, Spanned::span);
            return Err(scenario.bad(
                span,
                "a run of no time measures nothing",
                "write for example duration = \"30s\"",
            ));
        }
        let duration = adjust.duration.unwrap_or(written);
        // Everything keeps its place in a run that is longer or shorter.
        let factor = duration.as_secs_f64() / written.as_secs_f64();
        let steps = steps.and_then(|(rates, each)| Steps::new(&rates, each.mul_f64(factor).as_nanos() as u64));
        let (cuts, part) = cuts(scenario, &file.fault, written, factor)?;
        Ok(Self {
            duration,
            warmup: match adjust.warmup {
                Some(warmup) => warmup,
                None => time(file.warmup.as_ref(), Duration::from_secs(2))?,
            },
            drain: time(file.drain.as_ref(), Duration::from_secs(5))?,
            deadline: time(file.deadline.as_ref(), Duration::from_secs(1))?,
            cuts,
            part,
            steps,
        })
    }
}

/// Rates and the length of each, where there are several.
fn steps(scenario: &Scenario, rate: &Spanned<Rate>) -> Result<Option<(Vec<f64>, Duration)>, Failure> {
    let Rate::Steps { steps, each } = rate.get_ref() else { return Ok(None) };
    let bad =
        |cause: String| scenario.bad(rate.span(), cause, "write { steps = [\"500/s\", \"1000/s\"], each = \"30s\" }");
    let rates = steps.iter().map(|rate| parse_rate(rate)).collect::<Result<Vec<_>, _>>().map_err(bad)?;
    let each = parse_duration(each).map_err(bad)?;
    if rates.is_empty() || rates.len() > STEPS_MAX || each.is_zero() {
        return Err(bad(format!("{} steps of {each:?} are not 1 to {STEPS_MAX} steps of some time", rates.len())));
    }
    Ok(Some((rates, each)))
}

/// (times, part of the connections)
fn cuts(
    scenario: &Scenario,
    faults: &[Spanned<Fault>],
    duration: Duration,
    factor: f64,
) -> Result<(Vec<Duration>, f64), Failure> {
    if let Some(fault) = faults.get(FAULTS_MAX) {
        return Err(scenario.bad(fault.span(), format!("more than {FAULTS_MAX} faults"), "leave some out"));
    }
    let (mut cuts, mut common) = (Vec::new(), 0.0);
    for fault in faults {
        let Fault { at, kind, part } = fault.get_ref();
        if kind.get_ref() != "storm" {
            let cause = format!("'{}' is not a fault that this generator can cause", kind.get_ref());
            return Err(scenario.bad(kind.span(), cause, "use kind = \"storm\": connections are cut and come back"));
        }
        let when = scenario.value(at, parse_duration)?;
        if when >= duration {
            let cause = format!("{when:?} is not before the end of the measured period, {duration:?}");
            return Err(scenario.bad(at.span(), cause, "make it earlier, or the duration longer"));
        }
        let (share, span) = part.as_ref().map_or((1.0, fault.span()), |part| (*part.get_ref(), part.span()));
        if !(share > 0.0 && share <= 1.0) {
            return Err(scenario.bad(span, format!("{share} is not a part"), "write a number above 0 and at most 1"));
        }
        if common != 0.0 && common != share {
            let cause = format!("one fault cuts {common} of the connections, another {share}");
            return Err(scenario.bad(span, cause, "give all faults the same part: they cut the same connections"));
        }
        common = share;
        cuts.push(when.mul_f64(factor));
    }
    Ok((cuts, common))
}
