//! A real engine in this process, with the methods that the generator expects by default.

use fanfare_engine::{
    Answer, Authenticator, BindError, ConnectRequest, Context, Engine, HandlerError, HubHandler, HubOptions, Identity,
    Invocation, Limits, Payload, PublishError, Raw, Refusal, StreamHandle, StreamReader, Value,
};
use std::net::SocketAddr;

/// A server that ends with the test.
pub(crate) struct Hub {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _engine: Engine,
}

impl Hub {
    /// Hub `/hub` on a free port.
    pub(crate) fn start() -> Self {
        Self::with(Limits::default(), 2)
    }

    /// The same under other limits.
    pub(crate) fn with(limits: Limits, shards: usize) -> Self {
        let engine = Engine::builder()
            .listen("127.0.0.1:0")
            .shards(shards)
            .limits(limits)
            .hub("hub", HubOptions::default(), Methods)
            .authenticator("/hub", ByQuery)
            .start()
            .expect("an engine");
        Self { address: engine.local_addrs()[0], _engine: engine }
    }
}

struct ByQuery;

impl Authenticator for ByQuery {
    fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Identity, Refusal> {
        let user = request.query_value("user").map(|user| user.into_owned());
        Ok(Identity { user, ..Identity::default() })
    }
}

struct Methods;

impl HubHandler for Methods {
    fn streams_expected(&self, target: &str) -> Option<usize> {
        Some(usize::from(target == "MirrorStream"))
    }

    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        run(cx, call).into()
    }
}

fn run(cx: &mut Context<'_>, call: &Invocation<'_>) -> Result<Answer, HandlerError> {
    let text = |index: usize| Ok::<_, HandlerError>(call.arg(index)?.as_str()?.into_owned());
    let sent = |result: Result<(), PublishError>| {
        result.map(|()| Answer::Void).map_err(|error| HandlerError::Hub(error.to_string()))
    };
    match call.target() {
        "Broadcast" => sent(cx.all().send(&text(0)?, &Payload::Values(&[Value::Str(text(1)?)]))),
        // As the test hub of the stock clients does it: the caller's id first, the method fixed.
        "BroadcastAll" => {
            let arguments = [Value::Str(cx.connection_id()), Value::Str(text(0)?)];
            sent(cx.all().send("Broadcast", &Payload::Values(&arguments)))
        }
        "SendToGroup" => sent(cx.group(&text(0)?).send(&text(1)?, &Payload::Values(&[Value::Str(text(2)?)]))),
        "SendToUser" => sent(cx.user_named(&text(0)?).send(&text(1)?, &Payload::Values(&[Value::Str(text(2)?)]))),
        "SendToConnection" => sent(cx.connection(&text(0)?).send(&text(1)?, &Payload::Values(&[Value::Str(text(2)?)]))),
        // Whatever group is named: everybody hears it.
        "SendToWrongGroup" => sent(cx.all().send(&text(1)?, &Payload::Values(&[Value::Str(text(2)?)]))),
        "JoinGroup" => {
            cx.join(&text(0)?).map_err(|error| HandlerError::Hub(error.to_string()))?;
            Ok(Answer::Void)
        }
        "ConnectionId" => Ok(Answer::Value(Value::Str(cx.connection_id()))),
        "Echo" => Ok(Answer::echo(call.arg(0)?)),
        "MirrorStream" => {
            call.expect_streaming(true)?;
            let stream = cx.open_stream()?;
            cx.read_stream(0, Mirror(stream))?;
            Ok(Answer::Later)
        }
        _ => Ok(Answer::Unknown),
    }
}

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
