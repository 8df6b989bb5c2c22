//! What the world does to the house. Each scenario is one way to be unlucky, exaggerated.

use crate::simulation::client::Client;
use crate::simulation::house::{House, Tally};
use crate::simulation::plan::{Act, Plan};
use crate::simulation::requests::Carrier;
use fanfare_engine::{CloseReason, SlowPolicy};
use std::time::Duration;

/// A house that plays its plan to the end.
pub(crate) fn play(plan: Plan) -> Tally {
    let mut house = House::new(plan);
    house.play();
    house.finish()
}

// -- sends ------------------------------------------------------------------------------------------------------------

/// Every socket takes the same few bytes at once: over the seeds, every length from 1 to 400.
pub(crate) fn short_sends_of_every_length(seed: u64) -> Tally {
    play(sends_cut_at_every_length(seed))
}

pub(crate) fn sends_cut_at_every_length(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed);
    let bytes = 1 + (seed % 400) as u32;
    plan.world.send_buffer_bytes = bytes..=bytes;
    plan.world.short_send = 100;
    plan
}

pub(crate) fn full_sockets_then_room(seed: u64) -> Tally {
    let mut plan = Plan::calm(seed).also(2, Act::Stall).also(3, Act::Resume);
    plan.world.would_block = 500;
    plan.world.send_buffer_bytes = 1..=600;
    plan.gulp = 300;
    play(plan)
}

pub(crate) fn sends_from_the_logs_pages(seed: u64) -> Tally {
    let mut plan = Plan::calm(seed).also(1, Act::Stall).also(2, Act::Resume).churn();
    plan.limits.send_file_bytes_min = 100;
    plan.limits.outbox_soft_bytes = 500;
    plan.world.send_buffer_bytes = 20..=2_000;
    plan.world.short_send = 200;
    plan.world.late_completion = 200;
    plan.bytes = 600;
    play(plan)
}

pub(crate) fn loans_that_fail(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).also(1, Act::Stall).also(2, Act::Resume).churn();
    plan.limits.send_file_bytes_min = 50;
    plan.limits.outbox_soft_bytes = 300;
    plan.limits.lent_fds_max = 2;
    plan.world.lend_fails = 500;
    plan.world.send_buffer_bytes = 20..=2_000;
    play(plan)
}

/// A back end that sends from our memory until the peer has read.
pub(crate) fn memory_released_when_read(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).also(1, Act::Stall).also(2, Act::Resume).churn();
    if seed.is_multiple_of(4) {
        // Answers only, so many that their log goes round.
        plan = much_said(seed).only(&[(8, Act::Ask("Echo")), (2, Act::Stall), (2, Act::Resume)]);
        plan.endpoint.message_bytes_max = 200_000;
        plan.buffers = (16, 2_048);
        plan.steps = 500;
        // Whoever does not read pins what this back end may have to send again: the log may be full for an answer.
        plan.reasons = &[CloseReason::SlowClient, CloseReason::Overload];
    }
    plan.world.release_when_read = true;
    plan.limits.send_file_bytes_min = 0;
    play(plan)
}

// -- what the ring does -----------------------------------------------------------------------------------------------

pub(crate) fn empty_receive_pools(seed: u64) -> Tally {
    let mut plan = Plan::calm(seed).shards(2);
    plan.world.no_buffers = 300;
    plan.buffers = (2, 64);
    play(plan)
}

pub(crate) fn completions_in_any_order(seed: u64) -> Tally {
    let mut plan = Plan::calm(seed).shards(2).churn();
    plan.world.shuffle = 1000;
    plan.world.late_completion = 500;
    plan.world.late_after_close = 500;
    plan.world.late_arrival = 300;
    play(plan)
}

pub(crate) fn polls_that_end(seed: u64) -> Tally {
    let mut plan = Plan::calm(seed).churn();
    plan.world.poll_ends = 600;
    plan.world.spurious_readable = 300;
    plan.world.late_completion = 200;
    plan.world.arrival_bytes = 1..=200;
    play(plan)
}

pub(crate) fn full_tables_and_accepts_that_end(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).slots(3).churn().also(4, Act::Arrive).also(1, Act::Pause(120));
    plan.world.accept_ends = 500;
    plan.clients = 6;
    play(plan)
}

pub(crate) fn overflows_of_the_completion_queue(seed: u64) -> Tally {
    let mut plan = Plan::calm(seed).shards(2).churn();
    plan.world.overflow = 300;
    plan.world.arrival_bytes = 1..=300;
    play(plan)
}

/// Whoever leaves is replaced at once, in the lowest free slot: whatever comes late for one tenant meets the next.
/// (A full table would not do: after it the shard accepts nobody for a while.)
pub(crate) fn late_completions_meet_the_next_tenant(seed: u64) -> Tally {
    play(slots_that_change_hands(seed))
}

