//! What /proc tells about the server and about the kernel's own memory.

use crate::failure::Failure;
use crate::sock_diag;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Clock ticks per second of `/proc/PID/stat`: `USER_HZ`, 100 on every Linux architecture we run on.
const TICKS_PER_SECOND: u64 = 100;

/// Bytes per page as `/proc/net/sockstat` counts them.
fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// CPU and memory of the server's processes at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessSample {
    /// By thread (`/proc/PID/task/TID/schedstat`), empty when the kernel does not say.
    threads: BTreeMap<(u32, u32), Scheduled>,
    /// User + system time of whole processes, 10 ms steps.
    stat: Duration,
    /// Memory, summed over the processes.
    pub memory: Memory,
}

/// What the scheduler did with a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduled {
    /// On a CPU, nanoseconds.
    pub running_ns: u64,
    /// Ready, but waiting for a CPU, nanoseconds.
    pub waiting_ns: u64,
}

impl Scheduled {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace().map(|word| word.parse().ok());
        Some(Self { running_ns: words.next()??, waiting_ns: words.next()?? })
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            running_ns: self.running_ns.saturating_sub(earlier.running_ns),
            waiting_ns: self.waiting_ns.saturating_sub(earlier.waiting_ns),
        }
    }
}

/// Memory of the server's processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Resident set.
    pub rss_bytes: u64,
    /// Pages no other process maps (`smaps_rollup`: Private_Clean + Private_Dirty), shared-memory files included.
    pub private_bytes: u64,
    /// Anonymous pages alone.
    pub anonymous_bytes: u64,
    /// Threads.
    pub threads: u64,
}

impl ProcessSample {
    /// Samples all of `pids`.
    pub fn take(pids: &[u32]) -> Result<Self, Failure> {
        Self::sample(pids, memory)
    }

    /// The same with the resident set alone of their memory: cheap enough for every second. The other figures make the
    /// kernel walk all pages of the process while that may not change them.
    pub fn glance(pids: &[u32]) -> Result<Self, Failure> {
        Self::sample(pids, |pid| {
            let statm = read(pid, "statm")?;
            let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
            let pages = pages.ok_or_else(|| unreadable(pid, "statm", "unexpected format"))?;
            Ok(Memory { rss_bytes: pages * page_bytes(), ..Memory::default() })
        })
    }

    fn sample(pids: &[u32], memory: impl Fn(u32) -> Result<Memory, Failure>) -> Result<Self, Failure> {
        let mut sample = Self::default();
        for &pid in pids {
            let stat = read(pid, "stat")?;
            sample.stat += stat_cpu(&stat).ok_or_else(|| unreadable(pid, "stat", "unexpected format"))?;
            sample.memory.add(&memory(pid)?);
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| unreadable(pid, "task", error))?;
            for task in tasks.flatten() {
                let Some(tid) = task.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
                // A thread may end between the listing and the reading.
                let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                if let Some(scheduled) = Scheduled::parse(&text) {
                    sample.threads.insert((pid, tid), scheduled);
                }
            }
        }
        Ok(sample)
    }

    /// What the scheduler did with one thread since `earlier`; nothing when it was not in both samples.
    pub fn thread_since(&self, earlier: &Self, pid: u32, thread: u32) -> Scheduled {
        let at = |sample: &Self| sample.threads.get(&(pid, thread)).copied();
        at(self).zip(at(earlier)).map_or(Scheduled::default(), |(now, before)| now.since(before))
    }

    /// The longest that any one thread has waited for a CPU since `earlier`.
    pub fn longest_wait_since(&self, earlier: &Self) -> Duration {
        let waits = self.threads.keys().map(|&(pid, thread)| self.thread_since(earlier, pid, thread).waiting_ns);
        Duration::from_nanos(waits.max().unwrap_or(0))
    }

    /// CPU time used since `earlier`. Nanosecond figures when no thread has ended in between, else 10 ms steps.
    pub fn cpu_since(&self, earlier: &Self) -> Duration {
        let all_alive = earlier.threads.keys().all(|thread| self.threads.contains_key(thread));
        if self.threads.is_empty() || !all_alive {
            return self.stat.saturating_sub(earlier.stat);
        }
        let sum = |sample: &Self| sample.threads.values().map(|thread| thread.running_ns).sum::<u64>();
        Duration::from_nanos(sum(self).saturating_sub(sum(earlier)))
    }
}

