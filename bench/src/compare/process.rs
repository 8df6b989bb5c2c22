//! A child process on a core of its own, and what the kernel says about it.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at whether a server listens or a child has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of a child's output shown when it fails.
const OUTPUT_LINES_SHOWN: usize = 12;

/// A program, its arguments and the core it may use.
#[derive(Clone, Debug)]
pub struct Program {
    /// Path or name of the executable.
    pub executable: PathBuf,
    /// Arguments, without the executable.
    pub arguments: Vec<String>,
    /// Where it runs; relative names in its arguments count from here.
    pub directory: PathBuf,
}

/// A running child. Dropping it kills it and waits for its end; if this process dies first, by whatever cause, the
/// kernel kills it (`PR_SET_PDEATHSIG`).
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    output: PathBuf,
}

/// Why a child is of no use.
#[derive(Debug)]
pub enum ProcessError {
    /// It could not be started.
    Start {
        /// Who.
        name: String,
        /// What the system said.
        error: io::Error,
    },
    /// It ended, or is not listening, when it should.
    Failed {
        /// Who.
        name: String,
        /// What happened.
        what: String,
        /// The last lines it printed.
        output: String,
    },
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProcessError::Start { name, error } => write!(f, "cannot start {name}: {error}"),
            ProcessError::Failed { name, what, output } => write!(f, "{name} {what}; it said:\n{output}"),
        }
    }
}

impl std::error::Error for ProcessError {}

impl Program {
    /// Starts it on `core`. Everything it prints goes to `directory/NAME.out`, its standard output to `stdout` if given.
    pub fn start(&self, name: &str, core: u32, scratch: &Path, stdout: Option<Stdio>) -> Result<Running, ProcessError> {
        let failed = |error| ProcessError::Start { name: name.to_owned(), error };
        let output = scratch.join(format!("{name}.out"));
        let printed = File::create(&output).map_err(failed)?;
        let stdout = match stdout {
            Some(stdout) => stdout,
            None => printed.try_clone().map_err(failed)?.into(),
        };
        // setpriv and taskset replace themselves, so the child's pid is the program's.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "--cpu-list"])
            .arg(core.to_string())
            .arg(&self.executable)
            .args(&self.arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(printed)
            .spawn()
            .map_err(failed)?;
        Ok(Running { child, name: name.to_owned(), output })
    }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it accepts connections on `addr`, or fails after `limit`.
    pub fn wait_listening(&mut self, addr: SocketAddr, limit: Duration) -> Result<(), ProcessError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Err(self.failed(format!("ended with {status} before it listened")));
            }
            if TcpStream::connect_timeout(&addr, LOOK_INTERVAL).is_ok() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.failed(format!("does not listen on {addr} after {} s", limit.as_secs())));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Waits for its own end, or fails after `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus, ProcessError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.failed(format!("is not done after {} s", limit.as_secs())));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// `Some` once it ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        self.child.try_wait().map_err(|error| ProcessError::Start { name: self.name.clone(), error })
    }

    /// An error about this child, with what it printed last.
    pub fn failed(&self, what: String) -> ProcessError {
        let printed = fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = printed.lines().collect();
        let last = &lines[lines.len().saturating_sub(OUTPUT_LINES_SHOWN)..];
        ProcessError::Failed { name: self.name.clone(), what, output: last.join("\n") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory that is removed with everything in it when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes a new one among the system's temporary files.
    pub fn new() -> io::Result<Scratch> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fanfare-compare-{}-{number}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // what cannot be removed is a few kilobytes of text in a temporary place
    }
}