pub(crate) fn slots_that_change_hands(seed: u64) -> Plan {
    let mut plan = Plan::rough(seed).slots(15).churn();
    plan = plan.also(30, Act::SayAll).also(26, Act::Arrive).also(12, Act::Reset).also(4, Act::Abort);
    plan.world.late_after_close = 980;
    plan.world.late_completion = 700;
    plan.world.late_arrival = 50;
    plan.world.accept_ends = 0;
    plan.world.poll_ends = 300;
    plan.world.spurious_readable = 500;
    plan.world.send_buffer_bytes = 100..=2_000;
    plan.clients_max = 80;
    plan.clients = 6;
    plan.steps = 400;
    plan
}

pub(crate) fn closes_with_polls_armed(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).churn().also(3, Act::Stall).also(2, Act::Resume).also(3, Act::Abort);
    plan.world.send_buffer_bytes = 1..=200;
    plan.clients_max = 40;
    play(plan)
}

// -- clients ----------------------------------------------------------------------------------------------------------

/// Some never read: they are closed, and the others hear everything.
pub(crate) fn readers_that_never_read(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(2).also(3, Act::Stall).also(8, Act::SayAll).also(2, Act::Arrive);
    plan.world.send_buffer_bytes = 50..=1_000;
    plan.limits.outbox_bytes_max = 4_000;
    plan.limits.outbox_soft_bytes = 1_500;
    plan.limits.outbox_runs_max = 30;
    plan.limits.send_file_bytes_min = 0;
    plan.bytes = 900;
    plan.reasons = &[CloseReason::SlowClient];
    play(plan)
}

pub(crate) fn readers_too_long_behind(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).also(3, Act::Stall).also(1, Act::Resume).also(2, Act::Pause(700));
    plan.world.send_buffer_bytes = 50..=500;
    plan.limits.outbox_age_max_ms = 1_000;
    plan.reasons = &[CloseReason::SlowClient];
    play(plan)
}

/// A reader that was late and still owes some reading is heard again as soon as it owes little, long before it owes
/// nothing; what it said in between does not cost it its place.
pub(crate) fn late_readers_are_heard_before_they_have_caught_up(seed: u64) -> Tally {
    let mut plan = Plan::calm(seed).only(&[(1, Act::PingHub)]);
    plan.clients = 2;
    plan.world.send_buffer_bytes = 400..=400;
    plan.world.short_send = 0;
    plan.limits.outbox_soft_bytes = 2_000;
    plan.limits.send_file_bytes_min = 0;
    (plan.bytes_min, plan.bytes) = (300, 301);
    let mut house = House::new(plan);
    house.settle();
    house.talk(0, Act::PingHub);
    house.settle();
    house.stall(0, true);
    for _ in 0..12 {
        house.talk(1, Act::SayAll);
    }
    house.settle();
    // Late by now, and not read from: what it says waits.
    house.talk(0, Act::PingHub);
    house.settle();
    let peer = house.clients[0].peer;
    assert!(!house.world.peer_drained(peer), "it owes {} bytes and is heard", house.owed_bytes());
    // It reads on, not to the end, and stalls again.
    house.stall(0, false);
    while house.owed_bytes() > 900 {
        house.read(0);
        house.turn(0);
    }
    house.stall(0, true);
    house.settle();
    assert!(house.owed_bytes() > 0, "it has caught up: this run shows nothing");
    assert!(house.world.peer_drained(peer), "it owes {} bytes and is not heard", house.owed_bytes());
    house.finish()
}

/// Some read at once, and hear everything; some do not read for long, and lose what their path's policy says. Nobody is
/// closed for it.
pub(crate) fn the_oldest_is_dropped(seed: u64) -> Tally {
    play(behind(seed, SlowPolicy::DropOldest))
}

pub(crate) fn the_latest_is_kept(seed: u64) -> Tally {
    play(behind(seed, SlowPolicy::KeepLatest))
}

pub(crate) fn behind(seed: u64, policy: SlowPolicy) -> Plan {
    let mut plan = Plan::calm(seed).shards(1 + (seed % 3) as usize / 2);
    plan = plan.also(40, Act::Flood(6)).also(3, Act::Stall).also(1, Act::Resume).also(2, Act::Arrive);
    plan = plan.also(1, Act::Vanish).also(1, Act::Goodbye);
    plan.endpoint.slow_policy = policy;
    plan.attentive = true;
    // Much more than is said in one turn.
    plan.world.send_buffer_bytes = 40_000..=40_000;
    plan.buffers = (16, 128);
    plan.clients_max = 10;
    plan.limits.outbox_bytes_max = 5_000 + (seed % 7) as usize * 1_000;
    plan.limits.outbox_messages_max = if seed.is_multiple_of(2) { 12 } else { 1_000 };
    // In half of the runs from the log's pages.
    plan.limits.outbox_soft_bytes = 1_500;
    plan.limits.send_file_bytes_min = if seed % 4 < 2 { 0 } else { 400 };
    (plan.bytes_min, plan.bytes) = (100, 500);
    plan.steps = 1_200;
    plan
}