impl Memory {
    fn add(&mut self, other: &Self) {
        self.rss_bytes += other.rss_bytes;
        self.private_bytes += other.private_bytes;
        self.anonymous_bytes += other.anonymous_bytes;
        self.threads += other.threads;
    }
}

fn unreadable(pid: u32, file: &str, error: impl std::fmt::Display) -> Failure {
    Failure::failed(
        format!("cannot read /proc/{pid}/{file}: {error}"),
        format!("--server-pid {pid}"),
        "check that the server still runs under this pid and that this user may read it",
    )
}

fn read(pid: u32, file: &str) -> Result<String, Failure> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|error| unreadable(pid, file, error))
}

/// Fields 14 and 15, counted after the command name, which may hold blanks and parentheses.
fn stat_cpu(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let user: u64 = fields.get(11)?.parse().ok()?;
    let system: u64 = fields.get(12)?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

fn memory(pid: u32) -> Result<Memory, Failure> {
    let rollup = read(pid, "smaps_rollup")?;
    let status = read(pid, "status")?;
    let kib = |text: &str, key: &str| field(text, key).unwrap_or(0) * 1024;
    Ok(Memory {
        rss_bytes: kib(&rollup, "Rss:"),
        private_bytes: kib(&rollup, "Private_Clean:") + kib(&rollup, "Private_Dirty:"),
        anonymous_bytes: kib(&rollup, "Anonymous:"),
        threads: field(&status, "Threads:").unwrap_or(0),
    })
}

/// The number after `key` at the beginning of a line.
fn field(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line[key.len()..].split_whitespace().next()?.parse().ok()
}

/// Slab caches that connections live in; names that begin so. The rest of the slab is inodes of files, processes and
/// page tables, which move with whatever else runs. Dentries are left out too: see [`KernelSample::parse_slabs`]. So is
/// what epoll keeps (`eventpoll_epi`, 128 bytes for each socket of a server that uses it): the kernel merges that cache
/// with the ports that our own end of a connection takes, and how many those are depends on who connects to whom.
const CONNECTION_CACHES: [&str; 9] =
    ["TCP", "request_sock_", "sock_inode_cache", "filp", "lsm_", "io_", "iou_", "skbuff_", "kmalloc-"];

/// Memory the kernel uses for itself, system-wide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelSample {
    /// Slab caches of connections (/proc/slabinfo), or `Slab` of /proc/meminfo where that may not be read.
    pub slab_bytes: u64,
    /// Queues of TCP sockets: [`sock_diag::queued_bytes`], or `mem` of /proc/net/sockstat, which is some pages off, where
    /// the kernel has no `sock_diag`.
    pub socket_bytes: u64,
}

