//! `fanfare serve`: a server for real, which speaks to its log.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fanfare_engine::CoreSet;

use crate::cli::{ServeArgs, Switch, distinct};
use crate::control::rt::Sender;
use crate::failure::Failure;
use crate::life::{self, End, Wish};
use crate::node::{Node, Settings, hub_path};
use crate::units::{grouped, human_duration};

/// Runs the verb; `started` is when the process did.
pub(crate) fn run(args: &ServeArgs, started: Instant) -> Result<ExitCode, Failure> {
    let cores = match &args.cores {
        Some(list) => CoreSet::List(list.0.clone()),
        None if args.pin => CoreSet::Pinned,
        None => CoreSet::Any,
    };
    let settings = Settings {
        listen: args.listen.clone(),
        admin: args.admin,
        hubs: distinct(&args.hubs)?,
        shards: args.shards,
        cores,
        client_publish: args.client_publish == Switch::On,
        user_by_query: false,
        demo: false,
        connections_max: args.connections_max,
        message_bytes_max: args.message_size_max,
        outbox_bytes_max: args.outbox_max,
        drain_period: args.drain_period,
    };
    life::run(settings, &mut Serve { started }).map(End::exit_code)
}

struct Serve {
    started: Instant,
}

impl life::Verb for Serve {
    fn ready(&mut self, node: &Node, admin: SocketAddr, _: &Sender<Wish>) {
        let settings = node.settings();
        log(&format!("fanfare {}", env!("CARGO_PKG_VERSION")));
        log(&node.plan().to_string());
        let publish = if settings.client_publish { "clients may publish" } else { "clients may not publish" };
        for hub in &settings.hubs {
            log(&format!("hub   {hub} at {} · {publish}", hub_path(hub)));
        }
        for address in node.addresses() {
            log(&format!("listening on http://{address}"));
        }
        log(&format!("pages on http://{admin}/ · health /health · metrics /metrics"));
        log(&format!("ready in {}", human_duration(self.started.elapsed())));
    }

    fn draining(&mut self, node: &Node) {
        let connections = grouped(node.connections() as u64);
        let period = human_duration(node.settings().drain_period);
        log(&format!("draining {connections} connections, at most {period}; TERM or INT again stops at once"));
    }

    fn stopped(&mut self, node: &Node, end: End, ending: Duration) {
        let total = node.metrics().total();
        let how = match end {
            End::Drained => "drained",
            End::Interrupted | End::Quit => "stopped without farewell",
        };
        log(&format!(
            "{how} in {} · {} connections served · {} messages in, {} out · {} not delivered",
            human_duration(ending),
            grouped(total.opened_total),
            grouped(total.messages_received_total),
            grouped(total.deliveries_total + total.private_messages_total),
            grouped(total.dropped_slow_total + total.dropped_closed_total + total.notes_lost_total),
        ));
    }
}

/// The log of a server is its standard error.
fn log(text: &str) {
    eprintln!("{text}");
}
