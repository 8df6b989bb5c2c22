//! Every bound of the engine, its default, its derivation; and the plan that is printed at start.

use crate::buf::segment::SEGMENT_BYTES;
use crate::conn::address::Network;
use crate::conn::slots::{Cold, Hot};
use crate::conn::wire::Variation;
use crate::hub::id_table::KEY_BYTES_MAX;
use crate::io::Slot;
use std::fmt;

/// What an operator or embedder may bound. `0` in a field documented as "auto" lets the engine derive it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open client connections, all shards together. 0: auto, `shards x (slots_per_shard - SLOTS_RESERVED)`, see
    /// [`SLOTS_RESERVED`].
    pub connections_max: usize,
    /// Direct descriptors per shard's ring. 0: auto, the process's descriptor limit minus
    /// [`DESCRIPTORS_RESERVED`], at most 2^20 (the kernel's bound for one ring).
    pub slots_per_shard: usize,
    /// Bytes one client may owe us reading before its hub's slow policy acts.
    pub outbox_bytes_max: usize,
    /// Bytes owed from which a client counts as late: it is no longer read from, and it is sent to from the log's
    /// pages instead of by copy.
    pub outbox_soft_bytes: usize,
    /// Milliseconds a client may go without taking a single byte while it owes us reading.
    pub outbox_age_max_ms: u32,
    /// Runs of bytes one client's outbox may hold (a run is one or more adjacent messages).
    pub outbox_runs_max: usize,
    /// Messages that one client may owe us reading where the slow policy drops some; larger ones count once for each
    /// 256 KiB. At most `outbox_runs_max`, less the pieces of one message.
    pub outbox_messages_max: usize,
    /// Bytes that all clients together may owe us reading, beyond which those that owe most lose by their policies. Each
    /// shard has its share. 0: no bound but those of each client.
    pub outbox_total_bytes_max: usize,
    /// Bytes of broadcast log per shard. Reserved as address space, used as needed.
    pub log_bytes_max: usize,
    /// Bytes of unfinished inbound messages, per shard.
    pub partial_bytes_max: usize,
    /// Bytes that one compressed WebSocket message of a client may inflate to, be they several hub messages; or one
    /// message of its endpoint's `message_bytes_max`, if that is more. The worst message of this length takes its shard
    /// 15 ms, see `protocol`'s `Inflater`.
    pub inflated_bytes_max: usize,
    /// Bytes of received invocations of one client that wait for an earlier one; above it the client is not read.
    pub held_bytes_max: usize,
    /// Bytes of one HTTP request head.
    pub head_bytes_max: usize,
    /// Milliseconds for a whole HTTP request to arrive.
    pub head_timeout_ms: u32,
    /// Bytes of one HTTP request body (the public port needs none).
    pub body_bytes_max: usize,
    /// Milliseconds from our farewell to the end of the transport.
    pub close_timeout_ms: u32,
    /// Groups and users with members, per shard.
    pub groups_max: usize,
    /// Groups of one connection.
    pub groups_per_connection_max: usize,
    /// Bytes of a group name or user id.
    pub name_bytes_max: usize,
    /// Bytes of one published message, encoded. In two formats it needs twice as much of the log, which must have room
    /// for what slow readers hold as well.
    pub publish_bytes_max: usize,
    /// Commands waiting per shard, from publishers and other threads outside the engine.
    pub commands_max: usize,
    /// Payload bytes of those commands. One command alone may have more.
    pub commands_bytes_max: usize,
    /// Continuations waiting per shard (`Context::after`, `Context::when_drained`).
    pub continuations_max: usize,
    /// Answers that are owed per shard (`Context::defer`, `HttpRequest::defer`). Above it the client gets an error.
    pub deferred_max: usize,
    /// Items of one stream that threads have sent and the client has not taken yet. With `outbox_soft_bytes` of them
    /// there is no room for more either.
    pub stream_items_max: usize,
    /// Client results that the clients of one shard owe (`Context::ask`, `Publisher::ask`).
    pub client_results_max: usize,
    /// Milliseconds that a client has for a result, unless the asker says otherwise.
    pub client_result_timeout_ms: u32,
    /// Process descriptors lent to late readers per shard, for `sendfile`. All shards together never take more than
    /// half of what the process may open.
    pub lent_fds_max: usize,
    /// A run of at least this many bytes is sent from the log's pages also to clients that keep up. 0 switches
    /// `sendfile` off altogether, also for late clients.
    pub send_file_bytes_min: usize,
    /// Farewells per second and shard while draining.
    pub drain_rate: u32,
    /// Seconds a negotiated, unused connection token stays good (`DisconnectTimeout`).
    pub negotiate_ttl_s: u32,
    /// Hub connections per second, all shards together, and as many at once as come in [`ADMISSION_BURST_S`]. 0: any.
    pub connect_rate: u32,
    /// Negotiates per second, likewise. 0: any.
    pub negotiate_rate: u32,
    /// Connections that were let in and have not shaken hands yet, all shards together. 0: any.
    pub handshakes_pending_max: usize,
    /// Hub connections of one user, all shards and hubs together. 0: any.
    pub connections_per_user_max: u32,
    /// Hub connections from one address, all shards and hubs together; of IPv6, from one network of 64 bits. 0: any,
    /// and nobody asks the kernel for addresses.
    pub connections_per_address_max: u32,
    /// Proxies whose `X-Forwarded-For` tells the client's address. Every one of them must add to it, or set it.
    pub trusted_proxies: Vec<Network>,
    /// Hub messages (and WebSocket pings) that one client may send per second, and [`UPLINK_BURST_S`] seconds' worth at
    /// once. 0: any.
    pub uplink_messages_rate: u32,
    /// Bytes, likewise.
    pub uplink_bytes_rate: usize,
    /// What is done about a client that sends more.
    pub uplink_over: UplinkOver,
    /// Milliseconds from the first byte of a message to its last. Time in which its client is not read from does not
    /// count. 0: any, and a client that stops in mid-message keeps its part of `partial_bytes_max` for ever.
    pub message_timeout_ms: u32,
}

