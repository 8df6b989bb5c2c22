//! What a process says, a line at a time. Nobody may be there to hear it (`fanfare dev | head`, a log collector that has
//! died): then the line is lost, and the server goes on, where `println!` would panic and end it.

use std::io::{self, Write};

/// Says `text` on standard output, at once: what was asked for.
///
/// # Errors
/// When it has not got there. A server goes on; who was asked for nothing else has failed.
pub(crate) fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Says `text` on standard error: the log of a server, or why a command has failed.
pub(crate) fn log(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
