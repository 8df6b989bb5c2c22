//! What the log says about clients that were turned away, or sent away, because of a limit: summed, by limit, with the
//! remedy. Clients are told in the answer itself.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{CloseReason, RefuseReason, ShardMetrics, TlsFailure};

use crate::control::rt;
use crate::failure::{Code, Failure};
use crate::node::Node;
use crate::output::log;
use crate::units::{grouped, human_duration};

/// One line a limit in so long a time, however many were refused.
const PERIOD: Duration = Duration::from_secs(10);

/// A limit that turned somebody away: what is counted, and what is said.
struct Notice {
    code: Code,
    count: fn(&ShardMetrics) -> u64,
    what: &'static str,
    cause: &'static str,
    fix: &'static str,
}

fn refused(metrics: &ShardMetrics, reason: RefuseReason) -> u64 {
    metrics.refused_total[reason as usize]
}

fn closed(metrics: &ShardMetrics, reason: CloseReason) -> u64 {
    metrics.closed_total[reason as usize]
}

fn tls_failed(metrics: &ShardMetrics, failure: TlsFailure) -> u64 {
    metrics.tls_failed_total[failure as usize]
}

static NOTICES: [Notice; 10] = [
    Notice {
        code: Code::Full,
        count: |metrics| refused(metrics, RefuseReason::Full),
        what: "requests found no room (503)",
        cause: "--connections-max, or open files, are used up",
        fix: "raise --connections-max and LimitNOFILE=, or add a server",
    },
    Notice {
        code: Code::TooFast,
        count: |metrics| refused(metrics, RefuseReason::ConnectRate),
        what: "connects came too fast (503)",
        cause: "more clients came in a second than --connect-rate lets in",
        fix: "nothing after a restart, clients come again; raise --connect-rate if it goes on",
    },
    Notice {
        code: Code::TooFast,
        count: |metrics| refused(metrics, RefuseReason::NegotiateRate),
        what: "negotiates came too fast (503)",
        cause: "more came in a second than --negotiate-rate lets in",
        fix: "nothing after a restart, clients come again; raise --negotiate-rate if it goes on",
    },
    Notice {
        code: Code::Handshakes,
        count: |metrics| refused(metrics, RefuseReason::Handshakes),
        what: "connects met too many awaited handshakes (503; with TLS their sockets were closed)",
        cause: "somebody opens connections and says nothing, or the network is slow",
        fix: "look at fanfare_handshakes_pending and fanfare_tls_handshakes_pending; bound --connections-per-address, or raise --handshakes-max",
    },
    Notice {
        code: Code::TooMany,
        count: |metrics| refused(metrics, RefuseReason::UserConnections),
        what: "requests of users with too many connections (429)",
        cause: "a user has --connections-per-user already: many tabs, or a token that is shared",
        fix: "raise --connections-per-user if that is how it is used",
    },
    Notice {
        code: Code::TooMany,
        count: |metrics| refused(metrics, RefuseReason::AddressConnections),
        what: "requests from addresses with too many connections (429)",
        cause: "an address has --connections-per-address already: an office behind one address, a proxy, or an attack",
        fix: "name your proxies with --trust-proxy, or raise --connections-per-address",
    },
    Notice {
        code: Code::Throttled,
        count: |metrics| closed(metrics, CloseReason::Throttled),
        what: "clients were closed: they sent too much",
        cause: "over --uplink-messages or --uplink-bytes, with --uplink-over close",
        fix: "raise the rate, or use --uplink-over wait",
    },
    Notice {
        code: Code::Unfinished,
        count: |metrics| closed(metrics, CloseReason::MessageTimeout),
        what: "clients were closed: a message did not end in time",
        cause: "a message took longer than --message-timeout: a bad network, or somebody who sends halves on purpose",
        fix: "raise --message-timeout if messages are large and networks slow",
    },
    Notice {
        code: Code::NotTls,
        count: |metrics| tls_failed(metrics, TlsFailure::NotTls),
        what: "sockets were closed: they spoke no TLS on a TLS port",
        cause: "a URL with http:// or ws://, a health check of a load balancer, or a port scanner",
        fix: "use https:// or wss:// in URLs of this port",
    },
    Notice {
        code: Code::TlsRefused,
        count: |metrics| tls_failed(metrics, TlsFailure::Alert),
        what: "clients ended their TLS handshake",
        cause: "mostly they do not trust the certificate: expired, another name, or an issuer missing in the chain",
        fix: "check name, dates and chain of --tls-cert-file: openssl s_client -connect HOST:PORT -servername NAME",
    },
];

/// Looks at the counters for as long as the server runs.
pub(crate) async fn watch(node: Arc<Node>) {
    // All zero: the first may have been turned away before this task had its first turn.
    let mut seen = counts(&ShardMetrics::default());
    loop {
        rt::sleep(PERIOD).await;
        let now = counts(&node.metrics().total());
        for line in news(&seen, &now) {
            log(&line);
        }
        seen = now;
    }
}

fn counts(metrics: &ShardMetrics) -> Vec<u64> {
    NOTICES.iter().map(|notice| (notice.count)(metrics)).collect()
}

/// What there is to say about the difference.
fn news(before: &[u64], now: &[u64]) -> Vec<String> {
    let changed = NOTICES.iter().zip(before.iter().zip(now)).filter(|(_, (before, now))| now > before);
    let line = |(notice, (before, now)): (&Notice, (&u64, &u64))| {
        let what = format!("{} {} in {}", grouped(now - before), notice.what, human_duration(PERIOD));
        Failure::new(notice.code, what).fact("cause", notice.cause).fix(notice.fix).to_string()
    };
    changed.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_on_a_tls_port_is_a_line() {
        let mut metrics = ShardMetrics::default();
        let before = counts(&metrics);
        metrics.tls_failed_total[TlsFailure::NotTls as usize] = 3;
        let lines = news(&before, &counts(&metrics));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("error FF4120  3 sockets") && lines[0].contains("https://"), "{}", lines[0]);
    }

    #[test]
    fn many_refusals_are_one_line_with_cause_and_remedy() {
        let mut metrics = ShardMetrics::default();
        let before = counts(&metrics);
        metrics.refused_total[RefuseReason::ConnectRate as usize] = 1_204;
        let lines = news(&before, &counts(&metrics));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("error FF4110  1 204 connects came too fast (503) in 10.0 s"), "{}", lines[0]);
        assert!(lines[0].contains("cause") && lines[0].contains("--connect-rate"), "{}", lines[0]);
        assert!(news(&counts(&metrics), &counts(&metrics)).is_empty(), "nothing new, nothing said");
    }
}
