//! The receiving connections: how many of which class, and who drives them.

use crate::failure::Failure;
use crate::job::{Dialect, SLOTS_PER_RING_MAX};
use crate::target::SourceAddresses;
use fanfare_protocol::negotiate::Transport;
use std::fmt;
use std::time::Duration;

/// Classes of one run.
pub const CLASSES_MAX: usize = 32;

/// How long a connection of a class stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stay {
    /// To the end of the run, with a line in the ledger.
    Whole,
    /// A time drawn for each life; then it says good-bye and comes back. No line in the ledger.
    Life(Lifetime),
    /// Until it is cut; then it comes back. No line in the ledger.
    UntilCut,
}

/// How lives are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lifetime {
    /// All the same.
    Fixed(Duration),
    /// Exponential with this mean: whoever is there has no memory of how long.
    Exponential(Duration),
    /// Between the two.
    Uniform(Duration, Duration),
}

impl Lifetime {
    /// Parses `5s`, `exp:5s`, `uniform:1s-9s`.
    pub fn parse(text: &str) -> Result<Self, String> {
        use crate::quantity::parse_duration;
        if let Some(mean) = text.strip_prefix("exp:") {
            return parse_duration(mean).map(Self::Exponential);
        }
        if let Some(range) = text.strip_prefix("uniform:") {
            let (from, to) = range.split_once('-').ok_or_else(|| format!("'{range}' is not a range: write 1s-9s"))?;
            let (from, to) = (parse_duration(from)?, parse_duration(to)?);
            return if from <= to {
                Ok(Self::Uniform(from, to))
            } else {
                Err(format!("'{range}' ends before it begins"))
            };
        }
        parse_duration(text).map(Self::Fixed).map_err(|error| format!("{error}; or exp:5s, or uniform:1s-9s"))
    }

    /// One life.
    pub fn draw(self, random: &mut crate::payload::Random) -> Duration {
        match self {
            Self::Fixed(life) => life,
            // A life of twenty means would outlast the run and say nothing.
            Self::Exponential(mean) => mean.mul_f64(-random.next_unit().ln()).min(mean * 20),
            Self::Uniform(from, to) => from + (to - from).mul_f64(random.next_unit()),
        }
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(life) => write!(f, "{life:?}"),
            Self::Exponential(mean) => write!(f, "exp:{mean:?}"),
            Self::Uniform(from, to) => write!(f, "uniform:{from:?}-{to:?}"),
        }
    }
}

/// Connections that are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// For the report and for thresholds.
    pub name: String,
    /// How many.
    pub connections: u32,
    /// What they receive over.
    pub transport: Transport,
    /// What is spoken.
    pub dialect: Dialect,
    /// How long they stay.
    pub stay: Stay,
    /// They are members of destinations; if not, nothing of the load is for them.
    pub member: bool,
}

impl Class {
    /// Whether its receivers have a line in the ledger.
    pub fn is_steady(&self) -> bool {
        self.stay == Stay::Whole
    }
}

/// The receiving connections and who drives them.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Receivers, all classes together.
    pub connections: u32,
    /// Their classes, at least one.
    pub classes: Vec<Class>,
    /// New connections per second over all workers; `None`: as fast as the concurrency allows.
    pub connect_rate: Option<f64>,
    /// Connections being set up at a time, over all workers.
    pub connect_concurrency: u32,
    /// From the first packet to an open connection.
    pub connect_timeout: Duration,
    /// A connection that hears nothing for longer is one that the SDK would give up.
    pub server_timeout: Duration,
    /// How long each turn of a worker is drawn out on purpose; 0 but in tests of the verdict.
    pub handicap: Duration,
    /// Local addresses.
    pub sources: SourceAddresses,
    /// Threads, one ring each.
    pub workers: u32,
    /// Cores the workers are pinned to, in turn; empty: not pinned.
    pub cores: Vec<usize>,
    /// Between two hub Pings of one connection; `None`: none are sent.
    pub ping_interval: Option<Duration>,
}

impl Fleet {
    /// Workers for `connections` and `cores` when the user does not say: one a core, more when the slots demand it.
    pub fn workers_needed(connections: u32, cores: usize) -> u32 {
        connections.div_ceil(SLOTS_PER_RING_MAX).max(cores as u32).max(1)
    }

    /// Receivers of worker `index`.
    pub fn share(&self, index: u32) -> u32 {
        self.connections / self.workers + u32::from(index < self.connections % self.workers)
    }

    /// Number of worker `index`'s first receiver.
    pub fn first(&self, index: u32) -> u32 {
        (0..index).map(|earlier| self.share(earlier)).sum()
    }

    /// Class by receiver: interleaved, so that every worker and every stretch of time gets its part of each class.
    pub fn classes_by_receiver(&self) -> Vec<u8> {
        let all = u64::from(self.connections.max(1));
        let mut owed = vec![0u64; self.classes.len()];
        let mut left: Vec<u32> = self.classes.iter().map(|class| class.connections).collect();
        let mut out = Vec::with_capacity(self.connections as usize);
        for _ in 0..self.connections {
            for (owed, class) in owed.iter_mut().zip(&self.classes) {
                *owed += u64::from(class.connections);
            }
            // Whoever is owed most is next.
            let next = (0..owed.len()).filter(|&at| left[at] > 0).max_by_key(|&at| (owed[at], std::cmp::Reverse(at)));
            let next = next.unwrap_or(0);
            owed[next] = owed[next].saturating_sub(all);
            left[next] = left[next].saturating_sub(1);
            out.push(next as u8);
        }
        out
    }

