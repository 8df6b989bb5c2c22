//! Durations, sizes and counts as people type and read them.

use std::time::Duration;

/// Reads `250ms`, `15s`, `5m` or `1h`. A bare number is refused: nobody should have to guess its unit.
///
/// # Errors
/// Says what was wrong and what would be accepted, in one line.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const ACCEPTED: &str = "accepted: 250ms 15s 5m 1h";
    let (number, unit) = split_unit(text).ok_or_else(|| format!("not a duration; {ACCEPTED}"))?;
    let unit_ms: u64 = match unit {
        "" => return Err(format!("a duration needs a unit; {ACCEPTED}")),
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("unknown unit `{unit}`; {ACCEPTED}")),
    };
    let total_ms = number.checked_mul(unit_ms).filter(|&ms| ms <= DURATION_MAX_MS);
    total_ms.map(Duration::from_millis).ok_or_else(|| "longer than 30 days".to_owned())
}

/// Longest duration any flag takes: 30 days, so that sums of a few of them stay far from overflow.
const DURATION_MAX_MS: u64 = 30 * 24 * 3_600_000;

/// Reads `512B`, `64KiB`, `1MiB`, `2GiB` or plain `0`, in bytes.
///
/// # Errors
/// Says what was wrong and what would be accepted, in one line.
pub(crate) fn parse_size_bytes(text: &str) -> Result<usize, String> {
    const ACCEPTED: &str = "accepted: 512B 64KiB 1MiB 2GiB";
    let (number, unit) = split_unit(text).ok_or_else(|| format!("not a size; {ACCEPTED}"))?;
    let unit_bytes: u64 = match unit {
        "" if number == 0 => 1,
        "" => return Err(format!("a size needs a unit; {ACCEPTED}")),
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" | "MB" | "GB" => return Err(format!("`{unit}` is taken for two different units; {ACCEPTED}")),
        _ => return Err(format!("unknown unit `{unit}`; {ACCEPTED}")),
    };
    let bytes = number.checked_mul(unit_bytes).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| "larger than this machine can address".to_owned())
}

/// Reads `500/s`, or `0` for any rate.
///
/// # Errors
/// Says what was wrong and what would be accepted, in one line.
pub(crate) fn parse_rate(text: &str) -> Result<u32, String> {
    const ACCEPTED: &str = "accepted: 500/s, or 0 for any";
    let number = match text {
        "0" => text,
        _ => text.strip_suffix("/s").ok_or_else(|| format!("a rate needs its unit; {ACCEPTED}"))?,
    };
    number.parse().map_err(|_| format!("not a rate; {ACCEPTED}"))
}

/// Reads `64KiB/s`, or `0` for any rate, in bytes a second.
///
/// # Errors
/// Says what was wrong and what would be accepted, in one line.
pub(crate) fn parse_byte_rate(text: &str) -> Result<usize, String> {
    const ACCEPTED: &str = "accepted: 64KiB/s, or 0 for any";
    if text == "0" {
        return Ok(0);
    }
    let size = text.strip_suffix("/s").ok_or_else(|| format!("a rate needs its unit; {ACCEPTED}"))?;
    parse_size_bytes(size)
}

/// Reads a list of cores as `0`, `0-3` or `0,2,4-7`; order is kept, repeats are refused.
///
/// # Errors
/// Says what was wrong and what would be accepted, in one line.
pub(crate) fn parse_cores(text: &str) -> Result<Vec<usize>, String> {
    const ACCEPTED: &str = "accepted: 0 or 0-3 or 0,2,4-7";
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let bounds = (first.parse::<usize>(), last.parse::<usize>());
        let (Ok(first), Ok(last)) = bounds else {
            return Err(format!("`{part}` is not a core or a range; {ACCEPTED}"));
        };
        if first > last || last >= CORES_MAX {
            return Err(format!("`{part}` is not a range of cores below {CORES_MAX}; {ACCEPTED}"));
        }
        for core in first..=last {
            if cores.contains(&core) {
                return Err(format!("core {core} is named twice"));
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

/// Kernel's largest `cpu_set_t` in its fixed form.
const CORES_MAX: usize = 1024;

/// Digits and the rest: `15s` is `(15, "s")`.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

/// `18900` as `18 900`: groups of three, a space between.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A duration with one fitting unit: `0.3 ms`, `41 ms`, `2.5 s`.
pub(crate) fn human_duration(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1e3),
    }
}

/// Text from a wire made safe to print on a terminal: control characters become visible escapes, so that nobody's
/// message can move the cursor or recolour the screen of the one who listens.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        if c.is_control() || is_bidi_control(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
        safe
    })
}

/// Characters that reorder what stands around them.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["", "10", "s", "-1s", "1.5s", "10 s", "9999999999999999999s", "999999h", "10days"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_need_a_unit_that_means_one_thing() {
        assert_eq!(parse_size_bytes("0"), Ok(0));
        assert_eq!(parse_size_bytes("512B"), Ok(512));
        assert_eq!(parse_size_bytes("64KiB"), Ok(65_536));
        assert_eq!(parse_size_bytes("1MiB"), Ok(1 << 20));
        for wrong in ["", "10", "64KB", "1 MiB", "-1B", "99999999999GiB", "MiB"] {
            assert!(parse_size_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_need_a_unit() {
        assert_eq!(parse_rate("500/s"), Ok(500));
        assert_eq!(parse_rate("0"), Ok(0));
        assert_eq!(parse_byte_rate("64KiB/s"), Ok(65_536));
        assert_eq!(parse_byte_rate("0"), Ok(0));
        for wrong in ["", "500", "/s", "-1/s", "5/m", "1.5/s"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "64KiB", "64/s", "64KB/s"] {
            assert!(parse_byte_rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cores_are_a_list_without_repeats() {
        assert_eq!(parse_cores("0"), Ok(vec![0]));
        assert_eq!(parse_cores("4-6,0"), Ok(vec![4, 5, 6, 0]));
        for wrong in ["", "a", "3-1", "0,0", "1-", "0-99999", "0,,1"] {
            assert!(parse_cores(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_and_times_read_easily() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(18_900), "18 900");
        assert_eq!(grouped(1_000_000), "1 000 000");
        assert_eq!(human_duration(Duration::from_micros(312)), "0.3 ms");
        assert_eq!(human_duration(Duration::from_millis(41)), "41 ms");
        assert_eq!(human_duration(Duration::from_millis(2_510)), "2.5 s");
    }

    #[test]
    fn control_characters_of_others_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\u{202e}c\u{9b}"), "a\\u{1b}[31mb\\u{202e}c\\u{9b}");
        assert_eq!(printable("h\u{e9}llo \u{1f44b}"), "h\u{e9}llo \u{1f44b}");
    }
}
