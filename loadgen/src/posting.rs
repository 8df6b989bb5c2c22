//! What receivers without a WebSocket have to say (spec 2.6, 2.7), over one socket a worker: an idle receiver then costs
//! the server one socket, as it does in the field, where clients' HTTP closes the other one when it is not used.
//!
//! One request is under way at a time. The socket is dialled when there is something to say, and again when the server
//! has closed it. The server may have to move it from shard to shard for each request: that is its business.

use crate::answers::{Answers, Part};
use crate::client::{Reading, State};
use crate::opening::LOG_FULL;
use crate::shared::Stage;
use crate::wire::About;
use crate::worker::Worker;
use fanfare_engine::io::{Dial, Errno, Generation, Slot};
use std::collections::VecDeque;

/// How long a request may go without an answer.
const ANSWER_LIMIT_US: u32 = 15_000_000;

/// With so many requests waiting no Ping joins them: they would come too late to be a sign of life.
const PINGS_WAITING_MAX: u32 = 1_000;

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// The hub handshake.
    Handshake,
    /// The calls that make it a member of its groups, or tell its id.
    Enter,
    /// Hub Ping.
    Ping,
    /// Hub Close: the end of a stream of events.
    Close,
    /// DELETE: the end of polling.
    Delete,
}

/// For whom.
#[derive(Clone, Copy, Debug)]
struct Post {
    slot: Slot,
    generation: Generation,
    errand: Errand,
}

/// The socket that says it.
#[derive(Debug)]
pub(crate) struct Poster {
    /// Its slot.
    pub slot: Slot,
    waiting: VecDeque<Post>,
    under_way: Option<Post>,
    answers: Answers,
    /// The socket has had an answer: if it ends before the next, the server may have closed it for being idle.
    proven: bool,
    since_us: u32,
}

impl Poster {
    /// In `slot`, not dialled yet.
    pub(crate) fn new(slot: Slot) -> Self {
        Self {
            slot,
            waiting: VecDeque::new(),
            under_way: None,
            answers: Answers::default(),
            proven: false,
            since_us: 0,
        }
    }
}

impl<D: Dial> Worker<D> {
    /// Has something said for the receiver in `slot`.
    pub(crate) fn post(&mut self, slot: Slot, errand: Errand) {
        let generation = self.conns[slot.0 as usize].generation;
        let Some(poster) = &mut self.poster else { return };
        if errand == Errand::Ping && poster.waiting.len() as u32 >= PINGS_WAITING_MAX {
            return;
        }
        poster.waiting.push_back(Post { slot, generation, errand });
        self.post_next();
    }

    /// Requests that have not been sent.
    pub(crate) fn posts_waiting(&self) -> u32 {
        self.poster.as_ref().map_or(0, |poster| poster.waiting.len() as u32)
    }

    /// Sends the next request, if none is under way.
    pub(crate) fn post_next(&mut self) {
        let now_us = self.now_us();
        let Some(poster) = &mut self.poster else { return };
        let slot = poster.slot;
        if poster.under_way.is_some() || poster.waiting.is_empty() {
            return;
        }
        match self.conns[slot.0 as usize].state {
            State::Empty if self.stage < Stage::Stop => {
                poster.proven = false;
                poster.answers = Answers::default();
                poster.since_us = now_us;
                self.connect(slot);
            }
            State::Open => self.send_post(slot),
            _ => {}
        }
    }

    fn send_post(&mut self, slot: Slot) {
        while let Some(post) = self.poster.as_mut().and_then(|poster| poster.waiting.pop_front()) {
            if !self.is_wanted(&post) {
                continue;
            }
            let calls = if post.errand == Errand::Enter { self.entry_calls(post.slot) } else { Vec::new() };
            let own = self.own(post.slot);
            let about = About { token: &self.sessions[post.slot.0 as usize].token, own: &own };
            let request = self.voice(post.slot).wire.errand(post.errand, about, &calls);
            if !self.say_own(slot, &request) {
                self.break_off(post.slot, LOG_FULL.to_owned());
                continue;
            }
            let now_us = self.now_us();
            if matches!(post.errand, Errand::Close | Errand::Delete) {
                // What waited in our queue is not the server's time.
                self.conns[post.slot.0 as usize].phase_us = now_us;
            }
            if let Some(poster) = &mut self.poster {
                poster.under_way = Some(post);
                poster.since_us = now_us;
            }
            return;
        }
    }

