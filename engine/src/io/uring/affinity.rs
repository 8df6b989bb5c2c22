//! Which core a thread runs on, and what pages a process runs in.

use std::io;

/// Keeps the calling thread on `core` from now on.
///
/// # Errors
/// What the system says, such as `EINVAL` for a core that this process may not use.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: a cpu_set_t is plain bits, for which all-zero is the empty set; `core` is within it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        set
    };
    // SAFETY: `set` outlives the call and its true size is given; 0 means the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps this process to small pages from now on. An allocator that asks for huge ones makes an idle server look 12 MiB
/// larger than it is and grow by 2 MiB at a time; deliveries read one line of a table each and gain nothing.
///
/// # Errors
/// What the system says; a kernel without huge pages has nothing to switch off.
pub fn refuse_huge_pages() -> io::Result<()> {
    // SAFETY: sets one flag of this process; the other arguments must be 0.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
