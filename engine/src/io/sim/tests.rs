//! The fake ring against a naive echo server, and against servers that break its rules.

use super::*;
use crate::buf::{Holdings, Log, SEGMENT_BYTES, SegmentOwner};
use fanfare_protocol::cursor::Sink;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

const WAIT: Wait = Wait { want: 1, min_wait_us: 0, deadline_us: u64::MAX };

fn address() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A connection of the echo server.
#[derive(Debug, Default)]
struct Client {
    generation: Generation,
    out: VecDeque<Extent>,
    blocked: bool,
    input_ended: bool,
    closing: bool,
    lent: bool,
    released_owed: u32,
    retained: VecDeque<(Extent, u32)>,
}

/// Which rule a broken server breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// Does not look at the generation of completions.
    StaleGeneration,
    /// Treats a short send as a whole one.
    ShortSend,
    /// Gives segments back while the outbox still needs them.
    ReusesHeld,
    /// Sends from lent pages without marking them.
    ForgetsToMark,
    /// Drops the retry after `NoBuffers`.
    ForgetsRetry,
    /// Does not arm a poll again that has ended.
    ForgetsRearm,
}

/// Sends back what it receives. Written for clarity, not speed.
struct Echo {
    sim: Sim,
    pool: RecvPool,
    logs: Logs,
    owner: SegmentOwner,
    holdings: Holdings,
    log: Log,
    clients: BTreeMap<Slot, Client>,
    generations: BTreeMap<Slot, Generation>,
    retry: Vec<Slot>,
    use_sendfile: bool,
    bug: Bug,
    stale: u64,
    turns: u64,
}

impl Echo {
    fn new(sim: Sim, logs: &Logs, use_sendfile: bool, bug: Bug) -> Self {
        let mut echo = Self {
            sim,
            pool: RecvPool::new(8, 512),
            logs: logs.clone(),
            owner: logs.owner(0).unwrap(),
            holdings: Holdings::new(0, logs),
            log: Log::new(),
            clients: BTreeMap::new(),
            generations: BTreeMap::new(),
            retry: Vec::new(),
            use_sendfile,
            bug,
            stale: 0,
            turns: 0,
        };
        echo.sim.listen(address()).unwrap();
        echo.sim.accept();
        echo
    }

    fn turn(&mut self) {
        self.turns += 1;
        let mut completions = Vec::new();
        self.sim.enter(WAIT, &mut self.pool, &mut completions).unwrap();
        self.owner.stamp(|_| 0);
        self.owner.retire(|_| 0);
        for slot in std::mem::take(&mut self.retry) {
            if let Some(client) = self.clients.get(&slot).filter(|client| !client.closing) {
                self.sim.recv(slot, client.generation);
            }
        }
        for completion in completions {
            self.handle(completion);
        }
        self.flush();
        // Small messages never fill a segment: close it now and then, so that reuse happens at all.
        if self.turns.is_multiple_of(7) {
            self.log.close(&mut self.owner);
        }
    }

    fn current(&mut self, slot: Slot, generation: Generation) -> Option<&mut Client> {
        let skip = self.bug == Bug::StaleGeneration;
        let client = self.clients.get_mut(&slot).filter(|client| skip || client.generation == generation);
        self.stale += u64::from(client.is_none());
        client.filter(|client| !client.closing)
    }

