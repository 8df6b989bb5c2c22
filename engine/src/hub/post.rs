//! What clients without a WebSocket say: POSTs, whose bodies are one stream of hub messages (spec 2.6).
//!
//! A body is taken whole: one that ends early has said nothing. Whoever has said more than its hub can take now gets its
//! answer later: that is all the back-pressure that HTTP knows.

use crate::conn::slots::{Flags, State};
use crate::event::{CloseReason, RefuseReason};
use crate::hub::asker::Asker;
use crate::hub::directory::{ConnRef, EarlyPost};
use crate::hub::parcels::LostPost;
use crate::hub::switchboard::Switchboard;
use crate::hub::waiting::Waiting;
use crate::ids::ConnectionId;
use crate::io::Slot;

/// Whom a POST is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PostTo {
    /// A connection of this shard.
    Connection(ConnRef),
    /// One that has not come yet.
    Early(ConnectionId),
}

/// POSTs of one connection that may wait for room. Clients have one under way.
const HELD_POSTS_MAX: usize = 16;

impl Switchboard {
    /// The whole body of a POST has come on `socket`.
    pub(crate) fn take_post(&mut self, socket: Slot, to: PostTo, body: &[u8], asker: Asker) {
        let connection = match to {
            PostTo::Connection(connection) => connection,
            PostTo::Early(id) => {
                let (now_s, ttl_s) = (self.now_s(), self.limits.negotiate_ttl_s);
                match self.shared.directory.keep_early(&id.0, body, now_s, now_s + ttl_s + 1) {
                    EarlyPost::Kept => return self.answer_request(socket, &asker.text(200, ""), asker.keeps_alive()),
                    EarlyPost::Connected(connection) if connection.shard() == self.shard => connection,
                    EarlyPost::Spent => return self.gone(socket, &asker),
                    EarlyPost::Connected(to) => {
                        let post = LostPost { to, body: body.to_vec(), asker };
                        return self.follow(socket, post);
                    }
                    EarlyPost::Full => {
                        let text = "Too much waits for a connection that has not begun.\n";
                        let answer = self.unavailable(&asker, RefuseReason::Full, text);
                        return self.answer_request(socket, &answer, asker.keeps_alive());
                    }
                }
            }
        };
        let slot = self.resolve(connection).filter(|&slot| self.slots.hot(slot).state != State::Farewell);
        let Some(slot) = slot else { return self.gone(socket, &asker) };
        self.hear(slot, body);
        let paused = self.resolve(connection).is_some() && self.slots.hot(slot).flags.has(Flags::PAUSED);
        if !paused {
            return self.answer_request(socket, &asker.text(200, ""), asker.keeps_alive());
        }
        let held = self.held_posts.entry(connection).or_default();
        if held.len() >= HELD_POSTS_MAX {
            return self.hang_up(slot, CloseReason::Overload);
        }
        held.push(socket);
        self.wait(socket, Waiting { on: connection, asker });
    }

    /// The connection has begun on another shard while the body came: the socket goes there, with all of it.
    fn follow(&mut self, socket: Slot, post: LostPost) {
        let to = post.to.shard();
        self.lost_posts.insert(socket, post);
        self.move_to(socket, to);
    }

    /// The socket goes to another shard as soon as everything that was said on it has gone.
    pub(crate) fn move_to(&mut self, socket: Slot, shard: u8) {
        let reference = self.reference(socket);
        let hot = self.slots.hot_mut(socket);
        hot.state = State::Moving;
        hot.flags.set(Flags::PAUSED);
        self.moving.push((reference, shard));
    }

    /// Bytes from the client of a connection that is not the socket they came on.
    pub(crate) fn hear(&mut self, slot: Slot, bytes: &[u8]) {
        if !matches!(self.slots.hot(slot).state, State::Handshake | State::Open) || bytes.is_empty() {
            return;
        }
        self.handle_stream(slot, bytes);
        // What a session is owed waits for its next poll, which may well be behind the answer to this POST.
        if !slot.is_session() {
            self.pause_if_it_owes_much(slot);
        }
    }

    /// What was posted before the connection was there.
    pub(crate) fn hear_early(&mut self, slot: Slot) {
        let id = self.slots.cold(slot).id;
        if let Some(bytes) = self.shared.directory.take_early(&id) {
            self.hear(slot, &bytes);
        }
    }

    /// There is room again: whoever waited for it has its answer.
    pub(crate) fn release_posts(&mut self, connection: ConnRef) {
        self.answer_posts(connection, 200);
    }

    /// Answers the POSTs that wait, because there is room, or because their connection has gone.
    pub(crate) fn answer_posts(&mut self, connection: ConnRef, status: u16) {
        if self.held_posts.is_empty() {
            return;
        }
        for socket in self.held_posts.remove(&connection).unwrap_or_default() {
            if let Some(Waiting { asker, .. }) = self.stop_waiting(socket) {
                self.answer_request(socket, &asker.text(status, ""), asker.keeps_alive());
            }
        }
    }

    fn gone(&mut self, socket: Slot, asker: &Asker) {
        self.refused(RefuseReason::UnknownId);
        self.answer_request(socket, &asker.text(404, ""), asker.keeps_alive());
    }
}
