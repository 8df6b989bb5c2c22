//! Promise: permessage-deflate is agreed to exactly as RFC 7692 allows, and what is wrong with an offer costs the offer,
//! never the connection.

mod http_ws;

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::error::HttpError;
use fanfare_protocol::http::head::{HeadLimits, parse_request, parse_response};
use fanfare_protocol::ws::deflate::SERVER_WINDOW_BITS;
use fanfare_protocol::ws::deflate::offer::{OFFER, accept_offer};
use fanfare_protocol::ws::handshake::{
    accept_key, check_upgrade, check_upgrade_response, check_upgrade_response_deflate,
    write_switching_protocols_deflate, write_upgrade_request,
};
use http_ws::Random;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const WITH_WINDOW: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12";

/// The value of the field in the answer to a request with these lines of it; `None` if there is none. The answer is
/// always a good 101.
fn answer(lines: &[&str]) -> Option<String> {
    let headers: Vec<_> = lines.iter().map(|line| ("sec-websocket-extensions", *line)).collect();
    let mut request = Vec::new();
    write_upgrade_request(&mut request, "/hub", "h", KEY, &headers);
    let Ok(Progress::Done(head, _)) = parse_request(&request, &HeadLimits::default()) else { panic!("{lines:?}") };
    let accept = check_upgrade(&head).expect("whatever the extensions");
    let agreement = accept_offer(&head)?;
    let mut bytes = Vec::new();
    write_switching_protocols_deflate(&mut bytes, &accept, agreement);
    let Ok(Progress::Done(head, len)) = parse_response(&bytes, &HeadLimits::default()) else { panic!("{lines:?}") };
    assert_eq!((len, head.status()), (bytes.len(), 101));
    let value = head.header_only("Sec-WebSocket-Extensions", HttpError::ExtensionNotOffered).expect("once")?;
    Some(String::from_utf8(value.to_vec()).expect("ASCII"))
}

fn agreed(offer: &str, expected: &str) {
    assert_eq!(answer(&[offer]).as_deref(), Some(expected), "{offer}");
}

/// The next offer still counts, whatever is wrong with this one.
fn declined(offer: &str) {
    agreed(&format!("{offer}, permessage-deflate"), PLAIN);
    declined_with_its_line(offer);
}

fn declined_with_its_line(offer: &str) {
    assert_eq!(answer(&[offer]), None, "{offer}");
    assert_eq!(answer(&[offer, "permessage-deflate"]).as_deref(), Some(PLAIN), "{offer}");
}

#[test]
fn what_stock_clients_offer() {
    // Browsers and npm `ws` offer the first; the others are what clients with settings for it can be made to offer.
    agreed("permessage-deflate; client_max_window_bits", PLAIN);
    agreed("permessage-deflate; client_max_window_bits=15", PLAIN);
    agreed("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12", WITH_WINDOW);
    agreed("permessage-deflate; client_no_context_takeover; client_max_window_bits", PLAIN);
    assert_eq!(answer(&[]), None);
}

#[test]
fn every_parameter_in_every_range() {
    agreed("permessage-deflate", PLAIN);
    agreed("permessage-deflate; server_no_context_takeover", PLAIN);
    agreed("permessage-deflate; client_no_context_takeover", PLAIN);
    for bits in 0..=20 {
        let server = format!("permessage-deflate; server_max_window_bits={bits}");
        let client = format!("permessage-deflate; client_max_window_bits={bits}");
        match bits {
            // Of the window asked for or less; nobody's window of 8 is ours.
            8..=15 if bits >= SERVER_WINDOW_BITS => agreed(&server, WITH_WINDOW),
            _ => declined(&server),
        }
        match bits {
            8..=15 => agreed(&client, PLAIN),
            _ => declined(&client),
        }
    }
}

#[test]
fn spelling() {
    agreed("permessage-deflate;server_max_window_bits=12;client_max_window_bits", WITH_WINDOW);
    agreed(" permessage-deflate \t;\tserver_max_window_bits = 15 ", WITH_WINDOW);
    agreed("permessage-deflate; server_max_window_bits=\"13\"", WITH_WINDOW);
    agreed("permessage-deflate; server_max_window_bits=\"1\\3\"", WITH_WINDOW);
    agreed("permessage-deflate; client_max_window_bits=\"8\"", PLAIN);
    agreed(", ,permessage-deflate,", PLAIN);
    for wrong in [
        "permessage-deflate;",
        "permessage-deflate; ; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=12; server_max_window_bits=12",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=012",
        "permessage-deflate; server_max_window_bits=+12",
        "permessage-deflate; server_max_window_bits=1\\2",
        "permessage-deflate; server_max_window_bits=12=12",
        "permessage-deflate; server_no_context_takeover=",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=\"true\"",
        "permessage-deflate; Server_no_context_takeover",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=\"a, permessage-deflate\"",
        "permessage-deflate=1",
        "\"permessage-deflate\"",
        "x-webkit-deflate-frame",
        "permessage-bzip2; server_no_context_takeover",
        "=; ;",
    ] {
        declined(wrong);
    }
    // A quoted string that does not end takes the rest of its line with it.
    for wrong in ["\"12", "12\"", "\"12\\\"", "\"12\\"] {
        declined_with_its_line(&format!("permessage-deflate; server_max_window_bits={wrong}"));
        declined_with_its_line(&format!("permessage-deflate; server_max_window_bits={wrong}, permessage-deflate"));
    }
}

