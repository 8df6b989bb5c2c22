//! What Prometheus scrapes: the catalogue of metrics, and their samples from the engine's counters.

use std::time::{SystemTime, UNIX_EPOCH};

use fanfare_engine::{MetricsSnapshot, ShardMetrics};

use super::exposition::{Kind, Metric, Page};
use super::process::ProcessFigures;

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

/// A metric that is one number of each shard.
type Plain = (Metric, fn(&ShardMetrics) -> u64);

/// Summed over the shards.
static SUMMED: [Plain; 38] = [
    (gauge("fanfare_sockets", &[], "Open sockets of the public listener, hub connections or not."), |m| m.sockets_open),
    (counter("fanfare_sockets_accepted_total", &[], "Sockets accepted."), |m| m.accepted_total),
    (counter("fanfare_connections_resumed_total", &[], "Connections that went on with another WebSocket."), |m| {
        m.resumed_total
    }),
    (counter("fanfare_absences_total", &[], "Times a shard did not run for more than 2 s."), |m| m.absences_total),
    (
        counter(
            "fanfare_sockets_moved_total",
            &[],
            "Sockets that moved to the shard of the connection they ask about.",
        ),
        |m| m.adopted_total,
    ),
    (
        counter("fanfare_connections_opened_total", &[], "Client connections that came through the hub handshake."),
        |m| m.opened_total,
    ),
    (gauge("fanfare_tls_sockets", &[], "Open sockets that speak TLS."), |m| m.tls_sockets),
    (gauge("fanfare_tls_handshakes_pending", &[], "Open sockets that have not shaken hands in TLS yet."), |m| {
        m.tls_handshakes_pending
    }),
    (counter("fanfare_tls_handshakes_total", &[], "TLS handshakes that ended well."), |m| m.tls_handshakes_total),
    (counter("fanfare_tls_resumed_total", &[], "TLS handshakes that a ticket made short."), |m| m.tls_resumed_total),
    (counter("fanfare_tls_broken_total", &[], "TLS connections lost to records that cannot be understood."), |m| {
        m.tls_broken_total
    }),
    (gauge("fanfare_handshakes_pending", &[], "Connections let in that have not shaken hands yet."), |m| {
        m.handshakes_pending
    }),
    (
        counter(
            "fanfare_uplink_waits_total",
            &[],
            "Times a client was not read from because it had sent more than it may.",
        ),
        |m| m.uplink_waits_total,
    ),
    (
        counter(
            "fanfare_spent_ids_forgotten_total",
            &[],
            "Ids of connections that have gone, forgotten while their tokens were still good.",
        ),
        |m| m.spent_forgotten_total,
    ),
    (counter("fanfare_messages_received_total", &[], "Hub messages received from clients."), |m| {
        m.messages_received_total
    }),
    (counter("fanfare_invocations_total", &[], "Hub methods called by clients."), |m| m.invocations_total),
    (gauge("fanfare_streams", &[], "Open streams to clients."), |m| m.streams_open),
    (gauge("fanfare_upload_streams", &[], "Open streams of clients."), |m| m.upload_streams_open),
    (
        counter(
            "fanfare_streams_refused_total",
            &[],
            "Streams refused because their client had as many as it may have.",
        ),
        |m| m.streams_refused_total,
    ),
    (gauge("fanfare_client_results_pending", &[], "Client results that are awaited."), |m| m.client_results_pending),
    (counter("fanfare_client_results_total", &[], "Clients asked for a result."), |m| m.client_results_total),
    (counter("fanfare_client_results_refused_total", &[], "Clients not asked: too many results were awaited."), |m| {
        m.client_results_refused_total
    }),
    (counter("fanfare_deferred_refused_total", &[], "Invocations refused because too many answers were owed."), |m| {
        m.deferred_refused_total
    }),
    (counter("fanfare_publishes_total", &[], "Sends to all, groups, users or connections, before fan-out."), |m| {
        m.publishes_total
    }),
    (
        counter(
            "fanfare_publishes_failed_total",
            &[],
            "Publishes that failed after they were taken: log full, over a limit.",
        ),
        |m| m.publishes_failed_total,
    ),
    (counter("fanfare_bytes_received_total", &[], "Bytes received from clients, framing included."), |m| {
        m.bytes_received_total
    }),
    (counter("fanfare_bytes_sent_total", &[], "Bytes the kernel took for clients, framing included."), |m| {
        m.bytes_sent_total
    }),
    (counter("fanfare_encodings_total", &[], "Messages encoded: one per publish and hub protocol in use."), |m| {
        m.encodings_total
    }),
    (
        counter("fanfare_compressions_total", &[], "Messages compressed: at most one per publish and hub protocol."),
        |m| m.compressions_total,
    ),
    (gauge("fanfare_outbox_bytes", &[], "Bytes owed to clients that read slower than they are sent to."), |m| {
        m.outbox_bytes
    }),
    (gauge("fanfare_slow_connections", &[], "Connections that are late now."), |m| m.slow_connections),
    (counter("fanfare_lossy_connections_total", &[], "Connections that have lost messages to the slow policy."), |m| {
        m.lossy_connections_total
    }),
    (
        counter(
            "fanfare_outbox_total_closed_total",
            &[],
            "Connections closed because all clients together were owed too much.",
        ),
        |m| m.total_closed_total,
    ),
    (gauge("fanfare_groups", &[], "Groups and users with members, counted on each core that has some."), |m| m.groups),
    (counter("fanfare_log_bytes_written_total", &[], "Bytes written to the broadcast log."), |m| {
        m.log_bytes_written_total
    }),
    (counter("fanfare_log_full_total", &[], "Publishes refused because the broadcast log was full."), |m| {
        m.log_full_total
    }),
    (
        counter("fanfare_log_evictions_total", &[], "Log segments freed by closing the slow readers that held them."),
        |m| m.evictions_total,
    ),
    (counter("fanfare_short_sends_total", &[], "Sends that the kernel took in part."), |m| m.short_sends_total),
];

