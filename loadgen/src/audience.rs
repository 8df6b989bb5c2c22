//! Who must receive what: destinations, their members, and the places that the ledger keeps for them.
//!
//! A *destination* is what one publish names: everybody, a group, a user, a connection. A *lane* is what one publisher
//! sends to one destination: it counts its messages from 0, and every member of the destination must receive all of
//! them, in order. So a lane is to a small group what a publisher is to a broadcast.
//!
//! ```text
//!  lane = destination x publishers + publisher
//! ```

use crate::payload::{LANES_MAX, Random};

/// What one publish reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Everybody.
    All,
    /// One of so many groups.
    Groups {
        /// Groups there are.
        of: u32,
        /// Groups that each receiver is in.
        pick: u32,
        /// Zipf exponent times 1,000 of how popular groups are among members; 0: all alike.
        skew_milli: u32,
    },
    /// One of so many users, each with several connections.
    Users {
        /// Users there are.
        of: u32,
    },
    /// One connection, by its id.
    Connections,
    /// The connection that says it: calls that are answered, streams that come back.
    Own,
}

impl Shape {
    /// Destinations in a fleet of `receivers`.
    pub fn destinations(self, receivers: u32) -> u32 {
        match self {
            Self::All => 1,
            Self::Groups { of, .. } | Self::Users { of } => of,
            Self::Connections | Self::Own => receivers,
        }
    }

    /// What a publish names, for people and for the server.
    pub fn name_of(self, destination: u32) -> String {
        match self {
            Self::All => String::new(),
            Self::Groups { .. } => format!("g{destination}"),
            Self::Users { .. } => format!("u{destination}"),
            Self::Connections | Self::Own => format!("c{destination}"),
        }
    }
}

/// The members of all destinations.
#[derive(Clone, Debug)]
pub struct Audience {
    shape: Shape,
    publishers: u32,
    /// Members by destination, receivers with a ledger line only.
    sizes: Box<[u32]>,
    /// Absent when every receiver expects everything.
    seats: Option<Seats>,
}

impl Audience {
    /// For receivers `0..steady.len()`; those that are not steady have no line in the ledger.
    pub fn new(shape: Shape, publishers: u16, steady: &[bool], seed: u64) -> Self {
        let receivers = steady.len() as u32;
        let mut sizes = vec![0; shape.destinations(receivers) as usize];
        if shape == Shape::All && steady.iter().all(|&is| is) {
            sizes[0] = receivers;
            return Self { shape, publishers: u32::from(publishers), sizes: sizes.into(), seats: None };
        }
        let (mut offsets, mut destinations) = (Vec::with_capacity(steady.len() + 1), Vec::new());
        offsets.push(0);
        for receiver in 0..receivers {
            if steady[receiver as usize] {
                let mine = destinations_of(shape, receiver, seed);
                mine.iter().for_each(|&destination| sizes[destination as usize] += 1);
                destinations.extend(mine);
            }
            offsets.push(destinations.len() as u32);
        }
        let seats = Some(Seats { offsets, destinations });
        Self { shape, publishers: u32::from(publishers), sizes: sizes.into(), seats }
    }

    /// Nobody expects anything.
    pub fn nothing() -> Self {
        Self { shape: Shape::All, publishers: 1, sizes: Box::default(), seats: None }
    }

    /// The shape it was made for.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether every receiver expects everything.
    pub fn is_everybody(&self) -> bool {
        self.seats.is_none()
    }

    /// Lanes there are.
    pub fn lanes(&self) -> u32 {
        self.sizes.len() as u32 * self.publishers
    }

    /// Publishers of each destination.
    pub fn publishers(&self) -> u32 {
        self.publishers
    }

    /// The lane of one publisher to one destination.
    pub fn lane(&self, destination: u32, publisher: u16) -> u32 {
        destination * self.publishers + u32::from(publisher)
    }

    /// Receivers that must get what is published to `destination`.
    pub fn size(&self, destination: u32) -> u32 {
        self.sizes[destination as usize]
    }

    /// The places of receivers `first..first + receivers`; `None`: everybody expects everything.
    pub fn seats(&self, first: u32, receivers: u32) -> Option<Seats> {
        let all = self.seats.as_ref()?;
        let offsets = &all.offsets[first as usize..=(first + receivers) as usize];
        let (from, to) = (offsets[0], offsets[receivers as usize]);
        Some(Seats {
            offsets: offsets.iter().map(|offset| offset - from).collect(),
            destinations: all.destinations[from as usize..to as usize].to_vec(),
        })
    }

    /// Members by destination among the receivers that `is_counted`.
    pub fn sizes_of(&self, receivers: std::ops::Range<u32>, is_counted: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut sizes = vec![0; self.sizes.len()];
        for receiver in receivers.filter(|&receiver| is_counted(receiver)) {
            match &self.seats {
                None => sizes.iter_mut().for_each(|size| *size += 1),
                Some(seats) => seats.of(receiver).iter().for_each(|&to| sizes[to as usize] += 1),
            }
        }
        sizes
    }
}