    fn handle(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { slot, .. } => {
                let generation = self.generations.entry(slot).or_default();
                let client = Client { generation: *generation, ..Client::default() };
                self.sim.poll(slot, client.generation);
                assert!(self.clients.insert(slot, client).is_none(), "slot handed out twice");
            }
            Completion::AcceptEnded { .. } => {
                self.sim.accept();
            }
            Completion::Readable { slot, generation, armed } => {
                let forget = self.bug == Bug::ForgetsRearm;
                let Some(client) = self.current(slot, generation) else { return };
                let generation = client.generation;
                if !armed && !forget {
                    self.sim.poll(slot, generation);
                }
                self.sim.recv(slot, generation);
            }
            Completion::Received { slot, generation, received } => self.received(slot, generation, received),
            Completion::Sent { slot, sent, .. } => self.sent(slot, sent),
            Completion::Released { slot, generation, bytes } => {
                if let Some(client) = self.clients.get_mut(&slot).filter(|client| client.generation == generation) {
                    client.released_owed += bytes;
                }
                self.release(slot);
            }
            Completion::Writable { slot, generation } => {
                if let Some(client) = self.current(slot, generation) {
                    client.blocked = false;
                }
            }
            Completion::Lent { slot, generation, result } => {
                if let Some(client) = self.current(slot, generation) {
                    client.lent = result.is_ok();
                }
            }
            Completion::Closed { slot, generation } => {
                self.generations.insert(slot, generation.next());
                let client = self.clients.remove(&slot).expect("closed once");
                assert_eq!(client.generation, generation);
                if self.bug == Bug::ReusesHeld {
                    return;
                }
                let kept = client.out.iter().chain(client.retained.iter().map(|(extent, _)| extent));
                kept.for_each(|extent| self.holdings.release(extent.segment));
            }
            Completion::Connected { .. }
            | Completion::HandedOver { .. }
            | Completion::Introduced { .. }
            | Completion::Adopted { .. }
            | Completion::Woken => {}
        }
    }

    fn received(&mut self, slot: Slot, generation: Generation, received: Received) {
        if let Received::Data { buffer, len, more } = received {
            let bytes = self.pool.slice(buffer, len).to_vec();
            self.pool.give_back(buffer);
            let Some(generation) = self.current(slot, generation).map(|client| client.generation) else { return };
            let extents = self.log.append(&mut self.owner, bytes.len(), 0, |writer| writer.put(&bytes)).unwrap();
            let client = self.clients.get_mut(&slot).unwrap();
            for &extent in extents.iter() {
                if self.bug != Bug::ReusesHeld {
                    self.holdings.hold(extent.segment);
                }
                client.out.push_back(extent);
            }
            if more {
                self.sim.recv(slot, generation);
            }
            return;
        }
        let forget = self.bug == Bug::ForgetsRetry;
        let Some(client) = self.current(slot, generation) else { return };
        match received {
            Received::NoBuffers if forget => {}
            Received::NoBuffers => self.retry.push(slot),
            Received::End => client.input_ended = true,
            Received::Failed(_) => self.close(slot),
            Received::WouldBlock | Received::Data { .. } => {}
        }
    }

    fn sent(&mut self, slot: Slot, sent: Sent) {
        let bug = self.bug;
        let Some(client) = self.clients.get_mut(&slot).filter(|client| !client.closing) else { return };
        match sent.result {
            Ok(n) => {
                client.released_owed += sent.released;
                self.advance(slot, if bug == Bug::ShortSend { u32::MAX } else { n });
                self.release(slot);
            }
            Err(Errno(libc::EAGAIN)) => {
                client.blocked = true;
                let generation = client.generation;
                self.sim.poll_out(slot, generation);
            }
            Err(_) => self.close(slot),
        }
    }

    /// Moves sent bytes from the outbox to the row of bytes that wait for their release.
    fn advance(&mut self, slot: Slot, mut n: u32) {
        let client = self.clients.get_mut(&slot).unwrap();
        while n > 0 {
            let Some(front) = client.out.front_mut() else { break };
            let piece = front.len.min(n);
            n -= piece;
            front.advance(piece);
            client.retained.push_back((*front, piece));
            if front.is_empty() {
                client.out.pop_front();
            } else if self.bug != Bug::ReusesHeld {
                self.holdings.hold(front.segment);
            }
        }
    }

    fn release(&mut self, slot: Slot) {
        let Some(client) = self.clients.get_mut(&slot) else { return };
        while let Some((extent, bytes)) = client.retained.front_mut() {
            let piece = client.released_owed.min(*bytes);
            client.released_owed -= piece;
            *bytes -= piece;
            if *bytes > 0 {
                break;
            }
            if self.bug != Bug::ReusesHeld {
                self.holdings.release(extent.segment);
            }
            client.retained.pop_front();
        }
    }

    fn close(&mut self, slot: Slot) {
        let client = self.clients.get_mut(&slot).unwrap();
        client.closing = true;
        self.sim.close(slot, client.generation, true, true);
    }

    fn flush(&mut self) {
        let slots: Vec<_> = self.clients.keys().copied().collect();
        for slot in slots {
            let client = self.clients.get_mut(&slot).unwrap();
            if client.closing || client.blocked {
                continue;
            }
            let Some(&front) = client.out.front() else {
                if client.input_ended {
                    self.close(slot);
                }
                continue;
            };
            if self.use_sendfile && client.lent {
                if self.bug != Bug::ForgetsToMark {
                    self.logs.mark_lent(front.segment);
                }
                let result = self.sim.send_file(slot, front);
                self.sent(slot, Sent { result, released: result.unwrap_or(0) });
            } else if client.out.len() > 1 {
                let runs: Vec<_> = client.out.iter().take(GATHER_MAX).copied().collect();
                self.sim.send_gather(slot, 77, &runs);
            } else {
                self.sim.send(slot, 77, front);
            }
            let client = &self.clients[&slot];
            if self.use_sendfile && !client.lent && !client.closing {
                self.sim.lend(slot, client.generation);
            }
        }
    }
}

