//! The life of a hub connection: a handshake in time, pings while it is open, an end within a limit (spec 6.1).
//!
//! There is no clock in here. Time is a [`Tick`] of 100 ms in 16 bits that wraps around every 109 minutes; whoever
//! owns the session asks [`Session::poll_timeout`] now and then (once a second is plenty) and does what it says.
//!
//! ```text
//!                 handle_handshake_done            begin_close
//! ExpectHandshake ---------------------> Open -------------------> Closing
//!        |                                                            ^
//!        +------------------------- begin_close ----------------------+
//! ```

use super::Format;

/// Length of a tick.
pub const TICK_MS: u32 = 100;

/// The longest interval a session can measure: half of the wrap, 54 minutes. Longer ones are cut to it.
pub const INTERVAL_TICKS_MAX: u16 = i16::MAX as u16;

/// How far a time may lie behind one that was told before, without being taken for one that lies far ahead: a minute.
pub const BACKWARDS_TICKS_MAX: u16 = 600;

/// A point in time, in ticks since whenever. Only differences mean anything, and only up to a wrap of 65,536 ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tick(pub u16);

impl Tick {
    /// The tick of a time in milliseconds since whenever.
    pub const fn from_ms(ms: u64) -> Self {
        // Wrapping around is the point.
        Self((ms / TICK_MS as u64) as u16)
    }

    /// How many ticks have gone by since `earlier`. None, when `earlier` is up to [`BACKWARDS_TICKS_MAX`] later: the
    /// caller's idea of now may be a little old.
    pub const fn since(self, earlier: Self) -> u16 {
        let ticks = self.0.wrapping_sub(earlier.0);
        if ticks > u16::MAX - BACKWARDS_TICKS_MAX { 0 } else { ticks }
    }

    /// The tick `ticks` later.
    pub const fn after(self, ticks: u16) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// Whether `deadline` has come. Right as long as it is less than half a wrap away, before or after.
    pub const fn has_reached(self, deadline: Self) -> bool {
        self.0.wrapping_sub(deadline.0) <= INTERVAL_TICKS_MAX
    }
}

/// Ticks in `ms` milliseconds: rounded up, so that nothing happens too early; cut to [`INTERVAL_TICKS_MAX`].
pub const fn ticks_from_ms(ms: u32) -> u16 {
    let ticks = ms.div_ceil(TICK_MS);
    if ticks > INTERVAL_TICKS_MAX as u32 { INTERVAL_TICKS_MAX } else { ticks as u16 }
}

/// The intervals of an endpoint, in ticks; 0 turns a rule off. At most [`INTERVAL_TICKS_MAX`] each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the start of the transport to the end of the handshake (15 s).
    pub handshake_timeout_ticks: u16,
    /// Silence from us before we ping (15 s). 0 for long polling, which has no pings.
    pub keep_alive_ticks: u16,
    /// Silence from a client that pings before we give it up (30 s).
    pub client_timeout_ticks: u16,
}

impl Timing {
    /// From milliseconds, see [`ticks_from_ms`].
    pub const fn from_ms(handshake_timeout_ms: u32, keep_alive_ms: u32, client_timeout_ms: u32) -> Self {
        Self {
            handshake_timeout_ticks: ticks_from_ms(handshake_timeout_ms),
            keep_alive_ticks: ticks_from_ms(keep_alive_ms),
            client_timeout_ticks: ticks_from_ms(client_timeout_ms),
        }
    }
}

impl Default for Timing {
    /// The reference server's defaults (spec 0).
    fn default() -> Self {
        Self::from_ms(15_000, 15_000, 30_000)
    }
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The next bytes are (part of) a handshake request.
    ExpectHandshake,
    /// The next bytes are hub messages.
    Open,
    /// A Close is on its way out; nothing that comes in matters any more.
    Closing,
}

/// What [`Session::poll_timeout`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// Nothing was sent for the keep-alive interval: send a Ping and say so with `handle_sent`. Until then the
    /// question gets the same answer, so a ping skipped because a write is under way costs nothing.
    SendPing,
    /// No handshake in time: answer "Handshake was canceled." and close.
    HandshakeTimeout,
    /// The client pings, and then fell silent: Close with an error and allowReconnect.
    ClientTimeout,
    /// The peer did not end the transport in time: end it.
    CloseDeadline,
}

