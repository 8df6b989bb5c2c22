//! From start to end of a server process: bind, announce, serve, drain on a signal, stop.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fanfare_engine::Engine;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::control::http;
use crate::control::pages::AdminPages;
use crate::control::rt::{self, Listener, Receiver, Sender};
use crate::failure::{Code, Failure, exit};
use crate::keyring;
use crate::node::{self, Node, Phase, Settings};
use crate::refusals;
use crate::tls_files;

/// What the control thread hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The first TERM: end cleanly.
    Drain,
    /// INT, or a second TERM: end now.
    Interrupt,
    /// `q`: end without ceremony, as asked for.
    Quit,
    /// The drain is over.
    Drained,
}

/// Wishes that may wait; more than a person can type between two turns of the control thread.
const WISHES_MAX: usize = 16;

/// How a server came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All clients were sent away first.
    Drained,
    /// Asked for by INT or a second TERM.
    Interrupted,
    /// Asked for by a key.
    Quit,
}

impl End {
    /// The exit status of a server that ended so.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            End::Drained | End::Quit => ExitCode::SUCCESS,
            End::Interrupted => ExitCode::from(exit::INTERRUPTED),
        }
    }
}

/// What the verbs do differently.
pub(crate) trait Verb {
    /// The server is ready: `admin` is where its pages are.
    fn ready(&mut self, node: &Node, admin: std::net::SocketAddr, wishes: &Sender<Wish>);
    /// A drain begins.
    fn draining(&mut self, node: &Node);
    /// The server has stopped, `ending` after it was asked to.
    fn stopped(&mut self, node: &Node, end: End, ending: Duration);
}

/// Runs a server until it is asked to end.
///
/// # Errors
/// `FF2xxx` when it cannot start.
pub(crate) fn run(settings: Settings, verb: &mut dyn Verb) -> Result<End, Failure> {
    let control_failed = |error: std::io::Error| {
        Failure::new(Code::Control, "cannot start the control thread").fact("why", error.to_string())
    };
    rt::run(serve(settings, verb)).map_err(control_failed)?
}

async fn serve(settings: Settings, verb: &mut dyn Verb) -> Result<End, Failure> {
    let listener = Listener::bind(settings.admin).map_err(|error| {
        Failure::new(Code::AdminListen, format!("cannot listen on {} for the pages", settings.admin))
            .fact("why", error.to_string())
            .fix("choose another address with --admin, or another --port of `fanfare dev`")
    })?;
    let admin = listener.address();
    let (wishes, mut heard) = rt::channel(WISHES_MAX);
    let (keys_asked, tls_asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    watch_signals(wishes.clone(), [Arc::clone(&keys_asked), Arc::clone(&tls_asked)])?;
    let (engine, node) = node::start(settings)?;
    let node = Arc::new(node);
    rt::spawn(http::serve(listener, AdminPages::new(Arc::clone(&node), admin)));
    if let Some((watched, tokens)) = node.take_watched() {
        rt::spawn(keyring::watch(watched, tokens, keys_asked));
    }
    if let Some(watched) = node.take_tls_watched() {
        rt::spawn(tls_files::watch(node.settings().tls_files.clone(), watched, tls_asked));
    }
    rt::spawn(refusals::watch(Arc::clone(&node)));
    verb.ready(&node, admin, &wishes);

    let end = until_asked(&mut heard).await;
    let asked = Instant::now();
    let end = match end {
        End::Drained => {
            verb.draining(&node);
            drain(engine, &node, wishes)?;
            until_drained(&mut heard, &node).await
        }
        End::Interrupted | End::Quit => {
            drop(engine);
            end
        }
    };
    node.enter(Phase::Stopped);
    verb.stopped(&node, end, asked.elapsed());
    Ok(end)
}

/// What the first wish leads to.
async fn until_asked(heard: &mut Receiver<Wish>) -> End {
    match heard.next().await {
        Wish::Drain | Wish::Drained => End::Drained,
        Wish::Interrupt => End::Interrupted,
        Wish::Quit => End::Quit,
    }
}

/// Waits for the end of a drain, and cuts it short when asked to.
async fn until_drained(heard: &mut Receiver<Wish>, node: &Node) -> End {
    let mut end = End::Drained;
    loop {
        match heard.next().await {
            Wish::Drained => return end,
            Wish::Drain => {}
            Wish::Interrupt | Wish::Quit => {
                end = End::Interrupted;
                node.begin_stop();
            }
        }
    }
}

/// Drains on a thread of its own, so that readiness and metrics go on being answered meanwhile.
fn drain(mut engine: Engine, node: &Arc<Node>, wishes: Sender<Wish>) -> Result<(), Failure> {
    let node = Arc::clone(node);
    node.enter(Phase::Draining);
    spawn("drain", move || {
        engine.drain(node.settings().drain_period);
        tell(&wishes, Wish::Drained);
    })
}

/// Turns signals into wishes. TERM, INT and HUP no longer end the process by themselves from here on. HUP only asks for
/// keys and certificates to be read again: closing a terminal, or a reload, must not cost anybody a connection.
fn watch_signals(wishes: Sender<Wish>, reads_asked: [Arc<AtomicBool>; 2]) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Failure::new(Code::Control, "cannot watch for signals").fact("why", error.to_string()))?;
    spawn("signals", move || {
        let mut asked_to_stop = false;
        let mut asked_to_drain = false;
        for signal in signals.forever() {
            if signal == SIGHUP {
                reads_asked.iter().for_each(|asked| asked.store(true, Ordering::Relaxed));
                continue;
            }
            if asked_to_stop {
                // Stopping takes a moment at most. Who asks again has waited longer and means it.
                std::process::exit(exit::INTERRUPTED.into());
            }
            asked_to_stop = signal == SIGINT || asked_to_drain;
            asked_to_drain = true;
            tell(&wishes, if asked_to_stop { Wish::Interrupt } else { Wish::Drain });
        }
    })
}

/// Passes a wish on. One that finds the queue full adds nothing: sixteen others are about to end this server.
pub(crate) fn tell(wishes: &Sender<Wish>, wish: Wish) {
    let _ = wishes.send(wish);
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|error| {
        Failure::new(Code::Control, format!("cannot start the thread `{name}`")).fact("why", error.to_string())
    })
}