/// A simulated client: what it still wants to say, and what it has heard.
struct Talker {
    peer: PeerId,
    said: Vec<u8>,
    unsaid: Vec<u8>,
    heard: Vec<u8>,
}

/// Runs an echo server under one seed. Returns whether every client heard exactly what it said.
fn run_echo(seed: u64, options: SimOptions, use_sendfile: bool, bug: Bug) -> Result<(), String> {
    let logs = Logs::new(1, 16 * SEGMENT_BYTES).unwrap();
    let mut echo = Echo::new(Sim::new(seed, SimOptions { slots: 3, ..options }, &logs), &logs, use_sendfile, bug);
    let world = echo.sim.world();
    let mut talkers: Vec<Talker> = Vec::new();
    let mut finished = 0;
    for step in 0..4000 {
        if talkers.len() + finished < 6 && world.random(4) == 0 {
            let unsaid = (0..world.random(3000)).map(|_| world.random(256) as u8).collect();
            talkers.push(Talker { peer: world.connect(), said: Vec::new(), unsaid, heard: Vec::new() });
        }
        for talker in &mut talkers {
            talk(&world, talker);
        }
        echo.turn();
        world.advance(world.random(1000));
        for talker in talkers.extract_if(.., |talker| world.peer_state(talker.peer) != PeerState::Open) {
            if talker.heard != talker.said || !talker.unsaid.is_empty() {
                let same = talker.heard.iter().zip(&talker.said).take_while(|(a, b)| a == b).count();
                let text = format!("heard {} of {} bytes, {same} right", talker.heard.len(), talker.said.len());
                return Err(format!("seed {seed}, step {step}: {text}"));
            }
            finished += 1;
        }
        if finished == 6 && world.open_connections(0) == 0 {
            return check_leaks(seed, &echo);
        }
    }
    Err(format!("seed {seed}: not finished, {} of 6 done, {:?}", finished, echo.clients))
}

fn check_leaks(seed: u64, echo: &Echo) -> Result<(), String> {
    let leaks = (echo.holdings.total(), echo.pool.lent(), echo.clients.len());
    if leaks == (0, 0, 0) { Ok(()) } else { Err(format!("seed {seed}: leaked {leaks:?}")) }
}

fn talk(world: &World, talker: &mut Talker) {
    let n = (world.random(200) as usize).min(talker.unsaid.len());
    let piece: Vec<u8> = talker.unsaid.drain(..n).collect();
    world.peer_write(talker.peer, &piece);
    talker.said.extend(piece);
    if talker.unsaid.is_empty() {
        world.peer_shutdown(talker.peer);
    }
    world.set_stalled(talker.peer, world.random(10) == 0);
    let max = world.random(700) as usize;
    talker.heard.extend(world.peer_read(talker.peer, max));
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("FANFARE_SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None if cfg!(miri) => 0..2,
        None => 0..2000,
    }
}

const REPLAY: &str = "replay: FANFARE_SIM_SEED=<seed> cargo test -p fanfare-engine io::sim";

#[test]
fn echo_is_exact_in_a_calm_world() {
    for seed in seeds().take(50) {
        run_echo(seed, SimOptions::calm(), false, Bug::None).expect(REPLAY);
    }
}

#[test]
fn echo_is_exact_in_a_rough_world() {
    for seed in seeds() {
        run_echo(seed, SimOptions::rough(), false, Bug::None).expect(REPLAY);
    }
}

#[test]
fn echo_by_sendfile_is_exact_in_a_rough_world() {
    for seed in seeds().take(500) {
        run_echo(seed, SimOptions::rough(), true, Bug::None).expect(REPLAY);
    }
}

#[test]
fn echo_is_exact_when_bytes_are_released_late() {
    for seed in seeds().take(500) {
        let options = SimOptions { release_when_read: true, ..SimOptions::rough() };
        run_echo(seed, options, false, Bug::None).expect(REPLAY);
    }
}

