//! What a connection that may be resumed keeps: messages that the client has not acknowledged, and both sides' numbers
//! (spec 7.2 to 7.4).
//!
//! A run holds any number of messages: what waits for room is one run, as long as it is. An acknowledgement in its middle,
//! or a limit, is looked for in its frames, so that what the client may not have is kept, and no more.

use crate::buf::segment::{Holdings, Logs};
use crate::buf::{Extent, SegmentId};
use fanfare_protocol::hub::message::Message;
use fanfare_protocol::hub::session::Tick;
use fanfare_protocol::ws::boundaries::Boundaries;
use std::collections::VecDeque;

/// Both directions of a connection that may change its carrier.
#[derive(Debug)]
pub(crate) struct Window {
    /// Sent and not acknowledged, in order.
    pub(super) kept: VecDeque<Extent>,
    pub(super) kept_bytes: usize,
    /// Messages that were acknowledged and are not kept any more.
    pub(super) forgotten: u64,
    /// Messages that were ever sent.
    sent: u64,
    /// The number of the client's next message.
    hears: u64,
    /// The highest of its numbers that we have acted on.
    pub(super) heard: u64,
    /// The client does not know that we have.
    pub(super) owes_ack: bool,
    /// The client counts what it hears from its first message after the handshake on (spec 7.6).
    pub(super) begun: bool,
    /// When the handshake was answered.
    pub(super) agreed: Tick,
}

/// What the window makes of a message from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is to be acted on.
    New,
    /// It was, on an earlier carrier; or it is the window's own business.
    Done,
    /// The client's numbers do not fit ours: messages are missing.
    Gap,
}

impl Window {
    /// Of a connection whose handshake was answered at `agreed`.
    pub(super) fn new(agreed: Tick) -> Self {
        let kept = VecDeque::new();
        Self { kept, kept_bytes: 0, forgotten: 0, sent: 0, hears: 0, heard: 0, owes_ack: false, begun: false, agreed }
    }

    pub(super) fn keep(&mut self, holdings: &mut Holdings, run: Extent) {
        holdings.hold(run.segment);
        self.kept_bytes += run.len as usize;
        self.sent += u64::from(run.count);
        self.kept.push_back(run);
    }

    /// The client has everything up to this number. What it cannot have yet is taken for what it can.
    fn forget_up_to(&mut self, logs: &Logs, holdings: &mut Holdings, number: u64) {
        let number = number.min(self.sent);
        while let Some((runs, messages)) = self.first_whole() {
            if self.forgotten + messages > number {
                break;
            }
            self.forgotten += messages;
            for run in self.kept.drain(..runs) {
                self.kept_bytes -= run.len as usize;
                holdings.release(run.segment);
            }
        }
        if number > self.forgotten {
            self.forget_first(logs, holdings, number - self.forgotten);
        }
    }

    /// The same for so many messages, fewer than up to the next run that begins with one.
    fn forget_first(&mut self, logs: &Logs, holdings: &mut Holdings, messages: u64) {
        let mut frames = Boundaries::new();
        let mut passed = 0;
        while passed < messages {
            let Some(run) = self.kept.front_mut() else { return };
            let (ended, bytes) = frames.pass(logs.bytes(*run), messages - passed);
            passed += ended;
            self.kept_bytes -= bytes;
            run.advance(bytes as u32);
            run.count -= ended as u16;
            if run.is_empty() {
                holdings.release(run.segment);
                self.kept.pop_front();
            }
        }
        self.forgotten += passed;
    }

    /// Runs at the front that end with a message, and the messages in them.
    fn first_whole(&self) -> Option<(usize, u64)> {
        let mut messages = 0;
        for (index, run) in self.kept.iter().enumerate() {
            messages += u64::from(run.count);
            if run.flags & Extent::CONTINUES == 0 {
                return Some((index + 1, messages));
            }
        }
        None
    }

