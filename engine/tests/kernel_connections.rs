//! What the kernel does with connections on a ring: accept, poll, receive, send, close. These tests fail first when
//! a kernel changes its mind.

mod kernel_support;

use fanfare_engine::io::{Completion, Errno, Generation, Io, Received, Slot, Wait};
use kernel_support::{FIRST, Sizes, Station, USUAL};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

#[test]
fn accepts_on_both_families_and_the_slot_is_the_lowest_free_one() {
    let mut station = Station::new();
    let v4 = station.listen();
    let v6 = station.uring.listen(SocketAddr::new("::1".parse().unwrap(), v4.port()));
    let (_first, slot) = station.peer(v4);
    assert_eq!(slot, Slot(0));
    let Ok(v6) = v6 else { return }; // a host without IPv6
    station.uring.accept();
    station.enter(0, 0);
    let (_second, slot) = station.peer(v6);
    assert_eq!(slot, Slot(1));
}

#[test]
fn a_full_table_ends_the_accept_and_it_can_be_armed_again() {
    let mut station = Station::sized(&Sizes { slots: 2, ..USUAL });
    let address = station.listen();
    let (_first, slot) = station.peer(address);
    let (_second, _) = station.peer(address);
    let _third = TcpStream::connect(address).unwrap();
    let ended = |completion: &Completion| match completion {
        Completion::AcceptEnded { errno } => Some(*errno),
        _ => None,
    };
    assert_eq!(station.until("end of accept", ended), Errno(libc::ENFILE));
    station.uring.close(slot, FIRST(), false, false);
    station.closed(slot);
    station.uring.accept();
    let fourth = TcpStream::connect(address).unwrap();
    let accepted = |completion: &Completion| matches!(completion, Completion::Accepted { .. }).then_some(());
    station.until("accept after the table had room again", accepted);
    drop(fourth);
}

#[test]
fn cancelled_accepts_end_and_say_so() {
    let mut station = Station::new();
    let address = station.listen();
    station.uring.cancel_accept();
    let errno = station.until("end of accept", |completion| match completion {
        Completion::AcceptEnded { errno } => Some(*errno),
        _ => None,
    });
    assert_eq!(errno, Errno(libc::ECANCELED));
    let _waiting = TcpStream::connect(address).unwrap();
    station.never("accept", |completion| matches!(completion, Completion::Accepted { .. }));
    station.uring.accept();
    station.until("accept", |completion| matches!(completion, Completion::Accepted { .. }).then_some(()));
}

#[test]
fn the_poll_fires_once_per_arrival_even_while_older_bytes_are_unread() {
    let mut station = Station::new();
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    station.uring.poll(slot, FIRST());
    station.enter(0, 0);
    for _ in 0..3 {
        peer.write_all(b"x").unwrap();
        assert!(station.readable(slot), "still armed");
        station.never("second event for one arrival", |completion| matches!(completion, Completion::Readable { .. }));
    }
    assert_eq!(station.recv(slot), Ok((b"xxx".to_vec(), false)));
    assert_eq!(station.recv(slot), Err(Received::WouldBlock));
}

#[test]
fn a_poll_armed_late_tells_of_bytes_already_there() {
    let mut station = Station::new();
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    peer.write_all(b"early").unwrap();
    station.enter(1, 50_000);
    station.uring.poll(slot, FIRST());
    assert!(station.readable(slot));
}

#[test]
fn receive_tells_whether_there_is_more() {
    let mut station = Station::sized(&Sizes { buffer_bytes: 16, ..USUAL });
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    peer.write_all(&[7; 40]).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(station.recv(slot), Ok((vec![7; 16], true)));
    assert_eq!(station.recv(slot), Ok((vec![7; 16], true)));
    assert_eq!(station.recv(slot), Ok((vec![7; 8], false)));
    peer.write_all(&[8; 16]).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(station.recv(slot), Ok((vec![8; 16], true)), "a full buffer counts as more");
    assert_eq!(station.recv(slot), Err(Received::WouldBlock));
    peer.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(station.recv(slot), Err(Received::End));
    assert_eq!((station.pool.lent(), station.pool.free()), (0, 64));
}

