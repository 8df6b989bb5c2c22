//! The hub of the contract: its table of methods, and those that take and give single values.

use std::time::Duration;

use fanfare_engine::{Answer, Context, HandlerError, HubHandler, Invocation, Raw, Value};
use fanfare_protocol::hub::error::BindError;

use super::Outcome;
use super::bind::{int, ints, large_binary, large_string, length, text, text_or_null};
use super::{asks, sends, streams};

/// Longest `Delay`.
const DELAY_MS_MAX: i32 = 600_000;
/// 2000-01-01T00:00:00Z.
const MILLENNIUM_S: i64 = 946_684_800;

type Method = fn(&mut Context<'_>, &Invocation<'_>) -> Outcome;

/// One row a method: its name, how many arguments it binds, and what it does.
const METHODS: &[(&str, usize, Method)] = &[
    ("Echo", 1, |_, call| Ok(Answer::Value(Value::Str(text(call, 0)?)))),
    ("GetCallerConnectionId", 0, |cx, _| Ok(Answer::Value(Value::Str(cx.connection_id())))),
    ("GetUserName", 0, |cx, _| Ok(optional(cx.user().map(str::to_owned)))),
    ("GetActiveTransportName", 0, |cx, _| Ok(Answer::Value(Value::Str(cx.transport().to_owned())))),
    ("GetNumRedirects", 0, num_redirects),
    ("GetHeader", 1, |cx, call| Ok(optional(cx.header(&text(call, 0)?)))),
    ("GetCookie", 1, |cx, call| Ok(optional(cx.cookie(&text(call, 0)?)))),
    ("ThrowException", 1, throw_exception),
    ("ThrowHubException", 1, |_, call| Err(HandlerError::Hub(text(call, 0)?))),
    ("InvokeWithString", 1, |cx, call| to_caller(cx, "Message", Value::Str(text(call, 0)?))),
    ("SendCustomObject", 1, send_custom_object),
    ("EchoComplexObject", 1, echo_complex_object),
    ("SendComplexObject", 0, |_, _| Ok(Answer::Value(complex_object()))),
    ("Add", 2, |_, call| Ok(Answer::Value(Value::Int(i64::from(int(call.arg(0)?)?) + i64::from(int(call.arg(1)?)?))))),
    ("EchoMany", 6, echo_many),
    ("EchoBinary", 1, |_, call| Ok(Answer::Value(Value::Bin(call.arg(0)?.as_bytes()?.into_owned())))),
    ("BinaryLength", 1, |_, call| Ok(Answer::Value(Value::Int(call.arg(0)?.as_bytes()?.len() as i64)))),
    ("Delay", 1, delay),
    ("GetLargeString", 1, |_, call| Ok(Answer::Value(large_string(length(call, 0)?)))),
    ("GetLargeBinary", 1, |_, call| Ok(Answer::Value(large_binary(length(call, 0)?)))),
    ("SendLargeString", 1, |cx, call| to_caller(cx, "Large", large_string(length(call, 0)?))),
    ("Abort", 0, abort),
    ("Flood", 2, sends::flood),
    ("BroadcastAll", 1, sends::broadcast_all),
    ("SendToOthers", 1, sends::send_to_others),
    ("JoinGroup", 1, sends::join_group),
    ("LeaveGroup", 1, sends::leave_group),
    ("SendToGroup", 2, sends::send_to_group),
    ("SendToGroupExcept", 3, sends::send_to_group_except),
    ("SendToUser", 2, sends::send_to_user),
    ("SendToConnection", 2, sends::send_to_connection),
    ("AskClient", 2, asks::ask_client),
];

/// How a method streams: whether it gives a stream, and how many of the client's it takes.
#[derive(Clone, Copy)]
struct Streaming {
    gives: bool,
    takes: usize,
}

const GIVES: Streaming = Streaming { gives: true, takes: 0 };
const TAKES_ONE: Streaming = Streaming { gives: false, takes: 1 };

/// The methods that stream; names and arguments as above.
const STREAMS: &[(&str, Streaming, usize, Method)] = &[
    ("Stream", GIVES, 0, streams::stream),
    ("EmptyStream", GIVES, 0, streams::empty_stream),
    ("InfiniteStream", GIVES, 0, streams::infinite_stream),
    ("StreamThrowException", GIVES, 1, streams::stream_throw_exception),
    ("Counter", GIVES, 2, streams::counter),
    ("FailingStream", GIVES, 2, streams::failing_stream),
    ("StreamingConcat", TAKES_ONE, 0, streams::streaming_concat),
    ("UploadStream", TAKES_ONE, 0, streams::upload_stream),
    ("SumStream", TAKES_ONE, 0, streams::sum_stream),
    ("PrefixStream", TAKES_ONE, 1, streams::prefix_stream),
    ("ConcatTwoStreams", Streaming { gives: false, takes: 2 }, 1, streams::concat_two_streams),
    ("MirrorStream", Streaming { gives: true, takes: 1 }, 0, streams::mirror_stream),
];

