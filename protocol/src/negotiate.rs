//! Negotiate: the request before every connection that does not skip it (spec 1).
//!
//! Answers are JSON with status 200, errors included: a client reads the body of nothing else (spec 1.2).

use std::borrow::Cow;
use std::fmt;

use crate::cursor::Sink;
use crate::hub::error::JsonFault;
use crate::hub::json::scan::Scanner;
use crate::hub::json::{number, write};

/// The latest version of negotiate we speak (spec 0).
pub const VERSION_MAX: u8 = 1;

/// The version of a client that does not say.
pub const VERSION_DEFAULT: u8 = 0;

/// The ways a connection can be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Transport {
    /// Text and binary, both ways.
    WebSockets = 0,
    /// Text only; requests in the other direction.
    ServerSentEvents = 1,
    /// Text and binary, by answers held back.
    LongPolling = 2,
}

impl Transport {
    /// All of them, in the reference server's order of preference.
    pub const ALL: [Self; 3] = [Self::WebSockets, Self::ServerSentEvents, Self::LongPolling];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebSockets => "WebSockets",
            Self::ServerSentEvents => "ServerSentEvents",
            Self::LongPolling => "LongPolling",
        }
    }

    /// Whether it carries binary messages.
    pub const fn accepts_binary(self) -> bool {
        !matches!(self, Self::ServerSentEvents)
    }
}

/// What a client asks for in the query string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiateRequest {
    /// The version to answer in: the client's or ours, whichever is lower.
    pub version: u8,
    /// Whether the client can resume a lost WebSocket.
    pub use_stateful_reconnect: bool,
}

/// Why a negotiate request or response is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NegotiateError {
    /// `negotiateVersion` is not an integer of 32 bits.
    NotAnInteger,
    /// `negotiateVersion` is below the least the server supports.
    VersionTooLow {
        /// The version asked for.
        version: i32,
    },
    /// (Response) not JSON.
    Json(JsonFault),
    /// (Response) JSON, but not an object.
    NotAnObject,
    /// (Response) from an ASP.NET SignalR 2 server, a different protocol of the same name.
    OldServer,
    /// (Response) a property is missing.
    MissingProperty {
        /// Its name.
        property: &'static str,
    },
    /// (Response) a property has the wrong type.
    WrongType {
        /// Its name.
        property: &'static str,
    },
}

impl fmt::Display for NegotiateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnInteger => f.write_str("The client requested a non-integer protocol version."),
            Self::VersionTooLow { version } => {
                write!(f, "The client requested version '{version}', but the server does not support this version.")
            }
            Self::Json(fault) => write!(f, "Invalid negotiation response: {fault}."),
            Self::NotAnObject => f.write_str("Invalid negotiation response: not an object."),
            Self::OldServer => f.write_str("The server speaks ASP.NET SignalR 2, another protocol."),
            Self::MissingProperty { property } => write!(f, "Missing required property '{property}'."),
            Self::WrongType { property } => write!(f, "Unexpected type of the property '{property}'."),
        }
    }
}

impl std::error::Error for NegotiateError {}

impl From<JsonFault> for NegotiateError {
    fn from(fault: JsonFault) -> Self {
        Self::Json(fault)
    }
}

/// Reads the query string of a negotiate request, for a server that supports every version.
pub fn parse_query(query: &str) -> Result<NegotiateRequest, NegotiateError> {
    parse_query_from(query, VERSION_DEFAULT)
}

/// Reads the query string (raw, without `?`) of a negotiate request, for a server that supports `version_min` to
/// [`VERSION_MAX`] (spec 1.2). The error's text is what the client is to get, see [`write_error`].
pub fn parse_query_from(query: &str, version_min: u8) -> Result<NegotiateRequest, NegotiateError> {
    let version = match query_value(query, "negotiateVersion") {
        None => i32::from(VERSION_DEFAULT),
        Some(text) => text.trim().parse().map_err(|_| NegotiateError::NotAnInteger)?,
    };
    if version < i32::from(version_min) {
        return Err(NegotiateError::VersionTooLow { version });
    }
    let stateful = query_value(query, "useStatefulReconnect");
    Ok(NegotiateRequest {
        version: u8::try_from(version).map_or(VERSION_MAX, |version| version.min(VERSION_MAX)),
        use_stateful_reconnect: stateful.is_some_and(|text| text.trim().eq_ignore_ascii_case("true")),
    })
}

