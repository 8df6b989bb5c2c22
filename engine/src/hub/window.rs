//! What a connection that may be resumed keeps: messages that the client has not acknowledged, and both sides' numbers
//! (spec 7.2 to 7.4).
//!
//! A run may hold several messages, of which some are acknowledged: it is cut between two, where WebSocket's frames say
//! that a message ends. Only messages in several runs are kept until their runs are acknowledged whole: what is then sent
//! twice carries numbers that the client has seen, and drops (spec 7.2).

use crate::buf::segment::{Holdings, Logs};
use crate::buf::{Extent, SegmentId};
use fanfare_protocol::hub::message::Message;
use fanfare_protocol::hub::session::Tick;
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
        self.cut_first(logs, number);
    }

    /// Forgets the messages up to this number that the first run begins with, if it holds others behind them.
    fn cut_first(&mut self, logs: &Logs, number: u64) {
        let messages = number.saturating_sub(self.forgotten);
        let Some(run) = self.kept.front_mut().filter(|run| messages > 0 && messages <= u64::from(run.count)) else {
            return;
        };
        let end = message_ends(logs.bytes(*run)).nth(messages as usize - 1);
        let Some(cut) = end.filter(|&end| end < run.len) else { return };
        run.advance(cut);
        run.count -= messages as u16;
        self.kept_bytes -= cut as usize;
        self.forgotten += messages;
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

/// Where each WebSocket message of `frames` ends that ends in there; `frames` begin with one, and are not masked.
fn message_ends(frames: &[u8]) -> impl Iterator<Item = u32> {
    let mut at = 0_usize;
    std::iter::from_fn(move || {
        loop {
            let &[first, second, ref rest @ ..] = frames.get(at..)? else { return None };
            let (head_len, payload_len) = match second {
                127 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
                126 => (4, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
                len => (2, u64::from(len)),
            };
            at = at.checked_add(head_len)?.checked_add(payload_len.try_into().ok()?)?;
            if first & 0x80 != 0 {
                return u32::try_from(at).ok().filter(|&end| end as usize <= frames.len());
            }
        }
    })
}

/// The messages that `run` begins with, up to the first that goes beyond `room` bytes. `run` begins with a message.
pub(super) fn within(logs: &Logs, run: Extent, room: usize) -> Extent {
    if run.len as usize <= room {
        return run;
    }
    match (1..run.count).zip(message_ends(logs.bytes(run))).find(|&(_, end)| end as usize > room) {
        Some((count, len)) => Extent { len, count, flags: run.flags & !Extent::CONTINUES, ..run },
        None => run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::Log;
    use crate::buf::segment::{SEGMENT_BYTES, SegmentOwner};
    use fanfare_protocol::cursor::Sink as _;
    use fanfare_protocol::hub::message::Message;

    /// A frame of ten bytes, which may be the last of its message.
    fn frame(first_byte: u8) -> Vec<u8> {
        [&[first_byte, 8], &b"12345678"[..]].concat()
    }

    /// Everything in a log, in one run.
    fn written(owner: &mut SegmentOwner, frames: &[u8]) -> Extent {
        Log::new().append(owner, frames.len(), 0, |writer| writer.put(frames)).expect("room")[0]
    }

    #[test]
    fn what_is_acknowledged_is_forgotten_message_by_message() {
        let logs = Logs::new(1, 8 * SEGMENT_BYTES).expect("a log");
        let mut owner = logs.owner(0).expect("its owner");
        let mut holdings = Holdings::new(0, &logs);
        let mut window = Window::new(Tick(0));
        // Three messages in a run, the second of two frames.
        let run = written(&mut owner, &[frame(0x81), frame(0x01), frame(0x80), frame(0x82)].concat());
        window.keep(&mut holdings, Extent { count: 3, ..run });
        // A message in two runs, the second with another one behind it.
        let run = written(&mut owner, &[frame(0x01), frame(0x80), frame(0x81)].concat());
        window.keep(&mut holdings, Extent { len: 15, count: 0, flags: Extent::CONTINUES, ..run });
        window.keep(&mut holdings, Extent { offset: run.offset + 15, len: 15, count: 2, ..run });
        let run = written(&mut owner, &frame(0x81));
        window.keep(&mut holdings, run);
        assert_eq!((window.sent, window.kept_bytes), (6, 80));
        for (number, forgotten, kept, kept_bytes) in [
            (0, 0, 4, 80),
            (1, 1, 4, 70),
            (2, 2, 4, 50),
            (1, 2, 4, 50),
            (3, 3, 3, 40),
            // The end of the fourth is in the run behind, which is kept whole.
            (4, 3, 3, 40),
            (5, 5, 1, 10),
            (99, 6, 0, 0),
        ] {
            window.forget_up_to(&logs, &mut holdings, number);
            let now = (window.forgotten, window.kept.len(), window.kept_bytes);
            assert_eq!(now, (forgotten, kept, kept_bytes), "after Ack {number}");
        }
        assert_eq!(holdings.total(), 0);
    }

    #[test]
    fn messages_end_with_their_last_frames() {
        let frames = |payloads: &[(u8, usize)]| {
            let mut bytes = Vec::new();
            for &(first_byte, len) in payloads {
                match len {
                    0..126 => bytes.extend([first_byte, len as u8]),
                    126..65_536 => bytes.extend([&[first_byte, 126][..], &(len as u16).to_be_bytes()].concat()),
                    _ => bytes.extend([&[first_byte, 127][..], &(len as u64).to_be_bytes()].concat()),
                }
                bytes.resize(bytes.len() + len, 0x80);
            }
            bytes
        };
        let bytes = frames(&[(0x81, 125), (0x01, 126), (0x00, 65_536), (0x80, 0), (0xc2, 300)]);
        let ends = [127, 127 + 130 + 65_546 + 2, bytes.len() as u32];
        assert_eq!(message_ends(&bytes).collect::<Vec<_>>(), ends);
        for cut in [0, 1, 2, 126] {
            assert_eq!(message_ends(&bytes[..cut]).next(), None);
        }
        for cut in [127, 128, 129, 130, 131, 300, ends[1] as usize - 1] {
            assert_eq!(message_ends(&bytes[..cut]).collect::<Vec<_>>(), ends[..1]);
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
