//! Waiting for SIGTERM or SIGINT without a handler.

use std::io;
use std::mem::MaybeUninit;

/// Both signals, held back from every thread and taken by `wait`.
pub(crate) struct Termination {
    set: libc::sigset_t,
}

impl Termination {
    /// Holds the signals back in this thread and in all it starts from now on.
    pub(crate) fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `set` is writable and sigemptyset initialises all of it before the other calls read it.
        let (set, refused) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::sigaddset(&mut set, libc::SIGINT);
            (set, libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))
        };
        if refused == 0 { Ok(Self { set }) } else { Err(io::Error::from_raw_os_error(refused)) }
    }

    /// Returns when one of the two has come.
    pub(crate) fn wait(&self) {
        let mut signal = 0;
        // SAFETY: both pointers are valid for the call; the set was initialised in `block`.
        while unsafe { libc::sigwait(&self.set, &mut signal) } != 0 {}
    }
}
