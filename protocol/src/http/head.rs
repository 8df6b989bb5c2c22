//! Request and response heads: done, need more, or wrong.
//!
//! ```text
//! GET /chat?id=abc HTTP/1.1\r\n      request line: method SP target SP version
//! Host: push.example\r\n             header lines: name ":" OWS value OWS
//! \r\n                               an empty line ends the head
//! ```
//! Nothing is copied and nothing allocated: a head borrows the bytes it was read from.

use super::fields::{Fields, Framing};
pub use super::scan::HeadEnd;
use super::scan::{is_token, line_at};
use crate::cursor::Progress;
use crate::error::HttpError;
use std::borrow::Cow;
use std::fmt;

/// Most header lines a head can have, whatever the limits say: the size of the table of header lines.
pub const HEADERS_MAX: usize = 64;

/// Longest method. The longest one registered with IANA has 17 bytes.
pub const METHOD_BYTES_MAX: usize = 32;

/// Bounds on the length of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head with its empty line. Values above 65 535 count as 65 535.
    pub head_bytes_max: usize,
    /// Bytes of the request target.
    pub target_bytes_max: usize,
    /// Header lines. Values above [`HEADERS_MAX`] count as that.
    pub headers_max: usize,
}

impl Default for HeadLimits {
    /// 8 192 bytes, of which 4 096 for the target (access tokens travel in it), and 64 header lines.
    fn default() -> Self {
        Self { head_bytes_max: 8192, target_bytes_max: 4096, headers_max: HEADERS_MAX }
    }
}

impl HeadLimits {
    pub(super) fn head_max(&self) -> usize {
        self.head_bytes_max.min(usize::from(u16::MAX))
    }

    /// Longest request line without CR LF: method, SP, target, SP, `HTTP/1.1`.
    pub(super) fn request_line_max(&self) -> usize {
        self.target_bytes_max.saturating_add(METHOD_BYTES_MAX + 1 + 1 + 8)
    }
}

/// The HTTP versions this crate speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the end of a body is found (RFC 9112 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// The head of a request.
#[derive(Clone)]
pub struct RequestHead<'a> {
    method: &'a str,
    target: &'a str,
    path: &'a str,
    query: &'a str,
    version: Version,
    framing: Framing,
    fields: Fields<'a>,
}

/// The head of a response.
#[derive(Clone)]
pub struct ResponseHead<'a> {
    status: u16,
    reason: &'a [u8],
    version: Version,
    framing: Framing,
    fields: Fields<'a>,
}

/// Reads the head of a request at the start of `bytes`. One empty line before it is forgiven (RFC 9112 2.2).
///
/// Scans from the first byte each time; whoever collects a head from many small pieces asks a [`HeadEnd`] first.
///
/// # Errors
/// The first broken rule. Line endings and lengths are judged at once, the rest when the head is whole.
pub fn parse_request<'a>(bytes: &'a [u8], limits: &HeadLimits) -> Result<Progress<RequestHead<'a>>, HttpError> {
    let Some(end) = HeadEnd::new().find(bytes, limits)? else { return Ok(Progress::NeedMore) };
    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let head = &bytes[start..end];
    let line = line_at(head, 0);
    let (method, target, version) = split_request_line(line, limits)?;
    let (path, query) = split_target(method, target)?;
    let mut fields = Fields::new(head);
    fields.read(line.len() + 2, limits.headers_max)?;
    fields.check_host(version)?;
    let framing = fields.framing(version)?;
    Ok(Progress::Done(RequestHead { method, target, path, query, version, framing, fields }, end))
}

/// Reads the head of a response at the start of `bytes`.
///
/// # Errors
/// The first broken rule, as for [`parse_request`].
pub fn parse_response<'a>(bytes: &'a [u8], limits: &HeadLimits) -> Result<Progress<ResponseHead<'a>>, HttpError> {
    let Some(end) = HeadEnd::new().find_within(bytes, limits.head_max(), usize::MAX)? else {
        return Ok(Progress::NeedMore);
    };
    let head = &bytes[..end];
    let line = line_at(head, 0);
    let (version, status, reason) = split_status_line(line)?;
    let mut fields = Fields::new(head);
    fields.read(line.len() + 2, limits.headers_max)?;
    let mut framing = fields.framing(version)?;
    // RFC 9112 6.3: these have no body, whatever their header lines say.
    if matches!(status, 100..=199 | 204 | 304) {
        framing.body = BodyLength::None;
    }
    Ok(Progress::Done(ResponseHead { status, reason, version, framing, fields }, end))
}

/// `method SP target SP version`, each checked by itself.
fn split_request_line<'a>(line: &'a [u8], limits: &HeadLimits) -> Result<(&'a str, &'a str, Version), HttpError> {
    let is_space = |&byte: &u8| byte == b' ';
    let (Some(first), Some(last)) = (line.iter().position(is_space), line.iter().rposition(is_space)) else {
        return Err(HttpError::RequestLineMalformed);
    };
    let method = &line[..first];
    if !is_token(method) {
        return Err(HttpError::MethodMalformed);
    }
    if method.len() > METHOD_BYTES_MAX {
        return Err(HttpError::MethodTooLong);
    }
    if first == last {
        return Err(HttpError::RequestLineMalformed);
    }
    let target = ascii_target(&line[first + 1..last])?;
    if target.len() > limits.target_bytes_max {
        return Err(HttpError::TargetTooLong);
    }
    let version = parse_version(&line[last + 1..])?;
    // A token is ASCII: the default is never taken.
    Ok((std::str::from_utf8(method).unwrap_or_default(), target, version))
}

