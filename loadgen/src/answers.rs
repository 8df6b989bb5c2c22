//! HTTP answers on a socket that carries one after the other, cut anywhere.

use fanfare_protocol::cursor::Progress;
use fanfare_protocol::http::body::BodyDecoder;
use fanfare_protocol::http::head::{HeadLimits, parse_response};

/// The answers of one socket, as far as they have come.
#[derive(Debug, Default)]
pub struct Answers {
    /// A head that has begun.
    head: Vec<u8>,
    /// The answer whose body is coming.
    current: Option<Answer>,
}

/// An answer whose head is known.
#[derive(Debug)]
struct Answer {
    answered: Answered,
    body: BodyDecoder,
}

/// A whole answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// Nothing more comes on this socket.
    pub last: bool,
}

/// What came next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'b> {
    /// A piece of the body of an answer with this status.
    Body(u16, &'b [u8]),
    /// The end of an answer.
    End(Answered),
}

impl Answers {
    /// Whether the socket is between two answers.
    pub fn at_rest(&self) -> bool {
        self.head.is_empty() && self.current.is_none()
    }

    /// The next part, taken off the front of `bytes`. `None`: more bytes are needed, all of these were taken.
    pub fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<Part<'b>>, String> {
        loop {
            if let Some(answer) = &mut self.current {
                if answer.body.is_done() {
                    let answered = answer.answered;
                    self.current = None;
                    return Ok(Some(Part::End(answered)));
                }
                if bytes.is_empty() {
                    return Ok(None);
                }
                let piece = answer.body.handle_bytes(bytes).map_err(|error| error.to_string())?;
                *bytes = &bytes[piece.consumed..];
                if !piece.data.is_empty() {
                    answer.answered.body_bytes += piece.data.len() as u64;
                    return Ok(Some(Part::Body(answer.answered.status, piece.data)));
                }
            } else if bytes.is_empty() || !self.take_head(bytes)? {
                return Ok(None);
            }
        }
    }

    /// Reads a head. Returns `false` when more bytes are needed.
    fn take_head(&mut self, bytes: &mut &[u8]) -> Result<bool, String> {
        let before = self.head.len();
        // A head that comes in one piece is read where it lies.
        let text = if before == 0 {
            *bytes
        } else {
            self.head.extend_from_slice(bytes);
            &self.head
        };
        let (head_bytes, answer) = match parse_response(text, &HeadLimits::default()) {
            Ok(Progress::NeedMore) => {
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
                *bytes = &[];
                return Ok(false);
            }
            Ok(Progress::Done(head, head_bytes)) => {
                let last = !head.keep_alive() || head.ends_with_connection();
                let answered = Answered { status: head.status(), body_bytes: 0, last };
                (head_bytes, Answer { answered, body: BodyDecoder::new(head.body_length(), usize::MAX) })
            }
            Err(error) => return Err(error.to_string()),
        };
        self.head.clear();
        *bytes = &bytes[head_bytes - before..];
        // "100 Continue" and its like are only a beginning.
        self.current = (answer.answered.status >= 200).then_some(answer);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<Answered>), String> {
        let (mut answers, mut body, mut ends) = (Answers::default(), Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while let Some(part) = answers.next(&mut rest)? {
                match part {
                    Part::Body(_, piece) => body.extend_from_slice(piece),
                    Part::End(answered) => ends.push(answered),
                }
            }
            assert!(rest.is_empty());
        }
        assert!(answers.at_rest());
        Ok((body, ends))
    }

    #[test]
    fn answers_cut_anywhere_are_the_same() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n, \r\n5\r\nworld\r\n0\r\n\r\n\
            HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        let answered = |status, body_bytes, last| Answered { status, body_bytes, last };
        let want =
            vec![answered(200, 0, false), answered(200, 5, false), answered(200, 7, false), answered(204, 0, true)];
        for cut in 0..=bytes.len() {
            let (body, ends) = read(&[&bytes[..cut], &bytes[cut..]]).expect("answers");
            assert_eq!((body.as_slice(), &ends), (b"hello, world".as_slice(), &want), "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), Ok((b"hello, world".to_vec(), want)));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(read(&[b"SSH-2.0-x\r\n\r\n"]).is_err());
        assert!(read(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"]).is_err());
    }
}