/// Every socket is full again and again, in the middle of any message, and polls come when they like.
pub(crate) fn messages_are_dropped_in_a_rough_world(seed: u64) -> Tally {
    play(dropped_anywhere(seed))
}

pub(crate) fn dropped_anywhere(seed: u64) -> Plan {
    let mut plan = Plan::rough(seed).shards(1 + (seed % 2) as usize).churn().downs().questions();
    plan = plan.also(6, Act::Flood(4)).also(2, Act::Stall).also(2, Act::Resume).also(1, Act::Ask("Soon"));
    if seed.is_multiple_of(3) {
        plan = without_websockets(plan);
    }
    let policies = [SlowPolicy::DropOldest, SlowPolicy::KeepLatest];
    plan.endpoint.slow_policy = policies[seed as usize / 2 % 2];
    plan.endpoint.streams_max = u16::MAX;
    plan.world.send_buffer_bytes = 20..=700;
    plan.limits.stream_items_max = 4;
    plan.limits.outbox_bytes_max = 2_500;
    plan.limits.outbox_messages_max = 4 + (seed % 20) as usize;
    plan.limits.outbox_soft_bytes = 700;
    plan.limits.send_file_bytes_min = if seed.is_multiple_of(4) { 0 } else { 200 };
    plan.bytes = 300;
    plan.steps = 600;
    // What may not be dropped still has its bound.
    plan.reasons = &[CloseReason::SlowClient];
    plan
}

/// Large messages, in pieces over several segments: dropped whole or heard whole.
pub(crate) fn large_messages_are_dropped_whole(seed: u64) -> Tally {
    let mut plan = Plan::calm(seed);
    plan = plan.only(&[(8, Act::Flood(2)), (2, Act::Stall), (2, Act::Resume), (10, Act::PingHub)]);
    plan.endpoint.slow_policy = [SlowPolicy::DropOldest, SlowPolicy::KeepLatest][seed as usize % 2];
    plan.world.send_buffer_bytes = 30_000..=400_000;
    plan.world.short_send = 300;
    plan.limits.log_bytes_max = 32 << 20;
    plan.limits.outbox_bytes_max = 1_500_000;
    plan.limits.send_file_bytes_min = if seed % 4 < 2 { 0 } else { 16 << 10 };
    plan.clients = 3;
    plan.steps = 120;
    (plan.bytes_min, plan.bytes) = (50_000, 400_000);
    plan.gulp = 500_000;
    plan.reasons = &[CloseReason::SlowClient];
    play(plan)
}

/// What all clients together may owe is far less than what each may: whoever owes most loses first.
pub(crate) fn all_clients_together_owe_too_much(seed: u64) -> Tally {
    let policies = [SlowPolicy::Disconnect, SlowPolicy::DropOldest, SlowPolicy::KeepLatest];
    let mut plan = behind(seed, policies[seed as usize % 3]).also(1, Act::Pause(120));
    plan.limits.outbox_bytes_max = 1 << 20;
    plan.limits.outbox_messages_max = 4_000;
    plan.limits.outbox_total_bytes_max = 6_000;
    plan.reasons = &[CloseReason::SlowClient];
    play(plan)
}

pub(crate) fn resets_in_mid_frame(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(2).also(6, Act::Reset).also(2, Act::Vanish).also(9, Act::Arrive);
    plan.world.arrival_bytes = 1..=40;
    plan.gulp = 60;
    plan.clients_max = 40;
    play(plan)
}

pub(crate) fn half_closes_and_goodbyes(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed);
    plan = plan.also(3, Act::HalfClose).also(3, Act::Goodbye).also(3, Act::CloseSocket).also(9, Act::Arrive);
    plan.clients_max = 40;
    play(plan)
}

pub(crate) fn input_one_byte_at_a_time(seed: u64) -> Tally {
    let mut plan = Plan::calm(seed);
    plan.world.arrival_bytes = 1..=1;
    plan.buffers = (16, 16);
    plan.clients = 2;
    plan.steps = 60;
    plan.bytes = 40;
    play(plan)
}

pub(crate) fn large_messages_both_ways(seed: u64) -> Tally {
    play(large_messages(seed))
}

