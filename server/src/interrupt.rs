//! Ctrl-C and TERM for the verbs that wait on a socket.

use std::io;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Readable, for ever, once INT or TERM has come.
#[derive(Debug)]
pub(crate) struct Interrupt {
    reader: UnixStream,
}

impl Interrupt {
    /// Takes INT and TERM from here on.
    ///
    /// # Errors
    /// When a descriptor or a handler cannot be had.
    pub(crate) fn watch() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        pipe::register(SIGINT, writer.try_clone()?)?;
        pipe::register(SIGTERM, writer)?;
        Ok(Interrupt { reader })
    }

    /// The end to wait on.
    pub(crate) fn descriptor(&self) -> &UnixStream {
        &self.reader
    }
}
