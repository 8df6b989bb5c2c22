//! Server-sent events, as much of them as SignalR uses (spec 2.4): `data:` lines and the empty line that ends an event.

use crate::cursor::Sink;

/// The head of the answer to a request for events, and the comment that makes browsers report it as open. The body ends
/// with the connection. `headers` are further ones, see [`crate::http::response::write_head`].
pub fn write_head<S: Sink + ?Sized>(sink: &mut S, headers: &[(&str, &str)]) {
    let fixed = [
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-cache,no-store"),
        ("Pragma", "no-cache"),
        ("Content-Encoding", "identity"),
        // nginx would gather the events of a minute.
        ("X-Accel-Buffering", "no"),
        ("Connection", "close"),
    ];
    let all: Vec<(&str, &str)> = fixed.iter().chain(headers).copied().collect();
    crate::http::response::write_head(sink, 200, &all, None);
    sink.put(b":\r\n");
}

/// Wraps what is put into it as one event.
///
/// A line feed would end the `data:` line, so each line gets one of its own; a carriage return directly before it is
/// dropped. The reader puts the lines together again with line feeds. Other carriage returns must not occur: JSON
/// escapes them.
#[derive(Debug)]
pub struct EventWriter<S> {
    sink: S,
    /// A carriage return that is only written if no line feed follows.
    held: bool,
}

impl<S: Sink> EventWriter<S> {
    /// Begins an event.
    pub fn new(mut sink: S) -> Self {
        sink.put(b"data: ");
        Self { sink, held: false }
    }

    /// Ends the event.
    pub fn finish(mut self) -> S {
        if self.held {
            self.sink.put(b"\r");
        }
        self.sink.put(b"\r\n\r\n");
        self.sink
    }

    fn put_line(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        if std::mem::take(&mut self.held) {
            self.sink.put(b"\r");
        }
        match line.split_last() {
            Some((b'\r', rest)) => {
                self.sink.put(rest);
                self.held = true;
            }
            _ => self.sink.put(line),
        }
    }
}

impl<S: Sink> Sink for EventWriter<S> {
    fn put(&mut self, bytes: &[u8]) {
        let mut lines = bytes.split(|&byte| byte == b'\n');
        self.put_line(lines.next().unwrap_or_default());
        for line in lines {
            self.held = false;
            self.sink.put(b"\r\ndata: ");
            self.put_line(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Count;

    fn event(pieces: &[&[u8]]) -> Vec<u8> {
        let mut writer = EventWriter::new(Vec::new());
        let mut counter = EventWriter::new(Count::default());
        for piece in pieces {
            writer.put(piece);
            counter.put(piece);
        }
        let written = writer.finish();
        assert_eq!(counter.finish().0, written.len());
        written
    }

    #[test]
    fn an_event_holds_the_payload_as_it_is() {
        assert_eq!(event(&[b"{\"type\":6}\x1e"]), b"data: {\"type\":6}\x1e\r\n\r\n");
        assert_eq!(event(&[b""]), b"data: \r\n\r\n");
    }

    #[test]
    fn line_57_each_line_is_a_data_line() {
        assert_eq!(event(&[b"a\nb"]), b"data: a\r\ndata: b\r\n\r\n");
        assert_eq!(event(&[b"a\r\nb\n\nc"]), b"data: a\r\ndata: b\r\ndata: \r\ndata: c\r\n\r\n");
        assert_eq!(event(&[b"\n"]), b"data: \r\ndata: \r\n\r\n");
        assert_eq!(event(&[b"a\rb\r"]), b"data: a\rb\r\r\n\r\n");
    }

    #[test]
    fn pieces_may_be_cut_anywhere() {
        let text = b"{\"a\":\r\n 1,\n\r\n\"b\":2}\r\r\n\x1e";
        let whole = event(&[text]);
        for cut in 0..=text.len() {
            assert_eq!(event(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(event(&bytes), whole);
    }

    #[test]
    fn the_head_says_what_browsers_and_proxies_need() {
        let mut head = Vec::new();
        write_head(&mut head, &[("Vary", "Origin")]);
        let text = String::from_utf8(head).expect("ASCII");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"), "{text}");
        assert!(text.contains("\r\nCache-Control: no-cache,no-store\r\nPragma: no-cache\r\n"), "{text}");
        assert!(text.contains("X-Accel-Buffering: no\r\n") && text.contains("Vary: Origin\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n:\r\n"), "{text}");
    }
}
