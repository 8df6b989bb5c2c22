//! The built-in hub: clients reach each other through it, where the operator allows that.

use fanfare_engine::{
    Answer, BindError, Context, HandlerError, HubHandler, Invocation, PublishError, Raw, SlowPolicy, StreamHandle,
    StreamReader, Value,
};
use fanfare_protocol::hub::raw::Arguments;
use fanfare_protocol::hub::{Format, Payload};

use crate::slow_log::SlowLog;

/// Answers `Broadcast`, `SendToOthers`, `SendToGroup`, `SendToUser`, `SendToConnection`, `JoinGroup`, `LeaveGroup`,
/// `Echo`, `MirrorStream` and `ConnectionId`; names compare without case. Arguments pass through as the bytes they came as.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Whether clients may send to other clients.
    pub(crate) client_publish: bool,
    /// Where it is said which connections lose messages, if it is, and the hub's name.
    pub(crate) slow_log: Option<(SlowLog, String)>,
}

/// What a client reads when it publishes where it may not.
pub(crate) const PUBLISH_OFF: &str = "Clients may not publish through this server; it runs with --client-publish off.";

/// What can be asked of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// `(target, ...args)` to every client.
    Broadcast,
    /// `(target, ...args)` to every client but the caller.
    SendToOthers,
    /// `(group, target, ...args)`.
    SendToGroup,
    /// `(user, target, ...args)`.
    SendToUser,
    /// `(connection id, target, ...args)`.
    SendToConnection,
    /// `(group)`: the caller joins.
    JoinGroup,
    /// `(group)`: the caller leaves.
    LeaveGroup,
    /// `(value)` is returned.
    Echo,
    /// `(stream)` comes back as a stream of the same items, where clients may publish.
    MirrorStream,
    /// The caller's connection id.
    ConnectionId,
}

const MIRROR_STREAM: &str = "MirrorStream";

impl Method {
    fn find(call: &Invocation<'_>) -> Option<Method> {
        const NAMES: [(&str, Method); 10] = [
            ("Broadcast", Method::Broadcast),
            ("SendToOthers", Method::SendToOthers),
            ("SendToGroup", Method::SendToGroup),
            ("SendToUser", Method::SendToUser),
            ("SendToConnection", Method::SendToConnection),
            ("JoinGroup", Method::JoinGroup),
            ("LeaveGroup", Method::LeaveGroup),
            ("Echo", Method::Echo),
            (MIRROR_STREAM, Method::MirrorStream),
            ("ConnectionId", Method::ConnectionId),
        ];
        NAMES.iter().find(|(name, _)| call.is(name)).map(|&(_, method)| method)
    }
}

impl HubHandler for Relay {
    fn streams_expected(&self, target: &str) -> Option<usize> {
        Some(usize::from(target.eq_ignore_ascii_case(MIRROR_STREAM)))
    }

    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        let Some(method) = Method::find(call) else { return Answer::Unknown };
        if call.streaming() && method != Method::MirrorStream {
            // spec 6.4
            let name = call.target();
            let text = format!(
                "The client attempted to invoke the non-streaming '{name}' method with a streaming invocation."
            );
            return Answer::Error(HandlerError::WrongStreaming(text));
        }
        self.run(method, cx, call).into()
    }

    fn fell_behind(&self, cx: &mut Context<'_>, policy: SlowPolicy) {
        if let Some((log, hub)) = &self.slow_log {
            log.fell_behind(hub, &cx.connection_id(), policy);
        }
    }
}

impl Relay {
    fn run(&self, method: Method, cx: &mut Context<'_>, call: &Invocation<'_>) -> Result<Answer, HandlerError> {
        match method {
            Method::Echo => {
                call.expect(1)?;
                return Ok(Answer::echo(call.arg(0)?));
            }
            Method::MirrorStream => return self.mirror(cx, call),
            Method::ConnectionId => {
                call.expect(0)?;
                return Ok(Answer::Value(Value::Str(cx.connection_id())));
            }
            Method::JoinGroup => {
                call.expect(1)?;
                cx.join(&call.arg(0)?.as_str()?).map_err(|error| HandlerError::Hub(error.to_string()))?;
            }
            Method::LeaveGroup => {
                call.expect(1)?;
                cx.leave(&call.arg(0)?.as_str()?);
            }
            Method::Broadcast | Method::SendToOthers => {
                self.publish(call, 0, |target, payload, _| match method {
                    Method::Broadcast => cx.all().send(target, payload),
                    _ => cx.others().send(target, payload),
                })?;
            }
            Method::SendToGroup | Method::SendToUser | Method::SendToConnection => {
                self.publish(call, 1, |target, payload, to| match method {
                    Method::SendToGroup => cx.group(to).send(target, payload),
                    Method::SendToUser => cx.user_named(to).send(target, payload),
                    _ => cx.connection(to).send(target, payload),
                })?;
            }
        }
        Ok(Answer::Void)
    }