/// How the method of that name is called and what it does.
fn find(name: &str) -> Option<(Streaming, usize, Method)> {
    let plain = METHODS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
    let plain = plain.map(|&(_, arguments, method)| (Streaming { gives: false, takes: 0 }, arguments, method));
    plain.or_else(|| {
        let streaming = STREAMS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
        streaming.map(|&(_, streaming, arguments, method)| (streaming, arguments, method))
    })
}

/// The hub class of the contract, mapped on several endpoints.
pub(crate) struct TestHub;

impl HubHandler for TestHub {
    fn streams_expected(&self, target: &str) -> Option<usize> {
        find(target).map(|(streaming, ..)| streaming.takes)
    }

    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        let Some((streaming, arguments, method)) = find(call.target()) else { return Answer::Unknown };
        let fits = call.expect_streaming(streaming.gives).and_then(|()| call.expect(arguments));
        fits.and_then(|()| method(cx, call)).into()
    }
}

fn optional(text: Option<String>) -> Answer {
    Answer::Value(text.map_or(Value::Null, Value::Str))
}

fn to_caller(cx: &mut Context<'_>, method: &str, argument: Value) -> Outcome {
    sends::deliver(cx.caller(), method, &[argument])?;
    Ok(Answer::Void)
}

fn num_redirects(cx: &mut Context<'_>, _call: &Invocation<'_>) -> Outcome {
    let count = match cx.query("numRedirects") {
        None => 0,
        Some(text) => text.parse().map_err(|_| HandlerError::failed("FormatException", text))?,
    };
    Ok(Answer::Value(Value::Int(count)))
}

fn throw_exception(_cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    Err(HandlerError::failed("InvalidOperationException", text(call, 0)?))
}

/// A property the contract names, or null where the client left it out.
fn property(of: Raw<'_>, name: &str, read: fn(Raw<'_>) -> Result<Value, HandlerError>) -> Result<Value, HandlerError> {
    match of.field(name)? {
        Some(raw) if !raw.is_null() => read(raw),
        _ => Ok(Value::Null),
    }
}

fn read_text(raw: Raw<'_>) -> Result<Value, HandlerError> {
    Ok(Value::Str(raw.as_str()?.into_owned()))
}

fn read_int(raw: Raw<'_>) -> Result<Value, HandlerError> {
    Ok(Value::Int(i64::from(int(raw)?)))
}

fn read_bytes(raw: Raw<'_>) -> Result<Value, HandlerError> {
    Ok(Value::Bin(raw.as_bytes()?.into_owned()))
}

/// A text in JSON, a timestamp in MessagePack; both go back as they came.
fn read_date(raw: Raw<'_>) -> Result<Value, HandlerError> {
    match raw.value()? {
        date @ (Value::Str(_) | Value::Timestamp { .. }) => Ok(date),
        _ => Err(BindError::Timestamp.into()),
    }
}

fn send_custom_object(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let given = call.arg(0)?;
    let custom =
        Value::object([("Name", property(given, "Name", read_text)?), ("Value", property(given, "Value", read_int)?)]);
    to_caller(cx, "CustomObject", custom)
}

fn echo_complex_object(_cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let given = call.arg(0)?;
    Ok(Answer::Value(Value::object([
        ("ByteArray", property(given, "ByteArray", read_bytes)?),
        ("DateTime", property(given, "DateTime", read_date)?),
        ("Guid", property(given, "Guid", read_text)?),
        ("IntArray", property(given, "IntArray", ints)?),
        ("String", property(given, "String", read_text)?),
    ])))
}

fn complex_object() -> Value {
    Value::object([
        ("ByteArray", Value::Bin(vec![1, 2, 3])),
        ("DateTime", Value::Timestamp { seconds: MILLENNIUM_S, nanos: 0 }),
        ("Guid", Value::Str("00010203-0405-0607-0706-050403020100".to_owned())),
        ("IntArray", Value::Array(vec![Value::Int(1), Value::Int(2), Value::Int(3)])),
        ("String", Value::Str("hello world".to_owned())),
    ])
}

fn echo_many(_cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    Ok(Answer::Value(Value::object([
        ("a", Value::Str(text(call, 0)?)),
        ("b", Value::Int(call.arg(1)?.as_i64()?)),
        ("c", Value::Float(call.arg(2)?.as_f64()?)),
        ("d", Value::Bool(call.arg(3)?.as_bool()?)),
        ("e", text_or_null(call, 4)?),
        ("f", ints(call.arg(5)?)?),
    ])))
}

fn delay(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let wanted = int(call.arg(0)?)?;
    let delay_ms = u64::try_from(wanted)
        .ok()
        .filter(|_| wanted <= DELAY_MS_MAX)
        .ok_or_else(|| HandlerError::Hub(format!("{wanted} is not a delay from 0 to {DELAY_MS_MAX} ms.")))?;
    let reply = cx.defer();
    let answer = Answer::Value(Value::Int(i64::from(wanted)));
    // Where this cannot wait its turn, the reply handle is dropped and answers with an error.
    cx.after(Duration::from_millis(delay_ms), move |cx| cx.reply(reply, &answer));
    Ok(Answer::Later)
}

fn abort(cx: &mut Context<'_>, _call: &Invocation<'_>) -> Outcome {
    cx.abort();
    Ok(Answer::Void)
}
