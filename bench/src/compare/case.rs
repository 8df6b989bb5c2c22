//! What is compared: the cases, and the bars that Fanfare promised to stay under.

use std::fmt;

use super::contender::Contender;

/// A measured quantity. Smaller is better for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Server CPU for one message delivered to one connection.
    CpuUsPerDelivery,
    /// Server CPU for one connection accepted, upgraded and, in a hub, handshaken.
    CpuUsPerConnection,
    /// Memory of the server process that one idle connection adds.
    UserBytesPerConnection,
    /// The same plus the kernel's memory for the server's end of the connection.
    TotalBytesPerConnection,
    /// 99th percentile of the delay of healthy receivers while others stall, as a multiple of the same without them.
    HealthyP99Ratio,
    /// Memory, of the server process and of TCP queues, that one stalled reader holds at most.
    BytesPerStalledReader,
    /// Total memory of an idle connection as a multiple of a bare accepted socket, which the load generator weighs in
    /// the same run. For more connections than a server with a descriptor for each can hold.
    TotalPerBareSocket,
    /// Deliveries missing, doubled, reordered or damaged, and connections that failed or were lost.
    LedgerFaults,
    /// Answers to polls for one session and one burst. A burst that leaves as one answer makes it 1.
    PollAnswersPerBurst,
    /// Server CPU for one negotiate that nobody follows up.
    CpuUsPerNegotiate,
    /// How much the server's resident set has grown when all negotiates were answered.
    ResidentGrowthBytes,
    /// Stalled readers that owe more than the server allows and are still not counted as closed for it.
    StalledLeft,
}

impl Metric {
    /// Its name in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Metric::CpuUsPerDelivery => "cpu_us_per_delivery",
            Metric::CpuUsPerConnection => "cpu_us_per_connection",
            Metric::UserBytesPerConnection => "user_bytes_per_connection",
            Metric::TotalBytesPerConnection => "total_bytes_per_connection",
            Metric::HealthyP99Ratio => "healthy_p99_ratio",
            Metric::BytesPerStalledReader => "bytes_per_stalled_reader",
            Metric::TotalPerBareSocket => "total_per_bare_socket",
            Metric::LedgerFaults => "ledger_faults",
            Metric::PollAnswersPerBurst => "poll_answers_per_burst",
            Metric::CpuUsPerNegotiate => "cpu_us_per_negotiate",
            Metric::ResidentGrowthBytes => "resident_growth_bytes",
            Metric::StalledLeft => "stalled_left",
        }
    }

    /// Its name above a table.
    pub fn title(self) -> &'static str {
        match self {
            Metric::CpuUsPerDelivery => "CPU us per delivery",
            Metric::CpuUsPerConnection => "CPU us per connection opened",
            Metric::UserBytesPerConnection => "user B per idle connection",
            Metric::TotalBytesPerConnection => "kernel + user B per idle connection",
            Metric::HealthyP99Ratio => "healthy p99, with stalled readers : without",
            Metric::BytesPerStalledReader => "queued + user B per stalled reader",
            Metric::TotalPerBareSocket => "kernel + user : bare socket",
            Metric::LedgerFaults => "faults of ledger, connections",
            Metric::PollAnswersPerBurst => "answers per session and burst",
            Metric::CpuUsPerNegotiate => "CPU us per negotiate",
            Metric::ResidentGrowthBytes => "growth of the resident set, B",
            Metric::StalledLeft => "stalled readers not closed",
        }
    }

    /// Digits after the point that mean something.
    pub fn decimals(self) -> usize {
        match self {
            Metric::CpuUsPerDelivery => 3,
            Metric::PollAnswersPerBurst => 4,
            Metric::CpuUsPerConnection => 1,
            Metric::HealthyP99Ratio | Metric::TotalPerBareSocket | Metric::CpuUsPerNegotiate => 2,
            Metric::UserBytesPerConnection | Metric::TotalBytesPerConnection | Metric::BytesPerStalledReader => 0,
            Metric::LedgerFaults | Metric::StalledLeft | Metric::ResidentGrowthBytes => 0,
        }
    }

    /// Whether a promise about it must hold in every round, and no round may have failed; else the median counts.
    pub fn in_every_round(self) -> bool {
        matches!(self, Metric::LedgerFaults | Metric::StalledLeft | Metric::PollAnswersPerBurst)
    }
}

