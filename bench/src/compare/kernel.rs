//! Memory of the whole machine, sampled while something happens. What a server costs in CPU and idle memory the load
//! generator measures itself, as it knows when its phases begin and end.

use std::fs;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks at the machine's memory.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Memory that could be given to programs now, in bytes: `MemAvailable`. It falls by what processes, sockets and
/// shared-memory files take, each page counted once, however many sockets refer to it; the sums that the kernel keeps
/// for sockets count a page once for each. Only differences mean something, and only while nothing else changes.
pub fn available_bytes() -> io::Result<u64> {
    let path = "/proc/meminfo";
    let text = fs::read_to_string(path)?;
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, format!("{path} has no MemAvailable"));
    field_bytes(&text, "MemAvailable:").ok_or_else(unreadable)
}

/// Finds `NAME   123 kB` and gives bytes.
fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Watches how low the available memory goes.
#[derive(Debug)]
pub struct LowWater {
    before_bytes: u64,
    end: Sender<()>,
    thread: JoinHandle<io::Result<u64>>,
}

impl LowWater {
    /// Begins to watch.
    pub fn watch() -> io::Result<LowWater> {
        let before_bytes = available_bytes()?;
        let (end, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut lowest_bytes = before_bytes;
            while ended.recv_timeout(SAMPLE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                lowest_bytes = lowest_bytes.min(available_bytes()?);
            }
            Ok(lowest_bytes)
        });
        Ok(LowWater { before_bytes, end, thread })
    }

    /// Ends, and gives the most that was in use at one time beyond what was at the beginning, in bytes.
    pub fn peak_bytes(self) -> io::Result<u64> {
        drop(self.end);
        let lowest_bytes = self.thread.join().map_err(|_| io::Error::other("the sampling thread panicked"))??;
        Ok(self.before_bytes - lowest_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{LowWater, SAMPLE_INTERVAL, field_bytes};

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemAvailableX: 900 kB\nMemAvailable:     12 kB\n";
        assert_eq!(field_bytes(text, "MemAvailable:"), Some(12 * 1024));
        assert_eq!(field_bytes(text, "MemFree:"), None);
    }

    #[test]
    fn a_block_in_use_shows() {
        const BLOCK_BYTES: usize = 512 << 20; // far above what anything else on a test machine changes in a second
        let watch = LowWater::watch().expect("/proc is mounted");
        let block = vec![1u8; BLOCK_BYTES];
        std::thread::sleep(SAMPLE_INTERVAL * 4);
        drop(std::hint::black_box(block));
        let peak_bytes = watch.peak_bytes().expect("/proc is mounted");
        assert!(peak_bytes > BLOCK_BYTES as u64 / 2, "{peak_bytes}");
    }
}
