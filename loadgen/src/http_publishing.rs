//! The conversation of a publisher that POSTs: answers counted, the socket dialled again when the server closes it.

use crate::answers::Part;
use crate::client::{HttpAnswers, Mid, State};
use crate::worker::Worker;
use fanfare_engine::io::{Dial, Slot};

impl<D: Dial> Worker<D> {
    /// Answers to published POSTs.
    pub(crate) fn take_answers(&mut self, slot: Slot, bytes: &[u8]) {
        let mut answers = match self.take_mid(slot).map(|mid| *mid) {
            Some(Mid::Http(answers)) => answers,
            _ => Box::default(),
        };
        let result = answers.take(bytes);
        let last = answers.last && answers.outstanding == 0;
        self.put_mid(slot, Mid::Http(answers));
        match result {
            Err(text) => {
                self.setup.shared.refuse(text.clone());
                self.break_off(slot, text);
            }
            Ok(()) if last => self.http_ended(slot),
            Ok(()) => {}
        }
    }

    /// The server has closed a publishing connection: dial again, unless something was still unanswered.
    pub(crate) fn http_ended(&mut self, slot: Slot) {
        let outstanding = match self.take_mid(slot).map(|mid| *mid) {
            Some(Mid::Http(answers)) => answers.outstanding,
            _ => 0,
        };
        if outstanding > 0 {
            let text = format!(
                "the server closed the publishing connection with {outstanding} POSTs unanswered (raise its keep-alive limit)"
            );
            self.setup.shared.refuse(text.clone());
            self.break_off(slot, text);
            return;
        }
        self.count_open(u32::MAX);
        self.opening += 1;
        let now_us = self.now_us();
        let conn = &mut self.conns[slot.0 as usize];
        conn.start_us = now_us;
        conn.state = State::Renewing;
        let conn = *conn;
        self.drop_outbox(slot);
        self.io.close(slot, conn.generation, conn.poll_armed, conn.poll_out_armed);
    }
}

impl HttpAnswers {
    /// Reads answers to POSTs. An error text when one is not 2xx or not HTTP.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while let Some(part) = self.answers.next(&mut bytes).map_err(|text| format!("POST: {text}"))? {
            match part {
                Part::End(answered) if !(200..300).contains(&answered.status) => {
                    return Err(format!("POST answered with status {}", answered.status));
                }
                Part::End(answered) => {
                    self.last |= answered.last;
                    self.outstanding = self.outstanding.saturating_sub(1);
                }
                Part::Body(..) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[test]
    fn post_answers_are_counted_wherever_they_are_cut() {
        let mut bytes = response("202 Accepted", "queued: 1");
        bytes.extend(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        bytes.extend(response("200 OK", ""));
        for cut in 0..=bytes.len() {
            let mut answers = HttpAnswers { outstanding: 3, ..HttpAnswers::default() };
            answers.take(&bytes[..cut]).expect("fine");
            answers.take(&bytes[cut..]).expect("fine");
            assert_eq!(answers.outstanding, 0, "cut at {cut}");
        }
        let mut answers = HttpAnswers { outstanding: 1, ..HttpAnswers::default() };
        assert!(answers.take(&response("403 Forbidden", "")).is_err_and(|text| text.contains("403")));
    }
}