#[test]
fn an_end_behind_the_last_bytes_counts_as_more() {
    let mut station = Station::new();
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    station.uring.poll(slot, FIRST());
    peer.write_all(b"last words").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    station.readable(slot);
    assert_eq!(station.recv(slot), Ok((b"last words".to_vec(), true)));
    assert_eq!(station.recv(slot), Err(Received::End));
}

#[test]
fn an_empty_pool_says_so_and_recovers() {
    let mut station = Station::sized(&Sizes { pool_entries: 2, ..USUAL });
    let address = station.listen();
    let mut peers: Vec<_> = (0..3).map(|_| station.peer(address)).collect();
    for (peer, slot) in &mut peers {
        peer.write_all(b"hello").unwrap();
        station.uring.poll(*slot, FIRST());
        station.readable(*slot);
        station.uring.recv(*slot, FIRST());
    }
    let results: Vec<_> = peers.iter().map(|(_, slot)| station.received(*slot)).collect();
    assert_eq!(results[2], Received::NoBuffers);
    station.never("poll for bytes already there", |completion| matches!(completion, Completion::Readable { .. }));
    for result in &results[..2] {
        let Received::Data { buffer, len, .. } = result else { panic!("{result:?}") };
        assert_eq!(station.pool.slice(*buffer, *len), b"hello");
        station.pool.give_back(*buffer);
    }
    assert_eq!(station.recv(peers[2].1), Ok((b"hello".to_vec(), false)));
}

#[test]
fn a_reset_fails_the_receive() {
    let mut station = Station::new();
    let address = station.listen();
    let (peer, slot) = station.peer(address);
    station.uring.poll(slot, FIRST());
    station.enter(0, 0);
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the kernel reads the option from this stack frame.
    unsafe {
        let len = size_of::<libc::linger>() as libc::socklen_t;
        libc::setsockopt(peer.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), len);
    }
    drop(peer);
    station.readable(slot);
    assert_eq!(station.recv(slot), Err(Received::Failed(Errno(libc::ECONNRESET))));
    let extent = station.write_one(b"too late");
    station.uring.send(slot, 0, extent);
    assert_eq!(station.sent(slot).0.result, Err(Errno(libc::EPIPE)));
}

/// What is there before the poll is armed is one event of the kernel, and the receive does not tell of the reset.
#[test]
fn input_with_a_reset_behind_it_is_two_events() {
    let mut station = Station::new();
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    peer.write_all(b"GET /").unwrap();
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the kernel reads the option from this stack frame.
    unsafe {
        let len = size_of::<libc::linger>() as libc::socklen_t;
        libc::setsockopt(peer.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), len);
    }
    drop(peer);
    station.uring.poll(slot, FIRST());
    station.readable(slot);
    station.readable(slot);
    assert_eq!(station.recv(slot), Ok((b"GET /".to_vec(), false)));
    assert_eq!(station.recv(slot), Err(Received::Failed(Errno(libc::ECONNRESET))));
}

