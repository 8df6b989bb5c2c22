//! Sizes, durations and rates as people write them, and as people read them.

use std::time::Duration;

/// Parses `512`, `2KiB`, `2k`, `1MiB`, `1.5MiB`. Decimal suffixes (`kB`, `MB`) mean 1,000, binary ones 1,024.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text)?;
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "kb" => 1e3,
        "m" | "mib" => 1024.0 * 1024.0,
        "mb" => 1e6,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "gb" => 1e9,
        _ => return Err(format!("'{text}' is not a size: write 512, 2KiB or 1MiB")),
    };
    let bytes = number * scale;
    if bytes.fract() != 0.0 || bytes > (1u64 << 40) as f64 {
        return Err(format!("'{text}' is not a whole number of bytes below 1 TiB"));
    }
    Ok(bytes as usize)
}

/// Parses `30s`, `500ms`, `250us`, `2m`, `1h`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit {
        "us" | "µs" => number / 1e6,
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("'{text}' is not a duration: write 30s, 500ms, 250us, 2m or 1h")),
    };
    if seconds > 60.0 * 86_400.0 {
        return Err(format!("'{text}' is longer than 60 days"));
    }
    Ok(Duration::from_nanos((seconds * 1e9).round() as u64))
}

/// Parses `50`, `50/s`, `2k/s`, `0.5/s`, `30/m` into events per second.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let (amount, per) = match text.split_once('/') {
        None => (text, 1.0),
        Some((amount, "s")) => (amount, 1.0),
        Some((amount, "m" | "min")) => (amount, 60.0),
        Some(_) => return Err(format!("'{text}' is not a rate: write 50/s or 30/m")),
    };
    let (number, unit) = split_unit(amount)?;
    let scale = match unit {
        "" => 1.0,
        "k" => 1e3,
        "m" | "M" => 1e6,
        _ => return Err(format!("'{text}' is not a rate: write 50/s or 30/m")),
    };
    let rate = number * scale / per;
    if rate <= 0.0 || rate > 1e9 {
        return Err(format!("'{text}' is not a rate between 0 and 1e9 per second"));
    }
    Ok(rate)
}

/// Parses `20KiB/s`, `0` into bytes per second.
pub fn parse_byte_rate(text: &str) -> Result<f64, String> {
    let amount = text.strip_suffix("/s").unwrap_or(text);
    parse_bytes(amount).map(|bytes| bytes as f64).map_err(|_| format!("'{text}' is not a rate: write 20KiB/s or 0"))
}

/// Cuts `12.5ms` into `12.5` and `ms`.
fn split_unit(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let cut = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (digits, unit) = text.split_at(cut);
    let number: f64 = digits.replace('_', "").parse().map_err(|_| format!("'{text}' does not start with a number"))?;
    Ok((number, unit.trim()))
}

/// `1234567` as `1 234 567`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Bytes for people: `512 B`, `2.0 KiB`, `214.3 MiB`.
pub fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Microseconds for people: `38 us`, `4.20 ms`, `1.31 s`.
pub fn micros_text(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..10_000 => format!("{:.2} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("512"), Ok(512));
        assert_eq!(parse_bytes("2KiB"), Ok(2048));
        assert_eq!(parse_bytes("2k"), Ok(2048));
        assert_eq!(parse_bytes("1.5MiB"), Ok(1_572_864));
        assert_eq!(parse_bytes("2kB"), Ok(2000));
        assert!(parse_bytes("12x").unwrap_err().contains("'12x'"));
        assert!(parse_bytes("0.3").is_err());
        assert!(parse_bytes("").is_err());
        assert!(parse_bytes("9999999999999999999GiB").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("5 fortnights").is_err());
        assert!(parse_duration("-1s").is_err());
    }

    #[test]
    fn rates() {
        assert_eq!(parse_rate("50/s"), Ok(50.0));
        assert_eq!(parse_rate("2k/s"), Ok(2000.0));
        assert_eq!(parse_rate("30/m"), Ok(0.5));
        assert!(parse_rate("0").is_err());
        assert!(parse_rate("5/fortnight").is_err());
    }

    #[test]
    fn for_people() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(bytes_text(512), "512 B");
        assert_eq!(bytes_text(2048), "2.0 KiB");
        assert_eq!(micros_text(38), "38 us");
        assert_eq!(micros_text(4_200), "4.20 ms");
    }
}
