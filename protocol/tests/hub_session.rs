//! The session's time rules (spec 6.1): one by one, and against a plain model that never wraps.

mod hub_common;

use fanfare_protocol::hub::Format;
use fanfare_protocol::hub::session::{Phase, Session, TICK_MS, Tick, Timeout, Timing, ticks_from_ms};
use hub_common::Random;

const TIMING: Timing = Timing { handshake_timeout_ticks: 150, keep_alive_ticks: 150, client_timeout_ticks: 300 };

fn open_at(now: Tick) -> Session {
    let mut session = Session::new(now);
    session.handle_handshake_done(Format::Json, now);
    session
}

#[test]
fn defaults_are_those_of_the_reference() {
    assert_eq!(Timing::default(), TIMING);
    assert_eq!((ticks_from_ms(0), ticks_from_ms(1), ticks_from_ms(100), ticks_from_ms(101)), (0, 1, 1, 2));
    assert_eq!(ticks_from_ms(u32::MAX), i16::MAX as u16);
    assert_eq!(Tick::from_ms(65_536 * u64::from(TICK_MS)), Tick(0));
}

/// Every rule is tried at several places of the clock, the wrap among them.
fn at_any_time(test: impl Fn(Tick)) {
    for start in [0, 1, 30_000, 32_767, 32_768, 65_300, 65_400, 65_535] {
        test(Tick(start));
    }
}

#[test]
fn line_085_handshake_in_time_or_not() {
    at_any_time(|start| {
        let mut session = Session::new(start);
        assert_eq!((session.phase(), session.format()), (Phase::ExpectHandshake, None));
        assert_eq!(session.poll_timeout(start.after(149), &TIMING), None);
        assert_eq!(session.poll_timeout(start.after(150), &TIMING), Some(Timeout::HandshakeTimeout));
        session.handle_handshake_done(Format::MessagePack, start.after(149));
        assert_eq!((session.phase(), session.format()), (Phase::Open, Some(Format::MessagePack)));
        assert_eq!(session.poll_timeout(start.after(150), &TIMING), None);
    });
}

#[test]
fn line_108_silence_is_filled_with_pings() {
    at_any_time(|start| {
        let mut session = open_at(start);
        assert_eq!(session.poll_timeout(start.after(149), &TIMING), None);
        for late in [150, 151, 1000] {
            assert_eq!(session.poll_timeout(start.after(late), &TIMING), Some(Timeout::SendPing));
        }
        session.handle_sent(start.after(155));
        assert_eq!(session.poll_timeout(start.after(304), &TIMING), None);
        assert_eq!(session.poll_timeout(start.after(305), &TIMING), Some(Timeout::SendPing));
        // What comes in changes nothing.
        session.handle_message(start.after(304), false);
        assert_eq!(session.poll_timeout(start.after(305), &TIMING), Some(Timeout::SendPing));
    });
}

#[test]
fn a_ping_is_answered_when_ours_would_be_due_soon() {
    at_any_time(|start| {
        let mut session = open_at(start);
        assert!(!session.answers_ping(start.after(74), &TIMING) && session.answers_ping(start.after(75), &TIMING));
        session.handle_sent(start.after(75));
        assert!(!session.answers_ping(start.after(149), &TIMING) && session.answers_ping(start.after(150), &TIMING));
        assert!(!session.answers_ping(start.after(900), &Timing { keep_alive_ticks: 0, ..TIMING }), "long polling");
        session.begin_close(start.after(150), 10);
        assert!(!session.answers_ping(start.after(151), &TIMING));
    });
}

#[test]
fn line_109_a_client_that_pinged_and_fell_silent() {
    at_any_time(|start| {
        let mut session = open_at(start);
        session.handle_message(start.after(10), true);
        session.handle_message(start.after(20), false);
        session.handle_sent(start.after(300));
        assert_eq!(session.poll_timeout(start.after(319), &TIMING), None);
        assert_eq!(session.poll_timeout(start.after(320), &TIMING), Some(Timeout::ClientTimeout));
        // It counts before a ping that is due as well.
        assert_eq!(session.poll_timeout(start.after(900), &TIMING), Some(Timeout::ClientTimeout));
    });
}

#[test]
fn line_110_a_client_that_never_pinged() {
    at_any_time(|start| {
        let mut session = open_at(start);
        session.handle_message(start, false);
        for late in [300, 3_000, 30_000] {
            session.handle_sent(start.after(late));
            assert_eq!(session.poll_timeout(start.after(late), &TIMING), None);
        }
    });
}

#[test]
fn the_client_timeout_stands_still_while_an_invocation_runs() {
    at_any_time(|start| {
        let mut session = open_at(start);
        session.handle_message(start, true);
        session.pause_client_timeout();
        session.pause_client_timeout();
        session.handle_sent(start.after(1_000));
        assert_eq!(session.poll_timeout(start.after(1_000), &TIMING), None);
        session.resume_client_timeout(start.after(1_000));
        assert_eq!(session.poll_timeout(start.after(1_100), &TIMING), None);
        session.resume_client_timeout(start.after(1_100));
        session.handle_sent(start.after(1_399));
        assert_eq!(session.poll_timeout(start.after(1_399), &TIMING), None);
        assert_eq!(session.poll_timeout(start.after(1_400), &TIMING), Some(Timeout::ClientTimeout));
    });
}

