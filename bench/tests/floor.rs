//! The floor is a correct server: every message reaches every connection once, in order and untorn, also where the
//! kernel takes only part of a send. A floor that lost or tore anything would not be a floor to compare with.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use fanfare_bench::floor::{Floor, FloorCounts, FloorOptions, Mode, Stopper};
use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::head::{HeadLimits, parse_response};
use fanfare_protocol::ws::decoder::{Decoder, Event, Role};
use fanfare_protocol::ws::{DataKind, encode, handshake};

/// Longer than any step takes on a busy machine; a hang fails instead of hanging the run.
const IO_LIMIT: Duration = Duration::from_secs(20);
const RING: Mode = Mode::Ring { enter_sends_max: 7 };

struct Served {
    addr: SocketAddr,
    stopper: Stopper,
    thread: JoinHandle<std::io::Result<FloorCounts>>,
}

impl Served {
    fn start(change: impl FnOnce(&mut FloorOptions)) -> Served {
        let mut options = FloorOptions::new((Ipv4Addr::LOCALHOST, 0).into(), Mode::Send);
        change(&mut options);
        let floor = Floor::bind(options).expect("a free loopback port");
        let (addr, stopper) = (floor.local_addr(), floor.stopper());
        Served { addr, stopper, thread: std::thread::spawn(move || floor.run()) }
    }

    fn stop(self) -> FloorCounts {
        self.stopper.stop();
        self.thread.join().expect("the floor does not panic").expect("the floor's own descriptors work")
    }
}

struct Client {
    stream: TcpStream,
    decoder: Decoder,
    message: Vec<u8>,
}

