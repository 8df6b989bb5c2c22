//! What a scenario sends.

use super::crowd::Crowd;
use super::file::{Groups, LoadPart, Rate};
use super::timetable::Timetable;
use super::{Scenario, Spanned, scaled};
use crate::audience::Shape;
use crate::cli::{default_arguments, default_method};
use crate::failure::Failure;
use crate::job::{Argument, Entry, Load, Via};
use crate::payload::Size;
use crate::plan::{Arrival, Order, Pace, PlanOptions, Until};
use crate::quantity::parse_rate;

/// The kinds, as they are written.
const KINDS: [&str; 6] = ["broadcast", "group", "user", "p2p", "echo", "stream"];

/// What the report calls it.
pub(super) fn kind_name(load: &Load) -> &'static str {
    match (load.shape, &load.via) {
        (Shape::All, _) => "broadcast",
        (Shape::Groups { .. }, _) => "group",
        (Shape::Users { .. }, _) => "user",
        (Shape::Connections, _) => "p2p",
        (Shape::Own, Via::Items { .. }) => "stream",
        (Shape::Own, _) => "echo",
    }
}

impl Scenario {
    pub(super) fn load(
        &self,
        part: &Spanned<LoadPart>,
        crowd: &Crowd,
        timetable: &Timetable,
        scale: f64,
        seed: u64,
    ) -> Result<Load, Failure> {
        let LoadPart { size, burst, publishers, .. } = part.get_ref();
        self.check_via(part.get_ref())?;
        let (shape, entry) = self.shape(part, crowd, scale)?;
        let (publishers, burst) = (publishers.unwrap_or(1), burst.unwrap_or(1));
        let factor = if shape == Shape::All { 1.0 } else { scale };
        let pace =
            Pace::Open { messages_per_s: self.rate(part, crowd, factor)?, arrival: self.arrival(part.get_ref())? };
        let plan = PlanOptions {
            pace,
            burst,
            publishers,
            // Put in when the plan is handed out: their number follows from the fleet.
            destinations: 1,
            order: Order::Random,
            steps: timetable.steps.map(|steps| steps.scaled(factor)),
            until: Until::Elapsed { ns: timetable.duration.as_nanos() as u64 },
            seed,
        };
        Ok(Load {
            via: self.via(part.get_ref(), shape)?,
            shape,
            entry,
            publishers: if shape == Shape::Own { 1 } else { publishers },
            size: self.value_or(size.as_ref(), Size::parse, Size::Fixed(512))?,
            plan,
            warmup: timetable.warmup,
            drain: timetable.drain,
            deadline: timetable.deadline,
            stalled: crowd.stalled,
            soak_interval: None,
        })
    }

    fn check_via(&self, part: &LoadPart) -> Result<(), Failure> {
        let Some(via) = part.via.as_ref().filter(|via| via.get_ref() != "client") else { return Ok(()) };
        let cause = match via.get_ref().as_str() {
            "rest" | "server" => format!("'{}' cannot be published through yet", via.get_ref()),
            other => format!("'{other}' is not a way to publish"),
        };
        Err(self.bad(via.span(), cause, "use \"client\": a connection that invokes a hub method"))
    }

    /// What one message reaches, and how receivers become members.
    fn shape(&self, part: &Spanned<LoadPart>, crowd: &Crowd, scale: f64) -> Result<(Shape, Entry), Failure> {
        let LoadPart { kind, users, join_method, id_method, user_query, method, .. } = part.get_ref();
        let or = |given: &Option<String>, otherwise: &str| given.clone().unwrap_or_else(|| otherwise.to_owned());
        let kind_text = kind.get_ref().as_str();
        let refuse = |given: bool, key: &str, of: &str| match given && kind_text != of {
            true => Err(self.bad(
                part.span(),
                format!("{key} means nothing to a load of kind '{kind_text}'"),
                format!("leave it out, or use kind = \"{of}\""),
            )),
            false => Ok(()),
        };
        refuse(users.is_some(), "users", "user")?;
        refuse(user_query.is_some(), "user_query", "user")?;
        refuse(join_method.is_some(), "join_method", "group")?;
        refuse(id_method.is_some(), "id_method", "p2p")?;
        Ok(match kind_text {
            "broadcast" => (Shape::All, Entry::Nothing),
            "group" => {
                let Some(groups) = &crowd.groups else {
                    let remedy = "give [[clients]] groups = { pick = 1, of = 10 }";
                    return Err(self.bad(kind.span(), "a load for groups, and nobody is in one", remedy));
                };
                (self.groups(part, groups, scale)?, Entry::Join { method: or(join_method, "JoinGroup") })
            }
            "user" => {
                let of = users.map_or(crowd.connections.div_ceil(2), |users| scaled(users, scale));
                (Shape::Users { of: of.min(crowd.connections) }, Entry::User { key: or(user_query, "user") })
            }
            "p2p" => (Shape::Connections, Entry::AskId { method: or(id_method, "ConnectionId") }),
            "echo" => (Shape::Own, Entry::Nothing),
            "stream" => (Shape::Own, Entry::OpenStream { method: or(method, "MirrorStream") }),
            other => {
                let remedy = format!("choose from {}", KINDS.join(", "));
                return Err(self.bad(kind.span(), format!("'{other}' is not a kind of load"), remedy));
            }
        })
    }