#[test]
fn closing_has_one_deadline_and_nothing_else() {
    at_any_time(|start| {
        for opened in [false, true] {
            let mut session = if opened { open_at(start) } else { Session::new(start) };
            session.handle_message(start, true);
            session.begin_close(start.after(10), 50);
            session.begin_close(start.after(40), 50);
            assert_eq!((session.phase(), session.format().is_some()), (Phase::Closing, opened));
            assert_eq!(session.poll_timeout(start.after(59), &TIMING), None);
            assert_eq!(session.poll_timeout(start.after(60), &TIMING), Some(Timeout::CloseDeadline));
            assert_eq!(session.poll_timeout(start.after(2_000), &TIMING), Some(Timeout::CloseDeadline));
            session.handle_handshake_done(Format::Json, start.after(61));
            assert_eq!(session.phase(), Phase::Closing);
        }
    });
}

#[test]
fn zero_turns_a_rule_off_and_a_late_clock_none_on() {
    let off = Timing { handshake_timeout_ticks: 0, keep_alive_ticks: 0, client_timeout_ticks: 0 };
    at_any_time(|start| {
        assert_eq!(Session::new(start).poll_timeout(start.after(20_000), &off), None);
        let mut session = open_at(start);
        session.handle_message(start, true);
        assert_eq!(session.poll_timeout(start.after(20_000), &off), None);
        // Asked with a time a little before the last event.
        assert_eq!(session.poll_timeout(Tick(start.0.wrapping_sub(3)), &TIMING), None);
    });
}

/// The same rules in the plainest words, on a clock that never wraps.
#[derive(Debug)]
struct Model {
    phase: Phase,
    started: u64,
    received: u64,
    sent: u64,
    deadline: u64,
    pinged: bool,
    running: u32,
}

impl Model {
    fn due(&self, now: u64, timing: &Timing) -> Option<Timeout> {
        let over = |since: u64, ticks: u16| ticks != 0 && now >= since + u64::from(ticks);
        match self.phase {
            Phase::ExpectHandshake if over(self.started, timing.handshake_timeout_ticks) => {
                Some(Timeout::HandshakeTimeout)
            }
            Phase::Open if self.pinged && self.running == 0 && over(self.received, timing.client_timeout_ticks) => {
                Some(Timeout::ClientTimeout)
            }
            Phase::Open if over(self.sent, timing.keep_alive_ticks) => Some(Timeout::SendPing),
            Phase::Closing if now >= self.deadline => Some(Timeout::CloseDeadline),
            _ => None,
        }
    }
}

/// One connection's life: random events and pauses, with the question asked after each, as a sweeper would.
fn live(seed: u64) {
    let mut random = Random(seed);
    let interval = |random: &mut Random| if random.chance(10) { 0 } else { 1 + random.below(3_000) as u16 };
    let timing = Timing {
        handshake_timeout_ticks: interval(&mut random),
        keep_alive_ticks: interval(&mut random),
        client_timeout_ticks: interval(&mut random),
    };
    let mut now = random.below(200_000);
    let tick = |now: u64| Tick::from_ms(now * u64::from(TICK_MS));
    let mut session = Session::new(tick(now));
    let mut model = Model {
        phase: Phase::ExpectHandshake,
        started: now,
        received: now,
        sent: now,
        deadline: 0,
        pinged: false,
        running: 0,
    };
    let replay = format!("replay: live({seed:#x}) in protocol/tests/hub_session.rs");
    for step in 0..400 {
        // Mostly short steps, now and then a long one: minutes, far above every interval.
        now += if random.chance(3) { random.below(20_000) } else { random.below(400) };
        match random.below(12) {
            0 if model.phase == Phase::ExpectHandshake => {
                session.handle_handshake_done(Format::Json, tick(now));
                (model.phase, model.received, model.sent) = (Phase::Open, now, now);
            }
            1..=3 if model.phase == Phase::Open => {
                let is_ping = random.chance(40);
                session.handle_message(tick(now), is_ping);
                model.received = now;
                model.pinged |= is_ping;
            }
            4..=6 if model.phase == Phase::Open => {
                session.handle_sent(tick(now));
                model.sent = now;
            }
            7 if model.phase == Phase::Open => {
                session.pause_client_timeout();
                model.running += 1;
            }
            8 | 9 if model.running > 0 => {
                session.resume_client_timeout(tick(now));
                model.running -= 1;
                if model.running == 0 {
                    model.received = now;
                }
            }
            10 if model.phase != Phase::Closing && random.chance(5) => {
                let limit = random.below(100) as u16;
                session.begin_close(tick(now), limit);
                (model.phase, model.deadline) = (Phase::Closing, now + u64::from(limit));
            }
            _ => {}
        }
        let due = session.poll_timeout(tick(now), &timing);
        assert_eq!(due, model.due(now, &timing), "step {step}, now {now}, {timing:?}, {model:?}; {replay}");
        assert_eq!(session.phase(), model.phase, "{replay}");
        // What is due is done, as the engine does it.
        match due {
            Some(Timeout::SendPing) => {
                session.handle_sent(tick(now));
                model.sent = now;
            }
            Some(Timeout::HandshakeTimeout | Timeout::ClientTimeout) => {
                session.begin_close(tick(now), 50);
                (model.phase, model.deadline) = (Phase::Closing, now + 50);
            }
            Some(Timeout::CloseDeadline) => return,
            None => {}
        }
        // Without a keep-alive to refresh it, nobody asks about a time this long ago; with the timeout off, nobody
        // asks about the other. Both are what the session's 50 minutes are about.
        let oldest = [
            (timing.keep_alive_ticks != 0 && model.phase == Phase::Open).then_some(model.sent),
            (model.pinged && model.running == 0 && timing.client_timeout_ticks != 0).then_some(model.received),
            (model.phase == Phase::ExpectHandshake && timing.handshake_timeout_ticks != 0).then_some(model.started),
        ];
        assert!(oldest.into_iter().flatten().all(|time| now - time < 64_000), "{replay}");
    }
}

#[test]
fn thousands_of_lives_as_the_model_has_them() {
    for seed in 0..5_000 {
        live(seed);
    }
}
