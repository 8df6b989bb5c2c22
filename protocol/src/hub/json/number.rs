//! JSON numbers as machine numbers. Input here already follows the grammar.

/// A JSON number in the narrowest of the kinds a [`Value`](crate::hub::value::Value) has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    /// Above `i64::MAX`.
    UInt(u64),
    /// With a fraction or an exponent, or an integer of more than 64 bits.
    Float(f64),
}

/// `None` for a number that no double can hold. Integers stay exact up to 64 bits; `-0` is the integer 0.
pub(crate) fn parse(digits: &[u8]) -> Option<Number> {
    if let Some(value) = integer(digits) {
        return Some(Number::Int(value));
    }
    if let Some(value) = unsigned(digits) {
        return Some(Number::UInt(value));
    }
    // The grammar of JSON numbers is a subset of Rust's, and `parse` rounds correctly.
    let value: f64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    value.is_finite().then_some(Number::Float(value))
}

/// An integer without fraction or exponent that fits.
pub(crate) fn integer(digits: &[u8]) -> Option<i64> {
    match digits.split_first()? {
        (b'-', rest) => 0i64.checked_sub_unsigned(unsigned(rest)?),
        _ => unsigned(digits)?.try_into().ok(),
    }
}

/// An integer without sign, fraction or exponent that fits.
pub(crate) fn unsigned(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}
