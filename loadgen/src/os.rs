//! What the operating system is asked beside sockets: cores, clocks, descriptor limits. All through safe wrappers.

use crate::failure::{Exit, Failure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CpuSet;
use std::num::NonZeroU64;
use std::time::Duration;

/// Pins the calling thread to `core`.
pub(crate) fn pin_to_core(core: usize) -> Result<(), Failure> {
    let unfit = |detail: String| {
        Failure::new(
            Exit::HostUnfit,
            format!("cannot run on core {core}: {detail}"),
            "--cores",
            format!("choose from the cores this process may use: {}", list_text(&allowed_cores())),
        )
    };
    if core >= CpuSet::MAX_CPU {
        return Err(unfit(format!("core numbers end at {}", CpuSet::MAX_CPU - 1)));
    }
    let mut set = CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).map_err(|error| unfit(error.to_string()))
}

/// Cores the calling thread may run on.
pub(crate) fn allowed_cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

fn list_text(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// CPU time the calling thread has used.
pub(crate) fn thread_cpu() -> Duration {
    cpu(rustix::time::ClockId::ThreadCPUTime)
}

/// CPU time this process has used, all threads.
pub(crate) fn process_cpu() -> Duration {
    cpu(rustix::time::ClockId::ProcessCPUTime)
}

fn cpu(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Lets timed waits of the calling thread end within a microsecond instead of the usual fifty.
/// Best effort: without it own send delays grow by about 50 us, which the report shows.
pub(crate) fn sharpen_timers() {
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
}

/// Raises the soft descriptor limit to the hard one and returns it.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if soft < hard && setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_ok() {
        return hard;
    }
    soft
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_allowed_core_can_be_pinned_and_a_wild_one_cannot() {
        let cores = allowed_cores();
        assert!(!cores.is_empty());
        let core = cores[0];
        std::thread::spawn(move || pin_to_core(core)).join().expect("thread").expect("pinned");
        let failure = std::thread::spawn(|| pin_to_core(100_000)).join().expect("thread").expect_err("no such core");
        assert_eq!(failure.place, "--cores");
    }

    #[test]
    fn clocks_run_forward() {
        let before = process_cpu();
        let mut sum = 0u64;
        while process_cpu() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(process_cpu() > before);
        assert!(raise_descriptor_limit() > 0);
    }
}
