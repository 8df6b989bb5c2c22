//! The hub of the simulated house: what its methods do, and that they write it down.

use crate::simulation::filler::filler;
use crate::simulation::ledger::{Aim, FLOOD, Ledger, PACED, Verdict};
use crate::simulation::methods;
use fanfare_engine::{
    Answer, Authenticator, CloseReason, ConnectRequest, Context, HandlerError, HubHandler, Identity, Invocation,
    Payload, PublishError, Refusal, SlowPolicy, Value,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The ledger, as the handler and the house share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books(Arc<Mutex<Ledger>>);

impl Books {
    pub(crate) fn open(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who a client is stands in the query it connects with.
pub(crate) struct ByQuery;

impl Authenticator for ByQuery {
    fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Identity, Refusal> {
        Ok(Identity { user: request.query_value("user").map(|user| user.into_owned()), ..Identity::default() })
    }
}

/// The arguments of a message to clients: whom it is for, who says it, which of his it is, and the text.
pub(crate) fn arguments(aim: &Aim, publisher: u32, serial: u64, bytes: usize) -> [Value; 5] {
    let (kind, name) = aim.words();
    let text = filler(publisher, serial, bytes);
    [kind.into(), Value::Str(name), Value::Int(publisher.into()), Value::Int(serial as i64), Value::Str(text)]
}

pub(crate) struct Hub(pub(crate) Books);

fn client(cx: &Context<'_>) -> u32 {
    cx.query("client").and_then(|text| text.parse().ok()).expect("every client connects with its number")
}

impl HubHandler for Hub {
    fn connected(&self, cx: &mut Context<'_>) -> Result<(), HandlerError> {
        let user = cx.user().expect("every client connects with a user").to_owned();
        self.0.open().comes(client(cx), cx.connection_id(), user);
        Ok(())
    }

    fn disconnected(&self, cx: &mut Context<'_>, _: CloseReason) {
        self.0.open().goes(client(cx));
    }

    fn fell_behind(&self, cx: &mut Context<'_>, policy: SlowPolicy) {
        self.0.open().falls_behind(client(cx), policy);
    }

    fn streams_expected(&self, target: &str) -> Option<usize> {
        Some(usize::from(target == "Take"))
    }

    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        self.dispatch(cx, call).into()
    }
}

impl Hub {
    fn dispatch(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Result<Answer, HandlerError> {
        match call.target() {
            "Echo" => Ok(Answer::echo(call.arg(0)?)),
            "Say" => self.say(cx, call),
            "Join" => self.join(cx, &call.arg(0)?.as_str()?),
            "Leave" => self.leave(cx, &call.arg(0)?.as_str()?),
            "Later" => {
                let text = call.arg(0)?.as_str()?.into_owned();
                let handle = cx.defer();
                self.0.open().pending.push((handle, text));
                Ok(Answer::Later)
            }
            "Soon" => {
                let text = call.arg(0)?.as_str()?.into_owned();
                let handle = cx.defer();
                let work = move |cx: &mut Context<'_>| cx.reply(handle, &Answer::Value(Value::Str(text)));
                cx.after(Duration::from_millis(call.arg(1)?.as_u64()?), work);
                Ok(Answer::Later)
            }
            "Flood" => self.flood(cx, call.arg(0)?.as_u64()?, call.arg(1)?.as_u64()? as usize),
            "Pace" => {
                let (count, bytes) = (call.arg(0)?.as_u64()?, call.arg(1)?.as_u64()? as usize);
                self.0.open().promises(client(cx) | PACED, count);
                pace(&self.0, cx, count, bytes);
                Ok(Answer::Void)
            }
            "Abort" => {
                cx.abort();
                Ok(Answer::Void)
            }
            "Give" => methods::give(&self.0, client(cx), cx, call),
            "Take" => methods::take(&self.0, client(cx), cx, call),
            "Question" => methods::ask(&self.0, client(cx), cx, call),
            "Throw" => Err(HandlerError::Hub("thrown".to_owned())),
            _ => Ok(Answer::Unknown),
        }
    }

    fn say(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Result<Answer, HandlerError> {
        let aim = Aim::from_words(&call.arg(0)?.as_str()?, &call.arg(1)?.as_str()?);
        let (publisher, serial) = (call.arg(2)?.as_u64()? as u32, call.arg(3)?.as_u64()?);
        let bytes = call.arg(4)?.as_str()?.len();
        self.0.open().says(publisher, serial, aim.clone(), bytes);
        let target = self.0.open().losses.target(serial);
        let result = send(&self.0, cx, &aim, target, &Payload::Raw(call.arguments()));
        self.rule(publisher, serial, &result);
        result.map(|()| Answer::Void).map_err(|error| HandlerError::Hub(error.to_string()))
    }

    fn rule(&self, publisher: u32, serial: u64, result: &Result<(), PublishError>) {
        match result {
            Ok(()) => {}
            Err(PublishError::LogFull) => self.0.open().ruled(publisher, serial, Verdict::Failed),
            Err(error) => panic!("{publisher}/{serial} was refused: {error}"),
        }
    }

    /// Many messages out of one call.
    fn flood(&self, cx: &mut Context<'_>, count: u64, bytes: usize) -> Result<Answer, HandlerError> {
        let publisher = client(cx) | FLOOD;
        for _ in 0..count {
            let serial = self.0.open().next_serial(publisher);
            self.0.open().says(publisher, serial, Aim::All, bytes);
            let values = arguments(&Aim::All, publisher, serial, bytes);
            let target = self.0.open().losses.target(serial);
            let result = cx.all().send(target, &Payload::Values(&values));
            self.rule(publisher, serial, &result);
        }
        Ok(Answer::Void)
    }

    fn join(&self, cx: &mut Context<'_>, group: &str) -> Result<Answer, HandlerError> {
        cx.join(group).expect("room in the group tables");
        self.0.open().joins(client(cx), group);
        Ok(Answer::Void)
    }

    fn leave(&self, cx: &mut Context<'_>, group: &str) -> Result<Answer, HandlerError> {
        cx.leave(group);
        self.0.open().leaves(client(cx), group);
        Ok(Answer::Void)
    }
}

fn send(
    books: &Books,
    cx: &mut Context<'_>,
    aim: &Aim,
    target: &str,
    payload: &Payload<'_>,
) -> Result<(), PublishError> {
    let id = |client: &u32| books.open().id_of(*client);
    match aim {
        Aim::All => cx.all().send(target, payload),
        Aim::Others => cx.others().send(target, payload),
        Aim::Group(name) => cx.group(name).send(target, payload),
        Aim::RestOfGroup(name) => cx.others_in_group(name).send(target, payload),
        Aim::User(name) => cx.user_named(name).send(target, payload),
        Aim::One(client) => cx.connection(&id(client)).send(target, payload),
        Aim::Except(client) => cx.all_except(&[&id(client)]).send(target, payload),
    }
}

/// Says the next of `count` messages to the caller whenever it owes nothing: at the client's own pace.
fn pace(books: &Books, cx: &mut Context<'_>, count: u64, bytes: usize) {
    let who = client(cx);
    let publisher = who | PACED;
    let serial = books.open().next_serial(publisher);
    books.open().says(publisher, serial, Aim::One(who), bytes);
    let values = arguments(&Aim::One(who), publisher, serial, bytes);
    let target = books.open().losses.target(serial);
    if cx.caller().send(target, &Payload::Values(&values)).is_err() {
        books.open().ruled(publisher, serial, Verdict::Failed);
    }
    let books = books.clone();
    if count > 1 {
        let taken = cx.when_drained(move |cx| pace(&books, cx, count - 1, bytes));
        assert!(taken, "there is room for a few continuations");
    }
}
