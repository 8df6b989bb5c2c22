//! Negotiate (spec 1, checklist lines 1-8, 14-16).

use fanfare_protocol::negotiate::{
    NegotiateError, NegotiateRequest, NegotiateResponse, Transport, parse_query, parse_query_from, parse_response,
    write_error, write_redirect, write_response,
};

const TRANSPORTS: &str = r#"[{"transport":"WebSockets","transferFormats":["Text","Binary"]},{"transport":"ServerSentEvents","transferFormats":["Text"]},{"transport":"LongPolling","transferFormats":["Text","Binary"]}]"#;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes);
    String::from_utf8(bytes).expect("UTF-8")
}

fn version(query: &str) -> Result<u8, String> {
    parse_query(query).map(|request| request.version).map_err(|error| error.to_string())
}

#[test]
fn line_001_no_query_is_version_0_without_a_token() {
    assert_eq!(version(""), Ok(0));
    let text = written(|out| write_response(out, 0, "id", "token", &Transport::ALL, false));
    assert_eq!(text, format!(r#"{{"negotiateVersion":0,"connectionId":"id","availableTransports":{TRANSPORTS}}}"#));
}

#[test]
fn line_002_version_1_has_a_token() {
    assert_eq!(version("negotiateVersion=1"), Ok(1));
    let text = written(|out| write_response(out, 1, "id", "token", &Transport::ALL, false));
    let expected = format!(
        r#"{{"negotiateVersion":1,"connectionId":"id","connectionToken":"token","availableTransports":{TRANSPORTS}}}"#
    );
    assert_eq!(text, expected);
}

#[test]
fn line_003_later_versions_get_1() {
    assert_eq!(version("negotiateVersion=7"), Ok(1));
    assert_eq!(version("negotiateVersion=2147483647"), Ok(1));
    assert_eq!(version("negotiateVersion=%31"), Ok(1));
    assert_eq!(version("negotiateVersion=+1"), Ok(1));
}

#[test]
fn line_004_not_an_integer() {
    for query in ["abc", "", "1.0", "0x1", "2147483648", "1,1", "%"] {
        let error = version(&format!("negotiateVersion={query}"));
        assert_eq!(error, Err("The client requested a non-integer protocol version.".to_owned()), "{query}");
    }
    let text = written(|out| write_error(out, &NegotiateError::NotAnInteger.to_string()));
    assert_eq!(text, r#"{"error":"The client requested a non-integer protocol version."}"#);
}

#[test]
fn line_005_below_the_servers_minimum() {
    let too_low =
        |number| format!("The client requested version '{number}', but the server does not support this version.");
    for (query, number) in [("", 0), ("negotiateVersion=0", 0), ("negotiateVersion=-3", -3)] {
        assert_eq!(parse_query_from(query, 1).map_err(|error| error.to_string()), Err(too_low(number)));
    }
    assert_eq!(version("negotiateVersion=-1"), Err(too_low(-1)));
    assert_eq!(parse_query_from("negotiateVersion=1", 1).map(|request| request.version), Ok(1));
}

#[test]
fn line_006_keys_in_any_case() {
    assert_eq!(version("NEGOTIATEVERSION=1"), Ok(1));
    assert_eq!(version("x=1&nEgOtIaTeVeRsIoN=1&y"), Ok(1));
    assert_eq!(version("%6EegotiateVersion=1"), Ok(1));
    assert_eq!(version("anegotiateVersion=1&&=&%zz=%"), Ok(0));
    // The first of several, so that a user's own query wins over what the client appends.
    assert_eq!(version("negotiateVersion=0&negotiateVersion=1"), Ok(0));
}

#[test]
fn line_008_only_enabled_transports_in_order() {
    let text = written(|out| write_response(out, 0, "id", "", &[Transport::WebSockets], false));
    let expected = r#"{"negotiateVersion":0,"connectionId":"id","availableTransports":[{"transport":"WebSockets","transferFormats":["Text","Binary"]}]}"#;
    assert_eq!(text, expected);
    let text = written(|out| write_response(out, 0, "id", "", &[], false));
    assert_eq!(text, r#"{"negotiateVersion":0,"connectionId":"id","availableTransports":[]}"#);
}

#[test]
fn lines_014_and_015_stateful_reconnect() {
    let asks = |query: &str| parse_query(query).expect("fine").use_stateful_reconnect;
    assert!(asks("negotiateVersion=1&useStatefulReconnect=true"));
    assert!(asks("usestatefulreconnect=TRUE"));
    for query in ["", "useStatefulReconnect=false", "useStatefulReconnect=1", "useStatefulReconnect="] {
        assert!(!asks(query), "{query}");
    }
    let text = written(|out| write_response(out, 1, "a", "b", &[], true));
    let expected = r#"{"negotiateVersion":1,"connectionId":"a","connectionToken":"b","useStatefulReconnect":true,"availableTransports":[]}"#;
    assert_eq!(text, expected);
    let request = NegotiateRequest { version: 1, use_stateful_reconnect: true };
    assert_eq!(parse_query("negotiateVersion=1&useStatefulReconnect=true"), Ok(request));
}

#[test]
fn line_016_redirects() {
    let text = written(|out| write_redirect(out, "http://h/testhub?numRedirects=1", Some("")));
    assert_eq!(text, r#"{"url":"http://h/testhub?numRedirects=1","accessToken":""}"#);
    let expected =
        NegotiateResponse::Redirect { url: "http://h/testhub?numRedirects=1".into(), access_token: Some("".into()) };
    assert_eq!(parse_response(text.as_bytes()), Ok(expected));
    let text = written(|out| write_redirect(out, "http://h/\"", None));
    assert_eq!(text, r#"{"url":"http://h/\""}"#);
    let reference = br#"{"negotiateVersion":0,"url":"u","accessToken":"t","availableTransports":[]}"#;
    let expected = NegotiateResponse::Redirect { url: "u".into(), access_token: Some("t".into()) };
    assert_eq!(parse_response(reference), Ok(expected));
}

#[test]
fn a_client_reads_what_the_server_writes() {
    for (version, token) in [(0, "id"), (1, "token")] {
        let text = written(|out| write_response(out, version, "id", "token", &Transport::ALL, version == 1));
        let expected = NegotiateResponse::Accepted {
            version,
            connection_id: "id".into(),
            connection_token: token.into(),
            transports: Transport::ALL.to_vec(),
            use_stateful_reconnect: version == 1,
        };
        assert_eq!(parse_response(text.as_bytes()), Ok(expected));
        for cut in 0..text.len() {
            assert!(matches!(parse_response(&text.as_bytes()[..cut]), Err(NegotiateError::Json(_))), "cut at {cut}");
        }
    }
    let refused = parse_response(br#" { "x" : [ { } ] , "error" : "n\u006f" } "#);
    assert_eq!(refused, Ok(NegotiateResponse::Refused { error: "no".into() }));
}

#[test]
fn a_client_refuses_by_rule() {
    let missing = |property| Err(NegotiateError::MissingProperty { property });
    let wrong = |property| Err(NegotiateError::WrongType { property });
    let cases: [(&str, Result<NegotiateResponse<'_>, NegotiateError>); 10] = [
        ("{}", missing("connectionId")),
        (r#"{"connectionId":"a","negotiateVersion":1,"availableTransports":[]}"#, missing("connectionToken")),
        (r#"{"connectionId":"a"}"#, missing("availableTransports")),
        (r#"{"connectionId":"a","availableTransports":[{}]}"#, missing("transport")),
        (r#"{"connectionId":"a","availableTransports":{}}"#, wrong("availableTransports")),
        (r#"{"connectionId":"a","availableTransports":[1]}"#, wrong("availableTransports")),
        (r#"{"connectionId":5}"#, wrong("connectionId")),
        (r#"{"negotiateVersion":"1"}"#, wrong("negotiateVersion")),
        (r#"{"ProtocolVersion":"1.5","connectionId":"a"}"#, Err(NegotiateError::OldServer)),
        ("[]", Err(NegotiateError::NotAnObject)),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_response(text.as_bytes()), expected, "{text}");
    }
    let unknown = br#"{"connectionId":"a","availableTransports":[{"transport":"Pigeon"},{"transport":"LongPolling"}]}"#;
    let Ok(NegotiateResponse::Accepted { transports, .. }) = parse_response(unknown) else { panic!("not accepted") };
    assert_eq!(transports, [Transport::LongPolling]);
}
