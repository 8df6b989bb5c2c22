//! The questions.

use crate::compare::case::{Case, Metric, PEERS, Work};
use crate::compare::contender::Contender;

/// Receivers in the questions about size.
const RECEIVERS: u32 = 1000;
/// Payload in the questions about receivers, bytes.
const PAYLOAD_BYTES: u32 = 512;
/// Most connections that are asked of servers with a descriptor for each: they may have 20,000 of them, and need some for
/// themselves.
const DESCRIPTORS_MAX: u32 = 15_000;
/// The sizes, bytes.
const SIZES: [u32; 5] = [64, 512, 2048, 16_384, 65_536];
/// The crowds.
const CROWDS: [u32; 5] = [100, 1000, 5000, DESCRIPTORS_MAX, 50_000];
/// Crowds of the questions about connections.
const CONNECTIONS: [u32; 4] = [1000, 5000, DESCRIPTORS_MAX, 50_000];
/// Readers that stop, beside as many that read.
const STALLED: [u32; 2] = [100, 1000];

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// What `--question` selects, and the name of its files.
    pub name: &'static str,
    /// In words.
    pub asks: &'static str,
    /// What is reported. The first that was measured is drawn.
    pub metrics: Vec<Metric>,
    /// What changes from point to point.
    pub axis: &'static str,
    /// From small to large.
    pub points: Vec<Point>,
    /// What a reader must know.
    pub remarks: Vec<&'static str>,
}

/// Where a question is asked.
#[derive(Clone, Debug)]
pub struct Point {
    /// As in the table.
    pub label: String,
    /// Place on the axis.
    pub at: f64,
    /// What is done there.
    pub case: Case,
}

impl Point {
    /// To whom the others are compared: Fanfare with as many shards as it takes here.
    pub fn fanfare(&self) -> Contender {
        let fanfare = self.case.contenders.iter().find(|who| who.shards().is_some());
        *fanfare.expect("every case has Fanfare")
    }
}

const FAR: &str = "At 50,000 there is only Fanfare, with four shards on the one core: a process may have 20,000 descriptors \
                   here, and all others need one for each connection.";

/// All questions.
pub fn all() -> Vec<Question> {
    let by_size = |burst, name, asks| {
        let label = |bytes: u32| if bytes < 1024 { format!("{bytes} B") } else { format!("{} KB", bytes / 1024) };
        let point = |bytes| point(name, label(bytes), bytes, broadcast(RECEIVERS, bytes, burst), RECEIVERS);
        Question {
            name,
            asks,
            metrics: vec![Metric::CpuUsPerDelivery],
            axis: "payload, bytes",
            points: SIZES.map(point).into(),
            remarks: vec![
                "1,000 receivers. Raw WebSocket messages are longer by what SignalR takes around its argument.",
            ],
        }
    };
    let by_receivers = |burst, name, asks| Question {
        name,
        asks,
        metrics: vec![Metric::CpuUsPerDelivery],
        axis: "receivers",
        points: CROWDS.map(|count| crowd(name, count, broadcast(count, PAYLOAD_BYTES, burst))).into(),
        remarks: vec!["512 bytes of payload.", FAR],
    };
    let mut questions = vec![
        by_size(1, "one-by-size", "What does a delivery cost, one message under way?"),
        by_size(16, "sixteen-by-size", "What does a delivery cost, sixteen messages published in one write?"),
        by_receivers(1, "one-by-receivers", "What does a delivery cost with more receivers, one message under way?"),
        by_receivers(
            16,
            "sixteen-by-receivers",
            "What does a delivery cost with more receivers, sixteen in one write?",
        ),
        Question {
            name: "idle",
            asks: "How much memory does an idle connection take?",
            metrics: vec![Metric::UserBytesPerConnection, Metric::TotalBytesPerConnection],
            axis: "connections",
            points: CONNECTIONS.map(|connections| crowd("idle", connections, Work::Idle { connections })).into(),
            remarks: vec![
                FAR,
                "User memory is the private memory of the server process, after a rehearsal with 100 connections. The \
                 kernel's is that of the whole machine, so that there is no value while other programs have sockets open.",
            ],
        },
        Question {
            name: "connect",
            asks: "What does it cost to accept a connection?",
            metrics: vec![Metric::CpuUsPerConnection],
            axis: "connections",
            points: CONNECTIONS.map(|connections| crowd("connect", connections, Work::Connect { connections })).into(),
            remarks: vec![FAR, "Accepted and upgraded; with Fanfare also the handshake of SignalR."],
        },
        slow(),
    ];
    for question in &mut questions {
        question.points.iter_mut().for_each(|point| point.case.metrics.clone_from(&question.metrics));
    }
    questions
}

