//! What this kernel and this process can do: asked once, shown by the doctor command and at start.

use super::uring::{RingError, RingStep};
use io_uring::{IoUring, Probe, opcode};
use std::fmt;
use std::fs;

/// The kernel's bound on a table of direct descriptors.
const TABLE_SLOTS_MAX: u64 = 1 << 20;

/// An operation of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its name in the kernel's documentation.
    pub name: &'static str,
    /// What the server uses it for.
    pub purpose: &'static str,
    /// Whether the server cannot start, or only loses something, without it.
    pub needed: bool,
    /// Whether this kernel has it.
    pub supported: bool,
}

/// A ring that could be made, and what it offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingCapabilities {
    /// All operations that the server knows how to use.
    pub operations: Vec<Operation>,
    /// Waiting with an absolute deadline and for a minimum time (Linux 6.12).
    pub min_wait: bool,
    /// Waiting shards do not count as waiting for disks (Linux 6.15).
    pub no_iowait: bool,
    /// Several buffers per receive or send (Linux 6.10). Not used yet.
    pub bundles: bool,
}

/// Limits of this process and host that bound the number of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostLimits {
    /// Open files, soft limit: bounds the connections of each shard (not their sum).
    pub open_files: Option<u64>,
    /// Open files, hard limit.
    pub open_files_hard: Option<u64>,
    /// Lockable memory in bytes; `None` if unlimited or unknown.
    pub locked_memory_bytes: Option<u64>,
    /// Connections that may wait to be accepted, per listener.
    pub somaxconn: Option<u64>,
}

impl HostLimits {
    /// Connections that one shard can hold.
    pub fn slots_per_shard(&self) -> u64 {
        self.open_files.unwrap_or(TABLE_SLOTS_MAX).min(TABLE_SLOTS_MAX)
    }

    fn read() -> Self {
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let (open_files, open_files_hard) = limit(&limits, "Max open files");
        Self {
            open_files,
            open_files_hard,
            locked_memory_bytes: limit(&limits, "Max locked memory").0,
            somaxconn: fs::read_to_string("/proc/sys/net/core/somaxconn")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
        }
    }
}

/// Soft and hard value of a line of `/proc/self/limits`; `None` for "unlimited".
fn limit(limits: &str, name: &str) -> (Option<u64>, Option<u64>) {
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let mut values = line.split_whitespace().map(|value| value.parse().ok());
    (values.next().flatten(), values.next().flatten())
}

/// Everything that was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The kernel's release, such as `6.18.44`.
    pub kernel: String,
    /// What a ring offers, or why there is none.
    pub ring: Result<RingCapabilities, RingError>,
    /// Limits of process and host.
    pub limits: HostLimits,
}

impl Capabilities {
    /// Makes a small ring, asks it, and throws it away. Reads a few files under `/proc`. Changes nothing.
    pub fn probe() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self { kernel: kernel.trim().to_owned(), ring: probe_ring(), limits: HostLimits::read() }
    }

    /// Whether the server can start here.
    pub fn sufficient(&self) -> bool {
        self.ring.as_ref().is_ok_and(|ring| ring.missing().next().is_none())
    }
}

impl RingCapabilities {
    /// Needed operations that this kernel lacks.
    pub fn missing(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(|operation| operation.needed && !operation.supported)
    }
}

fn probe_ring() -> Result<RingCapabilities, RingError> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_submit_all().setup_cqsize(16);
    let ring: IoUring = builder.build(8).map_err(|error| RingError::new(RingStep::Create, &error))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| RingError::new(RingStep::Probe, &error))?;
    let step = RingStep::FileTable { slots: 1 };
    ring.submitter().register_files_sparse(1).map_err(|error| RingError::new(step, &error))?;
    let operation =
        |(name, code, purpose, needed)| Operation { name, purpose, needed, supported: probe.is_supported(code) };
    let parameters = ring.params();
    Ok(RingCapabilities {
        operations: operations().into_iter().map(operation).collect(),
        min_wait: parameters.is_feature_min_timeout(),
        no_iowait: parameters.is_feature_no_iowait(),
        bundles: parameters.is_feature_recvsend_bundle(),
    })
}

type OperationRow = (&'static str, u8, &'static str, bool);