    /// Whether the receiver is still there.
    fn is_wanted(&self, post: &Post) -> bool {
        let conn = &self.conns[post.slot.0 as usize];
        let state = match post.errand {
            Errand::Handshake => State::Handshaking,
            Errand::Enter => State::Entering,
            Errand::Ping => State::Open,
            Errand::Close | Errand::Delete => State::Leaving,
        };
        conn.generation == post.generation && conn.state == state
    }

    pub(crate) fn poster_connected(&mut self, slot: Slot, result: Result<(), Errno>) {
        let conn = &mut self.conns[slot.0 as usize];
        if let Err(Errno(errno)) = result {
            conn.state = State::Empty;
            conn.generation = conn.generation.next();
            let next = self.poster.as_mut().and_then(|poster| poster.waiting.pop_front());
            let error = std::io::Error::from_raw_os_error(errno);
            next.into_iter().for_each(|post| self.fail_post(post, &format!("{error} while connecting")));
            return self.post_next();
        }
        conn.state = State::Open;
        (conn.poll_armed, conn.reading) = (true, Reading::Idle);
        self.io.poll(slot, conn.generation);
        self.post_next();
    }

    /// Answers on the poster's socket.
    pub(crate) fn take_posted(&mut self, slot: Slot, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            let Some(poster) = &mut self.poster else { return };
            let answered = match poster.answers.next(&mut rest) {
                Ok(None) => return,
                Ok(Some(Part::Body(..))) => continue,
                Ok(Some(Part::End(answered))) => answered,
                Err(text) => return self.close_poster(slot, &text),
            };
            poster.proven = true;
            let Some(post) = poster.under_way.take() else {
                return self.close_poster(slot, "an answer that nobody asked for");
            };
            match (post.errand, answered.status) {
                // Whose connection has ended already has nothing to end.
                (_, 200 | 202) | (Errand::Close | Errand::Delete, 404) => {}
                (_, status) => self.fail_post(post, &format!("answered with status {status}")),
            }
            if answered.last {
                return self.close_poster(slot, "closed");
            }
            self.post_next();
        }
    }

    /// The server has closed the poster's socket.
    pub(crate) fn poster_ended(&mut self, slot: Slot) {
        if let Some(poster) = self.poster.as_mut().filter(|poster| poster.proven)
            && let Some(post) = poster.under_way.take()
        {
            // As clients do: a request that met the end of an idle socket is sent again on a new one.
            poster.waiting.push_front(post);
        }
        self.close_poster(slot, "closed by the server without an answer");
    }

    /// Ends the poster's socket; a request under way fails for this reason.
    fn close_poster(&mut self, slot: Slot, text: &str) {
        let conn = self.conns[slot.0 as usize];
        if matches!(conn.state, State::Empty | State::Closing) {
            return;
        }
        self.conns[slot.0 as usize].state = State::Closing;
        self.drop_outbox(slot);
        self.io.close(slot, conn.generation, conn.poll_armed, conn.poll_out_armed);
        if let Some(post) = self.poster.as_mut().and_then(|poster| poster.under_way.take()) {
            self.fail_post(post, text);
        }
    }

    fn fail_post(&mut self, post: Post, text: &str) {
        if self.is_wanted(&post) {
            self.break_off(post.slot, format!("{:?} POST: {text}", post.errand));
        }
    }

    /// Gives up a request that has no answer.
    pub(crate) fn time_out_poster(&mut self) {
        let now_us = self.now_us();
        let Some(poster) = &self.poster else { return };
        let slot = poster.slot;
        let dialling = self.conns[slot.0 as usize].state == State::Connecting;
        let busy = dialling || poster.under_way.is_some();
        if busy && now_us.wrapping_sub(poster.since_us) > ANSWER_LIMIT_US {
            self.close_poster(slot, "not answered in time");
        }
    }
}
