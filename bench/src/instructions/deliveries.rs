//! The engine at work on the simulated kernel: what one shard does in user space, from the bytes that came to the
//! sends it asks for. What the kernel would do is not in it, and neither is the simulation.

use super::Case;
use super::house::{House, JSON, Kind, upgrade};
use super::meter::{Meter, uncounted};
use crate::inputs::quotes;

/// Clients of the broadcasts, the publisher included.
const MEMBERS: usize = 1000;
/// Clients of everything that is counted per client.
const FEW: usize = 100;
/// Operations of each case. A multiple of 20, so that 5 % of them are whole ones.
const ITERATIONS: u32 = 20;

const MESSAGEPACK: Kind = Kind::WebSocket { protocol: "messagepack", deflated: false };
const DEFLATED: Kind = Kind::WebSocket { protocol: "json", deflated: true };

pub(super) fn cases() -> Vec<Case> {
    vec![
        broadcast("broadcast/events_512_to_1000", "x".repeat(512), 1, |_| Kind::Events),
        broadcast("broadcast/512_to_1000", "x".repeat(512), 1, |_| JSON),
        broadcast("broadcast/16_of_128_to_1000", "x".repeat(128), 16, |_| JSON),
        broadcast("broadcast/512_to_1000_in_both_formats", "x".repeat(512), 1, |at| {
            if at % 3 == 0 { MESSAGEPACK } else { JSON }
        }),
        broadcast("broadcast/2k_to_1000_compressed", quotes(), 1, |_| DEFLATED),
        Case::new("polls/answer_and_next_poll", polls),
        Case::new("calls/answer", calls),
        Case::new("connect/websocket", connect),
        Case::new("connect/negotiate", negotiate),
        Case::new("sweep/1000_at_rest", sweep),
    ]
}

/// `count` messages of `payload`, published together; the publisher has a JSON WebSocket, `kind` says what the others
/// have. One operation is all of it.
fn broadcast(name: &str, payload: String, count: usize, kind: fn(usize) -> Kind) -> Case {
    Case::new(name, move |meter: &mut Meter| {
        let kinds: Vec<Kind> = (0..MEMBERS).map(|at| if at == 0 { JSON } else { kind(at) }).collect();
        let mut house = House::new(&kinds);
        let before = house.deliveries();
        let publish = |house: &mut House| {
            house.read_all();
            house.publish(&payload, count);
        };
        let mut broadcasts = 0;
        meter.measure(ITERATIONS, &mut house, publish, |house| {
            house.settle();
            broadcasts += count;
        });
        assert_eq!(house.deliveries() - before, (broadcasts * MEMBERS) as u64, "everybody got everything");
    })
}

/// A message reaches clients whose polls wait, and their next polls come in. One operation is one client's.
fn polls(meter: &mut Meter) {
    let kinds: Vec<Kind> = (0..=FEW).map(|at| if at == 0 { JSON } else { Kind::Polls }).collect();
    let mut house = House::new(&kinds);
    let payload = "x".repeat(512);
    let publish = |house: &mut House| house.publish(&payload, 1);
    meter.measure(ITERATIONS, &mut house, publish, |house| {
        house.settle();
        uncounted(|| {
            let (publisher, polling) = house.clients.split_first().expect("a publisher");
            house.read(publisher.peer);
            for client in polling {
                let answer = house.read(client.peer);
                assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.len() > payload.len(), "one answer");
                house.get(client);
            }
        });
        house.settle();
    });
    meter.divide(FEW as u64);
}

/// Clients call a method that answers with its argument. One operation is one call.
fn calls(meter: &mut Meter) {
    let mut house = House::new(&[JSON; FEW]);
    let call = |house: &mut House| {
        house.read_all();
        for client in 0..FEW {
            house.call(
                client,
                "{\"type\":1,\"invocationId\":\"17\",\"target\":\"Echo\",\"arguments\":[\"as it came\"]}\u{1e}",
            );
        }
    };
    meter.measure(ITERATIONS, &mut house, call, House::settle);
    assert!(house.read_all() > FEW * 20, "everybody was answered");
    meter.divide(FEW as u64);
}

/// Clients connect, upgrade and shake hands. One operation is one client.
fn connect(meter: &mut Meter) {
    let mut state = (House::new(&[JSON]), Vec::new());
    let hello = upgrade("json", false);
    let come = |(house, peers): &mut (House, Vec<_>)| {
        for peer in peers.drain(..) {
            house.read(peer);
            house.world.peer_close(peer);
        }
        house.settle();
        assert_eq!(house.connections(), 1);
        peers.extend((0..FEW).map(|_| house.open(&hello)));
    };
    meter.measure(ITERATIONS, &mut state, come, |(house, _)| house.settle());
    assert_eq!(state.0.connections(), 1 + FEW);
    meter.divide(FEW as u64);
}

/// Requests for a connection's id and token, on sockets that are there. One operation is one request.
fn negotiate(meter: &mut Meter) {
    let request = b"POST /hub/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let mut house = House::new(&[JSON]);
    let peers: Vec<_> = (0..FEW).map(|_| house.open(request)).collect();
    house.settle();
    let ask = |house: &mut House| {
        for &peer in &peers {
            assert!(house.read(peer).starts_with(b"HTTP/1.1 200 "));
            house.world.peer_write(peer, request);
        }
    };
    meter.measure(ITERATIONS, &mut house, ask, House::settle);
    meter.divide(FEW as u64);
}

/// Time passes over clients that say nothing. One operation is a tenth of a second.
fn sweep(meter: &mut Meter) {
    let mut house = House::new(&[JSON; MEMBERS]);
    let wait = |house: &mut House| house.world.advance(100_000);
    meter.measure(ITERATIONS, &mut house, wait, House::settle);
    assert_eq!(house.connections(), MEMBERS);
}
