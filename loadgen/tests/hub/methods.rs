//! The methods that the generator calls by default.

use fanfare_engine::{
    Answer, BindError, Context, HandlerError, HubHandler, Invocation, Payload, PublishError, Raw, StreamHandle,
    StreamReader, Value,
};

pub(crate) struct Methods;

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
