//! Header lines: a fixed table of where they are, and what the framing ones among them say.

use super::head::{BodyLength, HEADERS_MAX, Version};
use super::scan::{is_token, is_token_byte, line_at, trim};
use crate::error::HttpError;

/// A range of the head. Heads are at most 65 535 bytes long, see [`super::head::HeadLimits`].
#[derive(Clone, Copy, Default)]
struct Span {
    start: u16,
    len: u16,
}

impl Span {
    /// The range of `part`, which lies in `head`.
    fn of(start: usize, part: &[u8]) -> Self {
        Self { start: start as u16, len: part.len() as u16 }
    }

    fn of_head(self, head: &[u8]) -> &[u8] {
        let start = usize::from(self.start);
        &head[start..start + usize::from(self.len)]
    }
}

/// The header lines of one head, by position. 8 bytes a line, no allocation.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    head: &'a [u8],
    table: [(Span, Span); HEADERS_MAX],
    count: usize,
}

/// How the message after the head is delimited, and whether another may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) body: BodyLength,
    pub(super) keep_alive: bool,
}

impl<'a> Fields<'a> {
    /// Reads the header lines of `head`, which starts at the start line and ends with its empty line, from `start`.
    pub(super) fn parse(head: &'a [u8], start: usize, headers_max: usize) -> Result<Self, HttpError> {
        let mut fields = Fields { head, table: [(Span::default(), Span::default()); HEADERS_MAX], count: 0 };
        let mut at = start;
        loop {
            let line = line_at(head, at);
            if line.is_empty() {
                return Ok(fields);
            }
            if fields.count == headers_max {
                return Err(HttpError::TooManyHeaders);
            }
            let name = field_name(line)?;
            let after_colon = &line[name.len() + 1..];
            let value = trim(after_colon);
            let blanks = after_colon.iter().take_while(|&&byte| matches!(byte, b' ' | b'\t')).count();
            fields.table[fields.count] = (Span::of(at, name), Span::of(at + name.len() + 1 + blanks, value));
            fields.count += 1;
            at += line.len() + 2;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + '_ {
        self.table[..self.count].iter().map(|&(name, value)| {
            // Names are tokens, so ASCII: the default is never taken.
            (std::str::from_utf8(name.of_head(self.head)).unwrap_or_default(), value.of_head(self.head))
        })
    }

    /// The values of all lines named `name`, in order.
    pub(super) fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.table[..self.count]
            .iter()
            .filter(move |(span, _)| {
                usize::from(span.len) == name.len() && span.of_head(self.head).eq_ignore_ascii_case(name.as_bytes())
            })
            .map(|(_, value)| value.of_head(self.head))
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
        let length = self.only("content-length", HttpError::LengthRepeated)?;
        let coding = self.only("transfer-encoding", HttpError::TransferEncodingRepeated)?;
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
            Version::Http11 => !self.has_token("connection", "close"),
            Version::Http10 => self.has_token("connection", "keep-alive") && !self.has_token("connection", "close"),
        };
        Ok(Framing { body, keep_alive })
    }

    /// Checks Host (RFC 9112 3.2): exactly one in HTTP/1.1, at most one in HTTP/1.0, nothing but a host and a port.
    pub(super) fn check_host(&self, version: Version) -> Result<(), HttpError> {
        match self.only("host", HttpError::HostRepeated)? {
            Some(host) if !host.iter().all(|&byte| is_host_byte(byte)) => Err(HttpError::HostMalformed),
            None if version == Version::Http11 => Err(HttpError::HostMissing),
            _ => Ok(()),
        }
    }
}

/// The name at the start of a header line, up to its colon.
fn field_name(line: &[u8]) -> Result<&[u8], HttpError> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(HttpError::ObsFold);
    }
    let end = line.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(line.len());
    match line.get(end) {
        Some(b':') if end == 0 => Err(HttpError::HeaderNameEmpty),
        Some(b':') => Ok(&line[..end]),
        _ => Err(name_error(line)),
    }
}

/// Why `line` does not start with a token and a colon.
fn name_error(line: &[u8]) -> HttpError {
    let Some(colon) = line.iter().position(|&byte| byte == b':') else { return HttpError::HeaderColonMissing };
    let name = &line[..colon];
    if is_token(trim(name)) { HttpError::SpaceBeforeColon } else { HttpError::HeaderNameMalformed }
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