#[test]
fn a_socket_tells_where_it_comes_from() {
    let mut station = Station::new();
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    let mut introduce = || {
        station.uring.introduce(slot, FIRST());
        station.until("introduced", |completion| match completion {
            Completion::Introduced { slot: at, peer, .. } if *at == slot => Some(*peer),
            _ => None,
        })
    };
    for _ in 0..3 {
        assert_eq!(introduce(), Some(peer.local_addr().unwrap().ip()));
    }
    // The descriptor that was needed for it is gone: the close below is the connection's end.
    station.uring.close(slot, FIRST(), false, false);
    station.closed(slot);
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn sends_go_short_then_would_block_then_writable() {
    let mut station = Station::new();
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    let payload: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    let whole = station.write_one(&payload);
    let (mut rest, mut sent_bytes, mut short) = (whole, 0_u64, false);
    let mut blocked = 0;
    while blocked < 3 {
        station.uring.send(slot, 5, rest);
        let (sent, tag) = station.sent(slot);
        assert_eq!(tag, 5);
        if let Ok(n) = sent.result {
            assert_eq!(sent.released, n);
            short |= n < rest.len;
            sent_bytes += u64::from(n);
            rest.advance(n);
            rest = if rest.is_empty() { whole } else { rest };
            blocked = 0;
        } else {
            assert_eq!((sent.result, sent.released), (Err(Errno(libc::EAGAIN)), 0));
            // The kernel may still be moving bytes into the peer's queue.
            std::thread::sleep(Duration::from_millis(10));
            blocked += 1;
        }
        assert!(sent_bytes < 1 << 30, "the socket never fills");
    }
    assert!(short, "a full socket takes a part first");
    station.uring.poll_out(slot, FIRST());
    station.never("writable", |completion| matches!(completion, Completion::Writable { .. }));

    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; sent_bytes as usize];
        peer.read_exact(&mut bytes).unwrap();
        (peer, bytes)
    });
    station.until("writable", |completion| match completion {
        Completion::Writable { slot: at, generation } if *at == slot => {
            assert_eq!(*generation, FIRST());
            Some(())
        }
        _ => None,
    });
    let (_peer, bytes) = reader.join().unwrap();
    assert!(bytes.iter().enumerate().all(|(at, &byte)| byte == (at % payload.len() % 251) as u8));
}

#[test]
fn gathered_runs_arrive_in_order() {
    let mut station = Station::new();
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    let words: Vec<_> = [&b"one "[..], b"two ", b"three ", b"four ", b"five ", b"six ", b"seven ", b"eight"]
        .iter()
        .map(|word| {
            let extent = station.write_one(word);
            station.write_one(b"gap");
            extent
        })
        .collect();
    station.uring.send_gather(slot, 9, &words);
    let (sent, tag) = station.sent(slot);
    assert_eq!((sent.result, tag), (Ok(39), 9));
    let mut bytes = [0; 39];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"one two three four five six seven eight");
}

#[test]
fn more_gathered_sends_than_the_queue_holds_keep_their_lists_apart() {
    let mut station = Station::sized(&Sizes { sq_entries: 16, cq_entries: 64, ..USUAL });
    let address = station.listen();
    let mut peers: Vec<_> = (0..100).map(|_| station.peer(address)).collect();
    let words: Vec<_> = (0..100_u8).map(|i| [station.write_one(&[i; 3]), station.write_one(&[i, 255])]).collect();
    for ((_, slot), runs) in peers.iter().zip(&words) {
        station.uring.send_gather(*slot, 1, runs);
    }
    for (i, (peer, slot)) in peers.iter_mut().enumerate() {
        assert_eq!(station.sent(*slot).0.result, Ok(5));
        let mut bytes = [0; 5];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [i as u8, i as u8, i as u8, i as u8, 255]);
    }
}

#[test]
fn a_fan_larger_than_both_queues_loses_no_answer() {
    let mut station = Station::sized(&Sizes { sq_entries: 16, cq_entries: 32, ..USUAL });
    let address = station.listen();
    let mut peers: Vec<_> = (0..200).map(|_| station.peer(address)).collect();
    let slots: Vec<_> = peers.iter().map(|(_, slot)| *slot).collect();
    let extent = station.write_one(b"to everybody");
    station.uring.fan(extent, &slots, 0x00ab_cdef);
    for (peer, slot) in &mut peers {
        let (sent, tag) = station.sent(*slot);
        assert_eq!((sent.result, tag), (Ok(12), 0x00ab_cdef));
        let mut bytes = [0; 12];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"to everybody");
    }
    assert_eq!(station.uring.counters().overflows, 0);
    assert!(station.seen.is_empty(), "{:?}", station.seen);
}

#[test]
fn a_fan_to_a_thousand_takes_few_enters() {
    let mut station = Station::sized(&Sizes { slots: 1024, sq_entries: 4096, cq_entries: 16_384, ..USUAL });
    let address = station.listen();
    let peers: Vec<_> = (0..1000).map(|_| station.peer(address)).collect();
    let slots: Vec<_> = peers.iter().map(|(_, slot)| *slot).collect();
    let extent = station.write_one(&[1; 512]);
    let before = station.uring.counters();
    station.uring.fan(extent, &slots, 0);
    station.enter(0, 0);
    let after = station.uring.counters();
    assert_eq!(station.seen.len(), 1000);
    assert_eq!(after.sends - before.sends, 1000);
    assert_eq!(after.submissions - before.submissions, 1000);
    assert!(after.enters - before.enters <= 2, "{} enters", after.enters - before.enters);
}

