//! What to send when. The whole plan follows from its options: nothing about the run can move a send time.

use crate::payload::Random;

/// How bursts are spaced in an open loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Equal distances.
    Even,
    /// Exponential distances with the same mean: what independent senders look like together.
    Poisson,
}

/// Where a plan ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After this many messages.
    Messages(u64),
    /// At the first burst due after this long.
    Elapsed {
        /// Nanoseconds from the start of the plan.
        ns: u64,
    },
}

/// Rates one after the other, the last one to the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    rates: [f64; STEPS_MAX],
    count: u8,
    each_ns: u64,
}

/// Steps of one plan.
pub const STEPS_MAX: usize = 16;

impl Steps {
    /// Messages per second, each for `each_ns`. `None`: there are none, or more than [`STEPS_MAX`].
    pub fn new(rates: &[f64], each_ns: u64) -> Option<Self> {
        let mut all = [0.0; STEPS_MAX];
        all.get_mut(..rates.len())?.copy_from_slice(rates);
        (!rates.is_empty() && each_ns > 0).then_some(Self { rates: all, count: rates.len() as u8, each_ns })
    }

    /// The rate at a time.
    fn at(&self, ns: f64) -> f64 {
        let step = (ns / self.each_ns as f64) as usize;
        self.rates[step.min(usize::from(self.count) - 1)]
    }

    /// All of them.
    pub fn duration_ns(&self) -> u64 {
        self.each_ns * u64::from(self.count)
    }

    /// The same steps, each rate times `factor`.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        self.rates.iter_mut().for_each(|rate| *rate *= factor);
        self
    }
}

/// Who decides the pace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Send times are fixed beforehand: `messages_per_s` over all publishers.
    Open {
        /// Messages, not bursts.
        messages_per_s: f64,
        /// Spacing.
        arrival: Arrival,
    },
    /// The next burst goes out when every receiver has the last one. For CPU per delivery, not for latency.
    Window,
}

/// How destinations are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One after the other; each publisher goes to all of them.
    Round,
    /// By chance, all alike.
    Random,
}

/// Everything a plan is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanOptions {
    /// Open or closed loop.
    pub pace: Pace,
    /// Messages published together, in one write.
    pub burst: u32,
    /// Bursts go round these.
    pub publishers: u16,
    /// Each burst goes to one of these.
    pub destinations: u32,
    /// How destinations are chosen.
    pub order: Order,
    /// Rates that take the place of the open loop's one.
    pub steps: Option<Steps>,
    /// End.
    pub until: Until,
    /// Same seed, same plan.
    pub seed: u64,
}

impl PlanOptions {
    /// About how long the plan takes, nanoseconds; 0 for a window with a number of messages.
    pub fn duration_ns(&self) -> u64 {
        match (self.until, self.pace) {
            (Until::Elapsed { ns }, _) => ns,
            (Until::Messages(count), Pace::Open { messages_per_s, .. }) => (count as f64 / messages_per_s * 1e9) as u64,
            (Until::Messages(_), Pace::Window) => 0,
        }
    }
}

/// One write of one publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// When, in nanoseconds from the start of the plan. Always 0 with [`Pace::Window`].
    pub at_ns: u64,
    /// By whom.
    pub publisher: u16,
    /// To whom.
    pub destination: u32,
    /// How many messages, at least 1, fewer than asked only at the end.
    pub messages: u32,
}

/// Yields the bursts in order of time.
#[derive(Clone, Debug)]
pub struct Plan {
    options: PlanOptions,
    random: Random,
    bursts: u64,
    messages: u64,
    next_ns: f64,
}

impl Plan {
    /// `burst`, `publishers` and `destinations` are at least 1.
    pub fn new(options: PlanOptions) -> Self {
        let mut random = Random::new(options.seed);
        // The first burst of an open loop comes at a seeded phase, so that two runs with different seeds do not
        // meet the server's own timers at the same point.
        let next_ns = match options.pace {
            Pace::Open { messages_per_s, .. } => {
                let messages_per_s = options.steps.map_or(messages_per_s, |steps| steps.at(0.0));
                random.next_unit() * gap_ns(messages_per_s, options.burst)
            }
            Pace::Window => 0.0,
        };
        Self { options, random, bursts: 0, messages: 0, next_ns }
    }

    /// Whether the next burst waits for the last one.
    pub fn is_window(&self) -> bool {
        self.options.pace == Pace::Window
    }

    /// When a window plan with a time limit must stop, since its bursts carry no time of their own.
    pub fn window_ends_ns(&self) -> Option<u64> {
        match (self.options.pace, self.options.until) {
            (Pace::Window, Until::Elapsed { ns }) => Some(ns),
            _ => None,
        }
    }
}

fn gap_ns(messages_per_s: f64, burst: u32) -> f64 {
    1e9 * f64::from(burst) / messages_per_s
}

impl Iterator for Plan {
    type Item = Burst;

