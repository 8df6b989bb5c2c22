use super::*;
use crate::audience::Shape;
use crate::fleet::Stay;
use crate::plan::{Pace, Until};
use fanfare_protocol::negotiate::Transport;

const TARGET: &str = "http://127.0.0.1:1/hub";

fn parse(text: &str, adjust: &Adjustments) -> Result<(Parts, Vec<Threshold>), Failure> {
    Scenario { place: "own.toml".to_owned(), text: text.to_owned() }.parts(adjust)
}

fn to(target: &str) -> Adjustments {
    Adjustments { target: Some(target.to_owned()), ..Adjustments::default() }
}

#[test]
fn every_shipped_scenario_is_understood_and_named_after_itself() {
    for (name, about) in Scenario::shipped() {
        assert!(!about.is_empty(), "{name}");
        let (parts, _) = Scenario::find(name).and_then(|found| found.parts(&to(TARGET))).expect(name);
        assert_eq!(parts.scenario.as_deref(), Some(name));
        assert_eq!(parts.connections, parts.classes.iter().map(|class| class.connections).sum::<u32>(), "{name}");
    }
    assert_eq!(Scenario::shipped().count(), 12);
}

#[test]
fn a_whole_scenario_becomes_what_it_says() {
    let text = r#"
        name = "trading floor"
        seed = 9
        target = "http://127.0.0.1:1/floor"
        duration = "60s"
        warmup = "10s"
        [[clients]]
        name = "screens"
        count = 2000
        ramp = "1000/s"
        protocol = "messagepack"
        groups = { pick = 5, of = 400, skew = "zipf:1.1" }
        reconnect = "sdk"
        [[clients]]
        name = "phones"
        count = 100
        ramp = "50/s"
        transport = "ws=80,sse=10,lp=10"
        [[clients]]
        name = "sleepers"
        count = 10
        read = { rate = "20KiB/s", receive_buffer = "64KiB" }
        [[load]]
        kind = "group"
        via = "client"
        rate = { steps = ["500/s", "1000/s", "2000/s"], each = "20s" }
        size = "lognormal:300B:1.2"
        [[fault]]
        at = "30s"
        kind = "storm"
        part = 0.5
        [thresholds]
        "screens.last.p99" = "< 25ms"
        "missing" = "== 0"
    "#;
    let adjust = Adjustments { scale: 0.1, duration: Some(Duration::from_secs(6)), ..Adjustments::default() };
    let (parts, thresholds) = parse(text, &adjust).expect("good");
    assert_eq!((parts.seed, parts.connections, parts.target_place.as_str()), (9, 210, "own.toml:4"));
    assert_eq!(parts.connect_rate, Some(1050.0));
    let classes: Vec<_> = parts.classes.iter().map(|class| (class.name.as_str(), class.connections)).collect();
    let phones = [("phones-ws-json", 4), ("phones-sse-json", 1)];
    assert_eq!(classes[..4], [("screens", 100), ("screens-cut", 100), phones[0], phones[1]], "{classes:?}");
    assert_eq!(parts.classes[1].stay, Stay::UntilCut);
    assert_eq!(parts.classes[3].transport, Transport::ServerSentEvents);
    // The timetable keeps its proportions.
    assert_eq!(parts.visits.cuts, [Duration::from_secs(3)]);
    let load = parts.task.load().expect("a load");
    assert_eq!(load.shape, Shape::Groups { of: 40, pick: 5, skew_milli: 1100 });
    assert_eq!(load.plan.until, Until::Elapsed { ns: 6_000_000_000 });
    assert!(load.plan.steps.is_some_and(|steps| steps.duration_ns() == 6_000_000_000));
    assert!(matches!(load.plan.pace, Pace::Open { messages_per_s, .. } if messages_per_s == 50.0));
    assert_eq!((load.stalled.connections, load.stalled.receive_buffer_bytes), (1, Some(65_536)));
    let found: Vec<_> = thresholds.iter().map(|threshold| (threshold.class(), threshold.metric())).collect();
    assert_eq!(found, [(None, "missing"), (Some("screens"), "last.p99")]);
}

/// A scenario that is good but for `line`, which stands in line 7 of it.
fn with(line: &str) -> Failure {
    let text = format!(
        "name = \"x\"\nduration = \"10s\"\n[[clients]]\nname = \"a\"\ncount = 5\n# next\n{line}\n[[load]]\nkind = \"broadcast\"\nrate = \"5/s\"\n"
    );
    parse(&text, &to(TARGET)).expect_err(line)
}

