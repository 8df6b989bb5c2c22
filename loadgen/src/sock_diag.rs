//! What TCP sockets hold in their queues, asked of the kernel socket by socket: `NETLINK_SOCK_DIAG`, sock_diag(7).
//!
//! `mem` of `/proc/net/sockstat` is the same sum with what each CPU keeps in reserve for the next allocation, up to
//! `net.core.mem_pcpu_rsv` (256 pages) above or below. On 50,000 idle sockets, which hold nothing, that alone reads as
//! 12 to 38 bytes for each.

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};
use std::io;
use std::os::fd::OwnedFd;

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP` (linux/netlink.h).
const DUMP_REQUEST: u16 = 0x301;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, and a socket's id, which is left empty.
const REQUEST_BYTES: usize = 56;
/// `struct inet_diag_msg`, before its attributes.
const MESSAGE_BYTES: usize = 72;
/// `INET_DIAG_SKMEMINFO`, an attribute of words.
const SKMEMINFO: u16 = 7;
/// Its words: `SK_MEMINFO_RMEM_ALLOC`, `SK_MEMINFO_FWD_ALLOC`, `SK_MEMINFO_WMEM_QUEUED`.
const QUEUE_WORDS: [usize; 3] = [0, 4, 5];
/// All states but TIME_WAIT (6).
const STATES: u32 = 0xfff & !(1 << 6);
/// What the kernel writes at a time.
const BUFFER_BYTES: usize = 32 << 10;

/// Whether this kernel cannot be asked: it was built without `inet_diag`, or is not let to load it.
pub fn is_unknown(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::PROTONOSUPPORT, Errno::AFNOSUPPORT]
        .iter()
        .any(|unknown| error.raw_os_error() == Some(unknown.raw_os_error()))
}

/// Bytes in the queues of all TCP sockets that are open in this network namespace, with what each has set aside for more.
///
/// # Errors
/// What the kernel says; see [`is_unknown`].
pub fn queued_bytes() -> io::Result<u64> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    Ok(dump(&socket, AddressFamily::INET)? + dump(&socket, AddressFamily::INET6)?)
}

fn dump(socket: &OwnedFd, family: AddressFamily) -> io::Result<u64> {
    // A socket that is not connected is connected to the kernel.
    send(socket, &request(family.as_raw() as u8), SendFlags::empty())?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut sum = Sum::default();
    while !sum.done {
        let (bytes, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
        if bytes == 0 {
            return Err(cut());
        }
        sum.take(&buffer[..bytes])?;
    }
    Ok(sum.queued_bytes.max(0) as u64)
}

fn request(family: u8) -> Vec<u8> {
    const IPPROTO_TCP: u8 = 6;
    let mut request = Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES);
    request.extend_from_slice(&((HEADER_BYTES + REQUEST_BYTES) as u32).to_ne_bytes());
    request.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&DUMP_REQUEST.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(&[family, IPPROTO_TCP, 1 << (SKMEMINFO - 1), 0]);
    request.extend_from_slice(&STATES.to_ne_bytes());
    request.resize(HEADER_BYTES + REQUEST_BYTES, 0);
    request
}

/// The sum over a dump, which comes in several datagrams of several messages.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    queued_bytes: i64,
    done: bool,
}

impl Sum {
    fn take(&mut self, mut datagram: &[u8]) -> io::Result<()> {
        while !datagram.is_empty() {
            let length = word(datagram, 0)? as usize;
            let kind = word(datagram, 4)? as u16;
            let message = datagram.get(HEADER_BYTES..length).ok_or_else(cut)?;
            match kind {
                ERROR | DONE => {
                    let code = word(message, 0)? as i32;
                    if code < 0 {
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    self.done = true;
                }
                _ => self.queued_bytes += socket_bytes(message)?,
            }
            datagram = datagram.get(aligned(length)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Bytes in one socket's queues.
fn socket_bytes(message: &[u8]) -> io::Result<i64> {
    let mut attributes = message.get(MESSAGE_BYTES..).ok_or_else(cut)?;
    while !attributes.is_empty() {
        let head = word(attributes, 0)?.to_ne_bytes();
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = attributes.get(4..length).ok_or_else(cut)?;
        if u16::from_ne_bytes([head[2], head[3]]) == SKMEMINFO {
            // What is set aside is briefly negative while the kernel moves bytes from one buffer to another.
            return QUEUE_WORDS.iter().try_fold(0, |sum, index| Ok(sum + i64::from(word(value, 4 * index)? as i32)));
        }
        attributes = attributes.get(aligned(length)..).unwrap_or_default();
    }
    // Half-open connections, and those in FIN_WAIT2 of which little is left, have no queues.
    Ok(0)
}

/// Messages and attributes begin at multiples of four.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn word(bytes: &[u8], at: usize) -> io::Result<u32> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(cut)?;
    Ok(u32::from_ne_bytes(*word))
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "sock_diag: a message of the kernel is shorter than it says")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// A message of `kind` with `body`.
    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = (HEADER_BYTES + body.len()) as u32;
        let mut message = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], body].concat();
        message.resize(aligned(message.len()), 0);
        message
    }

    /// A socket with another attribute of an odd length before what its queues hold.
    fn socket(words: [u32; 9]) -> Vec<u8> {
        let attribute = |kind: u16, value: &[u8]| {
            let length = (4 + value.len()) as u16;
            let mut attribute = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
            attribute.resize(aligned(attribute.len()), 0);
            attribute
        };
        let words: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        message(BY_FAMILY, &[vec![0; MESSAGE_BYTES], attribute(8, b"x"), attribute(SKMEMINFO, &words)].concat())
    }

    #[test]
    fn queues_of_all_sockets_are_added_up() {
        let one = socket([1000, 7, 7, 7, 200, 30, 7, 7, 7]);
        let other = socket([5, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut sum = Sum::default();
        sum.take(&[one.clone(), other].concat()).expect("whole");
        assert_eq!(sum, Sum { queued_bytes: 1235, done: false });
        sum.take(&socket([0, 0, 0, 0, -235i32 as u32, 0, 0, 0, 0])).expect("whole");
        assert_eq!(sum, Sum { queued_bytes: 1000, done: false });
        sum.take(&message(DONE, &0i32.to_ne_bytes())).expect("whole");
        assert!(sum.done);
        let refused = Sum::default().take(&message(ERROR, &(-2i32).to_ne_bytes()));
        assert_eq!(refused.expect_err("refused").raw_os_error(), Some(2));
        for bytes in 1..one.len() {
            assert!(Sum::default().take(&one[..bytes]).is_err(), "{bytes} of {}", one.len());
        }
    }

    /// Other tests run beside this one, so it holds more than they could.
    #[test]
    fn what_nobody_reads_is_counted_until_it_is_read() {
        const PAIRS: usize = 20;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut written = 0;
        let mut pairs = Vec::new();
        for _ in 0..PAIRS {
            let mut writer = TcpStream::connect(address).expect("somebody listens");
            writer.set_nonblocking(true).expect("a socket");
            let reader = listener.accept().expect("it just connected").0;
            while let Ok(bytes @ 1..) = writer.write(&[1; 65_536]) {
                written += bytes as u64;
            }
            pairs.push((writer, reader));
        }
        let full = match queued_bytes() {
            Err(error) if is_unknown(&error) => {
                return eprintln!("not tested, as this kernel has no sock_diag: {error}");
            }
            full => full.expect("the kernel knows its sockets"),
        };
        assert!(full >= written, "{full} of {written}");
        for (writer, mut reader) in pairs {
            drop(writer);
            reader.read_to_end(&mut Vec::new()).expect("all of it");
        }
        let empty = queued_bytes().expect("the kernel knows its sockets");
        assert!(empty + written / 2 < full, "{empty} after {full}");
    }
}