/// The destinations of one receiver, in rising order. The same seed gives the same ones.
pub fn destinations_of(shape: Shape, receiver: u32, seed: u64) -> Vec<u32> {
    match shape {
        Shape::All => vec![0],
        Shape::Users { of } | Shape::Groups { of, pick: 1, skew_milli: 0 } => vec![receiver % of],
        Shape::Connections | Shape::Own => vec![receiver],
        Shape::Groups { of, pick, skew_milli } => {
            let mut random = Random::new(seed ^ 0x6772_6f75 ^ u64::from(receiver) << 20);
            let mut mine = Vec::with_capacity(pick as usize);
            while mine.len() < pick.min(of) as usize {
                let group = popular(&mut random, of, skew_milli);
                // Popular groups are soon taken; the next free one keeps the draw bounded.
                let free = (0..of).map(|step| (group + step) % of).find(|group| !mine.contains(group));
                mine.extend(free);
            }
            mine.sort_unstable();
            mine
        }
    }
}

/// One of `of`, low numbers more often: a bounded Pareto draw, which has Zipf's tail without a table.
fn popular(random: &mut Random, of: u32, skew_milli: u32) -> u32 {
    if skew_milli == 0 {
        return (random.next_u64() % u64::from(of)) as u32;
    }
    let (most, exponent) = (f64::from(of) + 1.0, f64::from(skew_milli) / 1_000.0);
    let unit = random.next_unit();
    let rank = if (exponent - 1.0).abs() < 1e-6 {
        most.powf(unit)
    } else {
        let power = 1.0 - exponent;
        ((most.powf(power) - 1.0) * unit + 1.0).powf(1.0 / power)
    };
    (rank as u32).clamp(1, of) - 1
}

/// For each receiver the destinations it is a member of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seats {
    /// Where each receiver's destinations begin; one more than there are receivers.
    offsets: Vec<u32>,
    /// In rising order for each receiver.
    destinations: Vec<u32>,
}

impl Seats {
    /// The destinations of one receiver.
    pub fn of(&self, receiver: u32) -> &[u32] {
        let at = receiver as usize;
        &self.destinations[self.offsets[at] as usize..self.offsets[at + 1] as usize]
    }

    /// The number of a seat: over all receivers, in order. `None`: not a member.
    pub fn seat(&self, receiver: u32, destination: u32) -> Option<u32> {
        let mine = self.of(receiver);
        let at =
            if let [only] = mine { (*only == destination).then_some(0) } else { mine.binary_search(&destination).ok() };
        at.map(|at| self.offsets[receiver as usize] + at as u32)
    }

    /// All seats.
    pub fn len(&self) -> u32 {
        self.destinations.len() as u32
    }

    /// Whether nobody is a member of anything.
    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }
}

/// Whether so many lanes can be told apart in a payload.
pub fn lanes_fit(destinations: u32, publishers: u16) -> bool {
    u64::from(destinations) * u64::from(publishers) <= u64::from(LANES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_needs_no_seats() {
        let audience = Audience::new(Shape::All, 3, &[true; 5], 1);
        assert_eq!((audience.lanes(), audience.size(0)), (3, 5));
        assert_eq!(audience.seats(0, 5), None);
        assert_eq!(audience.sizes_of(1..4, |receiver| receiver != 2), [2]);
    }

    #[test]
    fn those_without_a_line_are_members_of_nothing() {
        let audience = Audience::new(Shape::All, 1, &[true, false, true], 1);
        assert_eq!(audience.size(0), 2);
        let seats = audience.seats(1, 2).expect("seats");
        assert_eq!((seats.seat(0, 0), seats.seat(1, 0)), (None, Some(0)));
    }

    #[test]
    fn groups_share_the_receivers_evenly() {
        let shape = Shape::Groups { of: 4, pick: 1, skew_milli: 0 };
        let audience = Audience::new(shape, 2, &[true; 10], 7);
        assert_eq!((0..4).map(|group| audience.size(group)).collect::<Vec<_>>(), [3, 3, 2, 2]);
        let seats = audience.seats(4, 6).expect("seats");
        assert_eq!((seats.len(), seats.of(0), seats.of(5)), (6, &[0][..], &[1][..]));
        assert_eq!(audience.lane(3, 1), 7);
    }

    #[test]
    fn picked_groups_are_distinct_seeded_and_skewed() {
        let shape = Shape::Groups { of: 40, pick: 5, skew_milli: 1100 };
        for receiver in 0..200 {
            let mine = destinations_of(shape, receiver, 3);
            assert!(mine.windows(2).all(|pair| pair[0] < pair[1]) && mine.len() == 5, "{mine:?}");
            assert_eq!(mine, destinations_of(shape, receiver, 3));
        }
        let audience = Audience::new(shape, 1, &[true; 400], 3);
        assert_eq!((0..40).map(|group| audience.size(group)).sum::<u32>(), 2000);
        assert!(audience.size(0) > 2 * audience.size(39), "{} {}", audience.size(0), audience.size(39));
        // More wanted than there are.
        assert_eq!(destinations_of(Shape::Groups { of: 2, pick: 5, skew_milli: 0 }, 9, 3), [0, 1]);
    }

    #[test]
    fn seats_are_numbered_over_all_receivers() {
        let shape = Shape::Groups { of: 10, pick: 3, skew_milli: 0 };
        let seats = Audience::new(shape, 1, &[true; 20], 5).seats(0, 20).expect("seats");
        let mut next = 0;
        for receiver in 0..20 {
            for &destination in seats.of(receiver) {
                assert_eq!(seats.seat(receiver, destination), Some(next));
                next += 1;
            }
            let other = (0..10).find(|group| !seats.of(receiver).contains(group)).expect("one of seven");
            assert_eq!(seats.seat(receiver, other), None);
        }
        assert_eq!(next, seats.len());
    }
}
