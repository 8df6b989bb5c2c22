//! Reading arguments as the types the contract names, and building the values it answers with.

use fanfare_engine::{BindError, HandlerError, Invocation, Raw, Value};

/// Longest string or byte array this hub makes up for a client.
const LARGE_BYTES_MAX: usize = 64 << 20;

/// What the contract calls `string`.
pub(crate) fn text(call: &Invocation<'_>, at: usize) -> Result<String, HandlerError> {
    Ok(call.arg(at)?.as_str()?.into_owned())
}

/// What the contract calls `string or null`.
pub(crate) fn text_or_null(call: &Invocation<'_>, at: usize) -> Result<Value, HandlerError> {
    if call.arg(at)?.is_null() { Ok(Value::Null) } else { Ok(Value::Str(text(call, at)?)) }
}

/// What the contract calls `int`: 32 bits.
pub(crate) fn narrow(raw: Raw<'_>) -> Result<i32, BindError> {
    i32::try_from(raw.as_i64()?).map_err(|_| BindError::Range)
}

/// The same, as an argument.
pub(crate) fn int(raw: Raw<'_>) -> Result<i32, HandlerError> {
    Ok(narrow(raw)?)
}

/// `int[]`.
pub(crate) fn ints(raw: Raw<'_>) -> Result<Value, HandlerError> {
    let numbers: Result<Vec<Value>, HandlerError> =
        raw.array()?.map(|item| int(item).map(|number| Value::Int(i64::from(number)))).collect();
    Ok(Value::Array(numbers?))
}

/// `string[]`.
pub(crate) fn texts(call: &Invocation<'_>, at: usize) -> Result<Vec<String>, HandlerError> {
    call.arg(at)?.array()?.map(|item| Ok(item.as_str()?.into_owned())).collect()
}

/// A number of characters or bytes to make up.
pub(crate) fn length(call: &Invocation<'_>, at: usize) -> Result<usize, HandlerError> {
    let wanted = int(call.arg(at)?)?;
    // The types fit, the size is this hub's own rule.
    usize::try_from(wanted)
        .ok()
        .filter(|length| *length <= LARGE_BYTES_MAX)
        .ok_or_else(|| HandlerError::Hub(format!("{wanted} is not a length from 0 to {LARGE_BYTES_MAX}.")))
}

/// `0123456789abcdef` repeated and cut.
pub(crate) fn large_string(length: usize) -> Value {
    Value::Str("0123456789abcdef".chars().cycle().take(length).collect())
}

/// Byte i = i mod 256.
pub(crate) fn large_binary(length: usize) -> Value {
    Value::Bin((0..=u8::MAX).cycle().take(length).collect())
}