fn operations() -> [OperationRow; 13] {
    [
        ("ACCEPT", opcode::AcceptMulti::CODE, "connections come in", true),
        ("POLL_ADD", opcode::PollAdd::CODE, "idle connections are watched", true),
        ("RECV", opcode::Recv::CODE, "bytes come in", true),
        ("SEND", opcode::Send::CODE, "bytes go out", true),
        ("SENDMSG", opcode::SendMsg::CODE, "several runs of bytes go out at once", true),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE, "connections end cleanly", true),
        ("CLOSE", opcode::Close::CODE, "connections end", true),
        ("MSG_RING", opcode::MsgRingData::CODE, "shards wake each other", true),
        ("FIXED_FD_INSTALL", opcode::FixedFdInstall::CODE, "large and late sends go without a copy", true),
        ("SOCKET", opcode::Socket::CODE, "the load generator dials", false),
        ("CONNECT", opcode::Connect::CODE, "the load generator dials", false),
        ("BIND", opcode::Bind::CODE, "the load generator dials faster from chosen addresses", false),
        ("URING_CMD", opcode::SetSockOpt::CODE, "the load generator sets options without a descriptor", false),
    ]
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string())
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel        {}", self.kernel)?;
        match &self.ring {
            Err(error) => writeln!(f, "io_uring      not usable\n{error}")?,
            Ok(ring) => {
                let yes_no = |yes| if yes { "yes" } else { "no" };
                let verdict = if self.sufficient() { "usable" } else { "not sufficient" };
                writeln!(f, "io_uring      {verdict}")?;
                for operation in ring.operations.iter().filter(|operation| !operation.supported) {
                    let weight = if operation.needed { "needed" } else { "optional" };
                    writeln!(f, "  missing     {} ({weight}: {})", operation.name, operation.purpose)?;
                }
                writeln!(f, "  min wait    {}", yes_no(ring.min_wait))?;
                writeln!(f, "  no iowait   {}", yes_no(ring.no_iowait))?;
                writeln!(f, "  bundles     {}", yes_no(ring.bundles))?;
            }
        }
        let limits = &self.limits;
        writeln!(f, "open files    {} (hard {})", shown(limits.open_files), shown(limits.open_files_hard))?;
        writeln!(f, "  per shard   {} connections at most", limits.slots_per_shard())?;
        writeln!(f, "locked memory {}", shown(limits.locked_memory_bytes))?;
        write!(f, "somaxconn     {}", limits.somaxconn.map_or_else(|| "unknown".to_owned(), |value| value.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_the_kernels_table() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max locked memory         unlimited            unlimited            bytes     \n";
        assert_eq!(limit(text, "Max open files"), (Some(1024), Some(524_288)));
        assert_eq!(limit(text, "Max locked memory"), (None, None));
        assert_eq!(limit(text, "Max something else"), (None, None));
    }

    #[test]
    fn a_table_has_at_most_a_million_slots() {
        let limits = HostLimits { open_files: Some(5_000_000), ..HostLimits::default() };
        assert_eq!(limits.slots_per_shard(), 1 << 20);
        assert_eq!(HostLimits { open_files: Some(20_000), ..limits }.slots_per_shard(), 20_000);
    }

    #[test]
    fn what_is_missing_is_named() {
        let operation = |(name, _, purpose, needed)| Operation { name, purpose, needed, supported: name != "MSG_RING" };
        let operations = operations().into_iter().map(operation).collect();
        let ring = RingCapabilities { operations, min_wait: true, no_iowait: false, bundles: false };
        let all = Capabilities { kernel: "5.4".into(), ring: Ok(ring), limits: HostLimits::default() };
        assert!(!all.sufficient());
        let text = all.to_string();
        assert!(
            text.contains("not sufficient") && text.contains("MSG_RING (needed: shards wake each other)"),
            "{text}"
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn this_host_answers() {
        let capabilities = Capabilities::probe();
        assert!(!capabilities.kernel.is_empty());
        // A host without io_uring must say why, in the form that operators know.
        match &capabilities.ring {
            Ok(ring) => assert!(ring.operations.iter().any(|operation| operation.supported)),
            Err(error) => assert!(error.to_string().starts_with("error FF20")),
        }
        assert!(capabilities.limits.slots_per_shard() > 0);
    }
}
