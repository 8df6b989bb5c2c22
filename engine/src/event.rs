//! Everything observable: what is counted, and why connections end.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one shard writes and anybody reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning shard calls this: a plain load and store, no locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` off a gauge. Only the owning shard calls this.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Replaces the value of a gauge.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one shard counts.
        #[derive(Debug, Default)]
        pub struct ShardCounters {
            $($(#[$doc])* pub $name: Counter,)*
            /// Connections closed, by [`CloseReason`].
            pub closed_total: [Counter; CloseReason::COUNT],
            /// Connections and requests refused, by [`RefuseReason`].
            pub refused_total: [Counter; RefuseReason::COUNT],
            /// TLS handshakes that failed, by [`TlsFailure`].
            pub tls_failed_total: [Counter; TlsFailure::COUNT],
        }

        /// [`ShardCounters`] at one moment.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct ShardMetrics {
            $($(#[$doc])* pub $name: u64,)*
            /// Connections closed, by `CloseReason as usize`; see [`Self::closed`].
            pub closed_total: [u64; CloseReason::COUNT],
            /// Connections and requests refused, by `RefuseReason as usize`; see [`Self::refused`].
            pub refused_total: [u64; RefuseReason::COUNT],
            /// TLS handshakes that failed, by `TlsFailure as usize`; see [`Self::tls_failed`].
            pub tls_failed_total: [u64; TlsFailure::COUNT],
        }

        impl ShardCounters {
            /// The numbers now.
            pub fn snapshot(&self) -> ShardMetrics {
                ShardMetrics {
                    $($name: self.$name.get(),)*
                    closed_total: std::array::from_fn(|i| self.closed_total[i].get()),
                    refused_total: std::array::from_fn(|i| self.refused_total[i].get()),
                    tls_failed_total: std::array::from_fn(|i| self.tls_failed_total[i].get()),
                }
            }
        }

        impl ShardMetrics {
            /// Adds another shard's numbers to these.
            pub fn add(&mut self, other: &ShardMetrics) {
                $(self.$name += other.$name;)*
                self.closed_total.iter_mut().zip(other.closed_total).for_each(|(a, b)| *a += b);
                self.refused_total.iter_mut().zip(other.refused_total).for_each(|(a, b)| *a += b);
                self.tls_failed_total.iter_mut().zip(other.tls_failed_total).for_each(|(a, b)| *a += b);
            }
        }
    };
}

catalogue! {
    /// Sockets open, hub or not.
    sockets_open,
    /// Hub connections open.
    connections_open,
    /// Sockets accepted.
    accepted_total,
    /// Sockets taken over from other shards.
    adopted_total,
    /// Connections that went on with another WebSocket.
    resumed_total,
    /// Times that the shard did not run for more than 2 s.
    absences_total,
    /// Hub connections opened.
    opened_total,
    /// Hub messages received.
    messages_received_total,
    /// Bytes received.
    bytes_received_total,
    /// Broadcasts, group and user sends that entered here.
    publishes_total,
    /// Publishes of other threads that failed after they were taken: log full, over a limit.
    publishes_failed_total,
    /// Messages handed to connections' sends or outboxes, by fan.
    deliveries_total,
    /// Messages for one connection only: answers, pings, closes.
    private_messages_total,
    /// Pings among them.
    pings_sent_total,
    /// Bytes that the kernel took.
    bytes_sent_total,
    /// Encodings made for broadcasts: one per variation in use.
    encodings_total,
    /// Compressions made for broadcasts: at most one per variation of clients with permessage-deflate.
    compressions_total,
    /// Bytes written to the log.
    log_bytes_written_total,
    /// Sends that the kernel did not take whole.
    short_sends_total,
    /// Connections late now.
    slow_connections,
    /// Bytes owed to clients that are behind now.
    outbox_bytes,
    /// Messages not delivered because the connection was closed as slow.
    dropped_slow_total,
    /// Messages dropped to make room for newer ones (`SlowPolicy::DropOldest`).
    dropped_oldest_total,
    /// Messages dropped because a newer one for the same client method came (`SlowPolicy::KeepLatest`).
    conflated_total,
    /// Connections that have lost messages to a slow policy.
    lossy_connections_total,
    /// Connections closed because all clients together owed too much.
    total_closed_total,
    /// Messages not delivered because the connection ended otherwise: lost, stopped, out of time.
    dropped_closed_total,
    /// Publishes refused because the log was full.
    log_full_total,
    /// Segments evicted under slow readers.
    evictions_total,
    /// Segments free.
    log_segments_free,
    /// Segments that hold bytes.
    log_segments_used,
    /// Notes that found a ring to another shard full.
    notes_overflowed_total,
    /// Notes lost because the overflow was full as well.
    notes_lost_total,
    /// Receives that found no buffer.
    recv_pool_empty_total,
    /// Turns of the shard's loop.
    turns_total,
    /// `io_uring_enter` calls.
    ring_enters_total,
    /// Requests handed to the ring.
    ring_submissions_total,
    /// Sends among them.
    ring_sends_total,
    /// Completions taken from the ring.
    ring_completions_total,
    /// Times the completion queue had overflowed.
    ring_overflows_total,
    /// Groups and users with members here.
    groups,
    /// Invocations dispatched to the host.
    invocations_total,
    /// Streams to clients open now.
    streams_open,
    /// Streams of clients that methods read now, until their invocations end.
    upload_streams_open,
    /// Streams refused because their connection had as many as it may have, either way.
    streams_refused_total,
    /// Client results that are awaited now, counted where the client is.
    client_results_pending,
    /// Client results asked for.
    client_results_total,
    /// Client results not asked for because too many were awaited.
    client_results_refused_total,
    /// Invocations answered with an error because too many answers were owed.
    deferred_refused_total,
    /// Connections that were let in and have not shaken hands yet.
    handshakes_pending,
    /// Times a client was not read from because it had sent more than it may.
    uplink_waits_total,
    /// Ids of connections that have gone, forgotten while their tokens were still good.
    spent_forgotten_total,
    /// Sockets open that speak TLS.
    tls_sockets,
    /// Those among them whose TLS handshake has neither ended nor failed.
    tls_handshakes_pending,
    /// TLS handshakes that ended well.
    tls_handshakes_total,
    /// Those among them that a ticket of an earlier connection made short.
    tls_resumed_total,
    /// TLS connections that sent something after their handshake that cannot be understood.
    tls_broken_total,
}

impl ShardMetrics {
    /// Connections closed, by reason.
    pub fn closed(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        CloseReason::ALL.iter().map(|reason| (reason.as_str(), self.closed_total[*reason as usize]))
    }

    /// Connections and requests refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        RefuseReason::ALL.iter().map(|reason| (reason.as_str(), self.refused_total[*reason as usize]))
    }

    /// TLS handshakes that failed, by reason.
    pub fn tls_failed(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        TlsFailure::ALL.iter().map(|reason| (reason.as_str(), self.tls_failed_total[*reason as usize]))
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in metrics and logs.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// The reason with this number.
            pub fn from_u8(n: u8) -> Option<Self> {
                Self::ALL.get(n as usize).copied()
            }
        }
    };
}

