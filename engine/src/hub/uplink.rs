//! How much one client may say: messages and bytes per second. Only clients that have said something are known here,
//! and nobody is while both rates are off.

use crate::conn::slots::{Flags, State};
use crate::event::CloseReason;
use crate::hub::bucket::Pace;
use crate::hub::switchboard::Switchboard;
use crate::io::Slot;
use crate::limits::{Limits, UPLINK_BURST_S, UplinkOver};
use fanfare_protocol::error::CloseCode;
use std::collections::HashMap;

/// What one client has said, as the times by which it is paid for.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    messages_ns: u64,
    bytes_ns: u64,
}

/// The accounts of a shard.
#[derive(Debug)]
pub(crate) struct Uplinks {
    messages: Option<Pace>,
    bytes: Option<Pace>,
    accounts: HashMap<Slot, Account>,
}

impl Uplinks {
    /// As `limits` say.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            messages: Pace::new(limits.uplink_messages_rate.into(), UPLINK_BURST_S),
            bytes: Pace::new(limits.uplink_bytes_rate as u64, UPLINK_BURST_S),
            accounts: HashMap::new(),
        }
    }

    /// Whether anything is bounded.
    pub(crate) fn is_on(&self) -> bool {
        self.messages.is_some() || self.bytes.is_some()
    }

    fn charge(&mut self, client: Slot, now_us: u64, messages: u64, bytes: u64) {
        let account = self.accounts.entry(client).or_default();
        if let Some(pace) = self.messages.filter(|_| messages > 0) {
            account.messages_ns = pace.charge(account.messages_ns, now_us, messages);
        }
        if let Some(pace) = self.bytes {
            account.bytes_ns = pace.charge(account.bytes_ns, now_us, bytes);
        }
    }

    /// The limit that the client is over, if it is.
    fn over(&self, client: Slot, now_us: u64) -> Option<&'static str> {
        let account = self.accounts.get(&client)?;
        let is_over = |pace: Option<Pace>, paid_ns| pace.is_some_and(|pace| pace.is_over(paid_ns, now_us));
        if is_over(self.messages, account.messages_ns) {
            Some("limits.uplink_messages_rate")
        } else {
            is_over(self.bytes, account.bytes_ns).then_some("limits.uplink_bytes_rate")
        }
    }

    /// The connection in `slot` has ended.
    pub(crate) fn forget(&mut self, slot: Slot) {
        if !self.accounts.is_empty() {
            self.accounts.remove(&slot);
        }
    }

    /// Clients that are known.
    pub(crate) fn len(&self) -> usize {
        self.accounts.len()
    }
}

impl Switchboard {
    /// Whose account it is that speaks on `slot`: another WebSocket is not another client.
    fn speaker(&mut self, slot: Slot) -> Slot {
        match self.carriers.get(&slot).copied() {
            Some(session) => self.resolve(session).unwrap_or(slot),
            None => slot,
        }
    }

    /// The client has said so much.
    pub(crate) fn charge_uplink(&mut self, slot: Slot, messages: u64, bytes: usize) {
        if self.uplinks.is_on() && matches!(self.slots.hot(slot).state, State::Open | State::Carrying) {
            let client = self.speaker(slot);
            self.uplinks.charge(client, self.now_us, messages, bytes as u64);
        }
    }

    /// Whether what it has said is not paid for yet.
    pub(crate) fn is_over_uplink(&mut self, slot: Slot) -> bool {
        if !self.uplinks.is_on() {
            return false;
        }
        let client = self.speaker(slot);
        self.uplinks.over(client, self.now_us).is_some()
    }

    /// After it has been heard: who says too much is not read from for a while, or is sent away.
    pub(crate) fn keep_pace(&mut self, slot: Slot) {
        if !self.uplinks.is_on() || !matches!(self.slots.hot(slot).state, State::Open | State::Carrying) {
            return;
        }
        let client = self.speaker(slot);
        let Some(limit) = self.uplinks.over(client, self.now_us) else { return };
        match self.limits.uplink_over {
            UplinkOver::Wait => {
                self.counters.uplink_waits_total.add(u64::from(!self.slots.hot(slot).flags.has(Flags::PAUSED)));
                self.slots.hot_mut(slot).flags.set(Flags::PAUSED);
            }
            UplinkOver::Close => {
                let text = format!("Connection closed: the client sends more than it may ({limit}).");
                // It may not come back by itself: it would do the same again, with a new account.
                self.farewell(client, CloseReason::Throttled, Some((Some(&text), false)), CloseCode::NORMAL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_of_those_who_speak_and_go_with_them() {
        let limits = Limits { uplink_messages_rate: 10, uplink_bytes_rate: 1_000, ..Limits::default() };
        let mut uplinks = Uplinks::new(&limits);
        assert!(uplinks.is_on() && uplinks.len() == 0);
        uplinks.charge(Slot(1), 1_000_000, 20, 100);
        assert_eq!(uplinks.over(Slot(1), 1_000_000), None, "a burst");
        uplinks.charge(Slot(1), 1_000_000, 1, 1);
        assert_eq!(uplinks.over(Slot(1), 1_000_000), Some("limits.uplink_messages_rate"));
        assert_eq!(uplinks.over(Slot(1), 1_100_000), None);
        uplinks.charge(Slot(2), 1_000_000, 0, 2_001);
        assert_eq!(uplinks.over(Slot(2), 1_000_000), Some("limits.uplink_bytes_rate"));
        uplinks.forget(Slot(1));
        assert_eq!((uplinks.len(), uplinks.over(Slot(1), 1_000_000)), (1, None));
        assert!(!Uplinks::new(&Limits::default()).is_on());
    }
}