/// Visible ASCII without `#`: a fragment never travels, and anything else must be percent-encoded.
fn ascii_target(target: &[u8]) -> Result<&str, HttpError> {
    if target.is_empty() {
        return Err(HttpError::RequestLineMalformed);
    }
    match target.iter().find(|&&byte| !(0x21..=0x7E).contains(&byte) || byte == b'#') {
        Some(b' ' | b'\t') => Err(HttpError::TargetWhitespace),
        Some(_) => Err(HttpError::TargetForbiddenByte),
        None => std::str::from_utf8(target).map_err(|_| HttpError::TargetForbiddenByte),
    }
}

/// `HTTP/` digit `.` digit.
fn parse_version(version: &[u8]) -> Result<Version, HttpError> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(HttpError::VersionUnsupported)
        }
        _ => Err(HttpError::VersionMalformed),
    }
}

/// Path and query of the target: origin form, absolute form (RFC 9112 3.2.2), or `*` for OPTIONS.
fn split_target<'a>(method: &str, target: &'a str) -> Result<(&'a str, &'a str), HttpError> {
    if target == "*" && method == "OPTIONS" {
        return Ok((target, ""));
    }
    let from_path =
        if target.starts_with('/') { target } else { after_authority(target).ok_or(HttpError::TargetForm)? };
    let (path, query) = from_path.split_once('?').unwrap_or((from_path, ""));
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// What follows the authority of an absolute `http` or `https` URI.
fn after_authority(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let authority_len = rest.find(['/', '?']).unwrap_or(rest.len());
    if authority_len == 0 { None } else { Some(&rest[authority_len..]) }
}

/// `version SP status [SP reason]`. The space before an absent reason is required but often missing; forgiven.
fn split_status_line(line: &[u8]) -> Result<(Version, u16, &[u8]), HttpError> {
    let Some((version, rest)) = line.split_first_chunk::<8>() else { return Err(HttpError::StatusLineMalformed) };
    let version = parse_version(version)?;
    let [b' ', hundreds, tens, ones, rest @ ..] = rest else { return Err(HttpError::StatusLineMalformed) };
    let reason = match rest {
        [] => rest,
        [b' ', reason @ ..] => reason,
        _ => return Err(HttpError::StatusMalformed),
    };
    let digits = [hundreds, tens, ones];
    if *hundreds == b'0' || !digits.iter().all(|digit| digit.is_ascii_digit()) {
        return Err(HttpError::StatusMalformed);
    }
    let status = digits.iter().fold(0, |status, &&digit| status * 10 + u16::from(digit - b'0'));
    Ok((version, status, reason))
}

/// What both kinds of head offer about their header lines.
macro_rules! header_methods {
    () => {
        /// The value of the first header line named `name` (ASCII case does not matter), without surrounding blanks.
        #[must_use]
        pub fn header(&self, name: &str) -> Option<&'a [u8]> {
            self.fields.all(name).next()
        }

        /// The values of all header lines named `name`, in order.
        pub fn header_all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
            self.fields.all(name)
        }

        /// The value of header `name` if exactly one line has it.
        ///
        /// # Errors
        /// `repeated` if several lines have it.
        pub fn header_only(&self, name: &str, repeated: HttpError) -> Result<Option<&'a [u8]>, HttpError> {
            self.fields.only(name, repeated)
        }

        /// All header lines, in order, names as written.
        pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + '_ {
            self.fields.iter()
        }

        /// Whether `token` is an element of the comma-separated header `name`, over all its lines, without regard
        /// to ASCII case.
        #[must_use]
        pub fn header_has_token(&self, name: &str, token: &str) -> bool {
            self.fields.has_token(name, token)
        }

        /// HTTP/1.0 or HTTP/1.1.
        #[must_use]
        pub fn version(&self) -> Version {
            self.version
        }

        /// Whether the connection may carry another message after this one (RFC 9112 9.3).
        #[must_use]
        pub fn keep_alive(&self) -> bool {
            self.framing.keep_alive
        }
    };
}

impl<'a> RequestHead<'a> {
    header_methods!();

    /// The method as written; methods are case-sensitive.
    #[must_use]
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The request target as written.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The raw path, up to the `?`. Starts with `/`, or is `*` for `OPTIONS *`. Of an absolute URI the part after
    /// the authority.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The raw query, without the `?`; empty if there is none.
    #[must_use]
    pub fn query(&self) -> &'a str {
        self.query
    }

    /// The decoded value of `key` in the query, see [`super::query::value`].
    #[must_use]
    pub fn query_value(&self, key: &str) -> Option<Cow<'a, str>> {
        super::query::value(self.query, key)
    }

    /// How the body after this head is delimited.
    #[must_use]
    pub fn body_length(&self) -> BodyLength {
        self.framing.body
    }
}

impl<'a> ResponseHead<'a> {
    header_methods!();

    /// The status, 100 to 999.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase as written, often empty.
    #[must_use]
    pub fn reason(&self) -> &'a [u8] {
        self.reason
    }

    /// How the body is delimited, for a response to anything but HEAD. See [`ResponseHead::ends_with_connection`]
    /// for the case in which it is not.
    #[must_use]
    pub fn body_length(&self) -> BodyLength {
        self.framing.body
    }

    /// Whether the body is all that comes until the peer closes (RFC 9112 6.3 rule 8): the response may have a body,
    /// but no header line says how long it is.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        self.framing.body == BodyLength::None && !matches!(self.status, 100..=199 | 204 | 304)
    }
}

// Targets and header values carry access tokens, so neither ever reaches a log through Debug.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("version", &self.version)
            .field("framing", &self.framing)
            .field("headers", &self.headers().map(|(name, _)| name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ResponseHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseHead")
            .field("status", &self.status)
            .field("version", &self.version)
            .field("framing", &self.framing)
            .field("headers", &self.headers().map(|(name, _)| name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
