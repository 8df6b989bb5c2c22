//! Lines of the log about clients that lose messages, written away from the shards: a log that nobody reads must not hold
//! up those that keep up.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use fanfare_engine::SlowPolicy;

use crate::output::log;

/// Lines that wait to be written. What finds no room is not written; `fanfare_lossy_connections_total` counts all.
const LINES_MAX: usize = 1024;

/// Takes lines, from any thread, without ever waiting.
#[derive(Clone, Debug)]
pub(crate) struct SlowLog(SyncSender<String>);

impl SlowLog {
    /// Begins to write.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start() -> io::Result<Self> {
        let (lines, written) = sync_channel::<String>(LINES_MAX);
        let write = move || written.into_iter().for_each(|line| log(&line));
        thread::Builder::new().name("slow-log".to_owned()).spawn(write)?;
        Ok(Self(lines))
    }

    /// A connection has lost its first messages.
    pub(crate) fn fell_behind(&self, hub: &str, connection: &str, policy: SlowPolicy) {
        let _ = self.0.try_send(format!("slow  {connection} of {hub} loses messages ({})", policy.as_str()));
    }
}