reasons! {
    /// Why a connection ended.
    CloseReason {
        /// The client said goodbye.
        Normal = "normal",
        /// The transport went away without a goodbye.
        Lost = "lost",
        /// The client pinged once and then fell silent.
        PingTimeout = "ping_timeout",
        /// No hub handshake in time.
        HandshakeTimeout = "handshake_timeout",
        /// A handshake we cannot accept.
        HandshakeError = "handshake_error",
        /// It owes us reading: too much or for too long.
        SlowClient = "slow_client",
        /// A message over the endpoint's limit.
        MessageTooLarge = "message_too_large",
        /// Bytes that break the hub protocol or the transport's.
        ProtocolError = "protocol_error",
        /// The hub's code ended it.
        ClosedByServer = "closed_by_server",
        /// The hub refused it in `connected`.
        ConnectRefused = "connect_refused",
        /// The server is draining.
        Drain = "drain",
        /// The server stopped.
        Shutdown = "shutdown",
        /// A bound of this server was reached (log, unfinished input).
        Overload = "overload",
        /// What it came in with is not good any longer, and its endpoint ends connections for that.
        AuthExpired = "auth_expired",
        /// An HTTP exchange was complete.
        HttpDone = "http_done",
        /// An HTTP request did not arrive in time.
        HttpTimeout = "http_timeout",
        /// Its socket went on to another shard: nothing ended.
        Moved = "moved",
        /// It sends more than a client may.
        Throttled = "throttled",
        /// A message that it had begun did not end in time.
        MessageTimeout = "message_timeout",
        /// An echo that nobody has used for long.
        IdleTimeout = "idle_timeout",
        /// Its TLS handshake failed, or it did not speak TLS where one must.
        TlsHandshake = "tls_handshake",
    }
}

reasons! {
    /// Why a request or connection was turned away.
    RefuseReason {
        /// The table is full.
        Full = "full",
        /// The server is draining.
        Draining = "draining",
        /// A request that breaks HTTP.
        BadRequest = "bad_request",
        /// No such path.
        NotFound = "not_found",
        /// The wrong method.
        Method = "method",
        /// An unknown, expired or forged connection id.
        UnknownId = "unknown_id",
        /// No or bad credentials.
        Auth = "auth",
        /// A transport that the endpoint does not offer, or that the connection does not have.
        Transport = "transport",
        /// A page of an origin that may not come in.
        Origin = "origin",
        /// Clients connect faster than they may.
        ConnectRate = "connect_rate",
        /// Clients negotiate faster than they may.
        NegotiateRate = "negotiate_rate",
        /// Too many connections have not shaken hands yet.
        Handshakes = "handshakes",
        /// The user has as many connections as one may have.
        UserConnections = "user_connections",
        /// The address has as many connections as one may have.
        AddressConnections = "address_connections",
    }
}

reasons! {
    /// Why a TLS handshake failed.
    TlsFailure {
        /// What came first was no TLS: a plain request, most of the time.
        NotTls = "not_tls",
        /// Neither version, cipher suite, signature nor protocol that both sides know.
        Incompatible = "incompatible",
        /// Messages that break TLS.
        Malformed = "malformed",
        /// The client said no: mostly to the certificate.
        Alert = "alert",
        /// It did not end in time.
        Timeout = "timeout",
        /// The client went away before its end.
        Gone = "gone",
        /// Anything else.
        Other = "other",
    }
}

/// One shard's counters on cache lines of their own.
pub type SharedCounters = CachePadded<ShardCounters>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_distinct_names_and_numbers() {
        for (i, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
            assert_eq!(CloseReason::from_u8(i as u8), Some(*reason));
            assert_eq!(CloseReason::ALL.iter().filter(|r| r.as_str() == reason.as_str()).count(), 1);
        }
        assert_eq!(CloseReason::from_u8(200), None);
    }
}
