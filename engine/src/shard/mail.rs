//! What other shards and other threads want: notes and commands, bounded per turn.

use crate::hub::publisher::Command;
use crate::interconnect::Sender;
use crate::io::Io;
use crate::limits::{COMMANDS_PER_TURN, NOTES_PER_TURN};
use crate::shard::Shard;
use std::sync::atomic::{Ordering, fence};

impl<I: Io> Shard<I> {
    /// Whether anything waits for us, looked at after we said that we are about to sleep.
    pub(super) fn has_mail(&self) -> bool {
        let notes = self.receivers.iter().flatten().any(|receiver| !receiver.is_empty());
        let held = self.board.held_polls.due_us().is_some();
        // The burst that polls wait for may have ended before its shard could see that we sleep.
        let over = held && !self.board.shared.bursts.wait(self.board.shard);
        notes || over || !self.board.shared.mailboxes[self.board.shard as usize].is_empty()
    }

    /// Whether notes of ours wait for room in another shard's ring.
    pub(super) fn is_backed_up(&self) -> bool {
        self.board.senders.iter().flatten().any(Sender::is_backed_up)
    }

    /// Whether a ring that notes of ours wait for has room by now.
    pub(super) fn has_room(&self) -> bool {
        self.board.senders.iter().flatten().any(|sender| sender.is_backed_up() && sender.has_room())
    }

    pub(super) fn take_notes(&mut self) {
        let mut taken_from = 0u64;
        for (shard, receiver) in self.receivers.iter_mut().enumerate() {
            let Some(receiver) = receiver else { continue };
            for _ in 0..NOTES_PER_TURN {
                let Some(note) = receiver.peek() else { break };
                // What is kept of the sender's log is held before the note's place is given back.
                self.board.handle_note(&note);
                receiver.advance();
                taken_from |= 1 << shard;
            }
        }
        self.tell_of_room(taken_from);
    }

    /// Wakes those whose notes waited for the room that there is now. Against `Shard::wait`, which says that it waits
    /// and then looks for room: with a fence on both sides one of the two sees the other.
    fn tell_of_room(&mut self, taken_from: u64) {
        if taken_from == 0 {
            return;
        }
        fence(Ordering::SeqCst);
        for (shard, backed_up) in self.board.shared.backed_up.iter().enumerate() {
            if taken_from >> shard & 1 == 1 && backed_up.load(Ordering::Relaxed) {
                self.board.noted |= 1 << shard;
            }
        }
    }

    pub(super) fn take_commands(&mut self) {
        let shared = self.board.shared.clone();
        for _ in 0..COMMANDS_PER_TURN {
            let Some(command) = shared.mailboxes[self.board.shard as usize].take() else { break };
            let command: Command = command;
            if let Some(order) = self.board.handle_command(command) {
                self.obey(order);
            }
        }
    }

    /// Says whether there is more to come of what others were sent, before they are woken.
    fn tell_of_burst(&mut self) {
        let in_burst = self.more_reads > 0 && (self.in_burst || self.board.noted != 0);
        if in_burst == self.in_burst {
            return;
        }
        self.in_burst = in_burst;
        let bursts = &self.board.shared.bursts;
        if in_burst {
            bursts.begin(self.board.shard);
        } else {
            self.board.noted |= bursts.end(self.board.shard);
        }
    }

    /// Wakes the shards that were sent notes in this turn and sleep.
    pub(super) fn wake_others(&mut self) {
        self.tell_of_burst();
        for (shard, sender) in self.board.senders.iter_mut().enumerate() {
            let Some(sender) = sender else { continue };
            if sender.is_backed_up() && sender.flush() {
                self.board.noted |= 1 << shard;
            }
        }
        let mut noted = std::mem::take(&mut self.board.noted);
        while noted != 0 {
            let shard = noted.trailing_zeros() as u8;
            noted &= noted - 1;
            if self.board.shared.sleepers.must_wake(shard) {
                self.io.wake(shard);
            }
        }
    }
}
