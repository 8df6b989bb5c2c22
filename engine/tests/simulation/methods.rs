//! What the simulated hub does with streams and questions.

use crate::simulation::flows::{Fetcher, Over, Producer, Which};
use crate::simulation::hub::Books;
use fanfare_engine::{
    Answer, AskError, BindError, Context, HandlerError, Invocation, Payload, Raw, ReplyHandle, StreamError,
    StreamHandle, StreamReader, UploadHandle, Uploaded, Value,
};
use std::time::Duration;

/// The method that clients are asked through.
pub(crate) const QUESTION: &str = "q";
/// Items after which `early` has read enough.
pub(crate) const ENOUGH: u64 = 3;

type Outcome = Result<Answer, HandlerError>;

/// A stream to the caller: `(which, count, bytes, way)`.
pub(crate) fn give(books: &Books, client: u32, cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let which = (client, call.arg(0)?.as_u64()?);
    let (left, bytes) = (call.arg(1)?.as_u64()?, call.arg(2)?.as_u64()? as usize);
    let way = call.arg(3)?.as_str()?.into_owned();
    let stream = cx.open_stream()?;
    books.open().flows.opens(which, bytes, way == "forever");
    let (told, outside) = (books.clone(), way == "outside" || way == "both");
    let kept = (way == "forever").then(|| stream.clone());
    cx.on_cancel(&stream, move |_, end| {
        drop(kept);
        told.open().flows.told(which, end, outside);
    });
    match &*way {
        "outside" => books.open().flows.producers.push(Producer { stream, which, left }),
        "both" => {
            books.open().flows.producers.push(Producer { stream: stream.clone(), which, left });
            join_in(books.clone(), cx, (stream, which), 20);
        }
        "forever" => drop(say(books, cx, &stream, which)),
        _ => go_on(books.clone(), cx, Run { stream, which, left, way }),
    }
    Ok(Answer::Later)
}

struct Run {
    stream: StreamHandle,
    which: Which,
    left: u64,
    way: String,
}

/// Says the next item. `false`: nobody wants it.
fn say(books: &Books, cx: &mut Context<'_>, stream: &StreamHandle, which: Which) -> bool {
    // Written down first: the last words may end the connection, and that may be heard of at once.
    let text = books.open().flows.next(which);
    books.open().flows.says(which);
    let sent = cx.send_item(stream, &Value::Str(text));
    assert!(sent.is_ok() || books.open().flows.is_over(which), "{which:?}: {sent:?} of a stream that is not over");
    sent.is_ok()
}

/// Says an item now and then on the shard, in a stream that is fed and ended from outside.
fn join_in(books: Books, cx: &mut Context<'_>, (stream, which): (StreamHandle, Which), left: u32) {
    if left == 0 || books.open().flows.is_over(which) {
        return;
    }
    let text = Value::Str(books.open().flows.next(which));
    match cx.send_item(&stream, &text) {
        Ok(()) => books.open().flows.says(which),
        Err(StreamError::Full) => books.open().flows.full_total += 1,
        Err(StreamError::Over) => return,
        Err(error) => panic!("{which:?}: {error}"),
    }
    let again = move |cx: &mut Context<'_>| join_in(books, cx, (stream, which), left - 1);
    assert!(cx.after(Duration::from_millis(1), again), "room for a continuation");
}

fn go_on(books: Books, cx: &mut Context<'_>, mut run: Run) {
    if books.open().flows.is_over(run.which) {
        return;
    }
    while run.left > 0 {
        if !say(&books, cx, &run.stream, run.which) {
            return;
        }
        run.left -= 1;
        match &*run.way {
            "paced" => {
                assert!(cx.when_drained(move |cx| go_on(books, cx, run)), "room for a continuation");
                return;
            }
            "timed" => {
                let pause = Duration::from_millis(7);
                assert!(cx.after(pause, move |cx| go_on(books, cx, run)), "room for a continuation");
                return;
            }
            _ => {}
        }
    }
    if run.way == "failing" {
        books.open().flows.finishes(run.which, Over::Failed);
        cx.fail_stream(run.stream, HandlerError::Hub("failed".to_owned()));
    } else {
        books.open().flows.finishes(run.which, Over::Ended);
        cx.end_stream(run.stream);
    }
}