/// One sample per core, by its number.
static PER_CORE: [Plain; 8] = [
    (counter("fanfare_core_turns_total", &["core"], "Turns of the core's loop."), |m| m.turns_total),
    (counter("fanfare_ring_enters_total", &["core"], "Calls into the kernel through the ring."), |m| {
        m.ring_enters_total
    }),
    (counter("fanfare_ring_submissions_total", &["core"], "Requests handed to the ring."), |m| {
        m.ring_submissions_total
    }),
    (counter("fanfare_ring_sends_total", &["core"], "Sends among the requests."), |m| m.ring_sends_total),
    (counter("fanfare_ring_completions_total", &["core"], "Completions taken from the ring."), |m| {
        m.ring_completions_total
    }),
    (counter("fanfare_ring_overflows_total", &["core"], "Times the completion queue overflowed."), |m| {
        m.ring_overflows_total
    }),
    (
        counter("fanfare_recv_buffers_empty_total", &["core"], "Receives that found no free buffer and were retried."),
        |m| m.recv_pool_empty_total,
    ),
    (counter("fanfare_core_queue_full_total", &["core"], "Notes that found the queue to another core full."), |m| {
        m.notes_overflowed_total
    }),
];

static BUILD: Metric = gauge("fanfare_build_info", &["version", "rustc", "driver"], "Always 1; what runs, in labels.");
static CONNECTIONS: Metric = gauge("fanfare_connections", &["hub"], "Open client connections.");
static CONNECTIONS_MAX: Metric = gauge("fanfare_connections_limit", &[], "Client connections this node has room for.");
static CLOSED: Metric =
    counter("fanfare_connections_closed_total", &["reason"], "Sockets of the public listener closed.");
static REFUSED: Metric = counter(
    "fanfare_connect_refused_total",
    &["reason"],
    "Connections and requests turned away by the public listener.",
);
static TLS_FAILED: Metric = counter("fanfare_tls_handshake_failures_total", &["reason"], "TLS handshakes that failed.");
static TLS_RELOADS: Metric =
    counter("fanfare_tls_reloads_total", &["result"], "TLS certificates read again: new ones taken, or old ones kept.");
