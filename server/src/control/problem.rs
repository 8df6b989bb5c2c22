//! Refusals of the HTTP listeners as `application/problem+json` (RFC 9457), with our number in them.

use fanfare_protocol::http::response::reason_phrase;

use super::http::Answer;
use crate::failure::Code;

/// Media type of every refusal.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

/// The body of a refusal. The type is a URN, so that nothing points at the internet.
pub(crate) fn body(status: u16, code: Code, detail: &str) -> String {
    let problem = serde_json::json!({
        "type": format!("urn:fanfare:{code}"),
        "title": reason_phrase(status),
        "status": status,
        "detail": detail,
        "code": code.to_string(),
    });
    problem.to_string()
}

/// A refusal as an answer of the admin listener.
pub(crate) fn answer(status: u16, code: Code, detail: &str) -> Answer {
    Answer::new(status, CONTENT_TYPE, body(status, code, detail).into_bytes())
}