    fn groups(&self, part: &Spanned<LoadPart>, groups: &Groups, scale: f64) -> Result<Shape, Failure> {
        let skew_milli = match &groups.skew {
            None => 0,
            Some(text) => {
                let exponent = text.strip_prefix("zipf:").and_then(|exponent| exponent.parse::<f64>().ok());
                let Some(exponent) = exponent.filter(|exponent| (0.0..=4.0).contains(exponent)) else {
                    let cause = format!("'{text}' is not a skew");
                    return Err(self.bad(part.span(), cause, "write skew = \"zipf:1.1\", with 0 to 4"));
                };
                (exponent * 1_000.0).round() as u32
            }
        };
        // A connection is in each of its groups once, however few a small scale leaves.
        let of = scaled(groups.of, scale).max(groups.pick.min(groups.of));
        Ok(Shape::Groups { of, pick: groups.pick, skew_milli })
    }

    fn rate(&self, part: &Spanned<LoadPart>, crowd: &Crowd, factor: f64) -> Result<f64, Failure> {
        match (&part.get_ref().rate, &part.get_ref().rate_each) {
            (Some(rate), None) => match rate.get_ref() {
                Rate::One(text) => {
                    let rate = parse_rate(text).map_err(|error| self.bad(rate.span(), error, "write \"500/s\""))?;
                    Ok(rate * factor)
                }
                // The steps take its place; this one is what the first would be.
                Rate::Steps { steps, .. } => {
                    let first = steps.first().map_or("", String::as_str);
                    let rate = parse_rate(first).map_err(|error| self.bad(rate.span(), error, "write \"500/s\""))?;
                    Ok(rate * factor)
                }
            },
            (None, Some(each)) => Ok(self.value(each, parse_rate)? * f64::from(crowd.connections)),
            _ => {
                let remedy = "write rate = \"50/s\" for all together, or rate_each = \"1/s\" for each connection";
                Err(self.bad(part.span(), "a load needs one rate", remedy))
            }
        }
    }

    fn arrival(&self, part: &LoadPart) -> Result<Arrival, Failure> {
        match part.arrival.as_ref().map(|arrival| (arrival, arrival.get_ref().as_str())) {
            None | Some((_, "even")) => Ok(Arrival::Even),
            Some((_, "poisson")) => Ok(Arrival::Poisson),
            Some((arrival, other)) => {
                let cause = format!("'{other}' is not a spacing");
                Err(self.bad(arrival.span(), cause, "choose from even, poisson"))
            }
        }
    }

    fn via(&self, part: &LoadPart, shape: Shape) -> Result<Via, Failure> {
        let LoadPart { kind, method, client_method, arguments, .. } = part;
        Ok(match (shape, kind.get_ref().as_str()) {
            (Shape::Own, "stream") => {
                Via::Items { method: method.clone().unwrap_or_else(|| "MirrorStream".to_owned()) }
            }
            (Shape::Own, _) => Via::Call { method: method.clone().unwrap_or_else(|| "Echo".to_owned()) },
            _ => Via::Invocation {
                method: method.clone().unwrap_or_else(|| default_method(shape).to_owned()),
                target: client_method.clone().unwrap_or_else(|| "m".to_owned()),
                arguments: self.value_or(arguments.as_ref(), Argument::parse_list, default_arguments(shape))?,
            },
        })
    }
}
