//! Memory of the kernel's sockets, sampled while something happens. What a server costs in CPU and idle memory the load
//! generator measures itself, as it knows when its phases begin and end.

use std::fs;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Memory queued in all TCP sockets of the machine, both ends, in bytes: `mem` of `/proc/net/sockstat`. Unlike the
/// machine's free memory it does not move with whatever else runs there. A page that several sockets refer to
/// (`sendfile`) is counted once for each, so what is said of shared memory is never too little.
pub fn queued_bytes() -> io::Result<u64> {
    let path = "/proc/net/sockstat";
    let text = fs::read_to_string(path)?;
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, format!("{path} has no `TCP: ... mem`"));
    Ok(tcp_pages(&text).ok_or_else(unreadable)? * rustix::param::page_size() as u64)
}

/// Finds `TCP: inuse 1 ... mem 123`.
fn tcp_pages(text: &str) -> Option<u64> {
    figure(text, "mem")
}

fn figure(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_ascii_whitespace().skip_while(|&word| word != name).nth(1)?.parse().ok()
}

/// TCP sockets of this machine that are connected or listen: `inuse` of `/proc/net/sockstat`.
pub fn sockets() -> io::Result<u64> {
    let path = "/proc/net/sockstat";
    let text = fs::read_to_string(path)?;
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, format!("{path} has no `TCP: inuse`"));
    figure(&text, "inuse").ok_or_else(unreadable)
}

/// Watches how high the queues go.
#[derive(Debug)]
pub struct HighWater {
    before_bytes: u64,
    end: Sender<()>,
    thread: JoinHandle<io::Result<u64>>,
}

impl HighWater {
    /// Begins to watch.
    pub fn watch() -> io::Result<HighWater> {
        let before_bytes = queued_bytes()?;
        let (end, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut highest_bytes = before_bytes;
            while ended.recv_timeout(SAMPLE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                highest_bytes = highest_bytes.max(queued_bytes()?);
            }
            Ok(highest_bytes)
        });
        Ok(HighWater { before_bytes, end, thread })
    }

    /// Ends, and gives the most that was queued at one time beyond what was at the beginning, in bytes.
    pub fn peak_bytes(self) -> io::Result<u64> {
        drop(self.end);
        let highest_bytes = self.thread.join().map_err(|_| io::Error::other("the sampling thread panicked"))??;
        Ok(highest_bytes - self.before_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::{HighWater, SAMPLE_INTERVAL, figure, tcp_pages};

    #[test]
    fn pages_of_tcp_are_found() {
        let text = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 3 alloc 5 mem 77\nUDP: inuse 1 mem 8\n";
        assert_eq!(tcp_pages(text), Some(77));
        assert_eq!(figure(text, "inuse"), Some(5));
        assert_eq!(tcp_pages("UDP: inuse 1 mem 8\n"), None);
        assert_eq!(tcp_pages("TCP: inuse 5\n"), None);
    }

    #[test]
    fn what_nobody_reads_shows() {
        const PAIRS: usize = 200; // together far above what anything else on a test machine queues in a second
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let watch = HighWater::watch().expect("/proc is mounted");
        let mut written_bytes = 0;
        let pairs: Vec<(TcpStream, TcpStream)> = (0..PAIRS)
            .map(|_| {
                let mut writer = TcpStream::connect(address).expect("somebody listens");
                writer.set_nonblocking(true).expect("a socket");
                let reader = listener.accept().expect("it just connected").0;
                while let Ok(bytes @ 1..) = writer.write(&[1; 65_536]) {
                    written_bytes += bytes as u64;
                }
                (writer, reader)
            })
            .collect();
        std::thread::sleep(SAMPLE_INTERVAL * 4);
        drop(std::hint::black_box(pairs));
        let peak_bytes = watch.peak_bytes().expect("/proc is mounted");
        assert!(peak_bytes > written_bytes / 2, "{peak_bytes} of {written_bytes}");
    }
}