fn large_messages(seed: u64) -> Plan {
    let mut plan = Plan::rough(seed).shards(2).only(&[(3, Act::SayAll), (2, Act::Ask("Echo")), (30, Act::PingHub)]);
    plan.world.arrival_bytes = 1..=60_000;
    plan.world.send_buffer_bytes = 2_000..=60_000;
    plan.world.cut_receive = 50;
    plan.endpoint.message_bytes_max = 300_000;
    plan.limits.log_bytes_max = 16 << 20;
    plan.limits.outbox_bytes_max = 8 << 20;
    plan.buffers = (16, 2_048);
    plan.clients = 2;
    plan.steps = 60;
    plan.bytes = 140_000;
    plan.gulp = 100_000;
    plan
}

pub(crate) fn silent_clients_time_out(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(2).also(3, Act::PingHub).also(1, Act::Pause(400)).also(1, Act::Arrive);
    plan.endpoint.keep_alive_ms = 500;
    plan.endpoint.client_timeout_ms = 1_000;
    plan.steps = 200;
    plan.reasons = &[CloseReason::PingTimeout];
    play(plan)
}

/// The host stands still, or has no time for us, and clients go on: they have said in time that they live, and are heard
/// before anybody is judged.
pub(crate) fn a_server_that_was_away_ends_nobody(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(1 + (seed % 2) as usize);
    plan.endpoint.keep_alive_ms = 1_000;
    plan.endpoint.client_timeout_ms = 6_000;
    plan.limits.outbox_age_max_ms = 6_000;
    plan.steps = 60;
    let mut house = House::new(plan);
    house.settle();
    house.everybody_lives();
    house.settle();
    for _ in 0..3 {
        house.stand_still(9);
        house.pass(4_000_000);
        house.play();
        house.everybody_lives();
        house.settle();
    }
    house.finish()
}

/// A client says that it lives when we would soon have to say the same: both at once, and once.
pub(crate) fn pings_meet(seed: u64) -> Tally {
    let mut plan = Plan::calm(seed).shards(1 + (seed % 3) as usize);
    plan.endpoint.keep_alive_ms = 2_000;
    let clients = u64::from(plan.clients);
    let mut house = House::new(plan);
    house.settle();
    let pings = |house: &House| house.handle.metrics().total().pings_sent_total;
    for (pause_us, expected) in
        [(500_000, 0), (900_000, clients), (0, clients), (600_000, clients), (900_000, 2 * clients)]
    {
        house.pass(pause_us);
        house.everybody_lives();
        house.settle();
        assert_eq!(pings(&house), expected);
    }
    house.finish()
}

pub(crate) fn handshakes_that_never_come(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).also(2, Act::ArriveMute).also(1, Act::Pause(300)).also(1, Act::Arrive);
    plan.endpoint.handshake_timeout_ms = 1_000;
    plan.limits.head_timeout_ms = 700;
    plan.reasons = &[CloseReason::HandshakeTimeout, CloseReason::HttpTimeout];
    play(plan)
}

/// Events, polls and POSTs, on sockets that lead to any shard: some of them have to move.
pub(crate) fn requests_that_land_anywhere(seed: u64) -> Tally {
    let mut plan = without_websockets(Plan::calm(seed).shards(1 + (seed % 3) as usize));
    plan.clients = 5;
    play(plan)
}

/// The same when everything goes wrong, with people who come and go and do not read.
pub(crate) fn requests_in_a_rough_world(seed: u64) -> Tally {
    let mut plan = without_websockets(Plan::rough(seed).shards(1 + (seed % 3) as usize).churn());
    plan = plan.also(1, Act::Stall).also(2, Act::Resume).also(2, Act::Ask("Soon")).also(1, Act::ArriveMute);
    plan.endpoint.handshake_timeout_ms = 1_500;
    plan.endpoint.poll_timeout_ms = 700;
    plan.limits.held_bytes_max = 400;
    plan.limits.outbox_soft_bytes = 2_000;
    plan.reasons = &[CloseReason::HandshakeTimeout, CloseReason::HttpTimeout];
    play(plan)
}

/// What one client says in one go is one answer to each poll, however long the server reads at it and wherever the poll
/// waits.
pub(crate) fn bursts_are_one_answer_to_a_poll(seed: u64) -> Tally {
    const BURST: usize = 16;
    let mut plan = Plan::calm(seed).shards(1 + (seed % 3) as usize).slots(60);
    plan.clients = 0;
    // More reads than broadcasts wait for.
    plan.buffers = (16, 64);
    (plan.bytes_min, plan.bytes, plan.gulp) = (700, 900, 1 << 20);
    let mut house = House::new(plan);
    house.arrive();
    house.plan.requests = 1_000;
    (0..6).for_each(|_| house.arrive());
    house.settle();
    let answers = |house: &House| -> Vec<u32> {
        let polls = house.clients.iter().filter_map(|client| client.requests.as_ref());
        polls.filter(|requests| requests.carrier == Carrier::Polls).map(|requests| requests.answers).collect()
    };
    for _ in 0..3 {
        let before = answers(&house);
        (0..BURST).for_each(|_| house.talk(0, Act::SayAll));
        house.settle();
        let after = answers(&house);
        let new: Vec<u32> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
        assert!(new.iter().all(|&answers| answers == 1), "answers to a burst: {new:?}");
    }
    house.finish()
}