/// What is done about a client that sends more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UplinkOver {
    /// It is not read from until its rate allows it again. Nothing is lost: what it sends waits in its own socket, and
    /// a POST for its answer.
    #[default]
    Wait,
    /// It is closed, with an error, and may not reconnect by itself.
    Close,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 0,
            slots_per_shard: 0,
            outbox_bytes_max: 1 << 20,
            outbox_soft_bytes: 64 << 10,
            outbox_age_max_ms: 30_000,
            outbox_runs_max: 4096,
            outbox_messages_max: 1024,
            outbox_total_bytes_max: 0,
            log_bytes_max: 128 << 20,
            partial_bytes_max: 256 << 20,
            inflated_bytes_max: 128 << 10,
            held_bytes_max: 64 << 10,
            head_bytes_max: 8 << 10,
            head_timeout_ms: 10_000,
            body_bytes_max: 64 << 10,
            close_timeout_ms: 5_000,
            groups_max: 1_000_000,
            groups_per_connection_max: 10_000,
            name_bytes_max: 1024,
            publish_bytes_max: 16 << 20,
            commands_max: 4096,
            commands_bytes_max: 64 << 20,
            continuations_max: 65_536,
            deferred_max: 65_536,
            stream_items_max: 64,
            client_results_max: 65_536,
            client_result_timeout_ms: 30_000,
            lent_fds_max: 4096,
            send_file_bytes_min: 256 << 10,
            drain_rate: 5_000,
            negotiate_ttl_s: 15,
            connect_rate: 0,
            negotiate_rate: 0,
            handshakes_pending_max: 10_000,
            connections_per_user_max: 0,
            connections_per_address_max: 0,
            trusted_proxies: Vec::new(),
            uplink_messages_rate: 0,
            uplink_bytes_rate: 0,
            uplink_over: UplinkOver::Wait,
            message_timeout_ms: 60_000,
        }
    }
}

