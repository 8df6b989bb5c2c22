//! `fanfare listen`: be a client, print what arrives.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use fanfare_protocol::hub::Format;
use fanfare_protocol::hub::message::Message;
use fanfare_protocol::hub::raw::Raw;
use fanfare_protocol::hub::transcode::transcode;
use fanfare_protocol::ws::DataKind;

use crate::cli::{ListenArgs, Protocol};
use crate::client::{Called, Client, Direction, Next, Options};
use crate::dial::{self, Credentials};
use crate::failure::{Failure, exit};
use crate::output::say;
use crate::units::printable;
use crate::url::ServerUrl;

/// Longest wait in one go; then the wait is renewed.
const WAIT: Duration = Duration::from_secs(3600);

/// Why printing ends.
enum End {
    /// `--count` messages were printed.
    Count,
    /// Nobody reads our output any more, as with `| head`.
    Unread,
}

/// Runs the verb.
pub(crate) fn run(args: &ListenArgs) -> Result<ExitCode, Failure> {
    let url = ServerUrl::parse(&args.hub.url)?;
    let format = match args.protocol {
        Protocol::Json => Format::Json,
        Protocol::MessagePack => Format::MessagePack,
    };
    let token = args.hub.token_file.as_deref().map(dial::read_token).transpose()?;
    let mut client = Client::connect(Options {
        url: &url,
        hub: &args.hub.hub,
        who: Credentials { user: args.user.as_deref(), token: token.as_deref() },
        format,
        watch: args.frames.then(|| Box::new(show_frame) as _),
    })?;
    let connected = format!("connected  id={}  ws/{}", printable(client.connection_id()), format.name());
    let mut printer = Printer { targets: &args.targets, left: args.count };
    if say(&connected).is_err() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut end = None;
    for group in &args.groups {
        let name = serde_json::json!([group]).to_string();
        let joined =
            client.invoke("JoinGroup", name.as_bytes(), |message| end = end.take().or(printer.show(message)))?;
        if joined == Called::Interrupted {
            client.goodbye();
            return Ok(ExitCode::from(exit::INTERRUPTED));
        }
        if say(&format!("joined     group={}", printable(group))).is_err() {
            end = Some(End::Unread);
        }
    }
    let status = loop {
        if end.is_some() {
            break ExitCode::SUCCESS;
        }
        match client.next(Instant::now() + WAIT, |message| printer.show(message))? {
            Next::Done(End::Count | End::Unread) => break ExitCode::SUCCESS,
            Next::Interrupted => break ExitCode::from(exit::INTERRUPTED),
            Next::Expired => {}
        }
    };
    client.goodbye();
    Ok(status)
}

/// Prints the invocations asked for and counts them.
struct Printer<'a> {
    targets: &'a [String],
    left: Option<u64>,
}

impl Printer<'_> {
    fn show(&mut self, message: &Message<'_>) -> Option<End> {
        let Message::Invocation { target, arguments, .. } = message else { return None };
        if !self.targets.is_empty() && !self.targets.iter().any(|wanted| wanted.eq_ignore_ascii_case(target)) {
            return None;
        }
        let mut line = format!("{} ", printable(target));
        for argument in *arguments {
            line.push(' ');
            line.push_str(&printable(&as_json(argument)));
        }
        if say(line.trim_end()).is_err() {
            return Some(End::Unread);
        }
        let left = self.left.as_mut()?;
        *left = left.saturating_sub(1);
        (*left == 0).then_some(End::Count)
    }
}

/// One argument as JSON, whatever it came as.
fn as_json(argument: Raw<'_>) -> String {
    let mut json = Vec::new();
    match transcode(argument.format(), Format::Json, argument.bytes(), &mut json) {
        Ok(()) => String::from_utf8_lossy(&json).into_owned(),
        Err(error) => format!("<{error}>"),
    }
}

/// One line per frame: text as it is with its separators shown, binary as hex.
fn show_frame(direction: Direction, kind: DataKind, payload: &[u8]) {
    let arrow = if direction == Direction::In { "<-" } else { "->" };
    let text = match kind {
        DataKind::Text => printable(&String::from_utf8_lossy(payload).replace('\u{1e}', "\u{241e}")),
        DataKind::Binary => payload.iter().map(|byte| format!("{byte:02x} ")).collect(),
    };
    // An output nobody reads is noticed, and acted upon, by the next message printed.
    let _ = say(&format!("{arrow} {}", text.trim_end()));
}