    /// Whether some connections come and go.
    pub fn has_guests(&self) -> bool {
        self.classes.iter().any(|class| !class.is_steady())
    }

    /// Receivers with a line in the ledger.
    pub fn steady(&self) -> u32 {
        self.classes.iter().filter(|class| class.is_steady()).map(|class| class.connections).sum()
    }

    /// Receivers that the load is for.
    pub fn expecting(&self) -> u32 {
        self.classes.iter().filter(|class| class.is_steady() && class.member).map(|class| class.connections).sum()
    }

    /// Whether any class needs HTTP beside its stream.
    pub fn needs_poster(&self) -> bool {
        self.classes.iter().any(|class| class.transport != Transport::WebSockets)
    }

    /// Refuses classes that nothing can carry.
    pub fn check_classes(&self) -> Result<(), Failure> {
        if self.classes.len() > CLASSES_MAX {
            let cause = format!("{} classes of connections are more than {CLASSES_MAX}", self.classes.len());
            return Err(Failure::usage(cause, "--transport / --protocol / [[clients]]", "use fewer"));
        }
        for class in &self.classes {
            let transport = class.transport;
            if transport != Transport::WebSockets && !class.dialect.is_signalr() {
                return Err(Failure::usage(
                    format!("{} is a way of SignalR", transport.name()),
                    "--transport",
                    "use --dialect signalr-json, or leave --transport out",
                ));
            }
            if class.dialect == Dialect::SignalrMessagepack && !transport.accepts_binary() {
                return Err(Failure::usage(
                    format!("{} carries text, MessagePack is binary", transport.name()),
                    "--transport",
                    "use --dialect signalr-json, or --transport long-polling",
                ));
            }
        }
        Ok(())
    }
}

/// Splits `total` by weights, largest remainders first, so that the parts add up.
pub fn split(total: u32, weights: &[f64]) -> Vec<u32> {
    let sum: f64 = weights.iter().sum();
    let exact: Vec<f64> = weights.iter().map(|weight| f64::from(total) * weight / sum).collect();
    let mut parts: Vec<u32> = exact.iter().map(|part| part.floor() as u32).collect();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|&left, &right| exact[right].fract().total_cmp(&exact[left].fract()).then(left.cmp(&right)));
    let missing = total.saturating_sub(parts.iter().sum());
    order.into_iter().cycle().take(missing as usize).for_each(|at| parts[at] += 1);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Random;

    fn class(connections: u32) -> Class {
        Class {
            name: "c".to_owned(),
            connections,
            transport: Transport::WebSockets,
            dialect: Dialect::SignalrJson,
            stay: Stay::Whole,
            member: true,
        }
    }

    fn fleet(classes: &[u32], workers: u32) -> Fleet {
        Fleet {
            connections: classes.iter().sum(),
            classes: classes.iter().map(|&count| class(count)).collect(),
            connect_rate: None,
            connect_concurrency: 1,
            connect_timeout: Duration::from_secs(1),
            server_timeout: Duration::from_secs(30),
            handicap: Duration::ZERO,
            sources: SourceAddresses::Auto,
            workers,
            cores: Vec::new(),
            ping_interval: None,
        }
    }

    #[test]
    fn classes_are_interleaved_and_complete() {
        let fleet = fleet(&[90, 5, 5], 3);
        let classes = fleet.classes_by_receiver();
        let count = |range: std::ops::Range<usize>, class| classes[range].iter().filter(|&&c| c == class).count();
        assert_eq!((count(0..100, 0), count(0..100, 1), count(0..100, 2)), (90, 5, 5));
        for half in [0..50, 50..100] {
            assert!((2..=3).contains(&count(half.clone(), 1)) && (2..=3).contains(&count(half, 2)));
        }
        assert_eq!((fleet.first(0), fleet.first(1), fleet.first(2)), (0, 34, 67));
    }

    #[test]
    fn parts_add_up() {
        assert_eq!(split(100, &[90.0, 5.0, 5.0]), [90, 5, 5]);
        assert_eq!(split(10, &[1.0, 1.0, 1.0]), [4, 3, 3]);
        assert_eq!(split(1, &[0.9, 0.1]), [1, 0]);
        assert_eq!(split(7, &[1.0]), [7]);
    }

    #[test]
    fn lives_are_drawn_as_they_are_written() {
        let mut random = Random::new(5);
        let mut mean = |text: &str| {
            let life = Lifetime::parse(text).expect(text);
            (0..4000).map(|_| life.draw(&mut random).as_secs_f64()).sum::<f64>() / 4000.0
        };
        assert!((mean("5s") - 5.0).abs() < 1e-9);
        assert!((mean("exp:5s") - 5.0).abs() < 0.4);
        assert!((mean("uniform:1s-9s") - 5.0).abs() < 0.2);
        for (text, part) in [("soon", "number"), ("uniform:5s", "range"), ("uniform:9s-1s", "ends before")] {
            let error = Lifetime::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