/// What is done to a server in one visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Messages to all connections, `burst` published in one write, the next write when every receiver has all of it.
    Broadcast {
        /// Receivers, beside the publisher.
        connections: u32,
        /// The one argument of the hub message. Servers of the raw dialect get as much more as the hub message around
        /// it takes, so that all servers put the same number of bytes on the wire.
        argument_bytes: u32,
        /// Messages in one write.
        burst: u32,
        /// Messages in a full (not quick) visit.
        messages: u32,
    },
    /// Connections opened and held until the last one is.
    Connect {
        /// How many.
        connections: u32,
    },
    /// Memory while nothing happens.
    Idle {
        /// How many.
        connections: u32,
    },
    /// Healthy receivers beside others that stopped reading.
    Stalled {
        /// Receivers that read.
        healthy: u32,
        /// Connections that do not.
        stalled: u32,
        /// As for a broadcast.
        argument_bytes: u32,
        /// Messages in a visit, quick or not. Their bytes are what a stalled reader is owed at the end.
        messages: u32,
        /// Sent at this pace, whoever has received what.
        messages_per_s: u32,
    },
    /// More connections than the descriptor limit, and a few broadcasts to all of them, one after the other.
    Reach {
        /// How many.
        connections: u32,
        /// As for a broadcast.
        argument_bytes: u32,
        /// Messages, quick or not.
        messages: u32,
    },
    /// Tokens asked for that nobody uses.
    Negotiate {
        /// Keep-alive sockets, each with one request under way.
        sockets: u32,
        /// All together, quick or not: what a server keeps of each shows in the sum.
        requests: u32,
    },
    /// Broadcasts at a part of what the server's core can carry, whoever has received what.
    Steady {
        /// Receivers, beside the publisher.
        connections: u32,
        /// As for a broadcast.
        argument_bytes: u32,
        /// Percent of the capacity, which is measured first: deliveries in a second of the server's CPU.
        load_percent: u32,
        /// For so long in a full (not quick) visit.
        seconds: u32,
    },
}

/// A promise: a metric of one contender, as a multiple of another's in the same round or as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Of what.
    pub metric: Metric,
    /// Who promises.
    pub subject: Contender,
    /// Compared to whom; `None` bounds the value itself.
    pub against: Option<Contender>,
    /// Largest value that keeps it.
    pub at_most: f64,
}

/// One line of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What `--case` selects, for example `w1-512B-1000`.
    pub name: String,
    /// Row in the table of promised ratios (`docs/performance.md`).
    pub row: u8,
    /// What is done.
    pub work: Work,
    /// What is reported.
    pub metrics: Vec<Metric>,
    /// To whom.
    pub contenders: Vec<Contender>,
    /// What Fanfare must reach.
    pub bars: Vec<Bar>,
    /// Whether `--quick` without `--case` includes it.
    pub in_quick: bool,
    /// Rounds of a full run, if the promise says how many.
    pub rounds: Option<u32>,
}

impl Case {
    /// Whether `--case SELECTOR` means it: the beginning of its name, or `row` and its row.
    pub fn is_meant_by(&self, selector: &str) -> bool {
        self.name.starts_with(selector) || selector.strip_prefix("row") == Some(&self.row.to_string())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.work {
            Work::Broadcast { connections, argument_bytes, burst: 1, .. } => {
                write!(f, "{}: {argument_bytes} B to {connections}, one broadcast under way", self.name)
            }
            Work::Broadcast { connections, argument_bytes, burst, .. } => {
                write!(f, "{}: {argument_bytes} B to {connections}, {burst} broadcasts published together", self.name)
            }
            Work::Connect { connections } => write!(f, "{}: {connections} connections opened", self.name),
            Work::Idle { connections } => write!(f, "{}: {connections} idle connections", self.name),
            Work::Stalled { healthy, stalled, argument_bytes, messages, .. } => {
                let owed_kib = argument_bytes / 1024 * messages;
                write!(f, "{}: {healthy} readers beside {stalled} stalled ones owed {owed_kib} KiB each", self.name)
            }
            Work::Reach { connections, argument_bytes, messages } => {
                write!(f, "{}: {messages} broadcasts of {argument_bytes} B to {connections}", self.name)
            }
            Work::Negotiate { sockets, requests } => {
                write!(f, "{}: {requests} negotiates on {sockets} sockets, nobody connects", self.name)
            }
            Work::Steady { connections, argument_bytes, load_percent, seconds } => write!(
                f,
                "{}: {argument_bytes} B to {connections} at {load_percent} % of capacity for {seconds} s",
                self.name
            ),
        }
    }
}

const FANFARE: Contender = Contender::Fanfare { shards: 1 };
const FANFARE_TWO_SHARDS: Contender = Contender::Fanfare { shards: 2 };