    /// Gives a client its own stream back, at the pace it reads. For measuring, so only where clients may publish.
    fn mirror(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Result<Answer, HandlerError> {
        call.expect_streaming(true)?;
        call.expect(0)?;
        if !self.client_publish {
            return Err(HandlerError::Hub(PUBLISH_OFF.to_owned()));
        }
        let stream = cx.open_stream()?;
        cx.read_stream(0, Mirror(stream))?;
        Ok(Answer::Later)
    }

    /// Binds `[recipient,] target, ...args` and hands `(target, args, recipient)` to `send`. `recipients` is how many
    /// arguments (0 or 1) precede the target.
    fn publish(
        &self,
        call: &Invocation<'_>,
        recipients: usize,
        send: impl FnOnce(&str, &Payload<'_>, &str) -> Result<(), PublishError>,
    ) -> Result<(), HandlerError> {
        if !self.client_publish {
            return Err(HandlerError::Hub(PUBLISH_OFF.to_owned()));
        }
        let to = if recipients == 0 { "".into() } else { call.arg(0)?.as_str()? };
        let target = call.arg(recipients)?.as_str()?;
        let rest = arguments_from(call.arguments(), recipients + 1);
        let payload = match call.arguments().format() {
            Format::Json => Payload::Ready { json: Some(&rest), messagepack: None },
            Format::MessagePack => Payload::Ready { json: None, messagepack: Some(&rest) },
        };
        // One rule for every receiver, whoever is there: what has no form in the other format (keys that are no text,
        // broken text, times of no length) ends stock clients and is not passed on.
        let other = match call.arguments().format() {
            Format::Json => Format::MessagePack,
            Format::MessagePack => Format::Json,
        };
        payload.encoded(other).map_err(|error| HandlerError::Hub(format!("Not sent: {error}.")))?;
        send(&target, &payload, &to).map_err(|error| HandlerError::Hub(format!("Not sent: {error}.")))
    }
}

/// The way back of a client's stream.
struct Mirror(StreamHandle);

impl StreamReader for Mirror {
    fn item(&mut self, cx: &mut Context<'_>, item: Raw<'_>) -> Result<(), BindError> {
        // Once it is over nobody waits for it.
        let _ = cx.send_item(&self.0, item);
        Ok(())
    }

    fn end(self: Box<Self>, cx: &mut Context<'_>, how: Result<(), HandlerError>) {
        match how {
            Ok(()) => cx.end_stream(self.0),
            Err(error) => cx.fail_stream(self.0, error),
        }
    }
}

/// The array of all arguments but the first `skipped`, encoded as they came.
fn arguments_from(arguments: Arguments<'_>, skipped: usize) -> Vec<u8> {
    let bytes = arguments.bytes();
    // An item is a span of the array, so what begins with it is the array's tail: nothing after it is scanned.
    let tail = arguments.get(skipped).map_or(&[][..], |item| {
        let at = item.bytes().as_ptr().addr() - bytes.as_ptr().addr();
        &bytes[at..]
    });
    let mut array = Vec::with_capacity(tail.len() + 5);
    match arguments.format() {
        Format::Json if tail.is_empty() => array.extend_from_slice(b"[]"),
        Format::Json => array.push(b'['),
        Format::MessagePack => put_array_head(&mut array, arguments.len().saturating_sub(skipped)),
    }
    array.extend_from_slice(tail);
    array
}

/// The head of a MessagePack array in its shortest form.
fn put_array_head(bytes: &mut Vec<u8>, count: usize) {
    match count {
        0..=15 => bytes.push(0x90 | count as u8),
        16..=0xFFFF => {
            bytes.push(0xDC);
            bytes.extend_from_slice(&(count as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0xDD);
            bytes.extend_from_slice(&(count as u32).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(format: Format, bytes: &[u8], skipped: usize) -> Vec<u8> {
        arguments_from(Arguments::parse(format, bytes).expect("a well-formed array"), skipped)
    }

    #[test]
    fn the_rest_of_json_arguments_is_their_own_bytes() {
        let given = br#"["g", "t" , {"a":[1, 2]}, "x,]"]"#;
        assert_eq!(rest(Format::Json, given, 2), br#"[{"a":[1, 2]}, "x,]"]"#);
        assert_eq!(rest(Format::Json, given, 1), br#"["t" , {"a":[1, 2]}, "x,]"]"#);
        assert_eq!(rest(Format::Json, given, 4), b"[]");
        assert_eq!(rest(Format::Json, br#"["t"]"#, 1), b"[]");
    }

    #[test]
    fn the_rest_of_messagepack_arguments_gets_a_head_of_its_own() {
        assert_eq!(rest(Format::MessagePack, &[0x93, 0xA1, b't', 0x01, 0xC0], 1), [0x92, 0x01, 0xC0]);
        assert_eq!(rest(Format::MessagePack, &[0x91, 0xA1, b't'], 1), [0x90]);
        let many: Vec<u8> = [0xDC, 0x00, 0x12].into_iter().chain([0x07; 18]).collect();
        let expected: Vec<u8> = [0xDC, 0x00, 0x11].into_iter().chain([0x07; 17]).collect();
        assert_eq!(rest(Format::MessagePack, &many, 1), expected);
        assert_eq!(rest(Format::MessagePack, &many, 3), [&[0x9F][..], &[0x07; 15]].concat());
    }
}
