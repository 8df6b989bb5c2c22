//! Header lines: a fixed table of where they are, and what the framing ones among them say.

use super::head::{BodyLength, HEADERS_MAX, Version};
use super::scan::{find_cr, is_token, is_token_byte, line_at, trim};
use crate::error::HttpError;

/// A range of the head. Heads are at most 65 535 bytes long, see [`super::head::HeadLimits`].
#[derive(Clone, Copy, Default)]
struct Span {
    start: u16,
    len: u16,
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u16, len: (end - start) as u16 }
    }

    fn of_head(self, head: &[u8]) -> &[u8] {
        let start = usize::from(self.start);
        &head[start..start + usize::from(self.len)]
    }
}

/// Where one header line stands.
#[derive(Clone, Copy, Default)]
struct Field {
    name: Span,
    value: Span,
}

/// The header lines of one head, by position. 8 bytes a line, no allocation.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    head: &'a [u8],
    table: [Field; HEADERS_MAX],
    count: usize,
    framing_lines: FramingLines,
}

/// The lines every head is asked for, noted on the way so that nobody has to search for them.
#[derive(Clone, Copy, Default)]
struct FramingLines {
    host: Line,
    length: Line,
    coding: Line,
    has_connection: bool,
}

/// A line that may stand once.
#[derive(Clone, Copy, Default)]
enum Line {
    #[default]
    Absent,
    /// The value.
    Once(Span),
    Repeated,
}

impl Line {
    fn note(&mut self, value: Span) {
        *self = if matches!(self, Self::Absent) { Self::Once(value) } else { Self::Repeated };
    }

    fn value(self, head: &[u8], repeated: HttpError) -> Result<Option<&[u8]>, HttpError> {
        match self {
            Self::Absent => Ok(None),
            Self::Once(value) => Ok(Some(value.of_head(head))),
            Self::Repeated => Err(repeated),
        }
    }
}

/// How the message after the head is delimited, and whether another may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) body: BodyLength,
    pub(super) keep_alive: bool,
}

impl<'a> Fields<'a> {
    /// No lines of `head`, which starts at the start line and whose end [`super::scan::HeadEnd`] has found.
    pub(super) fn new(head: &'a [u8]) -> Self {
        Fields { head, table: [Field::default(); HEADERS_MAX], count: 0, framing_lines: FramingLines::default() }
    }

    /// Reads the header lines from `start` to the empty line.
    pub(super) fn read(&mut self, start: usize, headers_max: usize) -> Result<(), HttpError> {
        let head = self.head;
        let mut at = start;
        while head.get(at).is_some_and(|&byte| byte != b'\r') {
            if self.count == headers_max.min(HEADERS_MAX) {
                return Err(HttpError::TooManyHeaders);
            }
            let name_len = head[at..].iter().position(|&byte| !is_token_byte(byte)).unwrap_or_default();
            let colon = at + name_len;
            if name_len == 0 || head[colon] != b':' {
                return Err(name_error(line_at(head, at)));
            }
            let cr = find_cr(head, colon + 1);
            let blanks = |byte: &&u8| matches!(byte, b' ' | b'\t');
            let value_start = colon + 1 + head[colon + 1..cr].iter().take_while(blanks).count();
            let value_end = cr - head[value_start..cr].iter().rev().take_while(blanks).count();
            let field = Field { name: Span::new(at, colon), value: Span::new(value_start, value_end) };
            self.framing_lines.note(&head[at..colon], field.value);
            self.table[self.count] = field;
            self.count += 1;
            at = cr + 2;
        }
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + '_ {
        self.table[..self.count].iter().map(|field| {
            // Names are tokens, so ASCII: the default is never taken.
            let name = std::str::from_utf8(field.name.of_head(self.head)).unwrap_or_default();
            (name, field.value.of_head(self.head))
        })
    }

