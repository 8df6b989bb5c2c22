//! `fanfare dev`: a throw-away server on loopback, with everything to see it work.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fanfare_engine::{CoreSet, Limits, Origins, SlowPolicy, Transports};

use crate::cli::{DevArgs, distinct};
use crate::control::rt::Sender;
use crate::failure::{Code, Failure};
use crate::life::{self, End, Wish};
use crate::node::{Node, Settings, hub_path};
use crate::output::say;
use crate::terminal::Keys;
use crate::tls_files::TlsFiles;
use crate::units::{grouped, human_duration};

/// A developer's Ctrl-C should not wait for farewells.
const DRAIN_PERIOD: Duration = Duration::from_secs(5);
/// SignalR's own default.
const MESSAGE_BYTES_MAX: usize = 32 << 10;

/// Runs the verb; `started` is when the process did.
pub(crate) fn run(args: &DevArgs, started: Instant) -> Result<ExitCode, Failure> {
    let admin_port = match args.port {
        0 => 0,
        port => port.checked_add(1).ok_or_else(|| {
            Failure::new(Code::BadValue, "bad value for `--port`")
                .fact("given", port.to_string())
                .fact("why", "the pages are on the next port, and there is none")
        })?,
    };
    let settings = Settings {
        listen: vec![loopback(args.port)],
        tls_listen: args.tls_port.map(loopback).into_iter().collect(),
        tls_files: TlsFiles::named(&args.tls_files)?,
        admin: loopback(admin_port),
        hubs: distinct(&args.hubs)?,
        shards: args.shards,
        cores: CoreSet::Any,
        client_publish: true,
        transports: Transports::default(),
        origins: Origins::SameHost,
        resumable: true,
        user_by_query: true,
        demo: true,
        limits: Limits::default(),
        message_bytes_max: MESSAGE_BYTES_MAX,
        keep_alive: Duration::from_secs(15),
        client_timeout: Duration::from_secs(30),
        compression: false,
        slow_policy: SlowPolicy::default(),
        logs_losses: false,
        drain_period: DRAIN_PERIOD,
        tokens: None,
    };
    let end = life::run(settings, &mut Dev { started, keys: None })?;
    Ok(match end {
        // Ctrl-C is how one leaves here, so it is no failure.
        End::Interrupted | End::Quit | End::Drained => ExitCode::SUCCESS,
    })
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

struct Dev {
    started: Instant,
    keys: Option<Keys>,
}

impl life::Verb for Dev {
    fn ready(&mut self, node: &Node, admin: SocketAddr, wishes: &Sender<Wish>) {
        self.keys = Keys::take();
        let watched = self.keys.as_ref().is_some_and(|keys| {
            let wishes = wishes.clone();
            let quit = move |key: u8| {
                if key == b'q' {
                    life::tell(&wishes, Wish::Quit);
                }
            };
            keys.watch(quit).is_ok()
        });
        let quit = if watched { "q quit" } else { "Ctrl-C quit" };
        let _ = say(&screen(node, admin.port(), self.started.elapsed(), quit));
    }

    fn draining(&mut self, node: &Node) {
        let _ = say(&format!("  sending {} away", connections(node)));
    }

    fn stopped(&mut self, node: &Node, _: End, _: Duration) {
        self.keys = None;
        let total = node.metrics().total();
        let received = grouped(total.messages_received_total);
        let sent = grouped(total.deliveries_total + total.private_messages_total);
        let _ = say(&format!("  stopped · {received} messages in, {sent} out"));
    }
}

/// How many clients there are, in words.
fn connections(node: &Node) -> String {
    match node.connections() {
        1 => "1 client".to_owned(),
        count => format!("{} clients", grouped(count as u64)),
    }
}

/// The one screen that tells everything.
fn screen(node: &Node, admin_port: u16, ready_after: Duration, quit: &str) -> String {
    let public = format!("http://localhost:{}", node.public_port());
    let admin = format!("http://localhost:{admin_port}");
    let hub = node.settings().hubs.first().map_or("demo", String::as_str);
    let at = if node.public_port() == 8888 { String::new() } else { format!(" --url {public}") };
    let mut lines = vec![format!(
        "fanfare {} · dev mode · loopback only · everybody may publish (not for production)\n",
        env!("CARGO_PKG_VERSION")
    )];
    for name in &node.settings().hubs {
        lines.push(format!("  Hub                {public}{}", hub_path(name)));
    }
    for address in node.tls_addresses() {
        lines.push(format!("  TLS                https://localhost:{}{}", address.port(), hub_path(hub)));
    }
    lines.push(format!("  Chat demo          {admin}/demo"));
    lines.push(format!("  Fan-out meter      {admin}/demo/meter"));
    lines.push(format!("  Status             {admin}/"));
    lines.push(format!("  Metrics            {admin}/metrics\n"));
    lines.push(format!(
        "  JavaScript         new HubConnectionBuilder().withUrl(\"{public}{}\").build()",
        hub_path(hub)
    ));
    lines.push(format!("  Shell              fanfare listen --hub {hub}{at}"));
    lines.push(format!("                     fanfare send --hub {hub}{at} --all greet '\"hello\"'\n"));
    let plan = node.plan();
    let shards = if plan.shards == 1 { "1 shard".to_owned() } else { format!("{} shards", plan.shards) };
    let room = grouped(plan.connections_max as u64);
    lines.push(format!("  {shards} · io_uring · room for {room} connections ({})", plan.bottleneck));
    lines.push(format!("  ready in {} · {quit}", human_duration(ready_after)));
    lines.join("\n")
}