    fn next(&mut self) -> Option<Burst> {
        let at_ns = self.next_ns as u64;
        let messages = match self.options.until {
            Until::Messages(max) if self.messages >= max => return None,
            Until::Messages(max) => (max - self.messages).min(u64::from(self.options.burst)) as u32,
            Until::Elapsed { ns } if at_ns >= ns => return None,
            Until::Elapsed { .. } => self.options.burst,
        };
        let publisher = (self.bursts % u64::from(self.options.publishers)) as u16;
        let destination = match self.options.order {
            Order::Round => {
                (self.bursts / u64::from(self.options.publishers) % u64::from(self.options.destinations)) as u32
            }
            Order::Random if self.options.destinations == 1 => 0,
            Order::Random => (self.random.next_u64() % u64::from(self.options.destinations)) as u32,
        };
        self.bursts += 1;
        self.messages += u64::from(messages);
        if let Pace::Open { messages_per_s, arrival } = self.options.pace {
            let messages_per_s = self.options.steps.map_or(messages_per_s, |steps| steps.at(self.next_ns));
            let gap = gap_ns(messages_per_s, self.options.burst);
            self.next_ns += match arrival {
                Arrival::Even => gap,
                Arrival::Poisson => -self.random.next_unit().ln() * gap,
            };
        }
        Some(Burst { at_ns, publisher, destination, messages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(rate: f64, arrival: Arrival, until: Until, seed: u64) -> PlanOptions {
        let pace = Pace::Open { messages_per_s: rate, arrival };
        PlanOptions { pace, burst: 4, publishers: 3, destinations: 1, order: Order::Random, steps: None, until, seed }
    }

    #[test]
    fn steps_follow_each_other() {
        let steps = Steps::new(&[100.0, 400.0], 1_000_000_000);
        let until = Until::Elapsed { ns: 3_000_000_000 };
        let options = PlanOptions { burst: 1, steps, ..open(1.0, Arrival::Even, until, 1) };
        let mut seen = [0u32; 3];
        Plan::new(options).for_each(|burst| seen[(burst.at_ns / 1_000_000_000) as usize] += 1);
        // A gap that reaches over a change keeps its length: up to four of the new ones.
        assert!(seen[0].abs_diff(100) <= 1 && seen[1].abs_diff(400) <= 4 && seen[2].abs_diff(400) <= 4, "{seen:?}");
        assert_eq!(Steps::new(&[], 1), None);
        assert_eq!(Steps::new(&[1.0; STEPS_MAX + 1], 1), None);
    }

    #[test]
    fn destinations_are_all_visited_in_turn_or_by_chance() {
        let until = Until::Messages(2 * 3 * 4);
        let options = PlanOptions {
            burst: 1,
            publishers: 2,
            destinations: 3,
            order: Order::Round,
            ..open(9.0, Arrival::Even, until, 1)
        };
        let round: Vec<(u16, u32)> = Plan::new(options).take(6).map(|b| (b.publisher, b.destination)).collect();
        assert_eq!(round, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]);
        let until = Until::Messages(4 * 3000);
        let options = PlanOptions { destinations: 3, order: Order::Random, ..open(9.0, Arrival::Even, until, 1) };
        let mut seen = [0; 3];
        Plan::new(options).for_each(|burst| seen[burst.destination as usize] += 1);
        assert!(seen.iter().all(|&count| (900..1100).contains(&count)), "{seen:?}");
        let chosen = |seed| Plan::new(PlanOptions { seed, ..options }).map(|b| b.destination).collect::<Vec<_>>();
        assert_eq!(chosen(4), chosen(4));
        assert_ne!(chosen(4), chosen(5));
    }

    #[test]
    fn even_spacing_is_even_and_ends_with_the_last_message() {
        let bursts: Vec<Burst> = Plan::new(open(1000.0, Arrival::Even, Until::Messages(10), 7)).collect();
        assert_eq!(bursts.iter().map(|b| b.messages).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(bursts.iter().map(|b| b.publisher).collect::<Vec<_>>(), [0, 1, 2]);
        let gaps: Vec<u64> = bursts.windows(2).map(|pair| pair[1].at_ns - pair[0].at_ns).collect();
        assert!(gaps.iter().all(|gap| gap.abs_diff(4_000_000) <= 1), "{gaps:?}");
        assert!(bursts[0].at_ns <= 4_000_000);
    }

    #[test]
    fn time_limited_plans_hold_the_rate() {
        for arrival in [Arrival::Even, Arrival::Poisson] {
            let until = Until::Elapsed { ns: 100_000_000_000 };
            let messages: u64 = Plan::new(open(500.0, arrival, until, 11)).map(|b| u64::from(b.messages)).sum();
            assert!(messages.abs_diff(50_000) < 2_500, "{arrival:?}: {messages}");
        }
    }

    #[test]
    fn one_seed_one_plan() {
        let plan = |seed| Plan::new(open(500.0, Arrival::Poisson, Until::Messages(400), seed)).collect::<Vec<_>>();
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
        assert!(plan(1).windows(2).all(|pair| pair[0].at_ns <= pair[1].at_ns));
    }

    #[test]
    fn a_window_plan_has_no_times_of_its_own() {
        let options = PlanOptions {
            pace: Pace::Window,
            burst: 16,
            publishers: 1,
            ..open(1.0, Arrival::Even, Until::Messages(40), 1)
        };
        let plan = Plan::new(options);
        assert!(plan.is_window());
        assert_eq!(plan.window_ends_ns(), None);
        let bursts: Vec<Burst> = plan.collect();
        assert!(bursts.iter().all(|burst| burst.at_ns == 0));
        assert_eq!(bursts.iter().map(|b| b.messages).collect::<Vec<_>>(), [16, 16, 8]);
    }
}
