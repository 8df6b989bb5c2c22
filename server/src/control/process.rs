//! What the kernel says about this process.

use rustix::process::{Resource, getrlimit};

/// Figures of this process, read when asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessFigures {
    /// Memory in RAM, shared pages included.
    pub(crate) resident_bytes: u64,
    /// Open file descriptors.
    pub(crate) open_files: u64,
    /// The soft limit of them.
    pub(crate) open_files_max: u64,
}

impl ProcessFigures {
    /// The figures now; 0 where `/proc` does not tell.
    pub(crate) fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        ProcessFigures {
            resident_bytes: resident_bytes(&status).unwrap_or(0),
            open_files: std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            open_files_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }
}

/// The line `VmRSS:     1234 kB` of `/proc/self/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_memory_and_files() {
        let figures = ProcessFigures::read();
        assert!(figures.resident_bytes > 100_000, "{figures:?}");
        assert!(figures.open_files >= 3 && figures.open_files <= figures.open_files_max, "{figures:?}");
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }
}