/// The fake kernel must find servers that break the rules, or it proves nothing.
#[test]
fn broken_servers_are_caught() {
    if cfg!(miri) {
        return;
    }
    let cases = [
        (Bug::StaleGeneration, false, false),
        (Bug::ShortSend, false, false),
        (Bug::ReusesHeld, false, true),
        (Bug::ForgetsToMark, true, false),
        (Bug::ForgetsRetry, false, false),
        (Bug::ForgetsRearm, false, false),
    ];
    let mut missed = Vec::new();
    for (bug, use_sendfile, release_when_read) in cases {
        let caught = (0..200).any(|seed| {
            let options = SimOptions { release_when_read, ..SimOptions::rough() };
            let run = AssertUnwindSafe(|| run_echo(seed, options, use_sendfile, bug));
            catch_unwind(run).map_or(true, |result| result.is_err())
        });
        if !caught {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "not caught in 200 seeds: {missed:?}");
}

fn trace(seed: u64) -> Vec<Completion> {
    let logs = Logs::new(1, SEGMENT_BYTES).unwrap();
    let mut sim = Sim::new(seed, SimOptions::rough(), &logs);
    let mut pool = RecvPool::new(8, 64);
    let world = sim.world();
    sim.listen(address()).unwrap();
    let mut seen = Vec::new();
    for round in 0..60 {
        sim.accept();
        if round % 3 == 0 {
            world.peer_write(world.connect(), &[round; 100]);
        }
        let from = seen.len();
        sim.enter(WAIT, &mut pool, &mut seen).unwrap();
        for completion in seen[from..].iter().copied() {
            match completion {
                Completion::Accepted { slot, .. } => sim.poll(slot, Generation::new(3)),
                Completion::Readable { slot, generation, .. } => sim.recv(slot, generation),
                Completion::Received { received: Received::Data { buffer, .. }, .. } => pool.give_back(buffer),
                _ => {}
            }
        }
    }
    seen
}

#[test]
fn a_seed_is_a_run() {
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

/// One accepted connection in a calm world.
fn accepted() -> (Sim, RecvPool, Logs, PeerId, Slot) {
    let logs = Logs::new(1, SEGMENT_BYTES).unwrap();
    let mut sim = Sim::new(1, SimOptions::calm(), &logs);
    let mut pool = RecvPool::new(8, 64);
    sim.listen(address()).unwrap();
    sim.accept();
    let peer = sim.world().connect();
    let mut seen = Vec::new();
    sim.enter(WAIT, &mut pool, &mut seen).unwrap();
    assert_eq!(seen, [Completion::Accepted { slot: Slot(0), listener: 0 }]);
    (sim, pool, logs, peer, Slot(0))
}

#[test]
#[should_panic(expected = "two sends between two enters")]
fn two_sends_in_one_turn_are_refused() {
    let (mut sim, _, logs, _, slot) = accepted();
    let mut owner = logs.owner(0).unwrap();
    let bytes = Log::new().append(&mut owner, 1, 0, |writer| writer.put(b"x")).unwrap()[0];
    sim.send(slot, 0, bytes);
    sim.send(slot, 0, bytes);
}

#[test]
#[should_panic(expected = "armed already")]
fn a_poll_armed_twice_is_refused() {
    let (mut sim, mut pool, _, _, slot) = accepted();
    sim.poll(slot, Generation::new(1));
    sim.poll(slot, Generation::new(1));
    sim.enter(WAIT, &mut pool, &mut Vec::new()).unwrap();
}

#[test]
#[should_panic(expected = "closed with its poll armed")]
fn a_close_that_forgets_the_poll_is_refused() {
    let (mut sim, _, _, _, slot) = accepted();
    sim.poll(slot, Generation::new(1));
    sim.close(slot, Generation::new(1), false, false);
}

#[test]
#[should_panic(expected = "used again")]
fn a_generation_used_again_is_refused() {
    let (mut sim, mut pool, _, _, slot) = accepted();
    sim.close(slot, Generation::new(1), false, false);
    sim.enter(WAIT, &mut pool, &mut Vec::new()).unwrap();
    sim.world().connect();
    sim.enter(WAIT, &mut pool, &mut Vec::new()).unwrap();
    sim.poll(slot, Generation::new(1));
}

#[test]
fn peers_see_end_and_reset() {
    let (mut sim, mut pool, _, peer, slot) = accepted();
    let world = sim.world();
    sim.poll(slot, Generation::new(1));
    world.peer_write(peer, b"bye");
    world.peer_close(peer);
    let mut seen = Vec::new();
    sim.enter(WAIT, &mut pool, &mut seen).unwrap();
    assert_eq!(seen.len(), 1, "{seen:?}");
    sim.recv(slot, Generation::new(1));
    sim.recv(slot, Generation::new(1));
    seen.clear();
    sim.enter(WAIT, &mut pool, &mut seen).unwrap();
    let received = |completion: &Completion| match completion {
        Completion::Received { received, .. } => Some(*received),
        _ => None,
    };
    let all: Vec<_> = seen.iter().filter_map(received).collect();
    assert!(matches!(all[..], [Received::Data { len: 3, more: true, .. }, Received::End]), "{all:?}");
    sim.close(slot, Generation::new(1), true, false);
    sim.enter(WAIT, &mut pool, &mut seen).unwrap();
    assert_eq!(world.peer_state(peer), PeerState::Ended);
    assert_eq!(world.open_connections(0), 0);
}

/// Two shards of one world pass a ball. A scheduler that runs only runnable shards notices a wake that was not sent.
fn pass_the_ball(seed: u64, forget_wakes: bool) -> bool {
    let logs = Logs::new(2, SEGMENT_BYTES).unwrap();
    let world = World::new(seed, SimOptions { spurious_wake: 0, ..SimOptions::rough() }, &logs);
    let mut sims = [world.sim(0), world.sim(1)];
    let mut pools = [RecvPool::new(8, 64), RecvPool::new(8, 64)];
    let (mut ball, mut passes) = (0, 0);
    for _ in 0..2000 {
        let runnable: Vec<u8> = (0..2).filter(|&shard| world.runnable(shard)).collect();
        if runnable.is_empty() {
            return false;
        }
        let shard = runnable[world.random(runnable.len() as u64) as usize] as usize;
        if ball == shard {
            ball = 1 - shard;
            passes += 1;
            if passes == 100 {
                return true;
            }
            if !(forget_wakes && passes == 50) {
                sims[shard].wake(ball as u8);
            }
        }
        sims[shard].enter(WAIT, &mut pools[shard], &mut Vec::new()).unwrap();
    }
    false
}

#[test]
fn wakes_run_between_shards_and_a_lost_one_is_noticed() {
    for seed in seeds().take(200) {
        assert!(pass_the_ball(seed, false), "{REPLAY} (seed {seed})");
    }
    assert!(seeds().take(200).any(|seed| !pass_the_ball(seed, true)));
}

#[test]
fn connections_land_on_chosen_or_random_shards() {
    let logs = Logs::new(3, SEGMENT_BYTES).unwrap();
    let world = World::new(5, SimOptions::calm(), &logs);
    let mut sims = [world.sim(0), world.sim(1), world.sim(2)];
    let shared = sims[0].listen(address()).unwrap();
    sims[1].listen(shared).unwrap();
    let own = sims[2].listen(address()).unwrap();
    assert_ne!(shared.port(), own.port());
    assert_eq!(world.peer_shard(world.connect_on(1)), 1);
    assert_eq!(world.peer_shard(world.connect_to(own)), 2);
    let landed: HashSet<u8> = (0..100).map(|_| world.peer_shard(world.connect_to(shared))).collect();
    assert_eq!(landed, HashSet::from([0, 1]));
}

#[test]
fn handles_wake_and_deadlines_let_time_pass() {
    let logs = Logs::new(1, SEGMENT_BYTES).unwrap();
    let mut sim = Sim::new(3, SimOptions::calm(), &logs);
    let world = sim.world();
    let mut pool = RecvPool::new(8, 64);
    let mut seen = Vec::new();
    let deadline_us = world.now_us() + 50_000;
    sim.enter(Wait { deadline_us, ..WAIT }, &mut pool, &mut seen).unwrap();
    assert!(seen.is_empty() && !world.runnable(0));
    assert!(world.advance_to_next_deadline());
    assert!(world.now_us() >= deadline_us && world.runnable(0));
    sim.enter(WAIT, &mut pool, &mut seen).unwrap();
    let handle = sim.wake_handle();
    std::thread::spawn(move || handle.wake()).join().unwrap();
    assert!(world.runnable(0));
    sim.enter(WAIT, &mut pool, &mut seen).unwrap();
    assert_eq!(seen, [Completion::Woken]);
}