/// The first value of `key` (in any case of letters), percent-decoded.
fn query_value<'a>(query: &'a str, key: &str) -> Option<Cow<'a, str>> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut decoded = pairs.map(|(name, value)| (percent_decoded(name), value));
    decoded.find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| percent_decoded(value))
}

/// `%XX` and `+` resolved; a `%` that introduces nothing stands for itself, and bytes that are not UTF-8 become
/// U+FFFD.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => match hex_pair(after) {
                Some(value) => {
                    decoded.push(value);
                    rest = &after[2..];
                }
                None => decoded.push(b'%'),
            },
            byte => decoded.push(byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |index: usize| char::from(*bytes.get(index)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

/// The answer that opens the way to a connection (spec 1.3). `transports` are in the server's order of preference;
/// `connection_token` is left out in version 0, where the id takes its place. `stateful` only for clients that asked.
pub fn write_response<S: Sink + ?Sized>(
    sink: &mut S,
    version: u8,
    connection_id: &str,
    connection_token: &str,
    transports: &[Transport],
    stateful: bool,
) {
    sink.put(b"{\"negotiateVersion\":");
    write::unsigned(sink, version.into());
    sink.put(b",\"connectionId\":");
    write::string(sink, connection_id);
    if version > 0 {
        sink.put(b",\"connectionToken\":");
        write::string(sink, connection_token);
    }
    if stateful {
        sink.put(b",\"useStatefulReconnect\":true");
    }
    sink.put(b",\"availableTransports\":[");
    for (index, transport) in transports.iter().enumerate() {
        sink.put(if index == 0 { b"{\"transport\":\"" } else { b",{\"transport\":\"" });
        sink.put(transport.name().as_bytes());
        sink.put(if transport.accepts_binary() {
            b"\",\"transferFormats\":[\"Text\",\"Binary\"]}"
        } else {
            b"\",\"transferFormats\":[\"Text\"]}"
        });
    }
    sink.put(b"]}");
}

/// The answer that sends the client elsewhere (spec 1.4). `url` is absolute.
pub fn write_redirect<S: Sink + ?Sized>(sink: &mut S, url: &str, access_token: Option<&str>) {
    sink.put(b"{\"url\":");
    write::string(sink, url);
    if let Some(access_token) = access_token {
        sink.put(b",\"accessToken\":");
        write::string(sink, access_token);
    }
    sink.put(b"}");
}

/// The answer that refuses; the client shows `text`. Goes out with status 200 (spec 1.2).
pub fn write_error<S: Sink + ?Sized>(sink: &mut S, text: &str) {
    sink.put(b"{\"error\":");
    write::string(sink, text);
    sink.put(b"}");
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NegotiateResponse<'a> {
    /// Go on with one of the transports.
    Accepted {
        /// The version of the answer.
        version: u8,
        /// The public name of the connection.
        connection_id: Cow<'a, str>,
        /// What to put into `id=` of every later request.
        connection_token: Cow<'a, str>,
        /// In the server's order; those we do not know are left out.
        transports: Vec<Transport>,
        /// Whether a lost WebSocket may be resumed.
        use_stateful_reconnect: bool,
    },
    /// Negotiate again over there.
    Redirect {
        /// Where.
        url: Cow<'a, str>,
        /// The bearer token from now on, if any.
        access_token: Option<Cow<'a, str>>,
    },
    /// The server does not want to.
    Refused {
        /// Its reason.
        error: Cow<'a, str>,
    },
}

/// The properties of a response.
#[derive(Default)]
struct Properties<'a> {
    version: Option<u8>,
    connection_id: Option<Cow<'a, str>>,
    connection_token: Option<Cow<'a, str>>,
    url: Option<Cow<'a, str>>,
    access_token: Option<Cow<'a, str>>,
    error: Option<Cow<'a, str>>,
    transports: Option<Vec<Transport>>,
    use_stateful_reconnect: bool,
}

/// Parses the body of a response, as clients do.
pub fn parse_response(body: &[u8]) -> Result<NegotiateResponse<'_>, NegotiateError> {
    let mut scanner = Scanner::new(body);
    if scanner.peek()? != b'{' {
        return Err(NegotiateError::NotAnObject);
    }
    let mut properties = Properties::default();
    scanner.object(|scanner, name| {
        let decoded = name.decode()?;
        properties.read(scanner, &decoded)
    })?;
    scanner.end()?;
    properties.into_response()
}