static TLS_END: Metric = gauge(
    "fanfare_tls_certificate_end_seconds",
    &[],
    "When the first TLS certificate expires, in seconds since 1970; 0 without one.",
);
static SENT: Metric = counter(
    "fanfare_messages_sent_total",
    &["kind"],
    "Hub messages sent, each receiver counted: fanout, direct (answers and farewells), ping.",
);
static DROPPED: Metric = counter("fanfare_dropped_messages_total", &["reason"], "Messages owed and not delivered.");
static SEGMENTS: Metric = gauge("fanfare_log_segments", &["core", "state"], "Segments of the broadcast log.");
static MEMORY: Metric = gauge("fanfare_memory_bytes", &["kind"], "Memory of this process.");
static FILES: Metric = gauge("fanfare_open_files", &[], "File descriptors of this process; clients need none.");
static FILES_MAX: Metric = gauge("fanfare_open_files_limit", &[], "File descriptors this process may have.");
static TOKENS_REFUSED: Metric =
    counter("fanfare_auth_failures_total", &["reason"], "Requests without a good token where one is needed or given.");
static KEY_FETCHES: Metric =
    counter("fanfare_key_fetches_total", &["outcome"], "Questions to the URL with keys for tokens.");
static ADMIN_REFUSED: Metric =
    counter("fanfare_admin_refused_total", &["reason"], "Connections and requests the admin listener turned away.");

/// What the page needs to know beside the engine's counters.
pub(crate) struct Facts<'a> {
    /// The engine's counters.
    pub(crate) engine: &'a MetricsSnapshot,
    /// Client connections there is room for.
    pub(crate) connections_max: usize,
    /// What the kernel says about this process.
    pub(crate) process: ProcessFigures,
    /// Tokens that were refused, by reason.
    pub(crate) tokens_refused: &'a [(&'static str, u64)],
    /// Questions to the URL with keys, by outcome.
    pub(crate) key_fetches: [(&'static str, u64); 2],
    /// Refusals of the admin listener, by reason.
    pub(crate) admin_refused: &'a [(&'static str, u64)],
    /// TLS certificates that were read again, by what came of it.
    pub(crate) tls_reloads: &'a [(&'static str, u64)],
    /// When the first of them expires.
    pub(crate) tls_not_after: Option<SystemTime>,
}

/// The page in text format 0.0.4.
pub(crate) fn render(facts: &Facts<'_>) -> String {
    let mut page = Page::default();
    let total = &facts.engine.total();
    page.family(&BUILD).sample(&[env!("CARGO_PKG_VERSION"), env!("FANFARE_RUSTC"), "io_uring"], 1);
    let mut connections = page.family(&CONNECTIONS);
    for hub in &facts.engine.hubs {
        connections.sample(&[&hub.name], hub.connections as u64);
    }
    page.family(&CONNECTIONS_MAX).sample(&[], facts.connections_max as u64);
    for (metric, value) in &SUMMED {
        page.family(metric).sample(&[], value(total));
    }
    by_reason(&mut page, &CLOSED, total.closed());
    by_reason(&mut page, &REFUSED, total.refused());
    by_reason(&mut page, &TLS_FAILED, total.tls_failed());
    by_reason(&mut page, &TLS_RELOADS, facts.tls_reloads.iter().copied());
    let tls_end = facts.tls_not_after.and_then(|end| end.duration_since(UNIX_EPOCH).ok());
    page.family(&TLS_END).sample(&[], tls_end.map_or(0, |end| end.as_secs()));
    by_reason(&mut page, &TOKENS_REFUSED, facts.tokens_refused.iter().copied());
    by_reason(&mut page, &KEY_FETCHES, facts.key_fetches.into_iter());
    by_reason(&mut page, &ADMIN_REFUSED, facts.admin_refused.iter().copied());
    let direct = total.private_messages_total.saturating_sub(total.pings_sent_total);
    page.family(&SENT)
        .sample(&["fanout"], total.deliveries_total)
        .sample(&["direct"], direct)
        .sample(&["ping"], total.pings_sent_total);
    page.family(&DROPPED)
        .sample(&["slow_closed"], total.dropped_slow_total)
        .sample(&["oldest"], total.dropped_oldest_total)
        .sample(&["conflated"], total.conflated_total)
        .sample(&["closed"], total.dropped_closed_total)
        .sample(&["core_queue"], total.notes_lost_total);
    per_core(&mut page, &facts.engine.shards);
    page.family(&MEMORY).sample(&["resident"], facts.process.resident_bytes);
    page.family(&FILES).sample(&[], facts.process.open_files);
    page.family(&FILES_MAX).sample(&[], facts.process.open_files_max);
    page.into_text()
}

