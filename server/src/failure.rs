//! What the user reads when something could not be done: what happened, where, why, and what to do next.

use std::fmt;

/// Every number this binary prints as `FFnnnn`. A number is never reused, even when its cause is gone.
///
/// `1xxx` command line, `2xxx` host and start, `3xxx` HTTP of the admin and public listener, `31xx`
/// tokens, `4xxx` connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Code {
    /// A flag this verb does not have.
    UnknownFlag = 1001,
    /// A flag or argument was given a value it cannot take.
    BadValue = 1002,
    /// Something the verb needs was not given.
    Missing = 1004,
    /// A verb that does not exist.
    UnknownVerb = 1005,
    /// Two things that exclude each other.
    Conflict = 1006,
    /// A message argument that is not JSON.
    BadJson = 1007,
    /// The URL of a server in a form this client cannot use.
    BadUrl = 1008,
    /// A file that should hold a token for a server.
    BadToken = 1009,
    /// The engine could not start: ring, listener, memory.
    CannotStart = 2000,
    /// The admin listener could not be bound. (2001 to 2013 are the engine's own.)
    AdminListen = 2020,
    /// The control thread could not be set up.
    Control = 2021,
    /// A file with keys for tokens cannot be read or used.
    KeyFile = 2030,
    /// Keys for tokens cannot be got from their URL.
    KeyUrl = 2031,
    /// A file with a TLS certificate or its key cannot be read or used.
    TlsFile = 2032,
    /// A TLS certificate has expired, or will soon.
    TlsExpiry = 2301,
    /// No such page on this listener.
    NotFound = 3001,
    /// The page exists, but not for this method.
    MethodNotAllowed = 3002,
    /// The bytes were not an HTTP/1.1 request we accept.
    BadRequest = 3003,
    /// The admin listener holds all the connections it takes.
    AdminFull = 3004,
    /// The page met a bug of ours.
    PageFailed = 3005,
    /// The request named a host that is not this machine's loopback: perhaps a page of another site.
    ForeignHost = 3006,
    /// The server is not ready: it starts, drains or stops.
    NotReady = 3007,
    /// A file with keys for tokens has changed into one that cannot be used: the keys before stay.
    KeysKept = 3101,
    /// A TLS certificate, or its key, has changed into one that cannot be used: the one before stays.
    TlsKept = 3102,
    /// Nobody listens at the address, or it cannot be reached.
    CannotConnect = 4001,
    /// The server answered, but not as a SignalR hub does.
    NotAHub = 4002,
    /// The hub refused the handshake.
    HandshakeRefused = 4003,
    /// The hub ended the connection.
    ClosedByHub = 4004,
    /// The connection was lost without a farewell.
    Lost = 4005,
    /// The server said nothing for longer than it may.
    Silent = 4006,
    /// The server broke a rule of HTTP, WebSocket or the hub protocol.
    PeerRule = 4008,
    /// A method was called and answered with an error.
    InvocationFailed = 4009,
    /// Clients found no room.
    Full = 4101,
    /// Clients connect, or negotiate, faster than they may.
    TooFast = 4110,
    /// Too many connections have not shaken hands yet.
    Handshakes = 4111,
    /// Users, or addresses, have all the connections that one may have.
    TooMany = 4112,
    /// Clients were closed because they send more than they may.
    Throttled = 4113,
    /// Clients were closed because a message of theirs did not end in time.
    Unfinished = 4114,
    /// Clients spoke something else where they must speak TLS.
    NotTls = 4120,
    /// Clients ended their TLS handshake: mostly they do not trust the certificate.
    TlsRefused = 4121,
}

impl Code {
    /// The exit status of a process that ends because of this.
    pub(crate) fn exit_status(self) -> u8 {
        match self as u16 {
            1000..2000 => exit::USAGE,
            2000..3000 => exit::CANNOT_START,
            _ => exit::FAILED,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FF{:04}", *self as u16)
    }
}

/// Exit statuses of the binary.
pub(crate) mod exit {
    /// The asked thing failed.
    pub(crate) const FAILED: u8 = 1;
    /// Wrong usage.
    pub(crate) const USAGE: u8 = 2;
    /// The server could not start: port, ring, files.
    pub(crate) const CANNOT_START: u8 = 5;
    /// Stopped by the user before it was done.
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// Something that could not be done, in the words of the one who asked for it.
///
/// Prints as `error FF1002  <what>` and one indented line for each fact, as `label  text`.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    code: Code,
    /// The number and what happened.
    head: String,
    facts: Vec<(&'static str, String)>,
}

impl Failure {
    /// `what` happened, in one line, with the place in it.
    pub(crate) fn new(code: Code, what: impl Into<String>) -> Self {
        Failure { code, head: format!("{code}  {}", what.into()), facts: Vec::new() }
    }

    /// What the engine says about its failed start: text that has its own number and remedy.
    pub(crate) fn of_engine(text: &str) -> Self {
        if text.starts_with("FF") {
            return Failure { code: Code::CannotStart, head: text.to_owned(), facts: Vec::new() };
        }
        Failure::new(Code::CannotStart, text)
    }

    /// Adds a fact under a short label (`given`, `accepted`, `cause`).
    #[must_use]
    pub(crate) fn fact(mut self, label: &'static str, text: impl Into<String>) -> Self {
        self.facts.push((label, text.into()));
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn fix(self, text: impl Into<String>) -> Self {
        self.fact("fix", text)
    }

    /// The number of this failure.
    pub(crate) fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}", self.head)?;
        let width = self.facts.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        for (label, text) in &self.facts {
            for (index, line) in text.lines().enumerate() {
                let label = if index == 0 { label } else { &"" };
                write!(f, "\n  {label:width$}  {line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_what_facts_and_fix() {
        let failure = Failure::new(Code::BadValue, "bad value for `--drain-period`")
            .fact("given", "10")
            .fact("accepted", "250ms 15s 5m 1h")
            .fix("--drain-period 10s");
        let expected = "error FF1002  bad value for `--drain-period`\n  given     10\n  accepted  250ms 15s 5m 1h\n  \
                        fix       --drain-period 10s";
        assert_eq!(failure.to_string(), expected);
    }

    #[test]
    fn the_thousands_of_a_code_choose_the_exit_status() {
        assert_eq!(Code::UnknownFlag.exit_status(), exit::USAGE);
        assert_eq!(Code::CannotStart.exit_status(), exit::CANNOT_START);
        assert_eq!(Code::CannotConnect.exit_status(), exit::FAILED);
    }
}