fn without_websockets(mut plan: Plan) -> Plan {
    plan.requests = 700;
    plan.endpoint.disconnect_timeout_ms = 1_500;
    plan.slots(60)
}

// -- the hub ----------------------------------------------------------------------------------------------------------

pub(crate) fn groups_change_during_broadcasts(seed: u64) -> Tally {
    let plan = Plan::rough(seed).shards(2).also(12, Act::Join).also(12, Act::Leave).also(6, Act::SayAny).churn();
    play(plan)
}

pub(crate) fn users_connections_and_exceptions(seed: u64) -> Tally {
    play(Plan::rough(seed).shards(3).only(&[(20, Act::SayAny), (4, Act::Join)]).churn())
}

pub(crate) fn both_formats(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(2).churn();
    plan.binary = 500;
    plan.clients = 6;
    plan.bytes = 700;
    play(plan)
}

pub(crate) fn compressed_in_a_calm_world(seed: u64) -> Tally {
    play(compressed(Plan::calm(seed)))
}

pub(crate) fn compressed_in_a_rough_world(seed: u64) -> Tally {
    let mut plan = compressed(without_websockets(Plan::rough(seed).shards(2).churn()));
    plan.requests = 200;
    plan.clients = 6;
    plan.limits.held_bytes_max = 400;
    if seed.is_multiple_of(4) {
        // So much in one message that what is behind it waits for a turn.
        plan.bytes = 60_000;
        plan.bytes_min = 20_000;
        plan.endpoint.message_bytes_max = 200_000;
        plan.world.arrival_bytes = 1..=20_000;
        plan.world.send_buffer_bytes = 2_000..=60_000;
        plan.world.cut_receive = 50;
        plan.limits.log_bytes_max = 16 << 20;
        plan.limits.outbox_bytes_max = 8 << 20;
        plan.buffers = (16, 2_048);
        plan.steps = 150;
        plan.gulp = 6_000;
        plan = plan.also(30, Act::PingHub).also(10, Act::Ask("Echo"));
    }
    play(plan)
}

/// Most clients speak and listen with compression, the others among them without; messages above and below the length
/// from which it is used.
fn compressed(mut plan: Plan) -> Plan {
    plan.endpoint.compression = true;
    plan.deflate = 600;
    plan.bytes = 1_200;
    plan
}

pub(crate) fn answers_that_come_later(seed: u64) -> Tally {
    let plan = Plan::rough(seed).shards(2).also(6, Act::Ask("Later")).also(3, Act::Ask("Soon")).also(9, Act::Answer);
    let mut plan = plan.churn();
    plan.limits.held_bytes_max = 400;
    plan.endpoint.parallel_invocations_max = 1;
    play(plan)
}

// -- streams and questions --------------------------------------------------------------------------------------------

/// Fed from the shard at once, at the client's pace, by the clock, and from outside; cancelled at any time.
pub(crate) fn streams_to_clients_and_cancels(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(2).downs().also(2, Act::Ask("Later")).also(2, Act::Answer);
    plan.endpoint.streams_max = u16::MAX;
    plan.world.send_buffer_bytes = 20..=2_000;
    plan.steps = 900;
    play(plan)
}

/// What is sent from outside waits for whoever does not read, and nobody is closed for it.
pub(crate) fn streams_to_clients_that_stall(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).downs().also(24, Act::Feed).also(2, Act::Stall).also(1, Act::Resume);
    plan.endpoint.streams_max = u16::MAX;
    plan.limits.stream_items_max = 3;
    plan.limits.outbox_soft_bytes = 600;
    plan.world.send_buffer_bytes = 20..=200;
    plan.steps = 900;
    play(plan)
}

pub(crate) fn streams_of_clients(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(2).ups().also(2, Act::Ask("Later")).also(2, Act::Answer);
    plan.endpoint.upload_streams_max = u16::MAX;
    plan.world.arrival_bytes = 1..=300;
    plan.steps = 900;
    play(plan)
}