fn by_reason(page: &mut Page, metric: &'static Metric, samples: impl Iterator<Item = (&'static str, u64)>) {
    let mut family = page.family(metric);
    for (reason, value) in samples {
        family.sample(&[reason], value);
    }
}

fn per_core(page: &mut Page, shards: &[ShardMetrics]) {
    for (metric, value) in &PER_CORE {
        let mut family = page.family(metric);
        for (core, shard) in shards.iter().enumerate() {
            family.sample(&[&core.to_string()], value(shard));
        }
    }
    let mut segments = page.family(&SEGMENTS);
    for (core, shard) in shards.iter().enumerate() {
        let core = core.to_string();
        segments.sample(&[&core, "used"], shard.log_segments_used).sample(&[&core, "free"], shard.log_segments_free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::exposition::tests::parse;
    use fanfare_engine::HubMetrics;
    use std::time::Duration;

    fn snapshot() -> MetricsSnapshot {
        let shard = |scale: u64| ShardMetrics {
            deliveries_total: 100 * scale,
            private_messages_total: 7 * scale,
            pings_sent_total: 2 * scale,
            turns_total: 11 * scale,
            ..ShardMetrics::default()
        };
        let hubs = vec![HubMetrics { name: "demo".to_owned(), connections: 3 }];
        MetricsSnapshot { shards: vec![shard(1), shard(10)], hubs }
    }

    fn page() -> String {
        render(&Facts {
            engine: &snapshot(),
            connections_max: 18_900,
            process: ProcessFigures { resident_bytes: 1, open_files: 2, open_files_max: 3 },
            tokens_refused: &[("expired", 2)],
            key_fetches: [("ok", 3), ("failed", 1)],
            admin_refused: &[("full", 1)],
            tls_reloads: &[("taken", 2), ("kept", 1)],
            tls_not_after: Some(UNIX_EPOCH + Duration::from_secs(2_000_000_000)),
        })
    }

    /// Every metric of the catalogue, by its place in this file.
    fn catalogue() -> Vec<&'static Metric> {
        let plain = SUMMED.iter().chain(&PER_CORE).map(|(metric, _)| metric);
        let special = [
            &BUILD,
            &CONNECTIONS,
            &CONNECTIONS_MAX,
            &CLOSED,
            &REFUSED,
            &TLS_FAILED,
            &TLS_RELOADS,
            &TLS_END,
            &SENT,
            &DROPPED,
            &SEGMENTS,
            &MEMORY,
            &FILES,
            &FILES_MAX,
            &TOKENS_REFUSED,
            &KEY_FETCHES,
            &ADMIN_REFUSED,
        ];
        plain.chain(special).collect()
    }

    #[test]
    fn the_page_parses_and_holds_exactly_the_catalogue() {
        let families = parse(&page()).expect("the page is in the text format");
        let catalogue = catalogue();
        for metric in &catalogue {
            let (kind, samples) = families.get(metric.name).unwrap_or_else(|| panic!("{} is missing", metric.name));
            assert_eq!(kind == "counter", metric.kind == Kind::Counter, "{}", metric.name);
            assert!(!samples.is_empty(), "{} has no sample", metric.name);
        }
        assert_eq!(families.len(), catalogue.len());
    }

    #[test]
    fn names_and_labels_follow_the_rules() {
        for metric in catalogue() {
            let name = metric.name;
            assert!(name.starts_with("fanfare_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{name}");
            for label in metric.labels {
                assert!(!["user", "group", "connection"].contains(label), "{name} has an unbounded label {label}");
            }
        }
    }

    #[test]
    fn sums_and_parts_come_out_of_the_counters() {
        let page = page();
        for line in [
            "fanfare_connections{hub=\"demo\"} 3",
            "fanfare_connections_limit 18900",
            "fanfare_messages_sent_total{kind=\"fanout\"} 1100",
            "fanfare_messages_sent_total{kind=\"direct\"} 55",
            "fanfare_messages_sent_total{kind=\"ping\"} 22",
            "fanfare_core_turns_total{core=\"0\"} 11",
            "fanfare_core_turns_total{core=\"1\"} 110",
            "fanfare_auth_failures_total{reason=\"expired\"} 2",
            "fanfare_admin_refused_total{reason=\"full\"} 1",
            "fanfare_tls_reloads_total{result=\"kept\"} 1",
            "fanfare_tls_certificate_end_seconds 2000000000",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }
}
