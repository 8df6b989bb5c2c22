//! Plain socket calls around the ring: listeners, addresses, `sendfile`.

use crate::io::Errno;
use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Connections that may wait to be accepted, per listener (the kernel takes less if `somaxconn` is smaller).
const BACKLOG: i32 = 4096;

/// Unsent bytes below which a socket counts as writable: POLLOUT then means "nearly empty", so that the policy for
/// slow readers acts on bytes that are still ours.
const NOT_SENT_LOW_WATER_BYTES: i32 = 16_384;

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up, unless somebody says otherwise.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A socket address as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union RawAddress {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddress {
    /// No address (family 0).
    pub(super) fn empty() -> Self {
        // SAFETY: all variants are plain C structures for which all-zero bytes are a valid value.
        unsafe { std::mem::zeroed() }
    }

    /// The address and the length to pass with it.
    pub(super) fn new(address: SocketAddr) -> (Self, libc::socklen_t) {
        let mut raw = Self::empty();
        match address {
            SocketAddr::V4(v4) => {
                raw.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                (raw, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(v6) => {
                raw.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                (raw, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// Back to Rust's type.
    fn address(&self) -> io::Result<SocketAddr> {
        // SAFETY: the family is the first field of every variant, and all bytes are initialised (`empty`).
        match i32::from(unsafe { self.family }) {
            libc::AF_INET => {
                // SAFETY: the family says which variant the kernel wrote.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Ok(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        std::ptr::from_ref(self).cast()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The family of an address.
pub(super) fn family(address: SocketAddr) -> libc::c_int {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    // SAFETY: plain system call.
    let fd = check(unsafe { libc::socket(family(address), libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: `fd` was just created and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: i32) -> io::Result<()> {
    let pointer = std::ptr::from_ref(&value).cast();
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes at `pointer`, which live on this stack frame.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, pointer, len) }).map(drop)
}

fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let (raw, len) = RawAddress::new(address);
    // SAFETY: the kernel reads `len` bytes of `raw`, which lives on this stack frame.
    check(unsafe { libc::bind(socket.as_raw_fd(), raw.as_ptr(), len) }).map(drop)
}

/// A bound, listening socket of which several may share one address. Accepted sockets inherit its options.
/// An IPv6 listener takes IPv6 only, so that both families can be bound to the same port.
pub(super) fn listener(address: SocketAddr, user_timeout: Duration) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = stream_socket(address)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    if address.is_ipv6() {
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, NOT_SENT_LOW_WATER_BYTES)?;
    let user_timeout_ms = i32::try_from(user_timeout.as_millis()).unwrap_or(i32::MAX);
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, user_timeout_ms)?;
    bind(&socket, address)?;
    // SAFETY: plain system call on a socket we own.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    let mut raw = RawAddress::empty();
    let mut len = size_of::<RawAddress>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `raw`, which is that large.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), std::ptr::from_mut(&mut raw).cast(), &raw mut len) })?;
    Ok((socket, raw.address()?))
}

/// Who is at the other end.
pub(super) fn peer(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let mut raw = RawAddress::empty();
    let mut len = size_of::<RawAddress>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `raw`, which is that large.
    check(unsafe { libc::getpeername(socket.as_raw_fd(), std::ptr::from_mut(&mut raw).cast(), &raw mut len) })?;
    raw.address()
}

/// Takes a listener out of business at once, also while a cancelled accept still holds its file.
pub(super) fn stop_listening(socket: &OwnedFd) {
    // SAFETY: plain system call on a socket we own. A failure means that it was not listening.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// An outgoing socket, bound but not connected, for kernels whose ring cannot bind.
pub(super) fn outgoing(local: Option<SocketAddr>, remote: SocketAddr) -> io::Result<OwnedFd> {
    let socket = stream_socket(remote)?;
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    if let Some(local) = local {
        if local.port() == 0 {
            set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        }
        bind(&socket, local)?;
    }
    Ok(socket)
}

/// Makes system calls on a descriptor return instead of waiting.
pub(super) fn set_nonblocking(socket: &OwnedFd) -> Result<(), Errno> {
    let fd = socket.as_raw_fd();
    // SAFETY: plain system calls without memory arguments.
    let result = unsafe {
        match libc::fcntl(fd, libc::F_GETFL) {
            flags if flags >= 0 => libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK),
            failure => failure,
        }
    };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// `sendfile(2)` of `len` bytes at `offset` of `file`.
pub(super) fn send_file(socket: &OwnedFd, file: BorrowedFd<'_>, offset: u64, len: u32) -> Result<u32, Errno> {
    let mut position = offset as libc::off_t;
    loop {
        // SAFETY: the kernel reads and writes `position` on this stack frame; no other memory of ours.
        let sent = unsafe { libc::sendfile(socket.as_raw_fd(), file.as_raw_fd(), &raw mut position, len as usize) };
        match sent {
            0.. => return Ok(sent as u32),
            _ if last_errno().0 == libc::EINTR => {}
            _ => return Err(last_errno()),
        }
    }
}

/// Ends our direction of the stream. A connection that the peer has torn down meanwhile has none left: fine.
pub(super) fn finish(socket: &OwnedFd) {
    // SAFETY: a system call on a descriptor we own; it touches no memory.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}

/// Keeps `sendfile` on a broken connection from killing the process: it knows no `MSG_NOSIGNAL`.
pub(super) fn block_sigpipe() {
    // SAFETY: the set lives on this stack frame and is initialised by `sigemptyset` before use.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Monotonic time in microseconds, the clock of absolute ring deadlines.
pub(super) fn monotonic_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes `time` on this stack frame. CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

/// An eventfd: a counter that a ring can poll and any thread can write.
pub(in crate::io) fn eventfd() -> io::Result<std::fs::File> {
    // SAFETY: plain system call.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: `fd` was just created and belongs to nobody else.
    Ok(unsafe { std::fs::File::from_raw_fd(fd) })
}

fn last_errno() -> Errno {
    Errno(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}