fn slow() -> Question {
    let work =
        |stalled| Work::Stalled { healthy: stalled, stalled, argument_bytes: 2048, messages: 260, messages_per_s: 50 };
    Question {
        name: "slow",
        asks: "What does a reader cost that has stopped reading?",
        metrics: vec![Metric::BytesPerStalledReader, Metric::UserBytesPerStalledReader, Metric::HealthyP99Ratio],
        axis: "stalled readers",
        points: STALLED.map(|stalled| crowd("slow", stalled, work(stalled))).into(),
        remarks: vec![
            "As many readers that read, and 2 KB fifty times a second: 520 KiB are owed to each stalled one at the end. \
             User memory is the growth of the server's private memory; the queues are those of TCP in the whole machine, \
             so that there is no value while other programs have sockets open.",
            "The third table is one of times, and means something on quiet cores only; where the load generator was \
             not served in time it has no value.",
        ],
    }
}

/// Messages of a full visit: about as many bytes and deliveries whoever receives.
fn broadcast(connections: u32, argument_bytes: u32, burst: u32) -> Work {
    let deliveries = match (argument_bytes, burst) {
        (..=2048, 1) => 500_000,
        (..=2048, _) => 2_000_000,
        _ => 200_000,
    };
    let messages = (deliveries / connections).clamp(burst, 5000).next_multiple_of(burst);
    Work::Broadcast { connections, argument_bytes, burst, messages }
}

fn crowd(name: &str, connections: u32, work: Work) -> Point {
    let label = match connections {
        1000.. => format!("{},{:03}", connections / 1000, connections % 1000),
        _ => connections.to_string(),
    };
    point(name, label, connections, work, connections)
}

fn point(name: &str, label: String, at: u32, work: Work, connections: u32) -> Point {
    let contenders = match work {
        _ if connections > DESCRIPTORS_MAX => vec![Contender::Fanfare { shards: 4 }],
        Work::Idle { .. } => [&[Contender::FloorIdle][..], &PEERS[1..], &[Contender::TungsteniteDefault]].concat(),
        _ => [&PEERS[..], &[Contender::TungsteniteDefault]].concat(),
    };
    let case = Case {
        name: format!("{name}-{}", label.replace(' ', "")),
        row: 0,
        work,
        metrics: Vec::new(),
        contenders,
        bars: Vec::new(),
        in_quick: true,
        rounds: None,
    };
    Point { label, at: f64::from(at), case }
}

#[cfg(test)]
mod tests {
    use super::{DESCRIPTORS_MAX, all};
    use crate::compare::case::Work;
    use crate::compare::contender::Contender;
    use std::collections::BTreeSet;

    #[test]
    fn questions_are_distinct_and_ask_the_same_servers_at_every_point_that_they_can_reach() {
        let questions = all();
        let names: BTreeSet<&str> = questions.iter().map(|question| question.name).collect();
        assert_eq!(names.len(), questions.len());
        for question in questions {
            assert!(question.points.len() >= 2 && !question.metrics.is_empty(), "{}", question.name);
            assert!(question.points.is_sorted_by(|a, b| a.at < b.at), "{}", question.name);
            for point in &question.points {
                let reached = point.at <= f64::from(DESCRIPTORS_MAX) || question.axis.starts_with("payload");
                assert_eq!(point.case.contenders.len(), if reached { 7 } else { 1 }, "{}", point.case.name);
                assert!(matches!(point.fanfare(), Contender::Fanfare { .. }));
                if let Work::Broadcast { burst, messages, .. } = point.case.work {
                    assert!(messages >= burst && messages.is_multiple_of(burst), "{}", point.case.name);
                }
            }
        }
    }
}
