//! Clients of a scenario as classes of a fleet.

use super::file::{Clients, File, Groups};
use super::timetable::Timetable;
use super::{Scenario, Spanned, scaled};
use crate::cli::{Mix, classes, parse_protocols, parse_transports};
use crate::failure::Failure;
use crate::fleet::{Class, Lifetime, Stay};
use crate::job::{Dialect, Stalled};
use crate::quantity::{parse_byte_rate, parse_bytes, parse_rate};
use fanfare_protocol::negotiate::Transport;
use std::collections::BTreeSet;

/// Connections of one scenario, and slow readers beside them.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) classes: Vec<Class>,
    /// All classes together.
    pub(super) connections: u32,
    pub(super) connect_rate: Option<f64>,
    /// What publishers speak: what the first clients speak.
    pub(super) dialect: Dialect,
    /// Of those that are in groups.
    pub(super) groups: Option<Groups>,
    pub(super) stalled: Stalled,
}

impl Crowd {
    pub(super) fn new(scenario: &Scenario, file: &File, scale: f64, timetable: &Timetable) -> Result<Self, Failure> {
        let mut crowd = Self {
            classes: Vec::new(),
            connections: 0,
            connect_rate: None,
            dialect: Dialect::SignalrJson,
            groups: None,
            stalled: Stalled::default(),
        };
        let mut names = BTreeSet::new();
        let (mut ramps, mut without) = (0.0, None);
        for clients in &file.clients {
            let name = &clients.get_ref().name;
            check_name(scenario, name)?;
            if !names.insert(name.get_ref().clone()) {
                let cause = format!("there are clients '{}' already", name.get_ref());
                return Err(scenario.bad(name.span(), cause, "give each [[clients]] a name of its own"));
            }
            if clients.get_ref().read.is_some() {
                crowd.add_slow(scenario, clients.get_ref(), scale)?;
                continue;
            }
            match &clients.get_ref().ramp {
                // Not scaled: it is what the way in stands, however many come.
                Some(ramp) => ramps += scenario.value(ramp, parse_rate)?,
                None => without = Some(clients),
            }
            crowd.add(scenario, clients, scale, timetable.part)?;
        }
        if let Some(clients) = without.filter(|_| ramps > 0.0) {
            let cause = format!("clients '{}' have no ramp, and others have", clients.get_ref().name.get_ref());
            return Err(scenario.bad(clients.span(), cause, "give all [[clients]] a ramp, or none"));
        }
        if crowd.classes.is_empty() {
            let remedy = "add [[clients]] with name and count";
            return Err(scenario.bad(0..0, "a scenario without clients that read", remedy));
        }
        crowd.connect_rate = (ramps > 0.0).then_some(ramps);
        Ok(crowd)
    }

    fn add(&mut self, scenario: &Scenario, clients: &Spanned<Clients>, scale: f64, cut: f64) -> Result<(), Failure> {
        let Clients { name, count, transport, protocol, groups, stay, reconnect, .. } = clients.get_ref();
        if let Some(how) = reconnect.as_ref().filter(|how| how.get_ref() != "sdk") {
            let cause = format!("'{}' is not a way to come back", how.get_ref());
            return Err(scenario.bad(how.span(), cause, "use \"sdk\": at once, then after 2, 10 and 30 s"));
        }
        let transports =
            scenario.value_or(transport.as_ref(), parse_transports, Mix(vec![(Transport::WebSockets, 1.0)]))?;
        let protocols =
            scenario.value_or(protocol.as_ref(), parse_protocols, Mix(vec![(Dialect::SignalrJson, 1.0)]))?;
        if self.classes.is_empty() {
            self.dialect = protocols.0[0].0;
        }
        self.join(scenario, groups.as_ref())?;
        let count = scaled(*count.get_ref(), scale);
        if count == 0 {
            return Err(scenario.bad(
                clients.get_ref().count.span(),
                "no clients",
                "leave them out, or use at least 1",
            ));
        }
        let stay = match stay {
            Some(life) => Stay::Life(scenario.value(life, Lifetime::parse)?),
            None => Stay::Whole,
        };
        let guests = if stay == Stay::Whole { (f64::from(count) * cut).round() as u32 } else { 0 };
        for (count, stay, suffix) in [(count - guests, stay, ""), (guests, Stay::UntilCut, "-cut")] {
            if count == 0 {
                continue;
            }
            let mut parts = classes(count, &transports, &protocols, stay);
            let several = parts.len() > 1;
            for part in &mut parts {
                part.name = match several {
                    true => format!("{}{suffix}-{}", name.get_ref(), part.name),
                    false => format!("{}{suffix}", name.get_ref()),
                };
                part.member = true;
            }
            self.classes.append(&mut parts);
        }
        self.connections += count;
        Ok(())
    }

    /// One definition of groups for all that are in any.
    fn join(&mut self, scenario: &Scenario, groups: Option<&Spanned<Groups>>) -> Result<(), Failure> {
        let Some(groups) = groups else { return Ok(()) };
        if self.groups.as_ref().is_some_and(|known| known != groups.get_ref()) {
            let remedy = "give all clients that are in groups the same pick, of and skew";
            return Err(scenario.bad(groups.span(), "two different sets of groups", remedy));
        }
        self.groups = Some(groups.get_ref().clone());
        Ok(())
    }

    fn add_slow(&mut self, scenario: &Scenario, clients: &Clients, scale: f64) -> Result<(), Failure> {
        let Clients { name, count, read: Some(read), ramp, transport, protocol, groups, stay, reconnect } = clients
        else {
            return Ok(());
        };
        let other = [ramp, transport, protocol, stay, reconnect].into_iter().flatten().map(Spanned::span);
        if let Some(span) = other.chain(groups.as_ref().map(Spanned::span)).next() {
            let cause = format!("clients '{}' read slowly: they are plain sockets with a WebSocket", name.get_ref());
            return Err(scenario.bad(span, cause, "give them name, count and read only"));
        }
        if self.stalled.connections > 0 {
            let cause = "two sorts of slow readers";
            return Err(scenario.bad(name.span(), cause, "keep one [[clients]] with read"));
        }
        self.stalled = Stalled {
            connections: scaled(*count.get_ref(), scale),
            read_bytes_per_s: scenario.value(&read.rate, parse_byte_rate)?,
            receive_buffer_bytes: match &read.receive_buffer {
                Some(bytes) => Some(scenario.value(bytes, parse_bytes)?),
                None => None,
            },
        };
        Ok(())
    }
}

/// Names stand in front of a dot in thresholds.
fn check_name(scenario: &Scenario, name: &Spanned<String>) -> Result<(), Failure> {
    let text = name.get_ref();
    let good =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if good {
        return Ok(());
    }
    let cause = format!("'{text}' is not a name of clients");
    Err(scenario.bad(name.span(), cause, "use letters, digits, - and _"))
}
