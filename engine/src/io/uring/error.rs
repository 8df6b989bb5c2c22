//! Why a ring could not start, and what the operator can do about it.

use crate::io::Errno;
use std::error::Error;
use std::fmt;
use std::io;

/// The step of ring set-up that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingStep {
    /// `io_uring_setup`.
    Create,
    /// Registering the table of direct descriptors.
    FileTable {
        /// Slots asked for.
        slots: u32,
    },
    /// Registering the ring of receive buffers.
    BufferRing,
    /// Asking the kernel which operations it knows.
    Probe,
    /// The first requests of our own (the poll that lets other threads wake the shard).
    Start,
}

/// A ring could not start. `Display` gives the error, the likely cause and the remedy, one line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingError {
    /// Where.
    pub step: RingStep,
    /// What the kernel said.
    pub errno: Errno,
    /// `kernel.io_uring_disabled`, if it could be read: 1 = only for a group, 2 = for all.
    pub disabled: Option<u8>,
}

impl RingError {
    pub(in crate::io) fn new(step: RingStep, error: &io::Error) -> Self {
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
        let disabled = disabled.ok().and_then(|text| text.trim().parse().ok());
        Self { step, errno: Errno(error.raw_os_error().unwrap_or(libc::EIO)), disabled }
    }

    /// The documented code of this error.
    pub fn code(&self) -> &'static str {
        match (self.errno.0, self.step) {
            (libc::EPERM | libc::EACCES, _) => "FF2001",
            (libc::ENOSYS, _) => "FF2002",
            (libc::ENOMEM, _) => "FF2003",
            (libc::EMFILE | libc::ENFILE, _) => "FF2004",
            (libc::EINVAL | libc::EOPNOTSUPP, _) => "FF2005",
            (libc::EEXIST, _) => "FF2006",
            _ => "FF2007",
        }
    }

    fn action(&self) -> String {
        match self.step {
            RingStep::Create => "cannot create an io_uring".to_owned(),
            RingStep::FileTable { slots } => format!("cannot register a table of {slots} connections"),
            RingStep::BufferRing => "cannot register the receive buffers".to_owned(),
            RingStep::Probe => "cannot ask io_uring for its operations".to_owned(),
            RingStep::Start => "cannot start the io_uring".to_owned(),
        }
    }

    fn cause_and_remedy(&self) -> (&'static str, &'static str) {
        match (self.errno.0, self.disabled) {
            (libc::EPERM | libc::EACCES, Some(2)) => (
                "io_uring is switched off on this host (kernel.io_uring_disabled = 2)",
                "sysctl -w kernel.io_uring_disabled=0    keep: /etc/sysctl.d/60-fanfare.conf",
            ),
            (libc::EPERM | libc::EACCES, Some(1)) => (
                "io_uring is allowed for one group only (kernel.io_uring_disabled = 1)",
                "add the server's user to the group in kernel.io_uring_group, or sysctl -w kernel.io_uring_disabled=0",
            ),
            (libc::EPERM | libc::EACCES, _) => (
                "the container's seccomp profile forbids io_uring (Docker does by default)",
                "docker run --security-opt seccomp=FILE with a profile that allows io_uring_* (or =unconfined to try)",
            ),
            (libc::ENOSYS, _) => (
                "this kernel has no io_uring, or a sandbox (gVisor, seccomp) hides it",
                "run on Linux 6.8 or newer, outside the sandbox",
            ),
            (libc::ENOMEM, _) => (
                "the limit on locked memory is too small for the ring, or memory is exhausted",
                "LimitMEMLOCK=64M in the unit file (ulimit -l 65536), or fewer shards",
            ),
            (libc::EMFILE, _) => (
                "the limit on open files is smaller than the connections of one shard",
                "LimitNOFILE=262144 in the unit file (ulimit -n), or fewer connections per shard, or more shards",
            ),
            (libc::ENFILE, _) => (
                "the host has no file handles left (fs.file-max)",
                "sysctl -w fs.file-max=4000000    keep: /etc/sysctl.d/60-fanfare.conf",
            ),
            (libc::EINVAL | libc::EOPNOTSUPP, _) => (
                "this kernel lacks something the server needs (deferred task run, buffer rings, direct descriptors)",
                "run on Linux 6.8 or newer",
            ),
            (libc::EEXIST, _) => {
                ("the ring is being used by a thread that did not build it", "a bug of this program: please report it")
            }
            _ => ("unknown", "report it together with the output of uname -a and ulimit -a"),
        }
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cause, remedy) = self.cause_and_remedy();
        let reason = io::Error::from_raw_os_error(self.errno.0);
        writeln!(f, "{}  {}: {reason}", self.code(), self.action())?;
        writeln!(f, "  likely cause: {cause}")?;
        write!(f, "  fix:  {remedy}")
    }
}

impl Error for RingError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_tells_cause_and_remedy() {
        for errno in [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EINVAL, libc::EEXIST] {
            for disabled in [None, Some(0), Some(1), Some(2)] {
                let error = RingError { step: RingStep::Create, errno: Errno(errno), disabled };
                let text = error.to_string();
                assert!(text.starts_with("FF20"), "{text}");
                assert_eq!(text.lines().count(), 3, "{text}");
                assert!(!text.contains("unknown"), "{text}");
            }
        }
    }

    #[test]
    fn the_file_table_names_its_size() {
        let step = RingStep::FileTable { slots: 20_001 };
        let error = RingError::new(step, &io::Error::from_raw_os_error(libc::EMFILE));
        assert!(error.to_string().contains("table of 20001 connections"));
        assert_eq!(error.code(), "FF2004");
    }
}
