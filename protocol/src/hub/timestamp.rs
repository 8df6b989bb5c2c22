//! Points in time: MessagePack's timestamp extension on one side, ISO 8601 text on the other. No clock here.

use crate::cursor::Sink;
use crate::hub::json::write::formatted;

/// Nanoseconds of a second.
const NANOS_MAX: u32 = 999_999_999;
const SECONDS_PER_DAY: i64 = 86_400;
/// Six digits of year are all the text form has (as in ECMAScript's expanded years).
const YEAR_MAX: i64 = 999_999;

/// A point in time as MessagePack has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z, without leap seconds; negative before.
    pub seconds: i64,
    /// Nanoseconds to add, below 10^9.
    pub nanos: u32,
}

impl Timestamp {
    /// The value of an extension of type -1: 4, 8 or 12 bytes. `None` for other lengths and for more nanoseconds than
    /// a second has.
    pub fn from_extension(bytes: &[u8]) -> Option<Self> {
        let time = if let Ok(seconds) = <[u8; 4]>::try_from(bytes) {
            Self { seconds: u32::from_be_bytes(seconds).into(), nanos: 0 }
        } else if let Ok(packed) = <[u8; 8]>::try_from(bytes) {
            let packed = u64::from_be_bytes(packed);
            // 30 and 34 bits: both fit their types.
            Self { seconds: (packed & ((1 << 34) - 1)) as i64, nanos: (packed >> 34) as u32 }
        } else {
            let (nanos, seconds) = bytes.split_first_chunk::<4>()?;
            Self { seconds: i64::from_be_bytes(seconds.try_into().ok()?), nanos: u32::from_be_bytes(*nanos) }
        };
        (time.nanos <= NANOS_MAX).then_some(time)
    }

    /// Whether the text form can say it: nanoseconds below 10^9 and a year of at most six digits.
    pub(crate) fn is_sayable(self) -> bool {
        self.nanos <= NANOS_MAX && date_of(self.seconds.div_euclid(SECONDS_PER_DAY)).0.abs() <= YEAR_MAX
    }

    /// `2000-01-01T00:00:00Z`, with three, six or nine digits of fraction when there is one, and a signed year of six
    /// digits outside of 0000-9999. Only for values that [`is_sayable`](Self::is_sayable).
    pub(crate) fn write_iso8601<S: Sink + ?Sized>(self, sink: &mut S) {
        let (year, month, day) = date_of(self.seconds.div_euclid(SECONDS_PER_DAY));
        let second_of_day = self.seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        if (0..=9999).contains(&year) {
            formatted(sink, format_args!("{year:04}"));
        } else {
            formatted(sink, format_args!("{year:+07}"));
        }
        formatted(sink, format_args!("-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"));
        match self.nanos {
            0 => {}
            nanos if nanos % 1_000_000 == 0 => formatted(sink, format_args!(".{:03}", nanos / 1_000_000)),
            nanos if nanos % 1_000 == 0 => formatted(sink, format_args!(".{:06}", nanos / 1_000)),
            nanos => formatted(sink, format_args!(".{nanos:09}")),
        }
        sink.put(b"Z");
    }

    /// Reads what `write_iso8601` writes, and its usual relatives: an offset (`+02:00`) in
    /// place of `Z`, any number of fraction digits (those beyond nine are dropped), `t`, `z` or a blank for the
    /// letters, no seconds, a date alone. A text without offset is taken as UTC. A leap second is refused.
    pub fn parse_iso8601(text: &str) -> Option<Self> {
        let mut rest = Rest(text.as_bytes());
        let date = rest.date()?;
        if rest.0.is_empty() {
            return Some(Self { seconds: date.checked_mul(SECONDS_PER_DAY)?, nanos: 0 });
        }
        if !rest.take(b"Tt ") {
            return None;
        }
        let hour = rest.digits(2, 23)?;
        rest.take(b":").then_some(())?;
        let minute = rest.digits(2, 59)?;
        let second = if rest.take(b":") { rest.digits(2, 59)? } else { 0 };
        let nanos = if rest.take(b".,") { rest.fraction()? } else { 0 };
        let offset = rest.offset()?;
        let second_of_day = hour * 3600 + minute * 60 + second;
        let seconds = date.checked_mul(SECONDS_PER_DAY)?.checked_add(second_of_day)?.checked_sub(offset)?;
        rest.0.is_empty().then_some(Self { seconds, nanos })
    }
}

/// What is left of a text under parsing.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Takes one byte if it is one of `wanted`.
    fn take(&mut self, wanted: &[u8]) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if wanted.contains(first) => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// Takes exactly `count` digits that say no more than `max`.
    fn digits(&mut self, count: usize, max: i64) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let value = digits
            .iter()
            .try_fold(0i64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))?;
        self.0 = rest;
        (value <= max).then_some(value)
    }

    /// Takes a date and gives its day number.
    fn date(&mut self) -> Option<i64> {
        let negative = self.0.first() == Some(&b'-');
        let expanded = self.take(b"+-");
        let year = self.digits(if expanded { 6 } else { 4 }, YEAR_MAX)?;
        let year = if negative { -year } else { year };
        self.take(b"-").then_some(())?;
        let month = self.digits(2, 12)?;
        self.take(b"-").then_some(())?;
        let day = self.digits(2, 31)?;
        let number = day_of(year, month, day);
        // A day that the month lacks turns into another date.
        (date_of(number) == (year, month, day)).then_some(number)
    }

    /// Takes at least one digit and gives nanoseconds.
    fn fraction(&mut self) -> Option<u32> {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        let first_nine = digits.iter().map(|digit| u32::from(digit - b'0')).chain(std::iter::repeat(0)).take(9);
        (count > 0).then(|| first_nine.fold(0, |nanos, digit| nanos * 10 + digit))
    }

    /// Takes `Z`, an offset or nothing, and gives the seconds that local time is ahead.
    fn offset(&mut self) -> Option<i64> {
        if self.take(b"Zz") {
            return Some(0);
        }
        let sign = if self.0.first() == Some(&b'-') { -1 } else { 1 };
        if !self.take(b"+-") {
            return Some(0);
        }
        let hours = self.digits(2, 23)?;
        self.take(b":");
        let minutes = self.digits(2, 59)?;
        Some(sign * (hours * 3600 + minutes * 60))
    }
}

// The two functions below are the usual proleptic Gregorian arithmetic: years start in March, so that the leap day is
// the last of its year, and 400 years (an era) have 146,097 days. Day 0 is 1970-01-01, which is day 719,468 of era 0.
const DAYS_PER_ERA: i64 = 146_097;
const EPOCH_IN_ERA: i64 = 719_468;

/// Year, month (1-12) and day (1-31) of a day number. Exact for every day number an `i64` of seconds can give.
fn date_of(day: i64) -> (i64, i64, i64) {
    let shifted = day + EPOCH_IN_ERA;
    let (era, of_era) = (shifted.div_euclid(DAYS_PER_ERA), shifted.rem_euclid(DAYS_PER_ERA));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day_of_month)
}

/// The day number of a date. `year` is small (six digits), so nothing overflows.
fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let march_month = (month + 9) % 12;
    let of_year = (153 * march_month + 2) / 5 + day - 1;
    era * DAYS_PER_ERA + 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + of_year - EPOCH_IN_ERA
}
