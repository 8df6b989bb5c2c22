//! What a server did wrong, by name. The ledger has the numbers; this is what they are called.

use crate::quantity::{grouped, micros_text};
use crate::report::Report;
use serde::Serialize;

/// One kind of wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Its name, one of [`NAMES`].
    pub name: &'static str,
    /// How often.
    pub count: u64,
    /// In words.
    pub text: String,
}

/// All names there are.
pub const NAMES: [&str; 8] =
    ["missing", "duplicate", "reordered", "corrupt", "misrouted", "lost connections", "stalls", "late pings"];

/// Everything that the report shows, worst first. Whatever has no count is left out.
pub fn all(report: &Report) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut name = |name: &'static str, count: u64, text: String| {
        debug_assert!(NAMES.contains(&name), "{name}");
        if count > 0 {
            faults.push(Fault { name, count, text });
        }
    };
    let number = |count: u64, what: &str| format!("{} {what}", grouped(count));
    if let Some(found) = &report.broadcast {
        let of = format!("of {} deliveries", grouped(found.expected));
        name("missing", found.missing, number(found.missing, &format!("{of} never came")));
        name("duplicate", found.duplicate, number(found.duplicate, "deliveries came again"));
        name("reordered", found.out_of_order, number(found.out_of_order, "deliveries came after a later one"));
        name("corrupt", found.corrupt, number(found.corrupt, "deliveries did not come as they were sent"));
        name("misrouted", found.misrouted, number(found.misrouted, "deliveries came to somebody they were not for"));
        let longest = micros_text(found.stall_us_max);
        let text = format!("{} times nobody was reached for more than 100 ms, up to {longest}", grouped(found.stalls));
        name("stalls", found.stalls, text);
    }
    let lost = u64::from(report.connect.lost);
    name("lost connections", lost, number(lost, "connections ended that nobody had ended here"));
    let silent = report.connect.silent;
    let text = number(silent, "times a connection heard nothing for so long that the SDK would have given it up");
    name("late pings", silent, text);
    faults
}
