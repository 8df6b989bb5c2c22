//! Single keys from the terminal, for `fanfare dev`: no Enter needed, and the terminal is put back as it was.

use std::io::{IsTerminal, Read};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

/// The terminal with echo and line editing off, until dropped.
pub(crate) struct Keys {
    before: Termios,
}

impl Keys {
    /// Takes the keys of the terminal, when there is one on standard input and this process is in its foreground.
    /// A background process must not touch it: the kernel would stop the process.
    pub(crate) fn take() -> Option<Keys> {
        let stdin = std::io::stdin();
        let foreground = || termios::tcgetpgrp(&stdin).ok() == Some(rustix::process::getpgrp());
        if !stdin.is_terminal() || !std::io::stdout().is_terminal() || !foreground() {
            return None;
        }
        let before = termios::tcgetattr(&stdin).ok()?;
        let mut single = before.clone();
        // Ctrl-C and Ctrl-Z stay what they are: ISIG is left on.
        single.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        termios::tcsetattr(&stdin, OptionalActions::Now, &single).ok()?;
        Some(Keys { before })
    }

    /// Calls `pressed` for each key on a thread of its own, which ends with the process.
    pub(crate) fn watch(&self, pressed: impl Fn(u8) + Send + 'static) -> std::io::Result<()> {
        let read = move || {
            for key in std::io::stdin().lock().bytes() {
                let Ok(key) = key else { return };
                pressed(key);
            }
        };
        std::thread::Builder::new().name("keys".to_owned()).spawn(read).map(drop)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
