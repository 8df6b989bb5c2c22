//! Asking clients for results.

use fanfare_engine::{
    Answer, AskError, ClientResult, Context, HandlerError, HttpAnswer, HttpRequest, Invocation, Payload, Value,
};

use super::Outcome;
use super::bind::{int, narrow, text};

/// A result that the contract calls `int`.
fn bind(result: ClientResult<'_>) -> Result<i32, AskError> {
    result.and_then(|raw| narrow(raw).map_err(AskError::bind("int")))
}

pub(crate) fn ask_client(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let (connection, value) = (text(call, 0)?, int(call.arg(1)?)?);
    let reply = cx.defer();
    cx.ask(&connection, "Answer", &Payload::Values(&[Value::Int(value.into())]), move |cx, result| {
        let result = bind(result).map(|number| Value::Int(number.into()));
        cx.reply(reply, &result.map_err(|error| HandlerError::Hub(error.to_string())).into());
    });
    Ok(Answer::Later)
}

/// `GET /clientresult/{connection}`: what the client's `Result()` gives, or why there is nothing.
pub(crate) fn client_result(request: &HttpRequest<'_>, connection: &str) -> HttpAnswer {
    let Some(reply) = request.defer() else { return HttpAnswer::text(503, "Too many answers are owed.") };
    request.publisher().ask(super::HUB, connection, "Result", &Payload::Values(&[]), move |result| {
        let text = bind(result).map_or_else(|error| error.to_string(), |number| number.to_string());
        reply.reply(HttpAnswer::text(200, text));
    });
    // The handle answers.
    HttpAnswer::default()
}