/// Every case, in the order of the promised table.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for connections in [1000, 9000] {
        cases.extend([128, 512, 2048].map(|argument_bytes| window_1(connections, argument_bytes)));
    }
    for (connections, sizes) in [(1000, &[128, 512, 1024, 2048, 16_384][..]), (9000, &[128, 512, 2048][..])] {
        cases.extend(sizes.iter().map(|&argument_bytes| window_16(connections, argument_bytes)));
    }
    cases.extend([large(), idle(9000), idle(50_000), connect(), reach(), stalled()]);
    cases.extend([two_shards(1000), two_shards(9000), steady()]);
    cases.extend([without_websocket(1), without_websocket(16), idle_without_websocket(), negotiate()]);
    cases.extend([over_tls(1), over_tls(16), idle_over_tls(), connect_over_tls()]);
    cases
}

fn against(metric: Metric, contender: Contender, at_most: f64) -> Bar {
    Bar { metric, subject: FANFARE, against: Some(contender), at_most }
}

fn broadcast(row: u8, window: &str, connections: u32, argument_bytes: u32, burst: u32, deliveries: u32) -> Case {
    let size =
        if argument_bytes >= 1024 { format!("{}KB", argument_bytes / 1024) } else { format!("{argument_bytes}B") };
    let contenders =
        vec![Contender::FloorSend, Contender::FloorRing, Contender::Uws, FANFARE, Contender::Nchan, Contender::Ws];
    Case {
        name: format!("{window}-{size}-{connections}"),
        row,
        work: Work::Broadcast {
            connections,
            argument_bytes,
            burst,
            messages: (deliveries / connections).next_multiple_of(burst),
        },
        metrics: vec![Metric::CpuUsPerDelivery],
        contenders,
        bars: Vec::new(),
        in_quick: connections == 1000 && argument_bytes == 512,
        rounds: None,
    }
}

/// Row 1.
fn window_1(connections: u32, argument_bytes: u32) -> Case {
    let mut case = broadcast(1, "w1", connections, argument_bytes, 1, 500_000);
    case.bars = vec![
        against(Metric::CpuUsPerDelivery, Contender::FloorSend, 1.10),
        against(Metric::CpuUsPerDelivery, Contender::Uws, 1.00),
    ];
    case
}

/// Row 2.
fn window_16(connections: u32, argument_bytes: u32) -> Case {
    let deliveries = if argument_bytes > 2048 { 500_000 } else { 2_000_000 };
    let mut case = broadcast(2, "w16", connections, argument_bytes, 16, deliveries);
    case.bars = vec![against(Metric::CpuUsPerDelivery, Contender::FloorSend, 1.20)];
    let uws_at_most = match argument_bytes {
        128 => Some(0.95),
        1024 => Some(0.90),
        2048 => Some(0.60),
        16_384 => Some(0.50),
        _ => None,
    };
    case.bars.extend(uws_at_most.map(|at_most| against(Metric::CpuUsPerDelivery, Contender::Uws, at_most)));
    case
}

/// Row 3.
fn large() -> Case {
    let mut case = broadcast(3, "w1", 1000, 65_536, 1, 100_000);
    case.bars = vec![against(Metric::CpuUsPerDelivery, Contender::FloorSend, 0.75)];
    case
}

/// Row 4. The peers and the floor run out of descriptors before 50,000; there the load generator's bare sockets serve.
fn idle(connections: u32) -> Case {
    let user_bar = Bar { metric: Metric::UserBytesPerConnection, subject: FANFARE, against: None, at_most: 200.0 };
    let few = connections <= 9000;
    let contenders = if few {
        vec![Contender::FloorIdle, Contender::FloorSend, Contender::Uws, FANFARE, Contender::Nchan, Contender::Ws]
    } else {
        vec![Contender::Fanfare { shards: 4 }]
    };
    let mut bars = vec![user_bar, against(Metric::TotalBytesPerConnection, Contender::FloorIdle, 1.12)];
    if !few {
        let user_bar = Bar { subject: contenders[0], ..user_bar };
        bars = vec![user_bar, Bar { metric: Metric::TotalPerBareSocket, at_most: 1.12, ..user_bar }];
    }
    Case {
        name: format!("idle-{connections}"),
        row: 4,
        work: Work::Idle { connections },
        metrics: vec![Metric::UserBytesPerConnection, Metric::TotalBytesPerConnection, Metric::TotalPerBareSocket],
        contenders,
        bars,
        in_quick: false,
        rounds: None,
    }
}