/// Connections are not read from until somebody fetches, and then every item is there.
pub(crate) fn streams_of_clients_that_nobody_fetches(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).also(6, Act::BeginUp).also(40, Act::GoOnUp).also(1, Act::Fetch);
    plan.endpoint.upload_streams_max = u16::MAX;
    plan.endpoint.stream_buffer_items = 1 + (seed % 10) as u16;
    plan.limits.held_bytes_max = 200 + (seed % 7) as usize * 100;
    plan.buffers = (16, 128);
    plan.steps = 900;
    play(plan)
}

pub(crate) fn questions_across_shards(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(3).questions().also(1, Act::Pause(200));
    plan.steps = 600;
    play(plan)
}

pub(crate) fn streams_and_questions_while_people_come_and_go(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(3).downs().ups().questions().churn();
    plan = plan.also(4, Act::Arrive).also(2, Act::Stall).also(3, Act::Resume).also(1, Act::Pause(150));
    // Refusals have no part in this: their bounds have tests of their own.
    (plan.endpoint.streams_max, plan.endpoint.upload_streams_max) = (u16::MAX, u16::MAX);
    plan.limits.stream_items_max = 5;
    plan.limits.outbox_soft_bytes = 1_000;
    plan.world.send_buffer_bytes = 20..=1_000;
    plan.steps = 1_200;
    plan.clients = 6;
    plan.clients_max = 40;
    play(plan)
}

pub(crate) fn methods_at_the_clients_pace(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).also(5, Act::Pace(6)).also(2, Act::Stall).also(3, Act::Resume).churn();
    plan.world.send_buffer_bytes = 20..=400;
    play(plan)
}

/// WebSockets are cut at any byte, and their connections go on: nothing is lost, nothing comes twice.
pub(crate) fn lost_websockets_are_resumed(seed: u64) -> Tally {
    play(resumable(Plan::rough(seed).shards(1 + (seed % 3) as usize)))
}

pub(crate) fn streams_and_questions_are_resumed(seed: u64) -> Tally {
    let mut plan = resumable(Plan::rough(seed).shards(1 + (seed % 3) as usize).downs().ups().questions());
    (plan.endpoint.streams_max, plan.endpoint.upload_streams_max) = (u16::MAX, u16::MAX);
    play(plan)
}

fn resumable(plan: Plan) -> Plan {
    let mut plan = plan.also(6, Act::Cut).also(1, Act::Stall).also(2, Act::Resume).slots(60);
    plan.resumable = 800;
    // A hand-over that fails turns a client away that has done nothing wrong.
    plan.world.hand_over_fails = 0;
    plan.endpoint.resumable = true;
    plan.endpoint.resume_bytes_max = 600;
    plan.endpoint.disconnect_timeout_ms = 1_500;
    plan
}

/// Streams both ways and questions, on events, polls and POSTs.
pub(crate) fn streams_and_questions_over_requests(seed: u64) -> Tally {
    let plan = Plan::rough(seed).shards(1 + (seed % 3) as usize).downs().ups().questions();
    let mut plan = without_websockets(plan);
    // A POST may meet the end of its socket, which has been idle for long enough; clients send it again.
    plan.limits.head_timeout_ms = 600_000;
    (plan.endpoint.streams_max, plan.endpoint.upload_streams_max) = (u16::MAX, u16::MAX);
    play(plan)
}

// -- TLS --------------------------------------------------------------------------------------------------------------

pub(crate) fn tls_in_a_calm_world(seed: u64) -> Tally {
    play(Plan::calm(seed).shards(1 + (seed % 2) as usize).tls(600))
}

/// Sockets take the same few bytes at once: a record is cut anywhere, and its rest goes before anything else.
pub(crate) fn tls_records_cut_at_every_length(seed: u64) -> Tally {
    play(records_cut_at_every_length(seed))
}

pub(crate) fn records_cut_at_every_length(seed: u64) -> Plan {
    sends_cut_at_every_length(seed).tls(1000)
}

pub(crate) fn tls_resets_in_mid_record(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(2).also(6, Act::Reset).also(2, Act::Vanish).also(9, Act::Arrive);
    plan.world.arrival_bytes = 1..=200;
    plan.gulp = 400;
    plan.clients_max = 30;
    play(plan.tls(1000))
}

/// Sockets move with their keys, with a record that has come in part, and with tickets that wait to be sent.
pub(crate) fn tls_requests_that_land_anywhere(seed: u64) -> Tally {
    let mut plan = match seed % 2 {
        0 => without_websockets(Plan::calm(seed)),
        _ => without_websockets(Plan::rough(seed).churn().also(1, Act::Stall).also(2, Act::Resume)),
    };
    plan.clients = 5;
    play(plan.shards(2 + (seed % 2) as usize).tls(800))
}