#[test]
fn the_peer_sees_the_end_although_both_polls_were_armed() {
    let mut station = Station::new();
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    station.uring.poll(slot, FIRST());
    fill(&mut station, slot);
    station.uring.poll_out(slot, FIRST());
    station.enter(0, 0);
    station.uring.close(slot, FIRST(), true, true);
    assert_eq!(station.closed(slot), FIRST());
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).unwrap();
    station.never("anything about the closed connection", |_| true);
}

/// Sends until the socket takes no more.
fn fill(station: &mut Station, slot: Slot) {
    let extent = station.write_one(&[3; 200_000]);
    loop {
        station.uring.send(slot, 0, extent);
        if station.sent(slot).0.result == Err(Errno(libc::EAGAIN)) {
            return;
        }
    }
}

#[test]
fn a_farewell_queued_before_the_close_arrives_before_the_end() {
    let mut station = Station::new();
    let address = station.listen();
    for _ in 0..20 {
        let (mut peer, slot) = station.peer(address);
        station.uring.poll(slot, FIRST());
        station.enter(0, 0);
        let extent = station.write_one(b"farewell");
        station.uring.send(slot, 0, extent);
        station.uring.close(slot, FIRST(), true, false);
        station.closed(slot);
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"farewell");
        station.seen.clear();
    }
}

#[test]
fn a_close_without_polls_and_of_an_empty_slot_both_answer() {
    let mut station = Station::new();
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    station.uring.close(slot, FIRST(), false, false);
    station.closed(slot);
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    station.uring.close(Slot(17), FIRST(), true, true);
    station.closed(Slot(17));
}

#[test]
fn a_slot_comes_back_with_its_next_tenant_and_completions_name_theirs() {
    let mut station = Station::new();
    let address = station.listen();
    let (peer, slot) = station.peer(address);
    let old = Generation::new(0x00ff_ffff);
    station.uring.poll(slot, old);
    station.uring.close(slot, old, true, false);
    assert_eq!(station.closed(slot), old);
    drop(peer);
    let (mut peer, again) = station.peer(address);
    assert_eq!(again, slot);
    let new = old.next();
    assert_eq!(new, Generation::new(0));
    station.uring.poll(slot, new);
    peer.write_all(b"x").unwrap();
    station.until("readable of the new tenant", |completion| match completion {
        Completion::Readable { slot: at, generation, armed: true } => {
            assert_eq!((*at, *generation), (slot, new));
            Some(())
        }
        _ => None,
    });
}