/// Row 5.
fn connect() -> Case {
    Case {
        name: "connect-9000".to_owned(),
        row: 5,
        work: Work::Connect { connections: 9000 },
        metrics: vec![Metric::CpuUsPerConnection],
        contenders: vec![Contender::FloorSend, Contender::Uws, FANFARE, Contender::Nchan, Contender::Ws],
        bars: vec![against(Metric::CpuUsPerConnection, Contender::Uws, 1.30)],
        in_quick: true,
        rounds: None,
    }
}

/// Row 6. One ring holds as many connections as the process may have descriptors, so it takes six under a limit of
/// 20,000.
fn reach() -> Case {
    let contender = Contender::Fanfare { shards: 6 };
    Case {
        name: "reach-100000".to_owned(),
        row: 6,
        work: Work::Reach { connections: 100_000, argument_bytes: 512, messages: 5 },
        metrics: vec![Metric::LedgerFaults, Metric::CpuUsPerDelivery, Metric::CpuUsPerConnection],
        contenders: vec![contender],
        bars: vec![Bar { metric: Metric::LedgerFaults, subject: contender, against: None, at_most: 0.0 }],
        in_quick: false,
        rounds: Some(1),
    }
}

/// Row 9.
fn steady() -> Case {
    Case {
        name: "steady-512B-1000".to_owned(),
        row: 9,
        work: Work::Steady { connections: 1000, argument_bytes: 512, load_percent: 80, seconds: 60 },
        metrics: vec![Metric::LedgerFaults],
        contenders: vec![FANFARE],
        bars: vec![Bar { metric: Metric::LedgerFaults, subject: FANFARE, against: None, at_most: 0.0 }],
        in_quick: false,
        rounds: Some(10),
    }
}

/// Row 7. 2 KiB fifty times a second for some five seconds: half a MiB for each stalled reader, a third of a core.
fn stalled() -> Case {
    let bar = |metric, at_most| Bar { metric, subject: FANFARE, against: None, at_most };
    Case {
        name: "stalled-1000".to_owned(),
        row: 7,
        work: Work::Stalled { healthy: 1000, stalled: 1000, argument_bytes: 2048, messages: 260, messages_per_s: 50 },
        metrics: vec![Metric::HealthyP99Ratio, Metric::BytesPerStalledReader, Metric::StalledLeft],
        contenders: vec![FANFARE, Contender::FloorSend, Contender::Uws],
        bars: vec![
            bar(Metric::HealthyP99Ratio, 1.20),
            bar(Metric::BytesPerStalledReader, 32.0 * 1024.0),
            bar(Metric::StalledLeft, 0.0),
        ],
        in_quick: false,
        rounds: None,
    }
}

/// Row 8.
fn two_shards(connections: u32) -> Case {
    let mut case = broadcast(8, "shards-w1", connections, 512, 1, 500_000);
    case.contenders = vec![FANFARE, FANFARE_TWO_SHARDS];
    case.bars = vec![Bar { subject: FANFARE_TWO_SHARDS, ..against(Metric::CpuUsPerDelivery, FANFARE, 1.05) }];
    case.in_quick = false;
    case
}

/// Row 10: the same broadcast to receivers with a WebSocket and to those without. The promised costs are of one broadcast
/// under way; sixteen published together show that a burst is one answer.
fn without_websocket(burst: u32) -> Case {
    let mut case = broadcast(10, &format!("i3-w{burst}"), 1000, 512, burst, 500_000);
    let polls = |metric, at_most| Bar { metric, subject: Contender::FanfarePolls, against: None, at_most };
    let cost = |subject, at_most| Bar { subject, ..against(Metric::CpuUsPerDelivery, FANFARE, at_most) };
    case.contenders = vec![FANFARE, Contender::FanfareEvents, Contender::FanfarePolls];
    case.metrics = vec![Metric::CpuUsPerDelivery, Metric::PollAnswersPerBurst, Metric::LedgerFaults];
    if burst == 1 {
        case.bars = vec![cost(Contender::FanfareEvents, 1.05), cost(Contender::FanfarePolls, 3.0)];
    }
    case.bars.extend([polls(Metric::PollAnswersPerBurst, 1.0), polls(Metric::LedgerFaults, 0.0)]);
    case.bars.push(Bar { subject: Contender::FanfareEvents, ..polls(Metric::LedgerFaults, 0.0) });
    case.in_quick = false;
    case
}

