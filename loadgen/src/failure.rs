//! Why a run ended without a result: cause, place, remedy, and the exit code that tells scripts which kind it was.

use std::fmt;

/// How the process ends. The numbers are the product's, the same for every `fanfare` command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Measured, valid, every threshold met.
    Done = 0,
    /// What was asked for failed: the server refused, closed, or never answered.
    Failed = 1,
    /// The command line asks for something impossible.
    Usage = 2,
    /// A scenario file cannot be understood.
    BadFile = 3,
    /// This host cannot do it (descriptors, memory).
    HostUnfit = 4,
    /// The generator could not start (ring, thread, file).
    NotStarted = 5,
    /// Measured and valid, but a threshold was missed.
    ThresholdMissed = 6,
    /// Measured, but the generator was the bottleneck, or the figures mean nothing for another named reason.
    Invalid = 7,
}

impl Exit {
    /// The process exit code.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// A run that gave no result. Displays as three lines: cause, place, remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, in one sentence without a full stop.
    pub cause: String,
    /// Where: a flag, an address, a file.
    pub place: String,
    /// What to do next.
    pub remedy: String,
    /// Which kind of end this is.
    pub exit: Exit,
}

impl Failure {
    /// All four parts.
    pub fn new(exit: Exit, cause: impl Into<String>, place: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: cause.into(), place: place.into(), remedy: remedy.into(), exit }
    }

    /// A command line that cannot be obeyed.
    pub fn usage(cause: impl Into<String>, place: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Exit::Usage, cause, place, remedy)
    }

    /// The server, or the way to it, did not do what the run needs.
    pub fn failed(cause: impl Into<String>, place: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Exit::Failed, cause, place, remedy)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\n  where: {}\n  help:  {}", self.cause, self.place, self.remedy)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_cause_place_and_remedy() {
        let failure = Failure::usage("'12x' is not a size", "--size", "write bytes as 512, 2KiB or 1MiB");
        assert_eq!(
            failure.to_string(),
            "error: '12x' is not a size\n  where: --size\n  help:  write bytes as 512, 2KiB or 1MiB"
        );
        assert_eq!(failure.exit.code(), 2);
    }
}
