//! `fanfare send`: one message through a hub that lets clients publish.

use std::process::ExitCode;
use std::time::Instant;

use fanfare_protocol::hub::Format;
use serde_json::Value;

use crate::cli::{RecipientArgs, SendArgs};
use crate::client::{Called, Client, Options};
use crate::dial::{self, Credentials};
use crate::failure::{Code, Failure, exit};
use crate::output::say;
use crate::units::human_duration;
use crate::url::ServerUrl;

/// Runs the verb.
pub(crate) fn run(args: &SendArgs) -> Result<ExitCode, Failure> {
    let url = ServerUrl::parse(&args.hub.url)?;
    let (method, recipient, whom) = method_of(&args.to);
    let mut parts: Vec<String> = recipient.into_iter().map(|name| Value::from(name).to_string()).collect();
    parts.push(Value::from(args.target.as_str()).to_string());
    for (index, text) in args.arguments.iter().enumerate() {
        parts.push(check_argument(index, text)?.to_owned());
    }
    let arguments = format!("[{}]", parts.join(","));
    let token = args.hub.token_file.as_deref().map(dial::read_token).transpose()?;
    let who = Credentials { user: None, token: token.as_deref() };
    let options = Options { url: &url, hub: &args.hub.hub, who, format: Format::Json, watch: None };
    let mut client = Client::connect(options)?;
    let begin = Instant::now();
    let outcome = client.invoke(method, arguments.as_bytes(), |_| {})?;
    let took = begin.elapsed();
    client.goodbye();
    match outcome {
        Called::Answered => {
            let line = format!("sent {} to {whom} of {} in {}", args.target, args.hub.hub, human_duration(took));
            // It has been sent, whether or not that can be told.
            let _ = say(&line);
            Ok(ExitCode::SUCCESS)
        }
        Called::Interrupted => Ok(ExitCode::from(exit::INTERRUPTED)),
    }
}

/// The relay's method for a recipient, the argument that names it, and how to speak of it.
fn method_of(to: &RecipientArgs) -> (&'static str, Option<&str>, String) {
    if let Some(group) = &to.group {
        ("SendToGroup", Some(group), format!("group {group}"))
    } else if let Some(user) = &to.user {
        ("SendToUser", Some(user), format!("user {user}"))
    } else if let Some(id) = &to.connection {
        ("SendToConnection", Some(id), format!("connection {id}"))
    } else {
        // This client is about to leave, so "all" need not include it.
        ("SendToOthers", None, "every client".to_owned())
    }
}

/// One argument, known to be JSON. It travels as it was typed, so that a long number keeps its digits.
fn check_argument(index: usize, text: &str) -> Result<&str, Failure> {
    serde_json::from_str::<Value>(text).map(|_| text.trim()).map_err(|error| {
        let quoted = Value::from(text).to_string();
        Failure::new(Code::BadJson, format!("argument {} is not JSON", index + 1))
            .fact("given", crate::units::printable(text))
            .fact("why", error.to_string())
            .fix(format!("for a text, write '{quoted}'"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_that_is_not_json_is_shown_as_the_text_it_was_meant_to_be() {
        let refusal = check_argument(1, "hello").expect_err("not JSON").to_string();
        assert!(refusal.starts_with("error FF1007  argument 2 is not JSON"), "{refusal}");
        assert!(refusal.contains(r#"write '"hello"'"#), "{refusal}");
        assert_eq!(
            check_argument(0, " 123456789012345678901234567890 ").expect("JSON"),
            "123456789012345678901234567890"
        );
    }
}
