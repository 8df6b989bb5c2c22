//! Methods that give a stream, take the client's streams, or both.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanfare_engine::{
    Answer, BindError, Context, HandlerError, Invocation, Payload, Raw, ReplyHandle, StreamEnd, StreamHandle,
    StreamReader, Value,
};

use super::Outcome;
use super::bind::{int, narrow, text};

/// Most items one method makes up.
const ITEMS_MAX: i32 = 1_000_000;
/// Longest pause between two of them.
const PAUSE_MS_MAX: i32 = 60_000;

pub(crate) fn stream(cx: &mut Context<'_>, _call: &Invocation<'_>) -> Outcome {
    let stream = cx.open_stream()?;
    for item in ["a", "b", "c"] {
        let _ = cx.send_item(&stream, &Value::from(item));
    }
    cx.end_stream(stream);
    Ok(Answer::Later)
}

pub(crate) fn empty_stream(cx: &mut Context<'_>, _call: &Invocation<'_>) -> Outcome {
    let stream = cx.open_stream()?;
    cx.end_stream(stream);
    Ok(Answer::Later)
}

pub(crate) fn infinite_stream(cx: &mut Context<'_>, _call: &Invocation<'_>) -> Outcome {
    let stream = cx.open_stream()?;
    let kept = stream.clone();
    cx.on_cancel(&stream, move |cx, end| {
        drop(kept);
        if end == StreamEnd::Cancelled {
            let _ = cx.caller().send("StreamCanceled", &Payload::Values(&[]));
        }
    });
    Ok(Answer::Later)
}

pub(crate) fn stream_throw_exception(_cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    Err(HandlerError::failed("InvalidOperationException", text(call, 0)?))
}

/// What is left of one `Counter` or `FailingStream`.
struct CounterRun {
    stream: StreamHandle,
    next: i32,
    count: i32,
    pause: Duration,
    /// How it ends, unless in order.
    failure: Option<String>,
}

pub(crate) fn counter(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let count = within(call.arg(0)?, ITEMS_MAX)?;
    let pause = Duration::from_millis(within(call.arg(1)?, PAUSE_MS_MAX)?.unsigned_abs().into());
    let stream = cx.open_stream()?;
    count_on(cx, CounterRun { stream, next: 0, count, pause, failure: None });
    Ok(Answer::Later)
}

pub(crate) fn failing_stream(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let (count, failure) = (within(call.arg(0)?, ITEMS_MAX)?, Some(text(call, 1)?));
    let stream = cx.open_stream()?;
    count_on(cx, CounterRun { stream, next: 0, count, pause: Duration::ZERO, failure });
    Ok(Answer::Later)
}

fn within(raw: Raw<'_>, most: i32) -> Result<i32, HandlerError> {
    let number = int(raw)?;
    let fits = (0..=most).contains(&number);
    if fits { Ok(number) } else { Err(HandlerError::Hub(format!("{number} is not a number from 0 to {most}."))) }
}

fn count_on(cx: &mut Context<'_>, mut run: CounterRun) {
    if run.next == run.count {
        return match run.failure {
            None => cx.end_stream(run.stream),
            Some(message) => cx.fail_stream(run.stream, HandlerError::failed("InvalidOperationException", message)),
        };
    }
    if cx.send_item(&run.stream, &Value::Int(run.next.into())).is_err() {
        return;
    }
    run.next += 1;
    // Where this cannot wait its turn, the handle is dropped and the stream fails.
    if run.pause.is_zero() {
        cx.when_drained(move |cx| count_on(cx, run));
    } else {
        let pause = run.pause;
        cx.after(pause, move |cx| count_on(cx, run));
    }
}

// -- streams of the client --------------------------------------------------------------------------------------------

fn push(all: &mut String, item: Raw<'_>) -> Result<(), BindError> {
    all.push_str(&item.as_str()?);
    Ok(())
}

pub(crate) fn streaming_concat(cx: &mut Context<'_>, _call: &Invocation<'_>) -> Outcome {
    concat_onto(cx, String::new())
}

pub(crate) fn prefix_stream(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    concat_onto(cx, text(call, 0)?)
}

fn concat_onto(cx: &mut Context<'_>, start: String) -> Outcome {
    let reply = cx.defer();
    cx.fold_stream(0, start, push, move |cx, all| cx.reply(reply, &all.map(Value::Str).into()))?;
    Ok(Answer::Later)
}

pub(crate) fn upload_stream(cx: &mut Context<'_>, _call: &Invocation<'_>) -> Outcome {
    let reply = cx.defer();
    cx.fold_stream(0, String::new(), push, move |cx, all| {
        let answer = match all {
            Ok(all) => super::sends::deliver(cx.caller(), "Uploaded", &[Value::Str(all)]).map(|()| Answer::Void),
            Err(error) => Err(error),
        };
        cx.reply(reply, &answer.into());
    })?;
    Ok(Answer::Later)
}

pub(crate) fn sum_stream(cx: &mut Context<'_>, _call: &Invocation<'_>) -> Outcome {
    let reply = cx.defer();
    let add = |sum: &mut i64, item: Raw<'_>| narrow(item).map(|item| *sum += i64::from(item));
    cx.fold_stream(0, 0, add, move |cx, sum| cx.reply(reply, &sum.map(Value::Int).into()))?;
    Ok(Answer::Later)
}

/// The two streams of one `ConcatTwoStreams`, which end in any order.
struct Halves {
    texts: [Option<String>; 2],
    separator: String,
    reply: Option<ReplyHandle>,
}

pub(crate) fn concat_two_streams(cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let separator = text(call, 0)?;
    let halves = Arc::new(Mutex::new(Halves { texts: [None, None], separator, reply: Some(cx.defer()) }));
    for index in 0..2 {
        let halves = halves.clone();
        cx.fold_stream(index, String::new(), push, move |cx, all| {
            let mut halves = halves.lock().unwrap_or_else(PoisonError::into_inner);
            half_done(cx, &mut halves, index, all);
        })?;
    }
    Ok(Answer::Later)
}

fn half_done(cx: &mut Context<'_>, halves: &mut Halves, index: usize, all: Result<String, HandlerError>) {
    let answer = match all {
        Err(error) => Answer::Error(error),
        Ok(all) => {
            halves.texts[index] = Some(all);
            let [Some(first), Some(second)] = &halves.texts else { return };
            Answer::Value(Value::Str(format!("{first}{}{second}", halves.separator)))
        }
    };
    if let Some(reply) = halves.reply.take() {
        cx.reply(reply, &answer);
    }
}

struct Mirror(StreamHandle);

impl StreamReader for Mirror {
    fn item(&mut self, cx: &mut Context<'_>, item: Raw<'_>) -> Result<(), BindError> {
        item.as_str()?;
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

pub(crate) fn mirror_stream(cx: &mut Context<'_>, _call: &Invocation<'_>) -> Outcome {
    let stream = cx.open_stream()?;
    cx.read_stream(0, Mirror(stream))?;
    Ok(Answer::Later)
}
