//! Messages that leave together, framed once.

use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::MessageWriter;

/// Complete WebSocket messages back to back, ready for every connection alike, cut into groups of a bounded number.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where each full group ends in `bytes`; what follows the last one is the open group.
    group_ends: Vec<usize>,
    open_group_messages: usize,
    messages: usize,
    group_messages_max: usize,
    /// Payload bytes of one frame at most.
    fragment_payload_max: usize,
}

impl Batch {
    pub(super) fn new(group_messages_max: usize, fragment_payload_max: usize) -> Self {
        assert!(group_messages_max > 0 && fragment_payload_max > 0, "a group and a fragment hold something");
        Batch {
            bytes: Vec::new(),
            group_ends: Vec::new(),
            open_group_messages: 0,
            messages: 0,
            group_messages_max,
            fragment_payload_max,
        }
    }

    /// Messages in all groups.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// Whether at least one group is full, which is when reading on would gain nothing.
    pub(super) fn has_full_group(&self) -> bool {
        !self.group_ends.is_empty()
    }

    /// The groups in order, each one buffer to send.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.group_ends.iter().copied());
        let ends = self.group_ends.iter().copied().chain(std::iter::once(self.bytes.len()));
        starts.zip(ends).map(|(start, end)| &self.bytes[start..end]).filter(|group| !group.is_empty())
    }

    /// Forgets all messages and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.group_ends.clear();
        (self.open_group_messages, self.messages) = (0, 0);
    }

    /// Frames one message (RFC 6455 5.2, and 5.4 where it is cut).
    pub(super) fn push(&mut self, kind: DataKind, payload: &[u8]) {
        let (mut rest, mut first) = (payload, true);
        loop {
            let (fragment, after) = rest.split_at(rest.len().min(self.fragment_payload_max));
            MessageWriter::fragment(&mut self.bytes, kind, first, after.is_empty(), fragment);
            if after.is_empty() {
                break;
            }
            (rest, first) = (after, false);
        }
        self.messages += 1;
        self.open_group_messages += 1;
        if self.open_group_messages == self.group_messages_max {
            self.group_ends.push(self.bytes.len());
            self.open_group_messages = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Batch;
    use fanfare_protocol::ws::DataKind;

    fn groups(batch: &Batch) -> Vec<Vec<u8>> {
        batch.groups().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn messages_are_grouped_up_to_the_maximum() {
        let mut batch = Batch::new(2, usize::MAX);
        assert!(groups(&batch).is_empty());
        batch.push(DataKind::Text, b"a");
        assert!(!batch.has_full_group());
        batch.push(DataKind::Text, b"b");
        assert!(batch.has_full_group());
        batch.push(DataKind::Binary, b"");
        assert_eq!(groups(&batch), [b"\x81\x01a\x81\x01b".to_vec(), b"\x82\x00".to_vec()]);
        assert_eq!(batch.messages(), 3);
        batch.clear();
        assert!(groups(&batch).is_empty() && batch.messages() == 0);
    }

    #[test]
    fn a_long_message_is_cut_into_continuations() {
        let mut batch = Batch::new(16, 3);
        batch.push(DataKind::Text, b"abcdefg");
        assert_eq!(groups(&batch), [b"\x01\x03abc\x00\x03def\x80\x01g".to_vec()]);
    }
}
