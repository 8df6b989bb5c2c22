//! `listen` and `send` against a running server: the same road as any client's.

mod support;

use support::{Fanfare, Server, Signal, get};

/// Starts a listener and waits until it is connected; its connection id.
fn listener(server: &Server, more: &[&str]) -> (Fanfare, String) {
    let mut process = server.spawn("listen", more);
    let line = process.line("connected  id=");
    let id = line.split("id=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an id").to_owned();
    (process, id)
}

#[test]
fn a_message_to_all_reaches_every_listener_in_both_protocols() {
    let server = Server::dev(&[]);
    let (json, _) = listener(&server, &["--count", "1"]);
    let (messagepack, _) = listener(&server, &["--count", "1", "--protocol", "messagepack"]);
    let (status, said) = server.run("send", &["--all", "greet", "\"hello\"", "{\"n\":1}", "[null,true,2.5]"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.starts_with("sent greet to every client of demo in "), "{said}");
    for process in [json, messagepack] {
        let (status, said) = process.code();
        assert_eq!(status, 0, "{said}");
        assert!(said.lines().any(|line| line == r#"greet  "hello" {"n":1} [null,true,2.5]"#), "{said}");
    }
}

#[test]
fn a_group_a_user_and_a_connection_are_reached_alone() {
    let server = Server::dev(&[]);
    let (mut red, _) = listener(&server, &["--group", "red"]);
    red.line("joined     group=red");
    let (mut ana, _) = listener(&server, &["--user", "ana"]);
    let (mut one, id) = listener(&server, &[]);
    for to in [["--group", "red"], ["--user", "ana"], ["--connection", &id]] {
        let (status, said) = server.run("send", &[to[0], to[1], "only", &format!("\"{}\"", to[0])]);
        assert_eq!(status, 0, "{said}");
    }
    let (status, said) = server.run("send", &["--all", "last"]);
    assert_eq!(status, 0, "{said}");
    for (process, expected) in [(&mut red, "--group"), (&mut ana, "--user"), (&mut one, "--connection")] {
        // The first message is the own one, the next one that to all: nothing of the others in between.
        assert_eq!(process.line("  \""), format!("only  \"{expected}\""));
        assert_eq!(process.line("last"), "last");
    }
}

#[test]
fn frames_are_shown_as_they_went_over_the_wire() {
    let server = Server::dev(&[]);
    let (process, _) = listener(&server, &["--frames", "--count", "1", "--group", "g"]);
    let (status, said) = server.run("send", &["--all", "t", "1"]);
    assert_eq!(status, 0, "{said}");
    let (_, said) = process.code();
    for frame in [
        "-> {\"protocol\":\"json\",\"version\":1}\u{241e}",
        "<- {}\u{241e}",
        "-> {\"type\":1,\"invocationId\":\"0\",\"target\":\"JoinGroup\",\"arguments\":[\"g\"]}\u{241e}",
        "<- {\"type\":1,\"target\":\"t\",\"arguments\":[1]}\u{241e}",
    ] {
        assert!(said.lines().any(|line| line == frame), "{frame} is not in\n{said}");
    }
}

#[test]
fn only_the_targets_asked_for_are_printed() {
    let server = Server::dev(&[]);
    let (process, _) = listener(&server, &["--on", "WANTED", "--count", "1"]);
    for target in ["other", "wanted"] {
        let (status, said) = server.run("send", &["--all", target]);
        assert_eq!(status, 0, "{said}");
    }
    let (_, said) = process.code();
    assert!(said.contains("wanted") && !said.contains("other"), "{said}");
}

#[test]
fn a_server_that_lets_nobody_publish_says_which_flag_rules() {
    let server = Server::serve(&[]);
    let (status, said) = server.run("send", &["--all", "greet"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("FF4009") && said.contains("--client-publish off"), "{said}");
    let server = Server::serve(&["--client-publish", "on"]);
    assert_eq!(server.run("send", &["--all", "greet"]).0, 0);
}

#[test]
fn serve_does_not_believe_a_name_in_the_url() {
    let server = Server::serve(&["--client-publish", "on"]);
    let (mut ana, _) = listener(&server, &["--user", "ana"]);
    assert_eq!(server.run("send", &["--user", "ana", "secret"]).0, 0);
    assert_eq!(server.run("send", &["--all", "last"]).0, 0);
    assert_eq!(ana.line("s"), "last");
}

#[test]
fn two_hubs_of_one_server_do_not_hear_each_other() {
    let server = Server::dev(&["--hub", "red", "--hub", "blue"]);
    let (mut red, _) = listener(&server, &["--hub", "red"]);
    assert_eq!(server.run("send", &["--hub", "blue", "--all", "blue"]).0, 0);
    assert_eq!(server.run("send", &["--hub", "red", "--all", "red"]).0, 0);
    assert_eq!(red.line("e"), "red");
}

#[test]
fn a_wrong_hub_and_a_dead_port_are_named() {
    let server = Server::dev(&[]);
    let (status, said) = server.run("listen", &["--hub", "nope"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("FF4002") && said.contains("/nope is not a hub") && said.contains("404"), "{said}");
    let (status, said) = Fanfare::start(&["listen", "--url", "http://127.0.0.1:1"]).code();
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("FF4001") && said.contains("127.0.0.1:1") && said.contains("fanfare dev"), "{said}");
}

#[test]
fn an_interrupted_listener_says_goodbye() {
    let server = Server::dev(&[]);
    let (process, _) = listener(&server, &[]);
    process.signal(Signal::INT);
    let (status, said) = process.code();
    assert_eq!(status, 130, "{said}");
    let metrics = get(server.admin, "/metrics").body;
    assert!(metrics.contains("fanfare_connections_closed_total{reason=\"normal\"} 1"), "{metrics}");
}

#[test]
fn metrics_count_what_passed() {
    let server = Server::dev(&[]);
    let (process, _) = listener(&server, &["--count", "1"]);
    let metrics = get(server.admin, "/metrics").body;
    assert!(metrics.contains("fanfare_connections{hub=\"demo\"} 1"), "{metrics}");
    assert_eq!(server.run("send", &["--all", "greet"]).0, 0);
    assert_eq!(process.code().0, 0);
    let metrics = get(server.admin, "/metrics").body;
    for line in [
        "fanfare_connections_opened_total 2",
        "fanfare_invocations_total 1",
        "fanfare_publishes_total 1",
        "fanfare_messages_sent_total{kind=\"fanout\"} 1",
        "fanfare_dropped_messages_total{reason=\"slow_closed\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}