/// Containers open around the value of a property.
const PROPERTY_DEPTH: u32 = 1;

impl<'a> Properties<'a> {
    fn read(&mut self, scanner: &mut Scanner<'a>, name: &str) -> Result<(), NegotiateError> {
        match name {
            "ProtocolVersion" => return Err(NegotiateError::OldServer),
            "negotiateVersion" => {
                let wrong = NegotiateError::WrongType { property: "negotiateVersion" };
                let version = number::unsigned(scanner.span(PROPERTY_DEPTH)?).and_then(|value| value.try_into().ok());
                self.version = Some(version.ok_or(wrong)?);
            }
            "connectionId" => self.connection_id = text(scanner, "connectionId")?,
            "connectionToken" => self.connection_token = text(scanner, "connectionToken")?,
            "url" => self.url = text(scanner, "url")?,
            "accessToken" => self.access_token = text(scanner, "accessToken")?,
            "error" => self.error = text(scanner, "error")?,
            "availableTransports" => self.transports = Some(transports(scanner)?),
            "useStatefulReconnect" => self.use_stateful_reconnect = scanner.span(PROPERTY_DEPTH)? == b"true",
            _ => {
                scanner.span(PROPERTY_DEPTH)?;
            }
        }
        Ok(())
    }

    fn into_response(self) -> Result<NegotiateResponse<'a>, NegotiateError> {
        if let Some(error) = self.error {
            return Ok(NegotiateResponse::Refused { error });
        }
        if let Some(url) = self.url {
            return Ok(NegotiateResponse::Redirect { url, access_token: self.access_token });
        }
        let missing = |property| NegotiateError::MissingProperty { property };
        let version = self.version.unwrap_or(VERSION_DEFAULT);
        let connection_id = self.connection_id.ok_or(missing("connectionId"))?;
        let connection_token = match self.connection_token {
            Some(token) if version > 0 => token,
            None if version > 0 => return Err(missing("connectionToken")),
            _ => connection_id.clone(),
        };
        Ok(NegotiateResponse::Accepted {
            version,
            connection_id,
            connection_token,
            transports: self.transports.ok_or(missing("availableTransports"))?,
            use_stateful_reconnect: self.use_stateful_reconnect,
        })
    }
}

/// Takes a string or null.
fn text<'a>(scanner: &mut Scanner<'a>, property: &'static str) -> Result<Option<Cow<'a, str>>, NegotiateError> {
    if scanner.take_null()? {
        return Ok(None);
    }
    if scanner.peek()? != b'"' {
        return Err(NegotiateError::WrongType { property });
    }
    Ok(Some(scanner.string()?.decode()?))
}

/// Takes the list of transports.
fn transports(scanner: &mut Scanner<'_>) -> Result<Vec<Transport>, NegotiateError> {
    use crate::hub::{Format, Raw};
    let wrong = NegotiateError::WrongType { property: "availableTransports" };
    let list = Raw::new(Format::Json, scanner.span(PROPERTY_DEPTH)?);
    let mut transports = Vec::new();
    for entry in list.array().map_err(|_| wrong)? {
        let name = entry.field("transport").map_err(|_| wrong)?;
        let name = name.ok_or(NegotiateError::MissingProperty { property: "transport" })?;
        let name = name.as_str().map_err(|_| wrong)?;
        transports.extend(Transport::ALL.into_iter().find(|transport| transport.name() == name));
    }
    Ok(transports)
}

/// Body of the fuzz target: queries never panic, and what a response says can be written and read again.
#[doc(hidden)]
pub fn fuzz_negotiate(data: &[u8]) {
    let query = String::from_utf8_lossy(data);
    if let Ok(request) = parse_query(&query) {
        assert!(request.version <= VERSION_MAX);
    }
    let Ok(response) = parse_response(data) else { return };
    let mut written = Vec::new();
    match &response {
        NegotiateResponse::Accepted {
            version,
            connection_id,
            connection_token,
            transports,
            use_stateful_reconnect,
        } => {
            let stateful = *use_stateful_reconnect;
            write_response(&mut written, *version, connection_id, connection_token, transports, stateful);
        }
        NegotiateResponse::Redirect { url, access_token } => {
            write_redirect(&mut written, url, access_token.as_deref());
        }
        NegotiateResponse::Refused { error } => write_error(&mut written, error),
    }
    assert_eq!(parse_response(&written), Ok(response));
}
