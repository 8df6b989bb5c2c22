//! The smallest useful embedding: a hub with one method, and a publisher that ticks.
//!
//! `cargo run -p fanfare-engine --example embed_minimal`, then connect any SignalR client to
//! `http://127.0.0.1:9000/quotes`, listen for `tick`, and invoke `Shout`.

use std::error::Error;
use std::thread;
use std::time::Duration;

use fanfare_engine::{Answer, Context, Engine, HubHandler, HubOptions, Invocation, Payload, Value};

const TICKS: i64 = 600;

struct Quotes;

impl HubHandler for Quotes {
    fn invoke(&self, cx: &mut Context<'_>, call: &Invocation<'_>) -> Answer {
        if !call.is("Shout") {
            return Answer::Unknown;
        }
        // The caller's arguments go to everybody as they came: no parsing, one encoding for each hub protocol.
        match cx.all().send("shout", &Payload::Raw(call.arguments())) {
            Ok(()) => Answer::Void,
            Err(error) => Answer::Value(Value::Str(error.to_string())),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut engine = Engine::builder().listen("127.0.0.1:9000").hub("quotes", HubOptions::default(), Quotes).start()?;
    eprintln!("serving on {:?} for {TICKS} seconds", engine.local_addrs());
    let publisher = engine.publisher();
    for tick in 0..TICKS {
        publisher.all("quotes").send("tick", &Payload::Values(&[Value::Int(tick)]))?;
        thread::sleep(Duration::from_secs(1));
    }
    engine.drain(Duration::from_secs(5));
    Ok(())
}
