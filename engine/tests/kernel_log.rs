//! Log pages lent to sockets: `sendfile` from the shared memfd, and why a lent segment is punched before reuse.

mod kernel_support;

use fanfare_engine::buf::{Extent, SEGMENT_BYTES};
use fanfare_engine::io::{Completion, Errno, Generation, Io, Slot};
use kernel_support::{FIRST, Sizes, Station, USUAL};
use std::io::Read;

const ONE_SEGMENT: Sizes = Sizes { log_segments: 1, ..USUAL };

fn lend(station: &mut Station, slot: Slot) {
    station.uring.lend(slot, FIRST());
    let result = station.until("lent", |completion| match completion {
        Completion::Lent { slot: at, generation, result } if *at == slot => {
            assert_eq!(*generation, FIRST());
            Some(*result)
        }
        _ => None,
    });
    result.unwrap();
}

/// Queues a whole segment of `old` bytes to a peer that does not read, and hands the segment back to the log.
fn queue_by_sendfile(station: &mut Station, slot: Slot, old: u8, mark: bool) -> (Extent, usize) {
    let mut extent = station.write_one(&vec![old; SEGMENT_BYTES]);
    let whole = extent;
    if mark {
        station.logs.mark_lent(extent.segment);
    }
    let mut queued = 0;
    while !extent.is_empty() {
        match station.uring.send_file(slot, extent) {
            Ok(n) => {
                extent.advance(n);
                queued += n as usize;
            }
            Err(errno) => {
                assert_eq!(errno, Errno(libc::EAGAIN));
                break;
            }
        }
    }
    assert!(queued > 0);
    (whole, queued)
}

#[test]
fn lent_bytes_arrive_old_after_the_segment_was_punched_and_rewritten() {
    let mut station = Station::sized(&ONE_SEGMENT);
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    lend(&mut station, slot);
    let (first, queued) = queue_by_sendfile(&mut station, slot, b'o', true);

    station.log.close(&mut station.owner);
    station.owner.stamp(|_| 0);
    assert_eq!(station.owner.retire(|_| 0), 1, "nobody holds it");
    let second = station.write_one(&vec![b'n'; SEGMENT_BYTES]);
    assert_eq!(second.segment, first.segment, "the same memory");
    assert!(station.logs.bytes(second).iter().all(|&byte| byte == b'n'));

    let mut bytes = vec![0; queued];
    peer.read_exact(&mut bytes).unwrap();
    let new = bytes.iter().filter(|&&byte| byte != b'o').count();
    assert_eq!(new, 0, "{new} of {queued} bytes were overwritten on their way");
}

/// The counter-proof: without the punch the peer sees the new bytes. If this fails, the kernel copies and the punch
/// is not needed any more.
#[test]
fn rewriting_lent_pages_in_place_changes_bytes_on_their_way() {
    let logs = fanfare_engine::buf::Logs::new(1, SEGMENT_BYTES).unwrap();
    let ring_fds = fanfare_engine::io::RingFds::new(1).unwrap();
    let mut station = Station::of_shard(&ONE_SEGMENT, 0, &logs, &ring_fds);
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    station.uring.lend(slot, FIRST());
    station.enter(1, 100_000);
    let extent = station.write_one(&vec![b'o'; SEGMENT_BYTES]);
    let queued = station.uring.send_file(slot, extent).unwrap() as usize;
    let memory = logs.bytes(extent).as_ptr().cast_mut();
    // SAFETY: the mapping is writable, and no other reference to these bytes is in use: this test does on purpose
    // what the log never does.
    unsafe { std::ptr::write_bytes(memory, b'n', SEGMENT_BYTES) };
    let mut bytes = vec![0; queued];
    peer.read_exact(&mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == b'n'));
}

#[test]
fn sendfile_and_send_mix_on_one_slot_and_the_poll_goes_on() {
    let mut station = Station::new();
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    station.uring.poll(slot, FIRST());
    lend(&mut station, slot);
    let words = [&b"by sendfile, "[..], b"by the ring, ", b"by sendfile again"].map(|word| station.write_one(word));
    assert_eq!(station.uring.send_file(slot, words[0]), Ok(13));
    station.uring.send(slot, 0, words[1]);
    assert_eq!(station.sent(slot).0.result, Ok(13));
    assert_eq!(station.uring.send_file(slot, words[2]), Ok(17));
    let mut bytes = [0; 43];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"by sendfile, by the ring, by sendfile again");

    std::io::Write::write_all(&mut peer, b"1").unwrap();
    assert!(station.readable(slot));
    assert!(station.uring.unlend(slot));
    assert_eq!(station.uring.send_file(slot, words[0]), Err(Errno(libc::EBADF)));
    std::io::Write::write_all(&mut peer, b"2").unwrap();
    assert!(station.readable(slot));
    assert_eq!(station.recv(slot), Ok((b"12".to_vec(), false)));
    assert_eq!(station.uring.counters().send_files, 2);
}

#[test]
fn a_closed_slot_ends_although_its_descriptor_was_lent() {
    let mut station = Station::new();
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    station.uring.poll(slot, FIRST());
    lend(&mut station, slot);
    station.uring.close(slot, FIRST(), true, false);
    station.closed(slot);
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    assert!(!station.uring.unlend(slot));
}

#[test]
fn a_loan_that_comes_after_the_close_is_given_back() {
    let mut station = Station::new();
    let address = station.listen();
    let (mut peer, slot) = station.peer(address);
    station.uring.lend(slot, FIRST());
    station.uring.close(slot, FIRST(), false, false);
    station.closed(slot);
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    station.never("loan of a closed slot", |completion| matches!(completion, Completion::Lent { .. }));
}

#[test]
fn an_empty_slot_cannot_be_lent() {
    let mut station = Station::new();
    station.uring.lend(Slot(3), Generation::new(4));
    let result = station.until("lent", |completion| match completion {
        Completion::Lent { result, .. } => Some(*result),
        _ => None,
    });
    assert_eq!(result, Err(Errno(libc::EBADF)));
    assert!(!station.uring.unlend(Slot(3)));
}

#[test]
fn sendfile_to_a_reset_connection_is_an_error_and_no_signal() {
    let mut station = Station::new();
    let address = station.listen();
    let (peer, slot) = station.peer(address);
    lend(&mut station, slot);
    let extent = station.write_one(&[1; 100]);
    station.uring.send_file(slot, extent).unwrap();
    // Unread bytes at close make the kernel reset the connection.
    drop(peer);
    std::thread::sleep(std::time::Duration::from_millis(20));
    let errors: Vec<_> = (0..3).filter_map(|_| station.uring.send_file(slot, extent).err()).collect();
    assert!(errors.contains(&Errno(libc::EPIPE)), "{errors:?}");
}

/// A hole in a huge page that a socket holds would be filled with zeros in place, under the reader. Whether the host
/// gives huge pages to memory files is its own business: the log must have none (`nh` in the flags of its mapping).
#[test]
fn the_log_never_lies_in_huge_pages() {
    let _station = Station::sized(&ONE_SEGMENT);
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut logs = 0;
    let mut inside = false;
    for line in maps.lines() {
        if line.contains("memfd:") || line.split(' ').next().is_some_and(|range| range.contains('-')) {
            inside = line.contains("memfd:fanfare-log");
        } else if inside && line.starts_with("VmFlags:") {
            logs += 1;
            assert!(line.split(' ').any(|flag| flag == "nh"), "{line}");
        }
    }
    assert!(logs > 0, "no log found in\n{maps}");
}
