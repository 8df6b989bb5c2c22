//! `fanfare bench` reaches the load generator, and the server has the methods that it calls by default.

mod support;

use support::{Fanfare, Server};

fn bench(arguments: &[&str]) -> (i32, String) {
    Fanfare::start(&[&["bench"], arguments].concat()).code()
}

#[test]
fn every_load_that_needs_no_flag_runs_against_a_server_as_it_is() {
    let server = Server::dev(&[]);
    let url = format!("{}/demo", server.url());
    for command in ["broadcast", "group", "user", "p2p", "echo", "stream"] {
        let amount = ["-n", "20", "--rate", "200/s", "--messages", "60", "--warmup", "0", "--quiet"];
        let (code, said) = bench(&[&[command, "--target", &url], &amount[..]].concat());
        // 7: a busy machine starves the generator, which says so; the ledger is what counts here.
        assert!([0, 7].contains(&code), "{command}: {code} {said}");
        assert!(said.contains("| 0 missing | 0 duplicate | 0 out of order | 0 corrupt | 0 misrouted"), "{said}");
    }
}

#[test]
fn a_scenario_runs_by_its_name() {
    let server = Server::dev(&[]);
    let url = format!("{}/demo", server.url());
    let flags = ["--scale", "0.01", "--duration", "500ms", "--warmup", "0", "--quiet"];
    let (code, said) = bench(&[&["run", "notifications", "--target", &url], &flags[..]].concat());
    assert!([0, 7].contains(&code) && said.contains("scenario  notifications"), "{code} {said}");
}

#[test]
fn its_exit_codes_and_mistakes_are_those_of_the_generator() {
    let (code, said) = bench(&["run", "--list"]);
    assert!(code == 0 && said.contains("million-idle"), "{said}");
    let (code, said) = bench(&["self-check", "--period", "20ms", "--rate", "1000000000/s"]);
    assert!(code == 7 && said.contains("CANNOT CARRY IT"), "{code} {said}");
    let (code, said) = bench(&["run", "./no-such-file.toml"]);
    assert!(code == 3 && said.contains("where: ./no-such-file.toml"), "{code} {said}");
    let (code, said) = bench(&["broadcast", "--target", "wss://localhost/"]);
    assert!(code == 2 && said.contains("TLS"), "{code} {said}");
    let (code, said) = bench(&["broadcast", "--targt", "x"]);
    assert!(code == 2 && said.contains("did you mean `--target`?"), "{code} {said}");
}