#[test]
fn closing_thousands_at_once_through_a_small_queue() {
    let mut station = Station::sized(&Sizes { slots: 512, sq_entries: 16, cq_entries: 32, ..USUAL });
    let address = station.listen();
    let mut peers: Vec<_> = (0..400).map(|_| station.peer(address)).collect();
    for (_, slot) in &peers {
        station.uring.poll(*slot, FIRST());
    }
    station.enter(0, 0);
    for (_, slot) in &peers {
        station.uring.close(*slot, FIRST(), true, false);
    }
    for (peer, slot) in &mut peers {
        station.closed(*slot);
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn accepted_sockets_inherit_the_listeners_options() {
    let mut station = Station::new();
    let address = station.listen();
    let (_peer, slot) = station.peer(address);
    station.uring.lend(slot, FIRST());
    station.until("lent", |completion| match completion {
        Completion::Lent { result, .. } => {
            result.unwrap();
            Some(())
        }
        _ => None,
    });
    let fd = process_descriptor(address);
    let option = |level, name| {
        let (mut value, mut len) = (0_i32, size_of::<i32>() as libc::socklen_t);
        // SAFETY: the kernel writes at most `len` bytes into `value`.
        let result = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) };
        assert_eq!(result, 0);
        value
    };
    assert_eq!(option(libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
    assert_eq!(option(libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT), 16_384);
    assert_eq!(option(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), 30_000);
    assert_eq!(option(libc::SOL_SOCKET, libc::SO_KEEPALIVE), 0);
    assert!(station.uring.unlend(slot));
    assert!(!station.uring.unlend(slot));
}

/// The descriptor of this process that is connected *from* `local`: the lent one (the peer's is connected *to* it).
fn process_descriptor(local: SocketAddr) -> libc::c_int {
    let lent = |fd: &libc::c_int| {
        let mut raw = empty_address();
        let mut len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes into `raw`.
        let connected = unsafe { libc::getpeername(*fd, (&raw mut raw).cast(), &raw mut len) } == 0;
        connected && local_port(*fd) == local.port()
    };
    let mut found = (3..4096).filter(lent);
    let fd = found.next().expect("a lent descriptor");
    assert_eq!(found.next(), None);
    fd
}

fn local_port(fd: libc::c_int) -> u16 {
    let mut raw: libc::sockaddr_in = empty_address();
    let mut len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `raw`.
    unsafe { libc::getsockname(fd, (&raw mut raw).cast(), &raw mut len) };
    u16::from_be(raw.sin_port)
}

fn empty_address() -> libc::sockaddr_in {
    // SAFETY: a C structure of integers, for which all-zero bytes are a valid value.
    unsafe { std::mem::zeroed() }
}

#[test]
fn enter_respects_its_deadline_and_its_minimum() {
    let mut station = Station::new();
    station.enter(1, 30_000);
    let start = station.uring.now_us();
    station.enter(1, 30_000);
    let waited = station.uring.now_us() - start;
    assert!((29_000..2_000_000).contains(&waited), "{waited} us");
    assert!(station.seen.is_empty());

    // Two wanted, one comes: the minimum wait makes do with it long before the deadline.
    let handle = station.uring.wake_handle();
    handle.wake();
    let start = station.uring.now_us();
    let wait = Wait { want: 2, min_wait_us: 10_000, deadline_us: start + 4_000_000 };
    station.uring.enter(wait, &mut station.pool, &mut station.seen).unwrap();
    assert_eq!(station.seen, [Completion::Woken]);
    assert!(station.uring.now_us() - start < 2_000_000);
}

#[test]
fn an_enter_without_a_deadline_ends_with_a_wake() {
    let mut station = Station::new();
    station.enter(0, 0);
    let handle = station.uring.wake_handle();
    let waker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        handle.wake();
    });
    let wait = Wait { want: 1, min_wait_us: 0, deadline_us: u64::MAX };
    station.uring.enter(wait, &mut station.pool, &mut station.seen).unwrap();
    assert_eq!(station.seen, [Completion::Woken]);
    waker.join().unwrap();
}

#[test]
fn a_dropped_ring_stops_listening_at_once() {
    let mut station = Station::new();
    let address = station.listen();
    drop(station);
    let error = TcpStream::connect_timeout(&address, Duration::from_secs(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn completions_beyond_the_queue_are_kept_by_the_kernel_and_counted() {
    let mut station = Station::sized(&Sizes { slots: 256, sq_entries: 16, cq_entries: 16, ..USUAL });
    let address = station.listen();
    let mut peers: Vec<_> = (0..100).map(|_| station.peer(address)).collect();
    for (_, slot) in &peers {
        station.uring.poll(*slot, FIRST());
    }
    station.enter(0, 0);
    for (peer, _) in &mut peers {
        peer.write_all(b"x").unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    // 100 events at once through a queue of 16.
    station.enter(100, 100_000);
    let mut ended = 0;
    for (_, slot) in &peers {
        if !station.readable(*slot) {
            ended += 1;
            station.uring.poll(*slot, FIRST());
        }
    }
    assert!(station.uring.counters().overflows > 0, "{:?}", station.uring.counters());
    for (peer, slot) in &mut peers {
        peer.write_all(b"y").unwrap();
        station.readable(*slot);
    }
    assert!(ended <= 100);
}