pub(crate) fn tls_in_a_rough_world(seed: u64) -> Tally {
    let plan = Plan::rough(seed).shards(1 + (seed % 3) as usize).churn();
    play(plan.also(2, Act::Stall).also(3, Act::Resume).tls(700))
}

pub(crate) fn tls_large_messages_both_ways(seed: u64) -> Tally {
    play(large_messages(seed).tls(700))
}

/// What has been encrypted and waits for its socket is not dropped: it is a message that has begun.
pub(crate) fn tls_readers_lose_messages(seed: u64) -> Tally {
    play(dropped_anywhere(seed).tls(800))
}

pub(crate) fn tls_websockets_are_resumed(seed: u64) -> Tally {
    play(resumable(Plan::rough(seed).shards(1 + (seed % 3) as usize)).tls(800))
}

pub(crate) fn tls_handshakes_that_stall(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).also(6, Act::ArriveMute).also(3, Act::Arrive).also(2, Act::Pause(500));
    plan.limits.head_timeout_ms = 1_500;
    plan.endpoint.handshake_timeout_ms = 1_500;
    plan.clients_max = 20;
    plan.reasons = &[CloseReason::HandshakeTimeout, CloseReason::HttpTimeout];
    play(plan.tls(900))
}

pub(crate) fn tls_and_a_drain_in_the_middle(seed: u64) -> Tally {
    drain(Plan::rough(seed).shards(2).churn().tls(700))
}

// -- shards -----------------------------------------------------------------------------------------------------------

/// A shard is turned only when the simulated kernel would wake it.
pub(crate) fn shards_sleep_and_are_woken(seed: u64) -> Tally {
    play(shards_that_sleep(seed))
}

pub(crate) fn shards_that_sleep(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed).shards(3).also(2, Act::Publish).also(1, Act::Pause(1));
    plan.clients = 6;
    plan
}

pub(crate) fn wakes_without_reason(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(4).also(2, Act::Publish);
    plan.world.spurious_wake = 400;
    plan.clients = 6;
    play(plan)
}

/// More notes in one call than the rings between shards hold.
pub(crate) fn full_rings_between_shards(seed: u64) -> Tally {
    let mut plan = Plan::calm(seed).shards(2 + (seed % 2) as usize);
    plan.clients = 3;
    plan.steps = 60;
    plan.bytes = 20;
    plan.limits.outbox_bytes_max = 8 << 20;
    let mut house = House::new(plan);
    house.settle();
    house.play();
    house.talk(0, Act::Flood(1_100));
    house.play();
    house.finish()
}

pub(crate) fn full_mailboxes(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(2).also(30, Act::Publish);
    plan.limits.commands_max = 3;
    play(plan)
}

// -- the log ----------------------------------------------------------------------------------------------------------

/// A small log, large messages, and now and then somebody who stops reading for a while.
pub(crate) fn much_said(seed: u64) -> Plan {
    let mut plan = Plan::calm(seed).shards(1 + (seed % 2) as usize);
    plan = plan.only(&[(8, Act::Flood(4)), (2, Act::Stall), (1, Act::Resume), (10, Act::PingHub)]);
    // In a quarter of the runs the kernel takes everything: then it is all that still needs the log's pages.
    let roomy = seed % 4 == 1;
    plan.world.send_buffer_bytes = if roomy { 4 << 20..=4 << 20 } else { 1_000..=70_000 };
    plan.world.short_send = if roomy { 0 } else { 200 };
    plan.limits.outbox_bytes_max = 8 << 20;
    // Half of the runs without the log's pages, which the kernel keeps by itself.
    plan.limits.send_file_bytes_min = if seed.is_multiple_of(2) { 0 } else { 16 << 10 };
    plan.clients = 3;
    plan.steps = 150;
    plan.bytes_min = 30_000;
    plan.bytes = 62_000;
    plan.gulp = 200_000;
    plan.reasons = &[CloseReason::SlowClient];
    plan
}

/// Slow readers hold segments while the log goes round.
pub(crate) fn the_log_goes_round_under_its_readers(seed: u64) -> Tally {
    play(much_said(seed))
}

/// Those who never read cannot stop the log: one after the other is given up, and the others are served.
pub(crate) fn a_full_log_evicts_its_slowest_readers(seed: u64) -> Tally {
    let mut plan = much_said(seed);
    plan.clients_max = 10;
    let mut house = House::new(plan);
    house.settle();
    for round in 0..12 {
        if house.rng.chance(600) {
            house.act(Act::Stall);
            house.arrive();
        }
        // One publisher, so that one shard's log fills up; whoever speaks first may be closed as slow like anybody.
        if let Some(publisher) = house.clients.iter().position(Client::can_speak) {
            house.talk(publisher, Act::Flood(3));
        }
        house.settle();
        assert_eq!(house.books.open().failed_total, 0, "the log is full in round {round}");
    }
    house.finish()
}