#[test]
fn mistakes_name_file_line_cause_and_remedy() {
    for (line, cause) in [
        ("colour = \"red\"", "unknown field `colour`"),
        ("transport = \"udp\"", "none of"),
        ("protocol = \"xml\"", "none of"),
        ("ramp = \"fast\"", "does not start with a number"),
        ("stay = \"soon\"", "number"),
        ("reconnect = \"never\"", "not a way to come back"),
        ("groups = { pick = 1 }", "missing field `of`"),
        ("groups = { pick = 1, of = 5, size = 3 }", "unknown field `size`"),
        ("count = 6", "duplicate key"),
        ("read = { rate = \"slow\" }", "not a rate"),
        ("[[clients]]\nname = \"a\"\ncount = 1", "already"),
        ("[[clients]]\nname = \"a b\"\ncount = 1", "not a name"),
        ("[[clients]]\nname = \"b\"\ncount = 0", "no clients"),
        ("[[clients]]\nname = \"b\"\ncount = \"many\"", "expected u32"),
        ("[[load]]\nkind = \"shout\"\nrate = \"5/s\"", "one scenario carries one"),
        ("[[fault]]\nat = \"1s\"\nkind = \"fire\"", "not a fault"),
        ("[[fault]]\nat = \"11s\"\nkind = \"storm\"", "not before the end"),
        ("[[fault]]\nat = \"1s\"\nkind = \"storm\"\npart = 1.5", "not a part"),
        ("[thresholds]\nspeed = \"< 1\"", "not a figure"),
        ("this is no toml", "expected"),
    ] {
        let failure = with(line);
        assert_eq!(failure.exit, Exit::BadFile, "{line}: {failure}");
        let number = failure.place.strip_prefix("own.toml:").and_then(|line| line.parse::<u32>().ok());
        assert!(number.is_some_and(|number| (7..=11).contains(&number)), "{line}: {failure}");
        assert!(!failure.remedy.is_empty(), "{line}: {failure}");
        assert!(failure.cause.contains(cause), "{line}: {failure}");
    }
}

/// A scenario with one load, which stands in lines 5 and on.
fn with_load(load: &str) -> Failure {
    let text = format!("name = \"x\"\n[[clients]]\nname = \"a\"\ncount = 5\n[[load]]\n{load}\n");
    parse(&text, &to(TARGET)).expect_err(load)
}

#[test]
fn loads_that_cannot_be_sent_are_explained() {
    for (load, cause) in [
        ("kind = \"shout\"\nrate = \"5/s\"", "not a kind of load"),
        ("kind = \"broadcast\"", "needs one rate"),
        ("kind = \"broadcast\"\nrate = \"5/s\"\nrate_each = \"1/s\"", "needs one rate"),
        ("kind = \"broadcast\"\nrate = \"5/parsec\"", "not a rate"),
        ("kind = \"broadcast\"\nrate = 5", "expected a rate"),
        ("kind = \"broadcast\"\nrate = { steps = [], each = \"1s\" }", "0 steps"),
        ("kind = \"broadcast\"\nrate = { steps = [\"1/s\"] }", "missing field `each`"),
        ("kind = \"broadcast\"\nrate = \"5/s\"\nvia = \"rest\"", "cannot be published through yet"),
        ("kind = \"broadcast\"\nrate = \"5/s\"\nsize = \"normal:3\"", "does not start with a number"),
        ("kind = \"broadcast\"\nrate = \"5/s\"\narrival = \"never\"", "not a spacing"),
        ("kind = \"broadcast\"\nrate = \"5/s\"\nusers = 3", "users means nothing"),
        ("kind = \"broadcast\"\nrate = \"5/s\"\narguments = \"to\"", "payload must be passed once"),
        ("kind = \"group\"\nrate = \"5/s\"", "nobody is in one"),
    ] {
        let failure = with_load(load);
        assert!(failure.cause.contains(cause), "{load}: {failure}");
        assert!(failure.place.starts_with("own.toml:"), "{load}: {failure}");
        assert_eq!(failure.exit, Exit::BadFile, "{load}: {failure}");
    }
}

#[test]
fn targets_and_files_that_are_not_there_are_explained() {
    let clients = "[[clients]]\nname = \"a\"\ncount = 5\n";
    let failure = parse(&format!("name = \"x\"\n{clients}"), &Adjustments::default()).expect_err("no target");
    assert!(failure.remedy.contains("--target"), "{failure}");
    let text = format!("name = \"x\"\ntarget = \"$NO_SUCH_TARGET_HERE\"\n{clients}");
    let failure = parse(&text, &Adjustments::default()).expect_err("no variable");
    assert!(failure.cause.contains("NO_SUCH_TARGET_HERE") && failure.place == "own.toml:2", "{failure}");
    let failure = Scenario::find("chatt").expect_err("no such scenario");
    assert!(failure.remedy.contains("chat, quotes"), "{failure}");
    let failure = Scenario::find("./nowhere.toml").expect_err("no such file");
    assert_eq!((failure.exit, failure.place.as_str()), (Exit::BadFile, "./nowhere.toml"));
    let failure = parse("name = \"x\"\n", &to(TARGET)).expect_err("nobody");
    assert!(failure.cause.contains("without clients"), "{failure}");
}