/// Seconds' worth of [`Limits::connect_rate`] and [`Limits::negotiate_rate`] that may come at once.
pub const ADMISSION_BURST_S: u64 = 1;
/// Seconds' worth of [`Limits::uplink_messages_rate`] and [`Limits::uplink_bytes_rate`] that may come at once. More than
/// the second between two looks at a client that waits: or it would get less than its rate.
pub const UPLINK_BURST_S: u64 = 2;
/// Sockets of a shard whose addresses the kernel is being asked for. Each takes a descriptor of the process meanwhile.
pub const INTRODUCTIONS_MAX: usize = 8;
/// Descriptors of the process that stay free for listeners, rings, memory files and the embedder's own.
pub const DESCRIPTORS_RESERVED: usize = 64;
/// Slots of a shard beyond its connections: for plain HTTP, and for telling those that find no room so (503). A table
/// of fewer than 1,024 slots keeps a sixteenth of them.
pub const SLOTS_RESERVED: usize = 64;

/// Connections that a table of `slots` is for; see [`SLOTS_RESERVED`].
pub const fn connections_in(slots: usize) -> usize {
    let part = slots / 16;
    slots - if part < SLOTS_RESERVED { part } else { SLOTS_RESERVED }
}
/// The kernel's bound for one ring's file table.
pub const SLOTS_PER_RING_MAX: usize = 1 << 20;
/// Receive buffers of a shard. Between turns no connection owns one, so one turn's use bounds them.
pub const RECV_BUFFERS: u16 = 1024;
/// Bytes of one receive buffer.
pub const RECV_BUFFER_BYTES: usize = 2048;
/// Submission queue entries.
pub const SQ_ENTRIES: u32 = 4096;
/// Completion queue entries.
pub const CQ_ENTRIES: u32 = 16_384;
/// Notes from one shard to another on their way.
pub const NOTES_MAX: usize = 1024;
/// Notes that wait in the sender when the ring is full.
pub const NOTES_OVERFLOW_MAX: usize = 65_536;
/// Notes taken from one other shard per turn.
pub const NOTES_PER_TURN: usize = 1024;
/// Commands taken per turn.
pub const COMMANDS_PER_TURN: usize = 1024;
/// Enters in a row that may only read, so that what one publisher sent in one write leaves in one send.
pub const READ_ROUNDS_MAX: u32 = 160;
/// Bytes per member that may wait meanwhile.
pub const READ_ROUNDS_BYTES_MAX: usize = 256 << 10;
/// Microseconds that the answer to a poll may wait for the rest of what was said in one go.
pub const POLL_HOLD_US_MAX: u64 = 10_000;
/// Runs that a client may be owed and still be read from: a few sends' worth.
pub const ANSWER_RUNS_MAX: usize = 4 * crate::io::GATHER_MAX;
/// Microseconds that a broadcast may wait for more of the input that it came with.
pub const READ_ROUNDS_US_MAX: u64 = 1_000;
/// Late connections resumed per turn.
pub const RESUMED_PER_TURN: usize = 256;
/// Bytes that the compressed messages of one connection may inflate to in a turn: the message that goes beyond is the
/// last one, and what was read with it waits for the next turn. Without it the 2 KiB that are read in a turn could come
/// to 2 MiB of invocations.
pub const INFLATED_PER_TURN_MAX: usize = 32 << 10;
/// Bytes read and thrown away after our farewell, so that the kernel does not answer them with a reset: room for a
/// client to finish the too large message that it was told about.
pub const LINGER_BYTES_MAX: usize = 4 << 20;
/// Plaintext of one TLS record, and so of one send: the most that TLS allows. Of what is encrypted and not taken by its
/// socket a connection keeps at most so much, besides what the handshake still has to say.
pub const TLS_RECORD_BYTES_MAX: usize = 16 << 10;
/// The same for clients that are late: little is kept of them.
pub const TLS_LATE_RECORD_BYTES_MAX: usize = 4 << 10;
/// Bytes of records that a connection may have received and not understood: the largest handshake message that is read,
/// the largest record, one receive buffer.
pub const TLS_INBOUND_BYTES_MAX: usize = (64 << 10) + (18 << 10) + RECV_BUFFER_BYTES;
/// Bytes of records that a socket may leave to its connection: one record, and what handshakes, tickets and new keys have
/// to say. A client that makes more of them than it takes is closed.
pub const TLS_REST_BYTES_MAX: usize = 64 << 10;
/// Steps of TLS handshakes that a shard makes in a turn; a handshake takes two, of which one signs (0.1 ms
/// with ECDSA P-256). Others wait for the next turn, and nobody waits for more than these four.
pub const TLS_HANDSHAKE_STEPS_PER_TURN: usize = 8;
/// Bytes that a shard encrypts in a turn: half a millisecond's worth. What else is owed waits for the next turn.
pub const TLS_SEALED_PER_TURN_MAX: usize = 1 << 20;
/// Heap bytes of an idle TLS connection, about: what rustls keeps of it, and our own. Counted by `bench/tests/tls.rs`.
pub const TLS_CONNECTION_BYTES: usize = 4 << 10;
/// Shards of one engine (one bit each in a segment's holders).
pub const SHARDS_MAX: usize = 64;
/// Hubs of one engine.
pub const HUBS_MAX: usize = 1024;
/// Largest keep-alive, time-out or deadline: half the range of a 16-bit count of 100 ms.
pub const TIMEOUT_MS_MAX: u32 = 3_000_000;

