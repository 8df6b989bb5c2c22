//! Server-sent events, cut anywhere: the stream of `data:` lines that a SignalR server sends (spec 2.4).
//!
//! Read as browsers read them: lines end with CR LF, LF or CR; the lines of one event are joined with line feeds; comments
//! and other fields are skipped. Data is handed out where it lies, line by line.

use fanfare_protocol::http::body::BodyDecoder;

/// The field that carries data.
const DATA: &[u8] = b"data:";

/// What came next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'b> {
    /// A piece of the data of an event.
    Data(&'b [u8]),
    /// The event has ended.
    End,
}

/// Where in a line the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// So many bytes of `data:` have come.
    Field(u8),
    /// After the colon: one blank is not data.
    Blank,
    /// In data.
    Data,
    /// In a comment or another field.
    Skipped,
}

/// Takes lines apart.
#[derive(Clone, Debug)]
pub struct Lines {
    at: At,
    /// A line feed that comes now belongs to the carriage return before it.
    after_cr: bool,
    /// The event has a `data:` line already.
    has_data: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self { at: At::Field(0), after_cr: false, has_data: false }
    }
}

impl Lines {
    /// Whether the stream is between two events.
    pub fn at_rest(&self) -> bool {
        self.at == At::Field(0) && !self.after_cr && !self.has_data
    }

