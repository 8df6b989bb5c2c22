//! How a server starts, refuses to start, drains and stops.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fanfare_protocol::ws::DataKind;
use fanfare_protocol::ws::encode::write_masked_message;
use rustix::process::{Pid, kill_process};
use support::{Fanfare, SOON, Server, Signal, get};

#[test]
fn term_sends_clients_away_with_leave_to_come_back_and_ends_with_0() {
    let server = Server::serve(&[]);
    let mut client = server.spawn("listen", &["--frames"]);
    client.line("connected");
    server.process.signal(Signal::TERM);
    client.line("{\"type\":7,\"allowReconnect\":true}");
    let (status, said) = client.code();
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("FF4004") && said.contains("reconnect  allowed"), "{said}");
    let (status, said) = server.process.code();
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("draining 1 connections") && said.contains("drained in"), "{said}");
}

#[test]
fn while_it_drains_it_is_not_ready_and_a_second_term_stops_it() {
    let server = Server::serve(&["--drain-period", "1m"]);
    let mut client = server.spawn("listen", &[]);
    client.line("connected");
    // A client that does not read cannot answer the farewell, so the drain has to wait for it.
    client.signal(Signal::STOP);
    server.process.signal(Signal::TERM);
    let deadline = Instant::now() + SOON;
    let answer = loop {
        let answer = get(server.admin, "/readyz");
        if answer.status != 200 || Instant::now() > deadline {
            break answer;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("FF3007") && answer.body.contains("draining"), "{}", answer.body);
    assert_eq!(get(server.admin, "/health").status, 503);
    assert_eq!(get(server.admin, "/livez").status, 200);
    server.process.signal(Signal::TERM);
    let (status, said) = server.process.code();
    assert_eq!(status, 130, "{said}");
    assert!(said.contains("stopped without farewell"), "{said}");
}

/// `fanfare dev | head`, or a log collector that has died.
#[test]
fn nobody_need_listen_to_what_a_server_says() {
    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    for arguments in [&serve[..], &["dev", "--port", "0"]] {
        let (said, says) = std::io::pipe().expect("a pipe");
        let mut child = Command::new(env!("CARGO_BIN_EXE_fanfare"))
            .args([arguments, &["--shards", "1"]].concat())
            .stdin(Stdio::null())
            .stdout(says.try_clone().expect("its other end, twice"))
            .stderr(says)
            .spawn()
            .expect("the binary starts");
        let ready = BufReader::new(said).lines().map_while(Result::ok).any(|line| line.contains("ready in"));
        assert!(ready, "{arguments:?}");
        // The pipe is closed here: what it says of its drain nobody hears, on neither output.
        kill_process(Pid::from_child(&child), Signal::TERM).expect("the child runs");
        let deadline = Instant::now() + SOON;
        let status = loop {
            match child.try_wait().expect("the child can be asked") {
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                status => break status,
            }
        };
        let _ = child.kill();
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{arguments:?}");
    }
}

#[test]
fn int_stops_serve_with_130_and_dev_with_0() {
    for (server, expected) in [(Server::serve(&[]), 130), (Server::dev(&[]), 0)] {
        server.process.signal(Signal::INT);
        let (status, said) = server.process.code();
        assert_eq!(status, expected, "{said}");
    }
}

#[test]
fn serve_prints_its_plan_and_honours_its_limit() {
    let mut process = Fanfare::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--shards",
        "2",
        "--connections-max",
        "7",
    ]);
    let plan = process.line("plan");
    assert!(plan.contains("connections_max 7 "), "{plan}");
    process.line("hub   demo at /demo · clients may not publish");
    process.line("ready in");
}

#[test]
fn dev_tells_capacity_bottleneck_and_how_to_leave() {
    let mut process = Fanfare::start(&["dev", "--port", "0"]);
    assert!(process.line("fanfare").contains("loopback only"));
    let room = process.line("room for");
    assert!(room.contains("connections (limited by"), "{room}");
    assert!(process.line("ready in").contains("quit"));
}

#[test]
fn a_taken_port_is_named_with_a_remedy_and_status_5() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let (status, said) = Fanfare::start(&["serve", "--listen", &address, "--admin", "127.0.0.1:0"]).code();
    assert_eq!(status, 5, "{said}");
    assert!(said.contains("error FF2") && said.contains(&address) && said.contains("fix"), "{said}");
    let (status, said) = Fanfare::start(&["serve", "--listen", "127.0.0.1:0", "--admin", &address]).code();
    assert_eq!(status, 5, "{said}");
    assert!(said.contains("FF2020") && said.contains(&address) && said.contains("--admin"), "{said}");
}