const _: () = assert!(RECV_BUFFERS.is_power_of_two());
const _: () = assert!(NOTES_MAX.is_power_of_two());
const _: () = assert!(TLS_REST_BYTES_MAX <= crate::io::COPY_BYTES_MAX);

/// What the limits come to on this host, printed at start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Shards.
    pub shards: usize,
    /// Open connections, all shards together.
    pub connections_max: usize,
    /// Direct descriptors per shard.
    pub slots_per_shard: usize,
    /// What bounds `connections_max`, in words.
    pub bottleneck: String,
    /// Bytes of tables at `connections_max`.
    pub table_bytes: usize,
    /// Bytes of receive buffers and rings, all shards.
    pub ring_bytes: usize,
    /// Bytes of broadcast log at most, all shards.
    pub log_bytes_max: usize,
    /// Heap bytes of all connections if they all speak TLS; 0 where none does.
    pub tls_bytes: usize,
    /// The limits it was derived from, complete.
    pub limits: Limits,
}

impl Plan {
    /// Fills in what is "auto". `descriptors_max` is the process's limit of open files.
    pub fn derive(limits: &Limits, shards: usize, descriptors_max: usize) -> Result<Self, String> {
        if shards == 0 || shards > SHARDS_MAX {
            return Err(format!("shards is {shards}; it must be 1 to {SHARDS_MAX}"));
        }
        let by_descriptors = descriptors_max.saturating_sub(DESCRIPTORS_RESERVED).clamp(1, SLOTS_PER_RING_MAX);
        let mut limits = limits.clone();
        if limits.slots_per_shard == 0 {
            limits.slots_per_shard = by_descriptors;
        }
        if limits.slots_per_shard > by_descriptors {
            return Err(format!(
                "slots_per_shard is {}; the limit of open files ({descriptors_max}) allows {by_descriptors} per shard. \
                 Raise it (ulimit -n, LimitNOFILE=) or start more shards",
                limits.slots_per_shard
            ));
        }
        let per_shard = connections_in(limits.slots_per_shard);
        let capacity = per_shard * shards;
        let bottleneck = if limits.connections_max == 0 || limits.connections_max > capacity {
            if limits.connections_max > capacity {
                return Err(format!(
                    "connections_max is {}; {shards} shards x {per_shard} connections are {capacity}. \
                     Start more shards or raise the limit of open files ({descriptors_max})",
                    limits.connections_max
                ));
            }
            limits.connections_max = capacity;
            format!("limited by open files: {descriptors_max} x {shards} shards")
        } else {
            limits.slots_per_shard = limits.slots_per_shard.min(limits.connections_max + SLOTS_RESERVED);
            "limited by limits.connections_max".to_owned()
        };
        // Half of the process's own descriptors, at most: the rest is the control plane's and the embedder's.
        limits.lent_fds_max =
            limits.lent_fds_max.min(descriptors_max.saturating_sub(DESCRIPTORS_RESERVED) / 2 / shards);
        limits.log_bytes_max = limits.log_bytes_max.max(LOG_BYTES_MIN).next_multiple_of(SEGMENT_BYTES);
        Ok(Self {
            shards,
            connections_max: limits.connections_max,
            slots_per_shard: limits.slots_per_shard,
            bottleneck,
            table_bytes: limits.connections_max * CONNECTION_BYTES,
            ring_bytes: shards
                * (RECV_BUFFERS as usize * RECV_BUFFER_BYTES + SQ_ENTRIES as usize * 64 + CQ_ENTRIES as usize * 16),
            log_bytes_max: limits.log_bytes_max * shards,
            tls_bytes: 0,
            limits,
        })
    }

