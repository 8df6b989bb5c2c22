//! Methods that send to others: groups, users, single connections, and the flood.

use fanfare_engine::{Answer, Context, HandlerError, Invocation, Payload, ReplyHandle, Target, Value};

use super::Outcome;
use super::bind::{int, large_string, length, text, texts};

/// Most sends one `Flood` may ask for.
const FLOOD_COUNT_MAX: i32 = 1_000_000;

/// A send that could not be made fails the method that made it.
pub(crate) fn deliver(to: Target<'_>, method: &str, arguments: &[Value]) -> Result<(), HandlerError> {
    to.send(method, &Payload::Values(arguments))
        .map_err(|error| HandlerError::failed("PublishError", error.to_string()))
}

/// `Broadcast(callerConnectionId, msg)`, the one message of every addressing method.
fn broadcast(cx: &Context<'_>, message: String) -> [Value; 2] {
    [Value::Str(cx.connection_id()), Value::Str(message)]
}

pub(crate) fn broadcast_all(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let arguments = broadcast(cx, text(call, 0)?);
    deliver(cx.all(), "Broadcast", &arguments)?;
    Ok(Answer::Void)
}

pub(crate) fn send_to_others(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let arguments = broadcast(cx, text(call, 0)?);
    deliver(cx.others(), "Broadcast", &arguments)?;
    Ok(Answer::Void)
}

pub(crate) fn join_group(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    match cx.join(&text(call, 0)?) {
        Ok(()) => Ok(Answer::Void),
        Err(error) => Err(HandlerError::failed("GroupError", error.to_string())),
    }
}

pub(crate) fn leave_group(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    cx.leave(&text(call, 0)?);
    Ok(Answer::Void)
}

pub(crate) fn send_to_group(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let group = text(call, 0)?;
    let arguments = broadcast(cx, text(call, 1)?);
    deliver(cx.group(&group), "Broadcast", &arguments)?;
    Ok(Answer::Void)
}

pub(crate) fn send_to_group_except(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let group = text(call, 0)?;
    let spared = texts(call, 1)?;
    let spared: Vec<&str> = spared.iter().map(String::as_str).collect();
    let arguments = broadcast(cx, text(call, 2)?);
    deliver(cx.group_except(&group, &spared), "Broadcast", &arguments)?;
    Ok(Answer::Void)
}

pub(crate) fn send_to_user(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let user = text(call, 0)?;
    let arguments = broadcast(cx, text(call, 1)?);
    deliver(cx.user_named(&user), "Broadcast", &arguments)?;
    Ok(Answer::Void)
}

pub(crate) fn send_to_connection(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let connection = text(call, 0)?;
    let arguments = broadcast(cx, text(call, 1)?);
    deliver(cx.connection(&connection), "Broadcast", &arguments)?;
    Ok(Answer::Void)
}

/// What is left of one `Flood`: each send waits until the one before has left this process.
struct FloodRun {
    left: i32,
    arguments: [Value; 1],
    reply: ReplyHandle,
}

pub(crate) fn flood(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let count = int(call.arg(0)?)?;
    if !(0..=FLOOD_COUNT_MAX).contains(&count) {
        return Err(HandlerError::Hub(format!("{count} is not a count from 0 to {FLOOD_COUNT_MAX}.")));
    }
    let arguments = [large_string(length(call, 1)?)];
    let run = FloodRun { left: count, arguments, reply: cx.defer() };
    flood_on(cx, run);
    Ok(Answer::Later)
}

fn flood_on(cx: &mut Context<'_>, mut run: FloodRun) {
    if run.left == 0 {
        cx.reply(run.reply, &Answer::Void);
        return;
    }
    run.left -= 1;
    if let Err(error) = deliver(cx.caller(), "Flood", &run.arguments) {
        cx.reply(run.reply, &Answer::Error(error));
        return;
    }
    // Where this cannot wait its turn, the reply handle is dropped and answers with an error.
    cx.when_drained(move |cx| flood_on(cx, run));
}
