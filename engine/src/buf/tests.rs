//! Segments, logs and holdings together.

use super::segment::SHARDS_MAX;
use super::*;
use fanfare_protocol::cursor::Sink;

fn append(log: &mut Log, owner: &mut SegmentOwner, bytes: &[u8]) -> Result<Extents, LogFull> {
    log.append(owner, bytes.len(), 0, |writer| writer.put(bytes))
}

// In whole slices rather than byte by byte, which Miri is slow at.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    let period: Vec<u8> = (0..=255_u8).map(|i| i.wrapping_mul(31).wrapping_add(seed)).collect();
    let mut bytes = period.repeat(len.div_ceil(period.len()));
    bytes.truncate(len);
    bytes
}

fn read(logs: &Logs, extents: &[Extent]) -> Vec<u8> {
    extents.iter().map(|&extent| logs.bytes(extent)).collect::<Vec<_>>().concat()
}

#[test]
fn neighbours_merge_into_one_run() {
    let logs = Logs::new(1, SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let mut log = Log::new();
    let a = append(&mut log, &mut owner, b"hello ").unwrap();
    let b = append(&mut log, &mut owner, b"world").unwrap();
    let mut run = a[0];
    assert!(run.merge(&b[0]));
    assert_eq!(logs.bytes(run), b"hello world");
    assert_eq!(run.count, 2);
    run.advance(3);
    assert_eq!(logs.bytes(run), b"lo world");
}

#[test]
fn small_messages_move_whole_large_ones_split() {
    let logs = Logs::new(1, 4 * SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let mut log = Log::new();
    let filler = pattern(SEGMENT_BYTES - 100, 1);
    let first = append(&mut log, &mut owner, &filler).unwrap();
    assert_eq!(first.len(), 1);

    let small = append(&mut log, &mut owner, &pattern(200, 2)).unwrap();
    assert_eq!(small.len(), 1);
    assert_eq!((small[0].segment.index(), small[0].offset), (1, 0));

    let large = pattern(SEGMENT_BYTES + 77, 3);
    let split = append(&mut log, &mut owner, &large).unwrap();
    assert_eq!(split.len(), 2);
    assert_eq!((split[0].flags, split[0].count), (Extent::CONTINUES, 0));
    assert_eq!((split[1].flags, split[1].count), (0, 1));
    assert_eq!(split[0].offset, 200);
    assert_eq!(read(&logs, &split), large);
    assert_eq!(read(&logs, &first), filler);
    assert_eq!((owner.open(), owner.sealed(), owner.free()), (1, 2, 1));
}

#[test]
fn a_message_of_any_length_reads_back() {
    let logs = Logs::new(1, 12 * SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let mut log = Log::new();
    let sizes = [
        1,
        2044,
        SEGMENT_BYTES / 4,
        SEGMENT_BYTES / 4 + 1,
        SEGMENT_BYTES - 1,
        SEGMENT_BYTES,
        SEGMENT_BYTES + 1,
        3 * SEGMENT_BYTES + 5,
    ];
    for (i, &len) in sizes.iter().enumerate() {
        let bytes = pattern(len, i as u8);
        let extents =
            log.append(&mut owner, len, 7, |writer| bytes.chunks(1000).for_each(|chunk| writer.put(chunk))).unwrap();
        assert_eq!(read(&logs, &extents), bytes, "length {len}");
        assert!(extents.iter().all(|extent| extent.class == 7));
        assert_eq!(extents.iter().map(|extent| u32::from(extent.count)).sum::<u32>(), 1);
        let continues = extents.iter().filter(|extent| extent.flags & Extent::CONTINUES != 0).count();
        assert_eq!(continues, extents.len() - 1);
    }
}

/// Runs in order, cut after any number of bytes as short sends cut them, are the rest and nothing else; and runs that
/// join are the same bytes as the runs apart.
#[test]
fn a_cut_at_any_byte_leaves_the_rest() {
    let logs = Logs::new(1, 2 * SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let mut log = Log::new();
    let messages = [pattern(SEGMENT_BYTES - 70, 1), pattern(30, 2), pattern(40, 3), pattern(50, 4), pattern(1, 5)];
    let apart: Vec<Extent> =
        messages.iter().flat_map(|bytes| append(&mut log, &mut owner, bytes).unwrap().to_vec()).collect();
    let whole = messages.concat();
    let mut joined: Vec<Extent> = Vec::new();
    for run in &apart {
        if !joined.last_mut().is_some_and(|last| last.merge(run)) {
            joined.push(*run);
        }
    }
    assert_eq!(joined.iter().map(|run| (run.segment.index(), run.count)).collect::<Vec<_>>(), [(0, 3), (1, 2)]);
    for cut in (whole.len() - 300..=whole.len()).step_by(if cfg!(miri) { 50 } else { 1 }) {
        for mut runs in [apart.clone(), joined.clone()] {
            let mut sent = cut as u32;
            for run in &mut runs {
                let taken = sent.min(run.len);
                run.advance(taken);
                sent -= taken;
            }
            assert_eq!(read(&logs, &runs), whole[cut..], "cut at {cut}");
        }
    }
}

#[test]
fn a_full_log_says_so_and_takes_nothing() {
    let logs = Logs::new(1, 2 * SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let mut log = Log::new();
    append(&mut log, &mut owner, &pattern(SEGMENT_BYTES - 10, 0)).unwrap();
    let full = append(&mut log, &mut owner, &vec![0; 2 * SEGMENT_BYTES]).unwrap_err();
    assert_eq!(full, LogFull { needed: 2, free: 1 });
    assert_eq!((owner.open(), owner.free()), (1, 1));
    let after = append(&mut log, &mut owner, &[9; 10]).unwrap();
    assert_eq!(after[0].offset as usize, SEGMENT_BYTES - 10, "the open segment goes on as before");
}

#[test]
#[should_panic(expected = "less than it announced")]
fn a_short_encoder_is_a_bug() {
    let logs = Logs::new(1, SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let _ = Log::new().append(&mut owner, 5, 0, |writer| writer.put(b"four"));
}

#[test]
#[should_panic(expected = "more than it announced")]
fn a_long_encoder_is_a_bug() {
    let logs = Logs::new(1, SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let _ = Log::new().append(&mut owner, 3, 0, |writer| writer.put(b"four"));
}

#[test]
#[should_panic(expected = "beyond the published bytes")]
fn unpublished_bytes_cannot_be_read() {
    let logs = Logs::new(1, SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let mut extent = append(&mut Log::new(), &mut owner, b"abc").unwrap()[0];
    extent.len += 1;
    let _ = logs.bytes(extent);
}

#[test]
fn one_owner_per_shard() {
    let logs = Logs::new(2, SEGMENT_BYTES).unwrap();
    let owner = logs.owner(1).unwrap();
    assert_eq!(owner.shard(), 1);
    assert!(logs.owner(1).is_none());
    assert!(logs.owner(2).is_none());
    assert!(logs.owner(0).is_some());
}

#[test]
fn sizes_out_of_range_are_refused() {
    assert!(Logs::new(0, SEGMENT_BYTES).is_err());
    assert!(Logs::new(1, SEGMENT_BYTES - 1).is_err());
    assert!(Logs::new(SHARDS_MAX as u8 + 1, SEGMENT_BYTES).is_err());
}

#[test]
fn a_segment_is_free_only_when_notes_are_read_and_nobody_holds() {
    let logs = Logs::new(3, 2 * SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let mut log = Log::new();
    let extent = append(&mut log, &mut owner, b"to all").unwrap()[0];
    log.close(&mut owner);
    let mut other = Holdings::new(1, &logs);
    let mut own = Holdings::new(0, &logs);

    assert_eq!(owner.retire(|_| u64::MAX), 0, "positions not yet known");
    owner.stamp(|shard| u64::from(shard) * 10);
    assert_eq!(owner.retire(|shard| if shard == 1 { 10 } else { 19 }), 0, "shard 2 has not read its note");

    own.hold(extent.segment);
    other.hold(extent.segment);
    other.hold(extent.segment);
    let all_read = |shard: u8| u64::from(shard) * 10;
    assert_eq!(owner.retire(all_read), 0);
    assert_eq!(owner.oldest_held(), Some(extent.segment));
    other.release(extent.segment);
    own.release(extent.segment);
    assert_eq!(owner.retire(all_read), 0, "shard 1 still holds one");
    assert_eq!((other.held(extent.segment), other.total()), (1, 1));
    other.release(extent.segment);
    assert_eq!(owner.oldest_held(), None);
    assert_eq!(owner.retire(all_read), 1);
    assert_eq!((owner.free(), owner.sealed(), owner.bytes()), (2, 0, 0));
}

#[test]
fn a_held_segment_does_not_stop_the_ones_behind_it() {
    let logs = Logs::new(1, 3 * SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let mut holdings = Holdings::new(0, &logs);
    let mut log = Log::new();
    let first = append(&mut log, &mut owner, b"slow reader").unwrap()[0];
    holdings.hold(first.segment);
    for _ in 0..20 {
        log.close(&mut owner);
        owner.stamp(|_| 0);
        owner.retire(|_| 0);
        append(&mut log, &mut owner, b"fast reader").unwrap();
        assert_eq!(logs.bytes(first), b"slow reader");
    }
}

#[test]
fn lent_segments_can_be_written_again() {
    let logs = Logs::new(1, SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let mut log = Log::new();
    let extent = append(&mut log, &mut owner, b"lent").unwrap()[0];
    logs.mark_lent(extent.segment);
    log.close(&mut owner);
    owner.stamp(|_| 0);
    assert_eq!(owner.retire(|_| 0), 1);
    let again = append(&mut log, &mut owner, b"new bytes").unwrap()[0];
    assert_eq!(again.segment, extent.segment);
    assert_eq!(logs.bytes(again), b"new bytes");
    assert_eq!(owner.trim(0), 0, "nothing is free");
}

#[test]
fn trim_gives_back_cold_segments_only() {
    let logs = Logs::new(1, 4 * SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    assert_eq!(owner.trim(0), 0, "nothing was written yet");
    let taken: Vec<_> = (0..3).map(|_| owner.take().unwrap()).collect();
    assert_eq!(taken[0].index(), 0);
    taken[..2].iter().for_each(|&segment| owner.seal(segment));
    owner.stamp(|_| 0);
    assert_eq!(owner.retire(|_| 0), 2);
    assert_eq!(owner.trim(1), 1, "two are free and warm, one is to stay so");
    assert_eq!(owner.trim(0), 1);
    assert_eq!(owner.trim(0), 0, "the third is open");
}

/// Every write goes to a random log, random extents are kept and dropped; kept bytes never change.
#[test]
fn kept_bytes_never_change_over_random_operations() {
    let rounds = if cfg!(miri) { 100 } else { 3000 };
    let logs = Logs::new(2, 8 * SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let mut holdings = [Holdings::new(0, &logs), Holdings::new(1, &logs)];
    let mut both = [Log::new(), Log::new()];
    let mut kept: Vec<(usize, Extents, Vec<u8>)> = Vec::new();
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut full = 0;
    for round in 0..rounds {
        let bytes = pattern(1 + random(120_000) as usize, round as u8);
        match append(&mut both[random(2) as usize], &mut owner, &bytes) {
            Ok(extents) => {
                let holder = random(2) as usize;
                extents.iter().for_each(|extent| holdings[holder].hold(extent.segment));
                kept.push((holder, extents, bytes));
            }
            Err(_) => full += 1,
        }
        while kept.len() > 6 || (!kept.is_empty() && random(3) == 0) {
            let (holder, extents, bytes) = kept.swap_remove(random(kept.len() as u64) as usize);
            assert_eq!(read(&logs, &extents), bytes);
            extents.iter().for_each(|extent| holdings[holder].release(extent.segment));
        }
        owner.stamp(|_| round);
        owner.retire(|_| round);
    }
    assert!(full < rounds / 2, "the log was full in {full} of {rounds} rounds");
    kept.iter().for_each(|(_, extents, bytes)| assert_eq!(&read(&logs, extents), bytes));
}

#[test]
fn readers_on_other_threads_see_what_was_published() {
    let logs = Logs::new(1, 2 * SEGMENT_BYTES).unwrap();
    let mut owner = logs.owner(0).unwrap();
    let mut log = Log::new();
    let (send, receive) = std::sync::mpsc::channel::<Extent>();
    let reader = std::thread::spawn({
        let logs = logs.clone();
        move || receive.iter().map(|extent| logs.bytes(extent).len()).sum::<usize>()
    });
    let count = if cfg!(miri) { 20 } else { 2000 };
    for i in 0..count {
        let extents = append(&mut log, &mut owner, &pattern(100, i as u8)).unwrap();
        send.send(extents[0]).unwrap();
    }
    drop(send);
    assert_eq!(reader.join().unwrap(), count * 100);
}
