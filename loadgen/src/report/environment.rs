//! Where and how a run was done: what a reader must know before two results are compared.

use super::redact;
use crate::job::Job;
use serde::Serialize;
use std::fs;
use std::time::{Duration, SystemTime};

/// `run` of `result.json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunInfo {
    /// UTC, RFC 3339.
    pub started_at: String,
    /// From the first connection to the last good-bye.
    pub elapsed_s: f64,
    /// Of this generator.
    pub version: &'static str,
    /// The command line, secrets left out; absent when the generator was called as a library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The generator's machine.
    pub host: Host,
    /// The server's processes, when they are on this machine and were named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub server_processes: Vec<ServerProcess>,
}

/// A machine. Absent: /proc does not say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Host {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Release of the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Architecture this program was built for.
    pub architecture: &'static str,
    /// As the processor calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// Logical processors online.
    pub cpus: u32,
    /// Frequency governor of the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_governor: Option<String>,
    /// Memory of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes that ran or waited, on average over the minute before the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_average_1m: Option<f64>,
    /// Descriptors the generator may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files_max: Option<u64>,
}

/// One of the server's processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServerProcess {
    /// As the kernel names it; its arguments may hold secrets and are not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Processors it may run on, as a list of ranges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus_allowed: Option<String>,
    /// Descriptors it may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files_max: Option<u64>,
}

fn file(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// What stands behind `key` at the beginning of a line.
fn value(text: &str, key: &str) -> Option<String> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(rest.trim_start_matches([' ', '\t', ':']).trim().to_owned())
}

/// The soft limit of /proc/PID/limits.
fn open_files_max(limits: &str) -> Option<u64> {
    value(limits, "Max open files")?.split_whitespace().next()?.parse().ok()
}

impl Host {
    /// Looks around.
    pub fn look() -> Self {
        let cpuinfo = file("/proc/cpuinfo").unwrap_or_default();
        let kib = |meminfo: String| value(&meminfo, "MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok();
        Self {
            name: file("/proc/sys/kernel/hostname"),
            kernel: file("/proc/sys/kernel/osrelease"),
            architecture: std::env::consts::ARCH,
            cpu_model: value(&cpuinfo, "model name"),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count() as u32,
            cpu_governor: file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            memory_bytes: file("/proc/meminfo").and_then(kib).map(|kib| kib * 1024),
            load_average_1m: file("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            open_files_max: file("/proc/self/limits").and_then(|limits| open_files_max(&limits)),
        }
    }
}

impl ServerProcess {
    fn look(pid: u32) -> Self {
        let status = file(&format!("/proc/{pid}/status"));
        Self {
            name: file(&format!("/proc/{pid}/comm")),
            cpus_allowed: status.and_then(|status| value(&status, "Cpus_allowed_list:")),
            open_files_max: file(&format!("/proc/{pid}/limits")).and_then(|limits| open_files_max(&limits)),
        }
    }
}

impl RunInfo {
    /// Before the first connection.
    pub fn begin(job: &Job, started: SystemTime) -> Self {
        let arguments = &job.output.arguments;
        Self {
            started_at: humantime::format_rfc3339_millis(started).to_string(),
            elapsed_s: 0.0,
            version: env!("CARGO_PKG_VERSION"),
            command: (!arguments.is_empty()).then(|| redact::command(arguments)),
            host: Host::look(),
            server_processes: job.server.pids.iter().map(|&pid| ServerProcess::look(pid)).collect(),
        }
    }

    /// After the last good-bye.
    pub fn end(&mut self, elapsed: Duration) {
        self.elapsed_s = (elapsed.as_secs_f64() * 1e3).round() / 1e3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        let host = Host::look();
        assert!(host.cpus > 0 && host.kernel.is_some() && host.memory_bytes > Some(1 << 20), "{host:?}");
        assert!(host.open_files_max > Some(0), "{host:?}");
        let process = ServerProcess::look(std::process::id());
        assert!(process.name.is_some() && process.cpus_allowed.is_some(), "{process:?}");
        assert_eq!(ServerProcess::look(u32::MAX - 1), ServerProcess::default());
    }

    #[test]
    fn values_behind_keys() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2GHz\nMax open files            20000    30000   files\n";
        assert_eq!(value(text, "model name").as_deref(), Some("Some CPU @ 2GHz"));
        assert_eq!(open_files_max(text), Some(20_000));
        assert_eq!(value(text, "flags"), None);
    }
}
