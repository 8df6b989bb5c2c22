//! What every program that measures peers does first.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::contender::{Contender, Places};
use super::loadgen::Loadgen;
use super::prepare;
use super::visit::Visitor;

/// `bench/compare`, with the peers.
pub fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compare")
}

/// Who visits: servers on one core, the load generator on another, files that may go afterwards in `scratch`.
///
/// # Errors
/// With one core for both each would measure the other as well.
pub fn visitor(server_core: u32, load_core: u32, quick: bool, scratch: &Path) -> Result<Visitor, String> {
    if cfg!(debug_assertions) {
        return Err("this is a debug build, and so would be its numbers: run it with --release".to_owned());
    }
    if server_core == load_core {
        return Err("--server-core and --load-core must differ, or each measures the other as well".to_owned());
    }
    let this = std::env::current_exe().map_err(|error| format!("where am I? {error}"))?;
    let binaries = this.parent().expect("a program lies in a directory").to_owned();
    let loadgen =
        Loadgen { executable: binaries.join("fanfare-loadgen"), core: load_core, scratch: scratch.to_owned() };
    let places = Places { binaries, peers: peers(), scratch: scratch.to_owned(), server_core };
    Ok(Visitor { places, loadgen, quick })
}

/// Builds Fanfare and its tools, and gets the peers. A peer that cannot be had is told to `complain`, and is absent.
///
/// # Errors
/// Without Fanfare there is nothing to measure.
pub fn provide(mut complain: impl FnMut(&str)) -> Result<(), String> {
    let peers = peers();
    prepare::build(peers.ancestors().nth(2).expect("compare is two levels below the workspace"))?;
    if let Err(error) = prepare::install_peers(&peers) {
        complain(&format!("going on without peers of npm: {error}"));
    }
    if let Err(error) = prepare::build_tungstenite(&peers) {
        complain(&format!("going on without tungstenite: {error}"));
    }
    Ok(())
}

/// Those that cannot take part, each once, with the reason and the remedy.
pub fn absent(wanted: impl IntoIterator<Item = Contender>, places: &Places) -> Vec<(Contender, String)> {
    let mut absent: Vec<(Contender, String)> = Vec::new();
    for who in wanted {
        if absent.iter().any(|(missing, _)| *missing == who) {
            continue;
        }
        if let Err(why) = who.check(places) {
            absent.push((who, why));
        }
    }
    absent
}

/// All descriptors that this process may have, for it and for every server: not all of them ask themselves. Gives how
/// many that is.
pub fn raise_descriptors() -> std::io::Result<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}
