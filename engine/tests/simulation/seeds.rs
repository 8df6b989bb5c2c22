//! Many seeds of one scenario, and the words that bring a failure back.

use crate::simulation::door::Lie;
use crate::simulation::house::Tally;
use crate::simulation::plan::Plan;
use crate::simulation::scenarios::play;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds of each scenario unless `FANFARE_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 2_000;
/// With so many seeds a scenario has shown what its name says at least once.
const SEEDS_PROOF: u64 = 100;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`; it must be a number")))
}

fn words(cause: &(dyn Any + Send)) -> &str {
    let owned = cause.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

/// Runs one seed. `Err`: what went wrong.
pub(crate) fn run(seed: u64, scenario: impl Fn(u64) -> Tally) -> Result<Tally, String> {
    catch_unwind(AssertUnwindSafe(|| scenario(seed))).map_err(|cause| words(&*cause).to_owned())
}

/// Seeds within which a bug that was put in must show.
const SEEDS_CAUGHT: u64 = 200;

/// Lies to the engine until a run fails that is right without the lie. Returns what the suite said.
pub(crate) fn catch(lie: Lie, plan: impl Fn(u64) -> Plan) -> String {
    for seed in 1..=SEEDS_CAUGHT {
        run(seed, |seed| play(plan(seed))).unwrap_or_else(|cause| panic!("seed {seed} fails without {lie:?}: {cause}"));
        if let Err(cause) = run(seed, |seed| play(Plan { lie, ..plan(seed) })) {
            return format!("seed {seed}: {cause}");
        }
    }
    panic!("{SEEDS_CAUGHT} seeds do not notice {lie:?}");
}

/// Runs a scenario over its seeds, or over the one of `FANFARE_SIM_SEED`; `shown` says of all runs together whether
/// they went where the scenario is about.
pub(crate) fn explore(name: &str, scenario: impl Fn(u64) -> Tally, shown: impl Fn(&Tally) -> bool) {
    let one = variable("FANFARE_SIM_SEED");
    let count = variable("FANFARE_SIM_SEEDS").unwrap_or(SEEDS);
    let mut total = Tally::default();
    for seed in one.map_or(1..=count, |seed| seed..=seed) {
        match run(seed, &scenario) {
            Ok(tally) => total.add(&tally),
            Err(cause) => panic!(
                "scenario {name}, seed {seed}: {cause}\n\
                 replay it: FANFARE_SIM_SEED={seed} cargo test -p fanfare-engine --test simulation {name} -- --exact"
            ),
        }
    }
    eprintln!("{name}: {total:?}");
    assert!(one.is_some() || count < SEEDS_PROOF || shown(&total), "{name} never got to its subject: {total:?}");
}
