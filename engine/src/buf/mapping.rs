//! One shard's log memory as the kernel sees it: a memfd, mapped once, whole, for as long as anybody may read.

use std::io;
use std::ptr::NonNull;

use std::os::fd::BorrowedFd;
#[cfg(not(miri))]
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Page-aligned shared memory, zero at first, touched only where it is written.
///
/// Under Miri the memory is an ordinary allocation: there are no descriptors, and [`Mapping::punch`] writes zeros.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    #[cfg(not(miri))]
    file: OwnedFd,
}

// SAFETY: a mapping is plain memory without thread affinity. Who may write which byte when is decided by
// `SegmentOwner` (one per mapping); everyone else reads bytes that were published with Release and seen with Acquire.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

#[cfg(not(miri))]
impl Mapping {
    /// Reserves `bytes` (a multiple of the page size, not 0). Memory is charged page by page on first write.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let length = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the name is a NUL-terminated constant; the call touches no other memory of ours.
        let fd = unsafe { libc::memfd_create(c"fanfare-log".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just created and belongs to nobody else.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: plain system call on a descriptor we own.
        if unsafe { libc::ftruncate(file.as_raw_fd(), length) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice cannot overlap anything of ours.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast::<u8>()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mapping = Self { base, bytes, file };
        mapping.refuse_huge_pages()?;
        Ok(mapping)
    }

    /// A hole in a huge page that a socket holds is not cut out but filled with zeros in place: what was lent would
    /// change under the reader. Hosts with `shmem_enabled` other than `never` would give us huge pages.
    fn refuse_huge_pages(&self) -> io::Result<()> {
        // SAFETY: exactly our own mapping; the advice changes no byte of it.
        let result = unsafe { libc::madvise(self.base.as_ptr().cast(), self.bytes, libc::MADV_NOHUGEPAGE) };
        let error = io::Error::last_os_error();
        // EINVAL: a kernel without huge pages, which gives none.
        if result == 0 || error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) }
    }

    /// Gives the pages of a range back to the system. The range reads as zeros from now on, through the same
    /// addresses; pages that `sendfile` has lent to a socket stay with that socket, with their old bytes.
    pub(super) fn punch(&self, offset: usize, bytes: usize) -> io::Result<()> {
        debug_assert!(offset + bytes <= self.bytes);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the descriptor is ours. The range changes under the mapping; the caller (the only writer) has
        // made sure that nobody reads it any more.
        let result =
            unsafe { libc::fallocate(self.file.as_raw_fd(), mode, offset as libc::off_t, bytes as libc::off_t) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The file behind the memory, for `sendfile`.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(not(miri))]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped; every slice into it borrows from `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(miri)]
impl Mapping {
    fn layout(bytes: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(bytes, 4096).expect("log size fits the address space")
    }

    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: callers never ask for 0 bytes.
        let base = unsafe { std::alloc::alloc_zeroed(Self::layout(bytes)) };
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, bytes })
    }

    pub(super) fn punch(&self, offset: usize, bytes: usize) -> io::Result<()> {
        assert!(offset + bytes <= self.bytes);
        // SAFETY: inside the allocation; the caller has made sure that nobody reads the range any more.
        unsafe { self.base.as_ptr().add(offset).write_bytes(0, bytes) };
        Ok(())
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        unreachable!("nothing that Miri can run sends a file")
    }
}

#[cfg(miri)]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), Self::layout(self.bytes)) };
    }
}

impl Mapping {
    /// First byte. Valid for [`Mapping::bytes`] bytes as long as `self` lives.
    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_punched_range_reads_as_zeros_and_its_neighbours_stay() {
        let mapping = Mapping::new(3 * 4096).unwrap();
        // SAFETY: inside the mapping, and this test is its only user.
        let bytes = || unsafe { std::slice::from_raw_parts_mut(mapping.base(), 3 * 4096) };
        bytes().fill(7);
        mapping.punch(4096, 4096).unwrap();
        assert!(bytes()[..4096].iter().all(|&byte| byte == 7));
        assert!(bytes()[4096..8192].iter().all(|&byte| byte == 0));
        assert!(bytes()[8192..].iter().all(|&byte| byte == 7));
        bytes()[4096] = 9;
        assert_eq!(bytes()[4096], 9);
    }
}