    /// The values of all lines named `name`, in order.
    pub(super) fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.table[..self.count]
            .iter()
            .filter(move |field| {
                usize::from(field.name.len) == name.len()
                    && field.name.of_head(self.head).eq_ignore_ascii_case(name.as_bytes())
            })
            .map(|field| field.value.of_head(self.head))
    }

    /// The value of the only line named `name`; `repeated` if there are more.
    pub(super) fn only(&self, name: &str, repeated: HttpError) -> Result<Option<&'a [u8]>, HttpError> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() { Err(repeated) } else { Ok(first) }
    }

    /// Whether `token` is an element of the comma-separated lists named `name`.
    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|list| list.split(|&byte| byte == b','))
            .any(|element| trim(element).eq_ignore_ascii_case(token.as_bytes()))
    }

    /// What the header lines say about the body and the time after it. Refuses whatever could be read in two ways.
    pub(super) fn framing(&self, version: Version) -> Result<Framing, HttpError> {
        let lines = &self.framing_lines;
        let length = lines.length.value(self.head, HttpError::LengthRepeated)?;
        let coding = lines.coding.value(self.head, HttpError::TransferEncodingRepeated)?;
        let body = match (length, coding) {
            (None, None) => BodyLength::None,
            (Some(length), None) => BodyLength::Length(parse_length(length)?),
            // RFC 9112 6.1: neither recipients nor codings before HTTP/1.1 can be trusted with it.
            (_, Some(_)) if version == Version::Http10 => return Err(HttpError::TransferEncodingInHttp10),
            // RFC 9112 6.3: "ought to be handled as an error", as it is the smuggler's tool.
            (Some(_), Some(_)) => return Err(HttpError::LengthWithTransferEncoding),
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => BodyLength::Chunked,
            (None, Some(_)) => return Err(HttpError::TransferEncodingUnsupported),
        };
        let keep_alive = match version {
            _ if !lines.has_connection => version == Version::Http11,
            Version::Http11 => !self.has_token("connection", "close"),
            Version::Http10 => self.has_token("connection", "keep-alive") && !self.has_token("connection", "close"),
        };
        Ok(Framing { body, keep_alive })
    }

    /// Checks Host (RFC 9112 3.2): exactly one in HTTP/1.1, at most one in HTTP/1.0, nothing but a host and a port.
    pub(super) fn check_host(&self, version: Version) -> Result<(), HttpError> {
        match self.framing_lines.host.value(self.head, HttpError::HostRepeated)? {
            Some(host) if !host.iter().all(|&byte| is_host_byte(byte)) => Err(HttpError::HostMalformed),
            None if version == Version::Http11 => Err(HttpError::HostMissing),
            _ => Ok(()),
        }
    }
}

impl FramingLines {
    fn note(&mut self, name: &[u8], value: Span) {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host.note(value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.has_connection = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length.note(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.coding.note(value),
            _ => {}
        }
    }
}

/// Why `line` does not start with a token and a colon.
fn name_error(line: &[u8]) -> HttpError {
    if let [b' ' | b'\t', ..] = line {
        return HttpError::ObsFold;
    }
    let Some(colon) = line.iter().position(|&byte| byte == b':') else { return HttpError::HeaderColonMissing };
    let name = &line[..colon];
    if name.is_empty() {
        HttpError::HeaderNameEmpty
    } else if is_token(trim(name)) {
        HttpError::SpaceBeforeColon
    } else {
        HttpError::HeaderNameMalformed
    }
}

/// `1*DIGIT` and nothing else: no sign, no list, no white space inside.
fn parse_length(value: &[u8]) -> Result<u64, HttpError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HttpError::LengthMalformed);
    }
    value
        .iter()
        .try_fold(0u64, |length, &digit| length.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or(HttpError::LengthTooLarge)
}

/// Bytes of `uri-host [ ":" port ]` (RFC 3986 3.2.2).
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=[]:".contains(&byte)
}