impl KernelSample {
    /// Samples the slabs of the whole system, and the sockets of this network namespace.
    pub fn take() -> Result<Self, Failure> {
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|error| {
                Failure::failed(format!("cannot read {path}: {error}"), path, "run where /proc is mounted")
            })
        };
        let sample = Self::parse(&read("/proc/meminfo")?, &read("/proc/net/sockstat")?);
        // Only root may read it.
        let slabs = fs::read_to_string("/proc/slabinfo").ok().and_then(|text| Self::parse_slabs(&text));
        let socket_bytes = match sock_diag::queued_bytes() {
            Err(error) if sock_diag::is_unknown(&error) => sample.socket_bytes,
            Err(error) => {
                let cause = format!("the kernel does not say what its sockets hold: {error}");
                return Err(Failure::failed(cause, "sock_diag", "try again, as a user who may open netlink sockets"));
            }
            Ok(bytes) => bytes,
        };
        Ok(Self { slab_bytes: slabs.unwrap_or(sample.slab_bytes), socket_bytes })
    }

    /// Bytes of the slabs of connections, each object with its share of its slab's pages. Objects in use are counted and
    /// not slabs: the first thousand sockets of a run fill slabs that earlier ones have left half empty, and would weigh
    /// less than the next. Each socket has one dentry, so these are counted by the sockets' inodes: anybody who walks
    /// /proc/PID/fd makes as many more.
    fn parse_slabs(slabinfo: &str) -> Option<u64> {
        let (mut bytes, mut sockets, mut dentry_bytes) = (0, None, 0);
        for line in slabinfo.lines() {
            let mut words = line.split_whitespace();
            let Some(name) = words.next() else { continue };
            // active objects, objects, bytes of one, objects in a slab, pages of a slab ... : slabdata active slabs
            let figures: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
            let &[in_use, _, object_bytes, per_slab, slab_pages, ..] = figures.as_slice() else { continue };
            let cache_bytes = in_use * slab_pages * page_bytes() / per_slab.max(1);
            match name {
                "sock_inode_cache" => sockets = Some(in_use),
                "dentry" => dentry_bytes = object_bytes,
                _ => {}
            }
            if CONNECTION_CACHES.iter().any(|prefix| name.starts_with(prefix)) {
                bytes += cache_bytes;
            }
        }
        Some(bytes + sockets? * dentry_bytes)
    }

    fn parse(meminfo: &str, sockstat: &str) -> Self {
        let tcp = sockstat.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
        let mut words = tcp.split_whitespace().skip_while(|&word| word != "mem").skip(1);
        let pages: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        Self { slab_bytes: field(meminfo, "Slab:").unwrap_or(0) * 1024, socket_bytes: pages * page_bytes() }
    }

    /// Growth since `earlier`, negative when the system gave memory back.
    pub fn since(&self, earlier: &Self) -> i64 {
        let sum = |sample: &Self| (sample.slab_bytes + sample.socket_bytes) as i64;
        sum(self) - sum(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (we) (ird) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1 0 5 6 7 8";
        assert_eq!(stat_cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(stat_cpu("nonsense"), None);
    }

    #[test]
    fn kernel_memory_is_slab_plus_queued_bytes() {
        let meminfo = "MemTotal: 1 kB\nSlab:            1000 kB\nSReclaimable: 9 kB\n";
        let sockstat = "sockets: used 18\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 3\nUDP: inuse 0 mem 7\n";
        let sample = KernelSample::parse(meminfo, sockstat);
        assert_eq!(sample, KernelSample { slab_bytes: 1_024_000, socket_bytes: 3 * page_bytes() });
        assert_eq!(KernelSample::default().since(&sample), -(1_024_000 + 3 * page_bytes() as i64));
    }

    #[test]
    fn slabs_of_connections_are_told_from_the_rest() {
        let slabinfo = "slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables ...
TCP 20 26 2432 13 8 : tunables 0 0 0 : slabdata 2 2 0
sock_inode_cache 50 76 832 19 4 : tunables 0 0 0 : slabdata 4 4 0
proc_inode_cache 9000 9010 680 23 4 : tunables 0 0 0 : slabdata 392 392 0
dentry 70000 70014 192 21 1 : tunables 0 0 0 : slabdata 3334 3334 0
";
        let bytes = 20 * 8 * page_bytes() / 13 + 50 * 4 * page_bytes() / 19;
        assert_eq!(KernelSample::parse_slabs(slabinfo), Some(bytes + 50 * 192));
        assert_eq!(KernelSample::parse_slabs("slabinfo - version: 2.1\n"), None);
    }

    #[test]
    fn this_process_can_be_sampled_and_its_work_shows() {
        let pid = std::process::id();
        let before = ProcessSample::take(&[pid]).expect("own pid");
        assert!(before.memory.rss_bytes > 0 && before.memory.threads > 0);
        // Counted by the scheduler itself, so this ends however loaded the machine is.
        let mut used = Duration::ZERO;
        while used < Duration::from_millis(20) {
            used = ProcessSample::take(&[pid]).expect("own pid").cpu_since(&before);
        }
        let now = ProcessSample::take(&[pid]).expect("own pid");
        assert!(now.longest_wait_since(&now).is_zero());
        let glance = ProcessSample::glance(&[pid]).expect("own pid");
        assert!(glance.memory.rss_bytes > 0 && glance.memory.private_bytes == 0);
        assert!(glance.cpu_since(&before) >= Duration::from_millis(20));
    }

    #[test]
    fn the_scheduler_says_how_long_a_thread_ran_and_waited() {
        let found = Scheduled::parse("2651514 77 12\n").expect("two figures");
        assert_eq!(found, Scheduled { running_ns: 2_651_514, waiting_ns: 77 });
        assert_eq!(Scheduled::parse("nonsense"), None);
    }

    #[test]
    fn a_dead_pid_is_named() {
        let failure = ProcessSample::take(&[u32::MAX - 1]).expect_err("no such process");
        assert!(failure.place.contains("--server-pid"), "{failure}");
    }
}