    /// The next part, taken off the front of `bytes`. `None`: more bytes are needed, all of these were taken.
    pub fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Option<Part<'b>> {
        while let Some(&byte) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                *bytes = &bytes[1..];
                continue;
            }
            let part = match self.at {
                At::Field(matched) => self.take_field(matched, byte, bytes),
                At::Blank => {
                    self.at = At::Data;
                    if byte == b' ' {
                        *bytes = &bytes[1..];
                    }
                    None
                }
                At::Data => Some(Part::Data(self.take_line(bytes))).filter(|&part| part != Part::Data(b"")),
                At::Skipped => {
                    self.take_line(bytes);
                    None
                }
            };
            if part.is_some() {
                return part;
            }
        }
        None
    }

    /// One byte of a field's name, or of the empty line that ends an event.
    fn take_field<'b>(&mut self, matched: u8, byte: u8, bytes: &mut &'b [u8]) -> Option<Part<'b>> {
        let name = usize::from(matched);
        if is_line_end(byte) {
            self.end_line(byte, bytes);
            return match name {
                0 => std::mem::take(&mut self.has_data).then_some(Part::End),
                // A field without a colon has no value.
                _ if name + 1 == DATA.len() => self.begin_data(),
                _ => None,
            };
        }
        if byte != DATA[name] {
            self.at = At::Skipped;
            return None;
        }
        *bytes = &bytes[1..];
        if name + 1 < DATA.len() {
            self.at = At::Field(matched + 1);
            return None;
        }
        self.at = At::Blank;
        self.begin_data()
    }

    /// A further line of the event is joined to the one before.
    fn begin_data(&mut self) -> Option<Part<'static>> {
        std::mem::replace(&mut self.has_data, true).then_some(Part::Data(b"\n"))
    }

    /// The rest of the line as far as it has come.
    fn take_line<'b>(&mut self, bytes: &mut &'b [u8]) -> &'b [u8] {
        let end = line_end(bytes);
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        *bytes = rest;
        if let Some(&byte) = rest.first() {
            self.end_line(byte, bytes);
        }
        line
    }

    fn end_line(&mut self, byte: u8, bytes: &mut &[u8]) {
        *bytes = &bytes[1..];
        self.after_cr = byte == b'\r';
        self.at = At::Field(0);
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Where the line ends, looked for in strides that the compiler turns into vector code.
fn line_end(bytes: &[u8]) -> Option<usize> {
    const STRIDE: usize = 32;
    let without = |stride: &&[u8]| !stride.iter().fold(false, |found, &byte| found | is_line_end(byte));
    let skipped = bytes.chunks_exact(STRIDE).take_while(without).count() * STRIDE;
    bytes[skipped..].iter().position(|&byte| is_line_end(byte)).map(|at| skipped + at)
}

/// The body of the answer to a request for events.
#[derive(Debug, Default)]
pub struct EventStream {
    /// `None`: it ends with the socket.
    body: Option<BodyDecoder>,
    lines: Lines,
}

impl EventStream {
    /// A body in chunks, or of a length of its own; [`EventStream::default`] is one that ends with the socket.
    pub fn in_body(body: BodyDecoder) -> Self {
        Self { body: Some(body), lines: Lines::default() }
    }

    /// Whether [`EventStream::default`] would do as well.
    pub fn at_rest(&self) -> bool {
        self.body.is_none() && self.lines.at_rest()
    }

    /// Whether the server has ended the body.
    pub fn is_over(&self) -> bool {
        self.body.as_ref().is_some_and(BodyDecoder::is_done)
    }

    /// Takes a run of events off the front of `bytes`: hand it to [`EventStream::lines`]. Empty when there is none.
    pub fn take_run<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<&'b [u8], String> {
        let Some(body) = &mut self.body else { return Ok(std::mem::take(bytes)) };
        let piece = body.handle_bytes(bytes).map_err(|error| format!("body of the events: {error}"))?;
        *bytes = &bytes[piece.consumed..];
        Ok(piece.data)
    }

    /// What takes the lines apart.
    pub fn lines(&mut self) -> &mut Lines {
        &mut self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_protocol::cursor::Sink;
    use fanfare_protocol::http::head::BodyLength;
    use fanfare_protocol::sse::EventWriter;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut events, mut data) = (Lines::default(), Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while let Some(part) = lines.next(&mut rest) {
                match part {
                    Part::Data(piece) => data.extend_from_slice(piece),
                    Part::End => events.push(String::from_utf8(std::mem::take(&mut data)).expect("text")),
                }
            }
            assert!(rest.is_empty());
        }
        events
    }

    #[test]
    fn events_cut_anywhere_are_the_same() {
        for (bytes, want) in [
            (":\r\n\r\ndata: {\"type\":6}\x1e\r\n\r\ndata: b\r\n\r\n", &["{\"type\":6}\x1e", "b"][..]),
            ("data:a\n\ndata: b\ndata:  c\n\n", &["a", "b\n c"]),
            ("data: a\r\rdata: b\rdata: c\r\r", &["a", "b\nc"]),
            ("event: x\r\nid: 7\r\ndata: a\r\nretry: 5\r\ndata: b\r\n\r\n", &["a\nb"]),
            ("datax: no\r\n\r\ndat\r\n\r\ndata\r\ndata: a\r\n\r\n\r\n", &["\na"]),
            ("data:\r\n\r\n: comment\n\ndata: \r\ndata:\r\n\r\n", &["", "\n"]),
        ] {
            for cut in 0..=bytes.len() {
                let pieces = [&bytes.as_bytes()[..cut], &bytes.as_bytes()[cut..]];
                assert_eq!(read(&pieces), want, "{bytes:?} cut at {cut}");
            }
            let single: Vec<&[u8]> = bytes.as_bytes().chunks(1).collect();
            assert_eq!(read(&single), want, "{bytes:?}");
        }
    }

    #[test]
    fn what_the_writer_wraps_the_reader_unwraps() {
        for text in ["", "a", "a\nb", "\n", "{\"a\":1,\n\"b\":2}\x1e", &"x".repeat(700)] {
            let mut writer = EventWriter::new(Vec::new());
            writer.put(text.as_bytes());
            assert_eq!(read(&[&writer.finish()]), [text]);
        }
    }

    #[test]
    fn only_the_whole_of_an_event_leaves_the_stream_at_rest() {
        let bytes = b"data: abc\r\n\r\n";
        for cut in 0..=bytes.len() {
            let mut lines = Lines::default();
            let mut rest = &bytes[..cut];
            while lines.next(&mut rest).is_some() {}
            assert_eq!(lines.at_rest(), cut == 0 || cut == bytes.len(), "cut at {cut}");
        }
    }

    #[test]
    fn a_body_in_chunks_is_unwrapped_first() {
        let bytes = b"8\r\ndata: ab\r\n6\r\nc\r\n\r\nd\r\n0\r\n\r\n";
        for cut in 0..=bytes.len() {
            let mut stream = EventStream::in_body(BodyDecoder::new(BodyLength::Chunked, usize::MAX));
            let mut data = Vec::new();
            for piece in [&bytes[..cut], &bytes[cut..]] {
                let mut rest = piece;
                while !rest.is_empty() && !stream.is_over() {
                    let mut run = stream.take_run(&mut rest).expect("chunks");
                    while let Some(part) = stream.lines().next(&mut run) {
                        data.push(format!("{part:?}"));
                    }
                }
            }
            let text = data.concat();
            assert!(text.ends_with("End") && text.contains("99"), "{text} cut at {cut}");
            assert!(stream.is_over() && !stream.at_rest());
        }
    }
}