/// Row 11.
fn idle_without_websocket() -> Case {
    let bar = |subject, at_most| Bar { subject, ..against(Metric::TotalBytesPerConnection, FANFARE, at_most) };
    Case {
        name: "i3-idle-9000".to_owned(),
        row: 11,
        contenders: vec![FANFARE, Contender::FanfareEvents, Contender::FanfarePolls],
        bars: vec![bar(Contender::FanfareEvents, 1.2), bar(Contender::FanfarePolls, 1.3)],
        ..idle(9000)
    }
}

/// Row 12.
fn negotiate() -> Case {
    let bar =
        Bar { metric: Metric::ResidentGrowthBytes, subject: FANFARE, against: None, at_most: f64::from((1 << 20) - 1) };
    Case {
        name: "i3-negotiate-1000000".to_owned(),
        row: 12,
        work: Work::Negotiate { sockets: 64, requests: 1_000_000 },
        metrics: vec![Metric::ResidentGrowthBytes, Metric::CpuUsPerNegotiate],
        contenders: vec![FANFARE],
        bars: vec![bar],
        in_quick: false,
        rounds: None,
    }
}

const FANFARE_PAIR: [Contender; 2] = [Contender::FanfareRelayed, Contender::FanfareTls];

/// Row 13: the same broadcast with and without TLS, both through the relay. Nothing is promised: each delivery is encrypted
/// for itself.
fn over_tls(burst: u32) -> Case {
    let mut case = broadcast(13, &format!("i3-tls-w{burst}"), 1000, 512, burst, 100_000 * burst.min(4));
    case.contenders = FANFARE_PAIR.to_vec();
    case.metrics = vec![Metric::CpuUsPerDelivery, Metric::LedgerFaults];
    case.bars =
        FANFARE_PAIR.map(|subject| Bar { metric: Metric::LedgerFaults, subject, against: None, at_most: 0.0 }).to_vec();
    case.in_quick = false;
    case
}

/// Row 13. The kernel's memory is left out: the relay's sockets would be in it.
fn idle_over_tls() -> Case {
    Case {
        name: "i3-tls-idle-4000".to_owned(),
        row: 13,
        metrics: vec![Metric::UserBytesPerConnection],
        contenders: FANFARE_PAIR.to_vec(),
        bars: Vec::new(),
        ..idle(4000)
    }
}

/// Row 13. Full handshakes: the relay has no tickets.
fn connect_over_tls() -> Case {
    Case {
        name: "i3-tls-connect-1000".to_owned(),
        row: 13,
        work: Work::Connect { connections: 1000 },
        contenders: FANFARE_PAIR.to_vec(),
        bars: Vec::new(),
        in_quick: false,
        ..connect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Work, all};
    use std::collections::BTreeSet;

    #[test]
    fn names_are_distinct_and_rows_complete() {
        let cases = all();
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        assert!(names.contains("w1-512B-1000") && names.contains("w16-16KB-1000"), "{names:?}");
        let rows: BTreeSet<u8> = cases.iter().map(|case| case.row).collect();
        assert_eq!(rows, (1..=13).collect());
    }

    #[test]
    fn a_row_selects_all_its_cases_and_no_other() {
        let meant = |selector: &str| -> Vec<String> {
            all().into_iter().filter(|case| case.is_meant_by(selector)).map(|case| case.name).collect()
        };
        assert_eq!(meant("row4"), ["idle-9000", "idle-50000"]);
        assert_eq!(meant("row1").len(), 6);
        assert_eq!(meant("i3").len(), 8);
        assert_eq!(
            meant("row13"),
            ["i3-tls-w1-512B-1000", "i3-tls-w16-512B-1000", "i3-tls-idle-4000", "i3-tls-connect-1000"]
        );
        assert_eq!(meant("row10"), ["i3-w1-512B-1000", "i3-w16-512B-1000"]);
        assert_eq!(meant("w16-512B-1000"), ["w16-512B-1000"]);
        assert_eq!(meant("row"), Vec::<String>::new());
    }

    #[test]
    fn bars_compare_who_takes_part_by_what_is_measured() {
        for case in all() {
            for bar in &case.bars {
                assert!(case.contenders.contains(&bar.subject), "{}", case.name);
                assert!(bar.against.is_none_or(|reference| case.contenders.contains(&reference)), "{}", case.name);
                assert!(case.metrics.contains(&bar.metric), "{}", case.name);
            }
            if let Work::Broadcast { burst, messages, .. } = case.work {
                assert!(messages >= burst && messages.is_multiple_of(burst), "{}", case.name);
            }
        }
    }
}
