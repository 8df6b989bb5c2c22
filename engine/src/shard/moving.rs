//! Sockets that go to the shard of the connection that their request is about, and those that come for that reason.

use crate::conn::outbox;
use crate::conn::slots::{Flags, State};
use crate::event::{CloseReason, RefuseReason};
use crate::hub::asker::Asker;
use crate::hub::parcels::{LostPost, Parcel};
use crate::hub::post::PostTo;
use crate::io::{Errno, Generation, Io, Slot};
use crate::shard::{Phase, Shard};
use fanfare_protocol::error::CloseCode;
use fanfare_protocol::hub::session::Session;

impl<I: Io> Shard<I> {
    /// Hands over the sockets that are to go and have nothing left to send here.
    pub(super) fn move_out(&mut self) {
        let mut index = 0;
        while index < self.board.moving.len() {
            let (connection, to) = self.board.moving[index];
            let slot = self.board.resolve(connection);
            let Some(slot) = slot.filter(|&slot| self.board.slots.hot(slot).state == State::Moving) else {
                self.board.moving.swap_remove(index);
                continue;
            };
            let hot = self.board.slots.hot(slot);
            let busy = Flags::SEND_INFLIGHT | Flags::RECV_INFLIGHT | Flags::POLL_OUT_ARMED | Flags::LEND_PENDING;
            if !outbox::is_clear(hot) || hot.flags.has(busy) || self.board.tls.has_rest(slot) {
                index += 1;
                continue;
            }
            self.board.moving.swap_remove(index);
            self.take_back(slot);
            let (post, input) = (self.board.lost_posts.remove(&slot), self.board.take_input(slot));
            let peer = self.board.peers.get(&slot).copied();
            let tls = self.board.tls.take(slot);
            let parcel = self.board.shared.parcels[to as usize].put(Parcel { post, input, peer, tls });
            self.handed_over.insert(slot, (to, parcel));
            self.io.hand_over(slot, connection.generation(), to, parcel);
        }
    }

    /// The other shard has it, or could not take it.
    pub(super) fn handle_handed_over(&mut self, slot: Slot, generation: Generation, result: Result<(), Errno>) {
        let Some((to, parcel)) = self.handed_over.remove(&slot) else { return };
        let kept = result.is_err().then(|| self.board.shared.parcels[to as usize].take(parcel)).flatten();
        if self.board.slots.live(slot, generation).is_none() {
            return;
        }
        if let Some(stream) = kept.and_then(|parcel| parcel.tls) {
            self.board.tls.put(slot, stream);
        }
        if result.is_ok() {
            return self.board.hang_up(slot, CloseReason::Moved);
        }
        let text = "The server has no room for this request where its connection is.\n";
        let answer = self.board.unavailable(&Asker::default(), RefuseReason::Full, text);
        let hot = self.board.slots.hot_mut(slot);
        hot.state = State::Http;
        hot.flags.clear(Flags::PAUSED);
        let _ = self.board.tell_bytes(slot, &answer);
        self.board.fail(slot, CloseReason::HttpDone, CloseCode::NORMAL);
    }

    /// A socket has come, with a request that is about a connection of this shard.
    pub(super) fn adopted(&mut self, slot: Slot, parcel: u32) {
        let tick = self.board.tick();
        self.board.counters.adopted_total.add(1);
        self.board.counters.sockets_open.add(1);
        let hot = self.board.slots.occupy(slot);
        hot.session = Session::new(tick);
        let generation = hot.generation;
        let parcel = self.board.shared.parcels[self.board.shard as usize].take(parcel).unwrap_or_default();
        if self.phase == Phase::Stopping {
            return self.board.hang_up(slot, CloseReason::Shutdown);
        }
        self.board.slots.hot_mut(slot).flags.set(Flags::POLL_ARMED);
        self.io.poll(slot, generation);
        let Parcel { post, mut input, peer, tls } = parcel;
        if let Some(stream) = tls {
            self.board.tls.put(slot, stream);
        }
        if let Some(peer) = peer {
            self.board.peers.insert(slot, peer);
        }
        if self.board.tls_input_is_over(slot) {
            return self.board.hang_up(slot, CloseReason::Overload);
        }
        if let Some(LostPost { to, body, asker }) = post {
            self.board.take_post(slot, PostTo::Connection(to), &body, asker);
        }
        self.board.handle_slice(slot, &mut input);
    }
}
