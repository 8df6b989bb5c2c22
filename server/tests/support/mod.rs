//! The real binary as a child process, with a bound on every wait.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// Longest wait for anything that should happen at once; generous, because the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A folder with files that goes with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let name = format!("fanfare-{}-{}-{name}", env!("CARGO_CRATE_NAME"), std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running `fanfare` with its output collected line by line. Killed when dropped.
pub(crate) struct Fanfare {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Fanfare {
    /// Starts `fanfare` with `arguments`.
    pub(crate) fn start(arguments: &[&str]) -> Fanfare {
        Fanfare::start_with(&[], arguments)
    }

    /// The same, with these variables in its environment.
    pub(crate) fn start_with(environment: &[(&str, &str)], arguments: &[&str]) -> Fanfare {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fanfare"))
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let (sender, lines) = channel();
        let out: Box<dyn Read + Send> = Box::new(child.stdout.take().expect("a pipe"));
        let err: Box<dyn Read + Send> = Box::new(child.stderr.take().expect("a pipe"));
        for stream in [out, err] {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Fanfare { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that contains `part` and returns it.
    #[track_caller]
    pub(crate) fn line(&mut self, part: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no line with `{part}`; seen so far: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without `{part}`; said: {:#?}", self.seen),
            }
        }
    }

    /// A line with `part` among those that were waited for or passed over.
    #[track_caller]
    pub(crate) fn said(&self, part: &str) -> String {
        let line = self.seen.iter().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("no line with `{part}`; seen so far: {:#?}", self.seen)).clone()
    }

    /// The same, or the next one that comes.
    #[track_caller]
    pub(crate) fn heard(&mut self, part: &str) -> String {
        match self.seen.iter().find(|line| line.contains(part)) {
            Some(line) => line.clone(),
            None => self.line(part),
        }
    }

    /// Everything it said until it ended, and how it ended.
    #[track_caller]
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + SOON;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
        }
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return (status, self.seen.join("\n"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("still running; said: {:#?}", self.seen);
    }

    /// Its own exit code, and what it said.
    #[track_caller]
    pub(crate) fn code(self) -> (i32, String) {
        let (status, said) = self.end();
        (status.code().unwrap_or_else(|| panic!("ended by a signal: {status}; said:\n{said}")), said)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).expect("the child runs");
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Fanfare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server with its two addresses.
pub(crate) struct Server {
    pub(crate) process: Fanfare,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// `fanfare dev` on free ports.
    pub(crate) fn dev(more: &[&str]) -> Server {
        let mut process = Fanfare::start(&[&["dev", "--port", "0", "--shards", "1"], more].concat());
        let public = port_of(&process.line("  Hub  "), "localhost:");
        let admin = port_of(&process.line("  Metrics  "), "localhost:");
        process.line("ready in");
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Server { process, public: loopback(public), admin: loopback(admin) }
    }

    /// `fanfare serve` on free ports.
    pub(crate) fn serve(more: &[&str]) -> Server {
        Server::serve_with(&[], more)
    }

    /// The same, with these variables in its environment.
    pub(crate) fn serve_with(environment: &[(&str, &str)], more: &[&str]) -> Server {
        let common = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"];
        let mut process = Fanfare::start_with(environment, &[&common, more].concat());
        let public = process.line("listening on http://");
        let admin = process.line("pages on http://");
        process.line("ready in");
        Server { process, public: address_in(&public), admin: address_in(&admin) }
    }

    /// The URL for `--url`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.public)
    }

    /// Runs a client verb against it to its end.
    #[track_caller]
    pub(crate) fn run(&self, verb: &str, more: &[&str]) -> (i32, String) {
        self.spawn(verb, more).code()
    }

    /// Starts a client verb against it.
    pub(crate) fn spawn(&self, verb: &str, more: &[&str]) -> Fanfare {
        Fanfare::start(&[&[verb, "--url", &self.url()], more].concat())
    }
}

fn port_of(line: &str, before: &str) -> u16 {
    let rest = line.split(before).nth(1).unwrap_or_else(|| panic!("no `{before}` in {line}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no port in {line}"))
}

fn address_in(line: &str) -> SocketAddr {
    let rest = line.split("http://").nth(1).unwrap_or_else(|| panic!("no URL in {line}"));
    let end = rest.find(['/', ' ']).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("no address in {line}"))
}

/// An HTTP answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header, by its name in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split(':').next().is_some_and(|found| found.eq_ignore_ascii_case(name));
        self.head.lines().find(named).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }
}

/// Sends `text` (LF becomes CR LF) on a new connection and reads until the server closes it.
#[track_caller]
pub(crate) fn exchange(address: SocketAddr, text: &str) -> Answer {
    let mut stream = TcpStream::connect_timeout(&address, SOON).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a socket option");
    stream.write_all(text.replace('\n', "\r\n").as_bytes()).expect("it takes the request");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer and the end of the connection");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// `method path` of `address`, as a browser on this machine would ask.
#[track_caller]
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    exchange(address, &format!("{method} {path} HTTP/1.1\nHost: {address}\nConnection: close\n\n"))
}

/// `GET path`.
#[track_caller]
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path)
}
