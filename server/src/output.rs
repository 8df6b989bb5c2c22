//! What a process says, a line at a time. Nobody may be there to hear it (`fanfare dev | head`, a log collector that has
//! died): then the line is lost, and the server goes on, where `println!` would panic and end it.

use std::io::{self, Write};

/// Says `text` on standard output: what was asked for.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Says `text` on standard error: the log of a server, or why a command has failed.
pub(crate) fn log(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