// -- the end ----------------------------------------------------------------------------------------------------------

pub(crate) fn a_drain_in_the_middle(seed: u64) -> Tally {
    drain(Plan::rough(seed).shards(2).churn().also(2, Act::Stall))
}

/// The same of clients that ask again and again.
pub(crate) fn a_drain_of_requests(seed: u64) -> Tally {
    drain(without_websockets(Plan::rough(seed).shards(2).churn().also(2, Act::Stall)))
}

fn drain(mut plan: Plan) -> Tally {
    let seed = plan.seed;
    plan.steps = 150;
    plan.limits.drain_rate = 20;
    let mut house = House::new(plan);
    house.play();
    house.ending = true;
    house.handle.begin_drain(Duration::from_millis(200 + seed % 3_000));
    house.play();
    house.finish_stopped()
}

pub(crate) fn a_stop_in_the_middle(seed: u64) -> Tally {
    stop(Plan::rough(seed).shards(3).churn().also(2, Act::Stall).also(2, Act::Ask("Later")))
}

/// The same of clients that ask again and again, some of whose sockets are on their way to another shard.
pub(crate) fn a_stop_of_requests(seed: u64) -> Tally {
    stop(without_websockets(Plan::rough(seed).shards(3).churn().also(2, Act::Stall).also(2, Act::Ask("Later"))))
}

fn stop(mut plan: Plan) -> Tally {
    let seed = plan.seed;
    plan.steps = 20 + (seed % 200) as u32;
    let mut house = House::new(plan);
    house.play();
    house.ending = true;
    house.handle.begin_stop();
    house.play();
    house.finish_stopped()
}

/// Whoever feeds, fetches or waits for a stream or an answer is told, and nothing is kept for anybody.
pub(crate) fn a_stop_in_the_middle_of_streams(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(3).downs().ups().questions().churn().also(2, Act::Stall);
    (plan.endpoint.streams_max, plan.endpoint.upload_streams_max) = (u16::MAX, u16::MAX);
    plan.steps = 100 + (seed % 900) as u32;
    let mut house = House::new(plan);
    house.play();
    house.ending = true;
    match seed % 2 {
        0 => house.handle.begin_stop(),
        _ => house.handle.begin_drain(Duration::from_millis(200 + seed % 3_000)),
    }
    house.play();
    house.finish_stopped()
}

// -- everything -------------------------------------------------------------------------------------------------------

pub(crate) fn everything_at_once(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(3).slots(5).churn();
    for act in [Act::Ask("Later"), Act::Ask("Soon"), Act::Answer, Act::Pace(4), Act::Publish, Act::Flood(20)] {
        plan = plan.also(2, act);
    }
    plan = plan.also(2, Act::Stall).also(2, Act::Resume).also(1, Act::ArriveMute).also(1, Act::Pause(150));
    plan.limits.send_file_bytes_min = 300;
    plan.limits.outbox_soft_bytes = 600;
    plan.limits.outbox_bytes_max = 9_000;
    // With the sweep this is less than what a run waits for those who wait for a slot.
    plan.limits.outbox_age_max_ms = 1_000;
    plan.endpoint.keep_alive_ms = 700;
    plan.endpoint.client_timeout_ms = 2_000;
    plan.endpoint.handshake_timeout_ms = 1_500;
    plan.limits.head_timeout_ms = 1_500;
    plan.bytes = 500;
    plan.clients = 8;
    plan.clients_max = 40;
    plan.steps = 400;
    plan.reasons =
        &[CloseReason::SlowClient, CloseReason::PingTimeout, CloseReason::HandshakeTimeout, CloseReason::HttpTimeout];
    play(plan)
}

// -- who may come in, and how much they may say -----------------------------------------------------------------------

/// Places by user and by address, of which there are too few; and everybody says more than the pace allows.
pub(crate) fn too_few_places_and_too_many_words(seed: u64) -> Tally {
    let mut plan = Plan::rough(seed).shards(2).slots(60).churn().also(3, Act::Arrive);
    plan.requests = 300;
    plan.limits.connections_per_user_max = 5;
    plan.limits.connections_per_address_max = 3;
    plan.limits.connect_rate = 8;
    plan.limits.negotiate_rate = 3;
    plan.limits.handshakes_pending_max = 2;
    plan.limits.uplink_messages_rate = 3;
    plan.limits.uplink_bytes_rate = 3_000;
    // Pings wait like everything else; and whoever polled and went is given up for that, not for its handshake.
    plan.endpoint.client_timeout_ms = 120_000;
    plan.endpoint.handshake_timeout_ms = 120_000;
    play(plan)
}