#[test]
fn the_first_acceptable_offer_wins() {
    // RFC 7692 5.1 and 7.1.3: fallbacks in the order of preference.
    agreed("permessage-deflate; server_max_window_bits=10, permessage-deflate", PLAIN);
    agreed("permessage-deflate; server_max_window_bits=14, permessage-deflate", WITH_WINDOW);
    agreed("permessage-deflate, permessage-deflate; server_max_window_bits=14", PLAIN);
    agreed("foo; bar=\"permessage-deflate, \\\",\", permessage-deflate; server_max_window_bits=12", WITH_WINDOW);
    assert_eq!(answer(&["foo", "bar, permessage-deflate"]).as_deref(), Some(PLAIN));
    assert_eq!(answer(&["permessage-deflate; server_max_window_bits=9", "mux"]), None);
}

/// A list of anything is answered with one of three things, and a whole offer on a line after it is always found.
#[test]
fn any_soup_of_tokens() {
    let tokens = [
        "permessage-deflate",
        "server_max_window_bits",
        "client_max_window_bits",
        "server_no_context_takeover",
        "12",
        "9",
        ";",
        ";",
        ",",
        "=",
        "\"",
        "\\",
        " ",
        "\t",
        "x",
        "\u{e9}",
    ];
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let soup: String = (0..1 + random.below(12)).map(|_| tokens[random.below(tokens.len())]).collect();
        let first = answer(&[&soup]);
        assert!([None, Some(PLAIN), Some(WITH_WINDOW)].contains(&first.as_deref()), "seed {seed}: {soup}");
        let expected = first.as_deref().or(Some(PLAIN));
        assert_eq!(answer(&[&soup, "permessage-deflate"]).as_deref(), expected, "seed {seed}: {soup}");
    }
}

#[test]
fn our_own_offer_is_agreed_to_and_its_answer_believed() {
    assert_eq!(answer(&[OFFER]).as_deref(), Some(PLAIN));
    assert_eq!(verdict(&answer(&[OFFER]).expect("agreed")), Ok(true));
}

/// What a client that sent [`OFFER`] makes of an answer with this value of the field.
fn verdict(value: &str) -> Result<bool, HttpError> {
    let accept = String::from_utf8(accept_key(KEY.as_bytes()).to_vec()).expect("base64");
    let text = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \
         {accept}\r\nSec-WebSocket-Extensions: {value}\r\n\r\n"
    );
    let Ok(Progress::Done(head, _)) = parse_response(text.as_bytes(), &HeadLimits::default()) else { panic!("{text}") };
    assert_eq!(check_upgrade_response(&head, KEY), Err(HttpError::ExtensionNotOffered), "nobody offered");
    assert_eq!(check_upgrade_response_deflate(&head, "another"), Err(HttpError::AcceptMismatch));
    check_upgrade_response_deflate(&head, KEY)
}

#[test]
fn answers_to_our_offer() {
    for good in [
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate;client_no_context_takeover;server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=8",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=\"15\"",
    ] {
        assert_eq!(verdict(good), Ok(true), "{good}");
    }
    assert_eq!(verdict(""), Ok(false));
    for (bad, error) in [
        ("permessage-deflate", HttpError::DeflateTermsNotOffered),
        ("permessage-deflate; client_no_context_takeover", HttpError::DeflateTermsNotOffered),
        (
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=15",
            HttpError::DeflateTermsNotOffered,
        ),
        ("permessage-deflate; server_no_context_takeover; client_max_window_bits", HttpError::DeflateTermsNotOffered),
        ("permessage-deflate; server_no_context_takeover; server_max_window_bits", HttpError::DeflateTermsNotOffered),
        ("permessage-deflate; server_no_context_takeover; server_max_window_bits=7", HttpError::DeflateTermsNotOffered),
        ("permessage-deflate; server_no_context_takeover; mode=fast", HttpError::DeflateTermsNotOffered),
        (
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            HttpError::DeflateTermsNotOffered,
        ),
        ("permessage-bzip2; server_no_context_takeover", HttpError::ExtensionNotOffered),
        ("permessage-deflate; server_no_context_takeover, mux", HttpError::ExtensionNotOffered),
    ] {
        assert_eq!(verdict(bad), Err(error), "{bad}");
        assert_eq!(error.status(), 502);
    }
}
