//! What a waiting person sees: a live bar on a terminal, one plain line a second elsewhere. Standard error only.

use crate::quantity::grouped;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Refreshing a terminal.
const LIVE: Duration = Duration::from_millis(200);

/// Lines of a log file.
const PLAIN: Duration = Duration::from_secs(1);

/// Cells of the bar.
const BAR: usize = 20;

/// Writes progress.
#[derive(Debug)]
pub(crate) struct Progress {
    quiet: bool,
    terminal: bool,
    started: Instant,
    next: Instant,
    dirty: bool,
}

impl Progress {
    /// Looks at standard error once.
    pub(crate) fn new(quiet: bool) -> Self {
        let now = Instant::now();
        Self { quiet, terminal: std::io::stderr().is_terminal(), started: now, next: now, dirty: false }
    }

    /// Whether a line is due. Asking is cheap; making the line may not be.
    pub(crate) fn is_due(&self) -> bool {
        !self.quiet && Instant::now() >= self.next
    }

    /// Shows `text` with the part done, 0 to 1.
    pub(crate) fn show(&mut self, part: f64, text: &str) {
        if self.quiet {
            return;
        }
        self.next = Instant::now() + if self.terminal { LIVE } else { PLAIN };
        let elapsed_s = self.started.elapsed().as_secs();
        let line = format!("[{:02}:{:02}] {text}", elapsed_s / 60, elapsed_s % 60);
        let mut out = std::io::stderr().lock();
        // Progress that cannot be written is no reason to stop measuring.
        let _ = if self.terminal {
            self.dirty = true;
            write!(out, "\r\x1b[K{} {line}", bar(part)).and_then(|()| out.flush())
        } else {
            writeln!(out, "{line}")
        };
    }

    /// Takes the live line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.dirty) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// `#####...............`
fn bar(part: f64) -> String {
    let full = (part.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    format!("{}{}", "#".repeat(full), ".".repeat(BAR - full))
}

/// The line of the connecting phase.
pub(crate) fn connecting(open: u32, failed: u32, all: u32) -> String {
    let failures = if failed > 0 { format!(" | failed {}", grouped(u64::from(failed))) } else { String::new() };
    format!("connecting {} of {}{failures}", grouped(u64::from(open)), grouped(u64::from(all)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_stays_inside_its_cells() {
        assert_eq!(bar(0.0), "....................");
        assert_eq!(bar(0.5), "##########..........");
        assert_eq!(bar(7.0), "####################");
        assert_eq!(bar(f64::NAN).len(), BAR);
    }

    #[test]
    fn failures_show_only_when_there_are_some() {
        assert_eq!(connecting(10, 0, 1000), "connecting 10 of 1 000");
        assert_eq!(connecting(10, 2, 1000), "connecting 10 of 1 000 | failed 2");
    }
}
