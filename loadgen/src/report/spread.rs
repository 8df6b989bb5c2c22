//! How far a figure wanders from interval to interval of one run: what a difference between two runs is held against.

use super::compare::SPREAD_INTERVALS_MIN;
use serde_json::Value;

/// A part of a row below this of an interval says nothing.
const INTERVAL_PART_MIN: f64 = 0.3;

/// The middle half of a figure's values, one for each interval of the measured period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quartiles {
    /// A quarter lies below.
    pub low: f64,
    /// A quarter lies above.
    pub high: f64,
}

impl Quartiles {
    /// Of the figure at `name` in a result; `None` when it is not known by interval, or by too few.
    pub fn of(result: &Value, name: &str) -> Option<Self> {
        let interval_s = result.pointer("/series/interval_s")?.as_f64()?;
        let long = |row: &&Value| number(row, "/seconds").is_some_and(|s| s >= INTERVAL_PART_MIN * interval_s);
        let rows = result.pointer("/series/rows")?.as_array()?.iter();
        let measured = rows.filter(|row| row["period"] == "measured").filter(long);
        let mut values: Vec<f64> = measured.filter_map(|row| in_row(row, name)).collect();
        if values.len() < SPREAD_INTERVALS_MIN {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        let at = |part: f64| values[(part * last as f64).round() as usize];
        Some(Self { low: at(0.25), high: at(0.75) })
    }
}

/// From where a ratio lies to where, when both sides wander as they did. `None`: nothing can be divided by the base.
pub fn ratio_range(a: Quartiles, b: Quartiles) -> Option<(f64, f64)> {
    (a.low > 0.0).then(|| (b.low / a.high, b.high / a.low))
}

fn number(row: &Value, place: &str) -> Option<f64> {
    row.pointer(place).and_then(Value::as_f64)
}

fn in_row(row: &Value, name: &str) -> Option<f64> {
    let point = name.rsplit('.').next()?;
    let seconds = number(row, "/seconds").filter(|&seconds| seconds > 0.0)?;
    match name {
        "deliveries_per_s" => Some(number(row, "/received")? / seconds),
        "server.cores" => number(row, "/server_cores"),
        "server.rss_bytes" => number(row, "/server_rss_bytes"),
        "server.cpu_us_per_delivery" => {
            let received = number(row, "/received").filter(|&received| received > 0.0)?;
            Some(number(row, "/server_cores")? * seconds * 1e6 / received)
        }
        _ if name.starts_with("latency_us.from_intended.") => number(row, &format!("/latency_us/{point}")),
        _ if name.starts_with("last_receiver_us.") => number(row, &format!("/last_us/{point}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(p99: &[u64]) -> Value {
        let row = |&p99: &u64| {
            json!({"period": "measured", "seconds": 1.0, "received": 10, "server_cores": 0.5,
                   "latency_us": {"count": 10, "p50": 1, "p99": p99, "max": p99}})
        };
        let mut rows: Vec<Value> = p99.iter().map(row).collect();
        // Neither the warm-up nor a sliver at the end counts.
        rows.push(json!({"period": "warm-up", "seconds": 1.0, "latency_us": {"p99": 99_999}}));
        rows.push(json!({"period": "measured", "seconds": 0.1, "latency_us": {"p99": 99_999}}));
        json!({"series": {"interval_s": 1.0, "rows": rows}})
    }

    #[test]
    fn the_middle_half_of_the_intervals() {
        let name = "latency_us.from_intended.p99";
        let found = Quartiles::of(&result(&[50, 10, 30, 20, 40]), name).expect("five intervals");
        assert_eq!(found, Quartiles { low: 20.0, high: 40.0 });
        assert_eq!(Quartiles::of(&result(&[1, 2, 3]), name), None, "too few");
        let cpu = Quartiles::of(&result(&[1; 4]), "server.cpu_us_per_delivery").expect("four intervals");
        assert_eq!(cpu, Quartiles { low: 50_000.0, high: 50_000.0 });
        assert_eq!(Quartiles::of(&result(&[1; 9]), "connect.per_s"), None, "not known by interval");
        assert_eq!(Quartiles::of(&json!({}), name), None);
    }

    #[test]
    fn a_ratio_lies_between_the_far_ends() {
        let (a, b) = (Quartiles { low: 10.0, high: 20.0 }, Quartiles { low: 20.0, high: 30.0 });
        assert_eq!(ratio_range(a, b), Some((1.0, 3.0)));
        assert_eq!(ratio_range(Quartiles { low: 0.0, high: 1.0 }, b), None);
    }
}