#[test]
fn bad_flags_end_with_2_and_name_what_would_do() {
    for (arguments, parts) in [
        (&["serve", "--drain-period", "10"][..], &["FF1002", "--drain-period", "unit"][..]),
        (&["serve", "--lisen", "127.0.0.1:1"], &["FF1001", "--lisen", "--listen"]),
        (&["dev", "--port", "65535"], &["FF1002", "--port", "65535"]),
        (&["dev", "--hub", "a", "--hub", "a"], &["FF1006", "--hub a"]),
        (&["send", "--all", "greet", "hello"], &["FF1007", "argument 1", "'\"hello\"'"]),
        (&["listen", "--url", "https://x"], &["FF1008", "TLS"]),
        (&["bogus"], &["FF1005", "bogus"]),
    ] {
        let (status, said) = Fanfare::start(arguments).code();
        assert_eq!(status, 2, "{arguments:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
    }
}

#[test]
fn help_and_version_go_to_standard_output_with_0() {
    for (arguments, part) in [(&[][..], "try"), (&["version"], "fanfare 0."), (&["help", "serve"], "--client-publish")]
    {
        let (status, said) = Fanfare::start(arguments).code();
        assert_eq!(status, 0, "{said}");
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn times_of_silence_are_checked() {
    for (flags, named) in [
        (&["--keep-alive", "10ms"][..], "--keep-alive"),
        (&["--keep-alive", "26m"], "--keep-alive"),
        (&["--client-timeout", "1s"], "--client-timeout"),
        (&["--keep-alive", "20s", "--client-timeout", "30s"], "40 s and more"),
    ] {
        let (status, said) = Fanfare::start(&[&["serve"], flags].concat()).code();
        assert_ne!(status, 0, "{said}");
        assert!(said.contains("FF10") && said.contains(named), "{said}");
    }
}

#[test]
fn a_server_pings_as_often_as_it_is_told() {
    let server = Server::serve(&["--keep-alive", "1s"]);
    let mut client = server.spawn("listen", &["--frames"]);
    client.line("connected");
    let begun = Instant::now();
    (0..2).for_each(|_| drop(client.line(r#"{"type":6}"#)));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

/// One that has pinged once and is silent from then on; with the default it would have half a minute.
#[test]
fn a_server_gives_up_as_soon_as_it_is_told() {
    let server = Server::serve(&["--keep-alive", "1s", "--client-timeout", "2s"]);
    let mut socket = TcpStream::connect(server.public).expect("a server");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
    let upgrade = "GET /demo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut said = upgrade.as_bytes().to_vec();
    for message in ["{\"protocol\":\"json\",\"version\":1}\x1e", "{\"type\":6}\x1e"] {
        write_masked_message(&mut said, DataKind::Text, message.as_bytes(), [1, 2, 3, 4]);
    }
    socket.write_all(&said).expect("room");
    let begun = Instant::now();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("\"type\":7") {
        let mut piece = [0; 1024];
        let n = socket.read(&mut piece).expect("a Close in time");
        assert_ne!(n, 0, "the end without a Close: {:?}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&piece[..n]);
    }
    let passed = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(15)).contains(&passed), "{passed:?}");
}

#[test]
fn a_slow_policy_is_said_at_start_and_its_bounds_are_checked() {
    let flags = ["--slow-policy", "keep-latest", "--outbox-messages-max", "2000", "--outbox-age-max", "2s"];
    let server = Server::serve(&[&flags[..], &["--outbox-total-max", "64MiB"]].concat());
    server.process.signal(Signal::INT);
    let (status, said) = server.process.code();
    assert_eq!(status, 130, "{said}");
    assert!(said.contains("slow  keep-latest from 2") && said.contains("64 MiB for all clients"), "{said}");
    assert!(said.contains(", 2 s without progress"), "{said}");
    for (flag, value) in [("--slow-policy", "sometimes"), ("--outbox-age-max", "10ms"), ("--outbox-age-max", "2h")] {
        let (status, said) = Fanfare::start(&["serve", flag, value]).code();
        assert_ne!(status, 0, "{said}");
        assert!(said.contains("FF10") && said.contains(flag), "{said}");
    }
}
