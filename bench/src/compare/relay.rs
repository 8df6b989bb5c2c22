//! What stands between the load generator, which speaks no TLS, and a server that does: one thread that encrypts what
//! comes on its own port and passes it on, and back. Without keys it passes bytes on as they are, so that a server without
//! TLS can be measured behind the same thing.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The name in the certificate.
pub const NAME: &str = "localhost";

const LISTENER: u64 = u64::MAX;
/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// Events of one wait.
const EVENTS: usize = 256;

/// A certificate of its own making for [`NAME`].
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, PEM.
    pub chain: String,
    /// Its key, PEM.
    pub key: String,
    der: CertificateDer<'static>,
}

impl Identity {
    /// A new one.
    pub fn new() -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).map_err(io::Error::other)?;
        let key = made.signing_key.serialize_pem();
        Ok(Self { chain: made.cert.pem(), key, der: made.cert.der().clone() })
    }

    /// What a client needs that trusts this and nobody else. It never comes back with a ticket.
    pub fn client(&self) -> io::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// Runs in a thread of its own on `core` until the process ends; its address. One is enough for a visit.
pub fn start(server: SocketAddr, tls: Option<Arc<ClientConfig>>, core: u32) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut relay =
        Relay { epoll, listener, server, tls, pairs: HashMap::new(), next: 0, scratch: vec![0; READ_BYTES] };
    std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
        let mut cores = rustix::thread::CpuSet::new();
        cores.set(core as usize);
        let pinned = rustix::thread::sched_setaffinity(None, &cores).map_err(io::Error::from);
        if let Err(error) = pinned.and_then(|()| relay.run()) {
            eprintln!("fanfare-compare: the relay has failed: {error}");
        }
    })?;
    Ok(address)
}

struct Relay {
    epoll: rustix::fd::OwnedFd,
    listener: TcpListener,
    server: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    pairs: HashMap<u64, Pair>,
    next: u64,
    scratch: Vec<u8>,
}

/// The generator's socket and the server's, and what each has not taken yet.
struct Pair {
    near: TcpStream,
    far: TcpStream,
    tls: Option<ClientConnection>,
    to_near: Vec<u8>,
    to_far: Vec<u8>,
}

/// Which of the two: the last bit of an event's number.
const FAR: u64 = 1;

impl Relay {
    fn run(&mut self) -> io::Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    number => self.pump(number / 2, number & 1 == FAR),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let near = match self.listener.accept() {
                Ok((near, _)) => near,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let far = TcpStream::connect(self.server)?;
            for socket in [&near, &far] {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
            }
            let name = ServerName::try_from(NAME).expect("a name");
            let tls = self.tls.as_ref().map(|config| ClientConnection::new(config.clone(), name));
            let mut tls = tls.transpose().map_err(io::Error::other)?;
            tls.iter_mut().for_each(|tls| tls.set_buffer_limit(None));
            let id = self.next;
            self.next += 1;
            // Edges: a socket is read, and written, until it blocks.
            let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &near, EventData::new_u64(id * 2), edges)?;
            epoll::add(&self.epoll, &far, EventData::new_u64(id * 2 + FAR), edges)?;
            self.pairs.insert(id, Pair { near, far, tls, to_near: Vec::new(), to_far: Vec::new() });
        }
    }

    /// Moves what one of the two says, and what both are owed. At the end of either both are closed.
    fn pump(&mut self, id: u64, from_far: bool) {
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        let read = if from_far { pair.read_far(&mut self.scratch) } else { pair.read_near(&mut self.scratch) };
        let goes_on = matches!((read, pair.write()), (Ok(true), Ok(())));
        if !goes_on {
            let _ = pair.near.shutdown(Shutdown::Both);
            self.pairs.remove(&id);
        }
    }
}

/// Reads until it blocks. `false` at the end.
fn read_all(
    socket: &mut TcpStream,
    scratch: &mut [u8],
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    loop {
        match socket.read(scratch) {
            Ok(0) => return Ok(false),
            Ok(n) => take(&scratch[..n])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

/// Writes until it blocks; what is left stays.
fn write_all(socket: &mut TcpStream, owed: &mut Vec<u8>) -> io::Result<()> {
    let mut at = 0;
    while at < owed.len() {
        match socket.write(&owed[at..]) {
            Ok(n) => at += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    owed.drain(..at);
    Ok(())
}

impl Pair {
    fn read_near(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        let Pair { near, tls, to_far, .. } = self;
        read_all(near, scratch, |bytes| match tls {
            Some(tls) => tls.writer().write_all(bytes),
            None => to_far.write_all(bytes),
        })
    }

    fn read_far(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        let Pair { far, tls, to_near, .. } = self;
        read_all(far, scratch, |mut bytes| {
            let Some(tls) = tls else { return to_near.write_all(bytes) };
            while !bytes.is_empty() {
                tls.read_tls(&mut bytes)?;
                let state = tls.process_new_packets().map_err(io::Error::other)?;
                let at = to_near.len();
                to_near.resize(at + state.plaintext_bytes_to_read(), 0);
                tls.reader().read_exact(&mut to_near[at..])?;
            }
            Ok(())
        })
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.to_far)?;
            }
        }
        write_all(&mut self.far, &mut self.to_far)?;
        write_all(&mut self.near, &mut self.to_near)
    }
}