    pub(super) fn hear(&mut self, logs: &Logs, holdings: &mut Holdings, message: &Message<'_>) -> Heard {
        self.begun = true;
        match *message {
            Message::Ack { sequence_id } => {
                self.forget_up_to(logs, holdings, sequence_id);
                Heard::Done
            }
            // Numbers begin at 1; the client goes on with one that we have had, or with the next.
            Message::Sequence { sequence_id } if sequence_id > self.hears + 1 => Heard::Gap,
            Message::Sequence { sequence_id } => {
                self.hears = sequence_id.saturating_sub(1);
                Heard::Done
            }
            _ if !message.is_trackable() => Heard::New,
            _ => {
                self.hears += 1;
                if self.hears < self.heard {
                    return Heard::Done;
                }
                // Sent again up to the last one: our acknowledgement went with the carrier, and is waited for.
                self.owes_ack = true;
                let new = self.hears > self.heard;
                self.heard = self.hears;
                if new { Heard::New } else { Heard::Done }
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, holdings: &mut Holdings) {
        self.kept.drain(..).for_each(|run| holdings.release(run.segment));
    }

    /// Runs that are kept.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &Extent> {
        self.kept.iter()
    }

    pub(crate) fn touches(&self, segment: SegmentId) -> bool {
        self.kept.iter().any(|run| run.segment == segment)
    }
}

/// The messages that `run` begins with, up to the first that goes beyond `room` bytes. `run` begins with a message.
pub(super) fn within(logs: &Logs, run: Extent, room: usize) -> Extent {
    if run.len as usize <= room {
        return run;
    }
    let mut frames = Boundaries::new();
    let mut bytes = logs.bytes(run);
    for count in 1..run.count {
        let (_, used) = frames.pass(bytes, 1);
        bytes = &bytes[used..];
        let len = run.len - bytes.len() as u32;
        if len as usize > room {
            return Extent { len, count, flags: run.flags & !Extent::CONTINUES, ..run };
        }
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::Log;
    use crate::buf::segment::{SEGMENT_BYTES, SegmentOwner};
    use fanfare_protocol::cursor::Sink as _;
    use fanfare_protocol::ws::{DataKind, encode};

    /// A frame of ten bytes, which may be the last of its message.
    fn frame(first_byte: u8) -> Vec<u8> {
        [&[first_byte, 8], &b"12345678"[..]].concat()
    }

    /// Everything in a log, in one run.
    fn written(owner: &mut SegmentOwner, frames: &[u8]) -> Extent {
        Log::new().append(owner, frames.len(), 0, |writer| writer.put(frames)).expect("room")[0]
    }

    /// What is acknowledged is forgotten to the message, however messages lie in runs.
    #[test]
    fn what_is_acknowledged_is_forgotten() {
        let logs = Logs::new(1, 8 * SEGMENT_BYTES).expect("a log");
        let mut owner = logs.owner(0).expect("the only one");
        let mut holdings = Holdings::new(0, &logs);
        let mut log = Log::new();
        // The third one lies in several segments, and so does the sixth, behind others.
        let lengths = [10, 5_000, 400_000, 30, 40, 300_000, 50, 0];
        let mut bytes_up_to = vec![0];
        let mut joined: Vec<Extent> = Vec::new();
        for length in lengths {
            let framed_len = encode::message_len(length);
            let runs = log.append(&mut owner, framed_len, 0, |sink| {
                let mut writer = encode::MessageWriter::new(sink, DataKind::Binary, length);
                writer.put(&vec![7; length]);
                writer.finish();
            });
            for run in runs.expect("room").iter() {
                if !joined.last_mut().is_some_and(|last| last.merge(run)) {
                    joined.push(*run);
                }
            }
            bytes_up_to.push(bytes_up_to.last().unwrap() + framed_len);
        }
        let all = *bytes_up_to.last().unwrap();
        for first in 0..=lengths.len() as u64 {
            for second in first..=lengths.len() as u64 + 1 {
                let mut window = Window::new(Tick(0));
                joined.iter().for_each(|&run| window.keep(&mut holdings, run));
                assert_eq!((window.sent, window.kept_bytes), (lengths.len() as u64, all));
                for number in [first, second] {
                    window.forget_up_to(&logs, &mut holdings, number);
                    let number = number.min(lengths.len() as u64);
                    assert_eq!((window.forgotten, window.kept_bytes), (number, all - bytes_up_to[number as usize]));
                    let kept: usize = window.kept.iter().map(|run| run.len as usize).sum();
                    let messages: u64 = window.kept.iter().map(|run| u64::from(run.count)).sum();
                    assert_eq!((kept, number + messages), (window.kept_bytes, lengths.len() as u64));
                }
                window.clear(&mut holdings);
                assert_eq!(holdings.total(), 0);
            }
        }
    }

    #[test]
    fn a_run_is_cut_behind_the_message_that_goes_beyond_the_room() {
        let logs = Logs::new(1, 2 * SEGMENT_BYTES).expect("a log");
        let mut owner = logs.owner(0).expect("its owner");
        let frames = [frame(0x81), frame(0x01), frame(0x80), frame(0x82), frame(0x01)].concat();
        let run = Extent { count: 3, flags: Extent::CONTINUES, ..written(&mut owner, &frames) };
        for (room, len, count) in [(0, 10, 1), (9, 10, 1), (10, 30, 2), (29, 30, 2), (30, 50, 3), (50, 50, 3)] {
            let part = within(&logs, run, room);
            assert_eq!((part.len, part.count, part.offset), (len, count, run.offset), "{room} bytes of room");
            assert_eq!(part.flags & Extent::CONTINUES != 0, len == 50);
        }
    }

    #[test]
    fn the_clients_numbers_are_counted_and_compared() {
        let logs = Logs::new(1, 4 * SEGMENT_BYTES).expect("a log");
        let mut holdings = Holdings::new(0, &logs);
        let mut window = Window::new(Tick(0));
        let cancel = Message::CancelInvocation { invocation_id: "1".into() };
        let mut hear = |message: &Message<'_>| window.hear(&logs, &mut holdings, message);
        assert_eq!(hear(&Message::Ping), Heard::New);
        assert_eq!(hear(&cancel), Heard::New);
        assert_eq!(hear(&cancel), Heard::New);
        // Another carrier: the client goes on with its second message.
        assert_eq!(hear(&Message::Sequence { sequence_id: 2 }), Heard::Done);
        assert_eq!(hear(&cancel), Heard::Done, "line 139: a replayed message runs once");
        assert_eq!(hear(&cancel), Heard::New);
        assert_eq!(hear(&Message::Sequence { sequence_id: 4 }), Heard::Done, "nothing is missing");
        assert_eq!(hear(&Message::Sequence { sequence_id: 5 }), Heard::Gap, "line 140");
        assert!(window.heard == 3 && window.owes_ack);
        // Ours was lost with the last carrier: what is sent again up to the last number is acknowledged again.
        window.owes_ack = false;
        window.hear(&logs, &mut holdings, &Message::Sequence { sequence_id: 2 });
        assert_eq!(window.hear(&logs, &mut holdings, &cancel), Heard::Done);
        assert!(!window.owes_ack);
        assert_eq!(window.hear(&logs, &mut holdings, &cancel), Heard::Done);
        assert!(window.owes_ack);
    }
}
