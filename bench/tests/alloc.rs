//! The counting allocator counts exactly, per thread and in total.
use fanfare_bench::alloc::{self, CountingAllocator, Counts};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn counts_blocks_and_bytes_of_this_thread() {
    alloc::assert_installed();
    let (block, counts) = alloc::count(|| Vec::<u8>::with_capacity(1000));
    assert_eq!(counts, Counts { allocations: 1, allocated_bytes: 1000, frees: 0, freed_bytes: 0 });
    let ((), counts) = alloc::count(|| drop(block));
    assert_eq!(counts, Counts { allocations: 0, allocated_bytes: 0, frees: 1, freed_bytes: 1000 });
}

#[test]
fn a_reallocation_is_one_visit_and_its_growth() {
    let mut block = Vec::<u8>::with_capacity(100);
    let ((), counts) = alloc::count(|| block.reserve_exact(300));
    assert_eq!((counts.allocations, counts.allocated_bytes, counts.live_bytes()), (1, 200, 200));
    block.push(1);
    let ((), counts) = alloc::count(|| block.shrink_to(50));
    assert_eq!((counts.allocated_bytes, counts.freed_bytes, counts.live_bytes()), (0, 250, -250));
}

#[test]
fn other_threads_are_seen_in_the_process_only() {
    const BLOCK_BYTES: usize = 1 << 20;
    let process_before = alloc::in_process();
    let ready = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            ready.wait();
            let (block, counts) = alloc::count(|| vec![1u8; BLOCK_BYTES]);
            ready.wait();
            assert_eq!((counts.allocations, counts.allocated_bytes), (1, BLOCK_BYTES as u64));
            drop(block);
        });
        let ((), counts) = alloc::count(|| {
            ready.wait();
            ready.wait();
        });
        assert_eq!(counts.allocations, 0);
        other.join().expect("the other thread's counts are right");
    });
    let process = alloc::in_process().since(process_before);
    assert!(process.allocated_bytes >= BLOCK_BYTES as u64);
}

#[test]
fn nothing_costs_nothing() {
    let (sum, counts) = alloc::count(|| (0..1000u64).sum::<u64>());
    assert_eq!((sum, counts), (499_500, Counts::default()));
}