    /// The same with connections that may speak TLS.
    #[must_use]
    pub(crate) fn with_tls(mut self) -> Self {
        self.tls_bytes = self.connections_max * TLS_CONNECTION_BYTES;
        self
    }
}

/// What an idle hub connection takes in tables: its records, its id, its place among the members of its hub.
const CONNECTION_BYTES: usize = size_of::<Hot>() + size_of::<Cold>() + KEY_BYTES_MAX + size_of::<Slot>();

/// The least a shard's log can work with: one open segment per variation, one private, and as many in use.
pub const LOG_BYTES_MIN: usize = 2 * (Variation::COUNT + 1) * SEGMENT_BYTES;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        let l = &self.limits;
        writeln!(
            f,
            "plan  connections_max {} x {} B = {} MiB in {} shard(s) of {} slots ({})",
            self.connections_max,
            CONNECTION_BYTES,
            mib(self.table_bytes),
            self.shards,
            self.slots_per_shard,
            self.bottleneck
        )?;
        writeln!(
            f,
            "      receive buffers and rings {} MiB; broadcast log at most {} MiB; unfinished messages at most {} MiB",
            mib(self.ring_bytes),
            mib(self.log_bytes_max),
            mib(l.partial_bytes_max * self.shards)
        )?;
        if self.tls_bytes > 0 {
            writeln!(
                f,
                "      TLS about {} KiB per connection that speaks it, {} MiB if all do",
                TLS_CONNECTION_BYTES >> 10,
                mib(self.tls_bytes)
            )?;
        }
        write!(
            f,
            "      outbox {} KiB per connection (late from {} KiB, {} s without progress); {} groups per shard; {} commands per shard",
            l.outbox_bytes_max >> 10,
            l.outbox_soft_bytes >> 10,
            l.outbox_age_max_ms / 1000,
            l.groups_max,
            l.commands_max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_what_the_descriptors_allow() {
        let plan = Plan::derive(&Limits::default(), 2, 20_000).unwrap();
        assert_eq!(plan.connections_max, 2 * (20_000 - DESCRIPTORS_RESERVED - SLOTS_RESERVED));
        assert!(plan.bottleneck.contains("open files"));
    }

    #[test]
    fn too_many_connections_name_the_remedy() {
        let limits = Limits { connections_max: 100_000, ..Limits::default() };
        let error = Plan::derive(&limits, 2, 20_000).unwrap_err();
        assert!(error.contains("100000") && error.contains("more shards"), "{error}");
        assert!(Plan::derive(&limits, 6, 20_000).is_ok());
    }
}