/// A stream of the caller: `(which, way)`. The answer is how many items came.
pub(crate) fn take(books: &Books, client: u32, cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let which = (client, call.arg(0)?.as_u64()?);
    let way = call.arg(1)?.as_str()?;
    books.open().flows.takes(which);
    let reply = cx.defer();
    if way == "fetched" {
        let upload = cx.take_stream(0)?;
        books.open().flows.fetchers.push(Fetcher { upload, reply, which, count: 0 });
    } else {
        let early = way == "early";
        cx.read_stream(0, Reader { books: books.clone(), which, early, reply: Some(reply) })?;
    }
    Ok(Answer::Later)
}

struct Reader {
    books: Books,
    which: Which,
    /// It answers after [`ENOUGH`] items.
    early: bool,
    reply: Option<ReplyHandle>,
}

impl StreamReader for Reader {
    fn item(&mut self, cx: &mut Context<'_>, item: Raw<'_>) -> Result<(), BindError> {
        let text = item.as_str()?;
        self.books.open().flows.comes(self.which, &text);
        let came = self.books.open().flows.came(self.which);
        if self.early && came == ENOUGH {
            self.books.open().flows.ends(self.which);
            let reply = self.reply.take().expect("the first answer");
            cx.reply(reply, &Answer::Value(Value::Int(came as i64)));
        }
        Ok(())
    }

    fn end(self: Box<Self>, cx: &mut Context<'_>, how: Result<(), HandlerError>) {
        let came = self.books.open().flows.ends(self.which);
        let answer = how.map(|()| Value::Int(came as i64)).into();
        cx.reply(self.reply.expect("no answer yet"), &answer);
    }
}

/// Fetches the next item. `false`: there is nothing to do now; the fetcher is back in its place.
pub(crate) fn fetch(books: &Books, mut fetcher: Fetcher) -> bool {
    match UploadHandle::try_next(&fetcher.upload) {
        None => {
            books.open().flows.fetchers.push(fetcher);
            false
        }
        Some(Uploaded::Item(item)) => {
            let raw = item.as_raw();
            books.open().flows.comes(fetcher.which, &raw.as_str().expect("texts only"));
            fetcher.count += 1;
            books.open().flows.fetchers.push(fetcher);
            true
        }
        Some(Uploaded::End(how)) => {
            // A stream that was dropped because its client has gone may have had more items.
            let dropped = matches!(how, Err(HandlerError::Failed { .. }));
            let came = books.open().flows.ends(fetcher.which);
            assert!(dropped || came == fetcher.count, "{:?}: {came} came, {} fetched", fetcher.which, fetcher.count);
            fetcher.reply.reply(how.map(|()| Value::Int(fetcher.count as i64)).into());
            true
        }
    }
}

/// A question of the caller's to another client: `(which, client, bytes)`.
pub(crate) fn ask(books: &Books, client: u32, cx: &mut Context<'_>, call: &Invocation<'_>) -> Outcome {
    let which = (client, call.arg(0)?.as_u64()?);
    let (to, bytes) = (call.arg(1)?.as_u64()? as u32, call.arg(2)?.as_u64()? as usize);
    let reply = cx.defer();
    books.open().flows.asks(which, to, bytes);
    let id = books.open().id_of(to);
    let words = [
        Value::Int(which.0.into()),
        Value::Int(which.1 as i64),
        Value::Str(crate::simulation::flows::asked_text(which, bytes)),
    ];
    let books = books.clone();
    cx.ask(&id, QUESTION, &Payload::Values(&words), move |cx, result| {
        let text = result.and_then(|raw| raw.as_str().map(|text| text.into_owned()).map_err(AskError::bind("string")));
        let gone = books.open().is_gone(to);
        books.open().flows.settles(which, &text, gone);
        let answer = text.map(Value::Str).map_err(|error| HandlerError::Hub(error.to_string()));
        cx.reply(reply, &answer.into());
    });
    Ok(Answer::Later)
}