impl Client {
    fn connect(addr: SocketAddr) -> Client {
        let mut stream = TcpStream::connect(addr).expect("the floor listens");
        stream.set_read_timeout(Some(IO_LIMIT)).expect("a socket option");
        stream.set_write_timeout(Some(IO_LIMIT)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        let key = handshake::encode_key([7; 16]);
        let mut request = Vec::new();
        handshake::write_upgrade_request(&mut request, "/", "localhost", &key, &[]);
        // In two writes, so that a head cut in the middle is met as well.
        stream.write_all(&request[..20]).expect("the floor reads");
        stream.write_all(&request[20..]).expect("the floor reads");
        let mut answer = Vec::new();
        let mut byte = [0];
        let limits = HeadLimits::default();
        loop {
            stream.read_exact(&mut byte).expect("the floor answers");
            answer.push(byte[0]);
            if let Progress::Done(head, _) = parse_response(&answer, &limits).expect("a correct head") {
                handshake::check_upgrade_response(&head, &key).expect("a correct upgrade");
                break;
            }
        }
        Client { stream, decoder: Decoder::new(Role::Client), message: Vec::new() }
    }

    /// Publishes all payloads in one write.
    fn publish(&mut self, payloads: &[Vec<u8>]) {
        let mut bytes = Vec::new();
        for payload in payloads {
            encode::write_masked_message(&mut bytes, DataKind::Binary, payload, [1, 2, 3, 4]);
        }
        self.stream.write_all(&bytes).expect("the floor reads");
    }

    /// Reads until `count` whole messages came. More than that in one read is an error.
    fn receive(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut received = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        while received.len() < count {
            let length = self.stream.read(&mut buffer).expect("the floor sends what it owes");
            assert_ne!(length, 0, "closed after {} of {count} messages", received.len());
            for event in self.decoder.handle_bytes(&mut buffer[..length]) {
                let Event::Data { payload, fin, .. } = event.expect("correct frames") else {
                    panic!("a control frame")
                };
                self.message.extend_from_slice(payload);
                if fin {
                    received.push(std::mem::take(&mut self.message));
                }
            }
        }
        assert_eq!(received.len(), count);
        assert!(self.decoder.at_rest(), "bytes of a message that nobody sent");
        received
    }
}

/// A payload that says who sent it as which, and whose every byte depends on that.
fn payload(publisher: usize, sequence: usize, bytes: usize) -> Vec<u8> {
    let mut payload: Vec<u8> = (0..bytes).map(|at| (at.wrapping_mul(31) ^ sequence.wrapping_mul(17)) as u8).collect();
    payload[0] = publisher as u8;
    payload[1..5].copy_from_slice(&(sequence as u32).to_le_bytes());
    payload
}

/// Checks what one client received: of each publisher every message once, in the order sent.
fn check_ledger(received: &[Vec<u8>], publishers: usize, messages: usize, bytes: usize) {
    let mut next = vec![0; publishers];
    for message in received {
        let publisher = usize::from(message[0]);
        assert!(publisher < publishers && next[publisher] < messages, "nobody sent this, or it came twice");
        assert!(*message == payload(publisher, next[publisher], bytes), "torn, lost or out of order");
        next[publisher] += 1;
    }
    assert_eq!(next, vec![messages; publishers]);
}

/// `publishers` of `clients` publish `messages` each, `burst` in one write; all receive all of them.
fn broadcast(served: &Served, clients: usize, publishers: usize, messages: usize, burst: usize, bytes: usize) {
    let mut clients: Vec<Client> = (0..clients).map(|_| Client::connect(served.addr)).collect();
    for first in (0..messages).step_by(burst) {
        for (publisher, client) in clients.iter_mut().take(publishers).enumerate() {
            let last = messages.min(first + burst);
            let payloads: Vec<Vec<u8>> = (first..last).map(|sequence| payload(publisher, sequence, bytes)).collect();
            client.publish(&payloads);
        }
    }
    for client in &mut clients {
        check_ledger(&client.receive(publishers * messages), publishers, messages, bytes);
    }
}

#[test]
fn a_hundred_clients_get_fifty_messages_each_once_and_in_order() {
    for mode in [Mode::Send, RING] {
        let served = Served::start(|options| options.mode = mode);
        broadcast(&served, 100, 2, 25, 1, 512);
        let counts = served.stop();
        assert_eq!((counts.opened, counts.messages, counts.dropped), (100, 50, 0), "{mode:?}");
    }
}

#[test]
fn messages_published_together_share_buffers() {
    for mode in [Mode::Send, RING] {
        let served = Served::start(|options| options.mode = mode);
        broadcast(&served, 20, 1, 160, 16, 128);
        let counts = served.stop();
        assert_eq!(counts.messages, 160);
        // One write of sixteen arrives in one read on loopback; a few may be cut by the clock.
        assert!((10..=40).contains(&counts.buffers), "{mode:?}: {counts:?}");
    }
}

#[test]
fn slow_readers_get_untorn_streams() {
    // Nobody reads before everything is published: 12 MB for each client is far more than its socket holds.
    for mode in [Mode::Send, RING] {
        let served = Served::start(|options| {
            options.mode = mode;
            options.fragment_payload_max = encode::FRAGMENT_PAYLOAD_MAX;
        });
        broadcast(&served, 5, 2, 100, 4, 60_000);
        let counts = served.stop();
        assert!(counts.partial_sends >= 5, "{mode:?}: {counts:?}");
        assert_eq!((counts.messages, counts.dropped), (200, 0), "{mode:?}");
    }
}

#[test]
fn a_client_that_leaves_makes_room_and_harms_nobody() {
    for mode in [Mode::Send, RING] {
        let served = Served::start(|options| options.mode = mode);
        let mut stayer = Client::connect(served.addr);
        for round in 0..20 {
            let mut leaver = Client::connect(served.addr);
            leaver.publish(&[payload(0, round, 100)]);
            assert_eq!(stayer.receive(1), [payload(0, round, 100)]);
            if round % 2 == 0 {
                let mut frame = Vec::new();
                encode::write_masked_close(&mut frame, None, "", [0; 4]);
                leaver.stream.write_all(&frame).expect("the floor reads");
            }
        }
        assert_eq!(served.stop().opened, 21);
    }
}

#[test]
fn counts_are_served_and_wrong_requests_refused() {
    let served = Served::start(|_| {});
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(served.addr).expect("the floor listens");
        stream.set_read_timeout(Some(IO_LIMIT)).expect("a socket option");
        stream.write_all(request.as_bytes()).expect("the floor reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, then the end");
        answer
    };
    let stats = ask("GET /stats HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(stats.starts_with("HTTP/1.1 200 ") && stats.contains("\"accepted\":1"), "{stats}");
    assert!(ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 426 "));
    assert!(ask("GET / HTTP/1.1\nHost: x\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert_eq!(served.stop().dropped, 0);
}

#[test]
fn an_idle_floor_upgrades_and_holds() {
    let served = Served::start(|options| options.mode = Mode::Idle);
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(served.addr)).collect();
    clients[0].publish(&[vec![1; 10]]);
    let stream = &clients[1].stream;
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket option");
    let silence = (&mut &*stream).read(&mut [0]).expect_err("nothing is ever sent");
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
    let counts = served.stop();
    assert_eq!((counts.opened, counts.messages), (10, 0));
}
