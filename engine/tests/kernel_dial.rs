//! Outgoing connections into chosen slots, from chosen local addresses.

mod kernel_support;

use fanfare_engine::io::{Completion, Dial, Errno, Generation, Io, Slot};
use kernel_support::{FIRST, Sizes, Station, USUAL};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

fn connected(station: &mut Station, slot: Slot) -> Result<(), Errno> {
    station.until("connected", |completion| match completion {
        Completion::Connected { slot: at, result, .. } if *at == slot => Some(*result),
        _ => None,
    })
}

fn set_backlog(listener: &TcpListener, backlog: i32) {
    // SAFETY: plain system call on a socket that listens already; only its backlog changes.
    unsafe { libc::listen(listener.as_raw_fd(), backlog) };
}

#[test]
fn connects_into_the_slot_from_the_local_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = listener.local_addr().unwrap();
    let mut station = Station::new();
    for last in 1..=20_u8 {
        let slot = Slot(u32::from(last) * 3);
        station.uring.connect(slot, FIRST(), Some(SocketAddr::from(([127, 0, 0, last], 0))), remote);
        connected(&mut station, slot).unwrap();
        let (mut accepted, from) = listener.accept().unwrap();
        assert_eq!(from.ip().to_string(), format!("127.0.0.{last}"));
        let extent = station.write_one(b"hello");
        station.uring.send(slot, 0, extent);
        assert_eq!(station.sent(slot).0.result, Ok(5));
        let mut bytes = [0; 5];
        accepted.read_exact(&mut bytes).unwrap();
        station.uring.poll(slot, FIRST());
        accepted.write_all(&bytes).unwrap();
        station.readable(slot);
        assert_eq!(station.recv(slot), Ok((b"hello".to_vec(), false)));
    }
}

#[test]
fn many_connects_in_one_turn_through_a_small_queue() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = listener.local_addr().unwrap();
    // With the usual 128 the kernel would complete connects that it cannot queue: open here, never accepted there.
    set_backlog(&listener, 1024);
    let mut station = Station::sized(&Sizes { slots: 1024, sq_entries: 16, cq_entries: 64, ..USUAL });
    for slot in 0..500 {
        let local = SocketAddr::from(([127, 0, 1, (slot % 5) as u8 + 1], 0));
        station.uring.connect(Slot(slot), FIRST(), Some(local), remote);
    }
    let acceptor = std::thread::spawn(move || (0..500).map(|_| listener.accept().unwrap()).collect::<Vec<_>>());
    for slot in 0..500 {
        connected(&mut station, Slot(slot)).unwrap();
    }
    assert_eq!(acceptor.join().unwrap().len(), 500);
}

#[test]
fn refused_and_impossible_connects_leave_the_slot_empty() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = listener.local_addr().unwrap();
    let mut station = Station::new();
    let slot = Slot(5);
    station.uring.connect(slot, FIRST(), None, closed);
    assert_eq!(connected(&mut station, slot), Err(Errno(libc::ECONNREFUSED)));
    // Not an address of this host: the bind fails, the connect is never tried.
    station.uring.connect(slot, FIRST(), Some("192.0.2.1:0".parse().unwrap()), remote);
    assert_eq!(connected(&mut station, slot), Err(Errno(libc::EADDRNOTAVAIL)));
    // Beyond the table. The kernel (6.18) does not count a socket that finds no slot as a failed link, so the error
    // is that of the next step.
    station.uring.connect(Slot(100_000), FIRST(), None, remote);
    assert_eq!(connected(&mut station, Slot(100_000)), Err(Errno(libc::EBADF)));
    station.never("second answer", |completion| matches!(completion, Completion::Connected { .. }));

    let extent = station.write_one(b"x");
    station.uring.send(slot, 0, extent);
    assert_eq!(station.sent(slot).0.result, Err(Errno(libc::EBADF)), "the slot is empty");
    station.uring.connect(slot, FIRST(), None, remote);
    connected(&mut station, slot).unwrap();
}

#[test]
fn closing_while_connecting_reports_only_the_close() {
    // A listener with a full backlog does not answer: the connect stays under way.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = listener.local_addr().unwrap();
    set_backlog(&listener, 0);
    let mut station = Station::new();
    for slot in 0..4 {
        station.uring.connect(Slot(slot), FIRST(), None, remote);
    }
    station.enter(4, 100_000);
    let slot = Slot(3);
    let under_way = |completion: &Completion| matches!(completion, Completion::Connected { slot: Slot(3), .. });
    assert!(!station.seen.iter().any(under_way), "the backlog took it");
    station.uring.close(slot, FIRST(), false, false);
    station.closed(slot);
    let next = Generation::new(2);
    station.uring.connect(slot, next, None, remote);
    station.never("answer for the old tenant", |completion| {
        matches!(completion, Completion::Connected { slot: Slot(3), generation, .. } if *generation == FIRST())
    });
}