/// The state of one connection: small, because there is one for every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Open: the last complete message from the client, or the end of the last invocation.
    received: Tick,
    /// Open: the last bytes to the client.
    sent: Tick,
    /// ExpectHandshake: when the transport started. Closing: when it must have ended.
    mark: Tick,
    /// Invocations that run: while there are any, the client timeout stands still.
    running: u16,
    phase: Phase,
    /// Chosen by the handshake.
    format: Option<Format>,
    /// Whether the client has pinged, which arms the client timeout.
    armed: bool,
}

const _: () = assert!(size_of::<Session>() <= 12);

impl Default for Session {
    /// A session that started at tick 0.
    fn default() -> Self {
        Self::new(Tick(0))
    }
}

impl Session {
    /// A connection whose transport starts now.
    pub const fn new(now: Tick) -> Self {
        Self {
            received: now,
            sent: now,
            mark: now,
            running: 0,
            phase: Phase::ExpectHandshake,
            format: None,
            armed: false,
        }
    }

    /// Where it is in its life.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The format of the hub messages; `None` before the handshake.
    pub const fn format(&self) -> Option<Format> {
        self.format
    }

    /// The handshake request has been accepted and answered. Does nothing unless it was expected.
    pub fn handle_handshake_done(&mut self, format: Format, now: Tick) {
        if self.phase == Phase::ExpectHandshake {
            self.phase = Phase::Open;
            self.format = Some(format);
            self.received = now;
            self.sent = now;
        }
    }

    /// A complete hub message has come in. The first Ping arms the client timeout.
    pub fn handle_message(&mut self, now: Tick, is_ping: bool) {
        self.received = now;
        self.armed |= is_ping && self.phase == Phase::Open;
    }

    /// Whether a Ping of the client should be answered by one of ours: half the keep-alive interval has passed since
    /// we sent something. Ours would be due soon, and two that meet cost both sides one wake instead of two.
    pub fn answers_ping(&self, now: Tick, timing: &Timing) -> bool {
        let interval_ticks = timing.keep_alive_ticks.min(INTERVAL_TICKS_MAX);
        self.phase == Phase::Open && interval_ticks != 0 && now.since(self.sent) >= interval_ticks.div_ceil(2)
    }

    /// Bytes have been handed to the transport.
    pub fn handle_sent(&mut self, now: Tick) {
        self.sent = now;
    }

    /// An invocation starts to run: the client timeout stands still until
    /// [`resume_client_timeout`](Self::resume_client_timeout) has been called as often.
    pub fn pause_client_timeout(&mut self) {
        self.running = self.running.saturating_add(1);
    }

    /// An invocation has ended. With the last one the client timeout starts anew.
    pub fn resume_client_timeout(&mut self, now: Tick) {
        self.running = self.running.saturating_sub(1);
        if self.running == 0 {
            self.received = now;
        }
    }

    /// The end begins: the transport has to be gone `limit_ticks` (at most [`INTERVAL_TICKS_MAX`]) from now. Called
    /// again, the first deadline stays.
    pub fn begin_close(&mut self, now: Tick, limit_ticks: u16) {
        if self.phase != Phase::Closing {
            self.phase = Phase::Closing;
            self.mark = now.after(limit_ticks.min(INTERVAL_TICKS_MAX));
        }
    }

    /// What is due now. To be asked at least every 50 minutes, or time wraps around unnoticed.
    pub fn poll_timeout(&self, now: Tick, timing: &Timing) -> Option<Timeout> {
        let is_over =
            |since: Tick, limit_ticks: u16| limit_ticks != 0 && now.since(since) >= limit_ticks.min(INTERVAL_TICKS_MAX);
        match self.phase {
            Phase::ExpectHandshake => {
                is_over(self.mark, timing.handshake_timeout_ticks).then_some(Timeout::HandshakeTimeout)
            }
            Phase::Open => {
                let client_counts = self.armed && self.running == 0;
                if client_counts && is_over(self.received, timing.client_timeout_ticks) {
                    Some(Timeout::ClientTimeout)
                } else {
                    is_over(self.sent, timing.keep_alive_ticks).then_some(Timeout::SendPing)
                }
            }
            Phase::Closing => now.has_reached(self.mark).then_some(Timeout::CloseDeadline),
        }
    }
}
