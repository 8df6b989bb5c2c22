//! When connections are to end because what they came in with is not good for longer.

use crate::io::Slot;

/// Seconds since the engine started, by slot. Beside the records of connections, not in them: most engines end nobody
/// for this, and then it takes no memory. With at least one such endpoint it takes 4 bytes for each slot up to the
/// highest that came with an end.
#[derive(Debug, Default)]
pub struct Expiries {
    sockets: Vec<u32>,
    sessions: Vec<u32>,
}

/// No end.
const NEVER: u32 = u32::MAX;

impl Expiries {
    /// Sets, or takes away, the end of the connection in `slot`. To be called for every one that comes in.
    pub fn set(&mut self, slot: Slot, due_s: Option<u32>) {
        let table = if slot.is_session() { &mut self.sessions } else { &mut self.sockets };
        let index = slot.index();
        if index >= table.len() {
            if due_s.is_none() {
                return;
            }
            table.resize(index + 1, NEVER);
        }
        table[index] = due_s.unwrap_or(NEVER);
    }

    /// Whether the end of the connection in `slot` has come.
    pub fn is_due(&self, slot: Slot, now_s: u32) -> bool {
        let table = if slot.is_session() { &self.sessions } else { &self.sockets };
        table.get(slot.index()).is_some_and(|&due_s| due_s != NEVER && due_s <= now_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_belongs_to_one_connection_of_a_slot() {
        let mut expiries = Expiries::default();
        assert!(!expiries.is_due(Slot(5), u32::MAX));
        expiries.set(Slot(5), None);
        assert_eq!(expiries.sockets.len(), 0, "nobody ends, nothing is kept");
        expiries.set(Slot(5), Some(100));
        assert!(!expiries.is_due(Slot(5), 99) && expiries.is_due(Slot(5), 100));
        assert!(!expiries.is_due(Slot(4), u32::MAX) && !expiries.is_due(Slot(6), u32::MAX));
        assert!(!expiries.is_due(Slot::session(5), u32::MAX));
        expiries.set(Slot(5), None);
        assert!(!expiries.is_due(Slot(5), u32::MAX - 1), "the next connection of the slot");
    }
}
