//! Whose fault, which rule, what next: every way a peer can break HTTP/1.1 or WebSocket, and what it earns.
//!
//! One variant per broken rule, so that a test (and a log line) can name the exact offence. Incomplete input is not
//! an error: decoders answer [`crate::cursor::Progress::NeedMore`] or simply wait.

use std::fmt;

/// A WebSocket close code (RFC 6455 7.4), as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the endpoint leaves (a server stops, a page is closed).
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the framing rules.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data this endpoint does not take.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1007: a payload that contradicts its type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a policy of the endpoint, when nothing more precise fits.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message larger than the endpoint is willing to take.
    pub const TOO_BIG: Self = Self(1009);
    /// 1011: the endpoint failed, not the peer.
    pub const INTERNAL: Self = Self(1011);

    /// Whether this code may stand in a Close frame: 1000-1003, 1007-1014 and 3000-4999.
    ///
    /// 1005, 1006 and 1015 only name what an endpoint saw and never travel (RFC 6455 7.4.1); 1012-1014 were
    /// registered with IANA later; everything else below 3000 is reserved (RFC 6455 7.4.2).
    #[must_use]
    pub const fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Declares an error enum so that each rule, what it earns and its words stand in one place.
macro_rules! rules {
    (
        $(#[$attribute:meta])*
        enum $name:ident earns $earned:ty, by $getter:ident ($getter_doc:literal) {
            $($variant:ident => $value:expr, $words:literal;)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $(#[doc = $words] $variant,)+
        }

        impl $name {
            /// Every rule, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            #[doc = $getter_doc]
            #[must_use]
            pub const fn $getter(self) -> $earned {
                match self { $(Self::$variant => $value,)+ }
            }

            /// The broken rule in words, with its source.
            #[must_use]
            pub const fn rule(self) -> &'static str {
                match self { $(Self::$variant => $words,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.rule())
            }
        }

        impl std::error::Error for $name {}
    };
}

rules! {
    /// An HTTP/1.x rule the peer broke. All of them end the connection: after a framing error nobody can say where
    /// the next message starts.
    enum HttpError earns u16, by status (
        "The HTTP status this error earns. 502 marks rules only a server (in its response) can break."
    ) {
        BareLf => 400, "a line ends with LF that no CR precedes (RFC 9112 2.2)";
        BareCr => 400, "a CR that no LF follows (RFC 9112 2.2)";
        NulByte => 400, "a NUL byte in the message head (RFC 9110 5.5)";
        ControlByte => 400, "a control character in the message head (RFC 9110 5.5)";
        ObsFold => 400, "a header line starts with white space, an obsolete line folding (RFC 9112 5.2)";
        HeadTooLong => 431, "the message head is longer than allowed";
        TooManyHeaders => 431, "the message head has more header lines than allowed";

        RequestLineMalformed => 400, "the request line is not 'method target version' (RFC 9112 3)";
        MethodMalformed => 400, "the method is empty or not a token (RFC 9112 3.1)";
        MethodTooLong => 400, "the method is longer than 32 bytes";
        TargetWhitespace => 400, "white space inside the request target (RFC 9112 3.2)";
        TargetForbiddenByte => 400, "a byte in the request target that must be percent-encoded (RFC 3986 2)";
        TargetForm => 400, "the request target is neither a path nor an http or https URI (RFC 9112 3.2)";
        TargetTooLong => 414, "the request target is longer than allowed";
        VersionMalformed => 400, "the HTTP version is not 'HTTP/digit.digit' (RFC 9112 2.3)";
        VersionUnsupported => 505, "the HTTP version is neither 1.0 nor 1.1";

        HeaderColonMissing => 400, "a header line without a colon (RFC 9112 5)";
        HeaderNameEmpty => 400, "a header line with an empty name (RFC 9110 5.1)";
        HeaderNameMalformed => 400, "a header name with a byte that is not a token character (RFC 9110 5.1)";
        SpaceBeforeColon => 400, "white space between a header name and its colon (RFC 9112 5.1)";

        HostMissing => 400, "an HTTP/1.1 request without Host (RFC 9112 3.2)";
        HostRepeated => 400, "more than one Host (RFC 9112 3.2)";
        HostMalformed => 400, "a Host with a byte no host name or port has (RFC 9110 7.2)";
        LengthMalformed => 400, "a Content-Length that is not a decimal number (RFC 9110 8.6)";
        LengthTooLarge => 413, "a Content-Length that does not fit 64 bits (RFC 9110 8.6)";
        LengthRepeated => 400, "more than one Content-Length (RFC 9112 6.3)";
        LengthWithTransferEncoding => 400, "Content-Length together with Transfer-Encoding (RFC 9112 6.3)";
        TransferEncodingRepeated => 400, "more than one Transfer-Encoding (RFC 9112 6.1)";
        TransferEncodingUnsupported => 501, "a Transfer-Encoding other than chunked (RFC 9112 6.1)";
        TransferEncodingInHttp10 => 400, "Transfer-Encoding in an HTTP/1.0 message (RFC 9112 6.1)";

        BodyTooLong => 413, "the body is longer than allowed";
        ChunkSizeMissing => 400, "a chunk without a size (RFC 9112 7.1)";
        ChunkSizeMalformed => 400, "a chunk size with a byte that is not a hexadecimal digit (RFC 9112 7.1)";
        ChunkSizeTooLarge => 400, "a chunk size with more than 16 digits (RFC 9112 7.1)";
        ChunkExtensionTooLong => 400, "chunk extensions longer than allowed (RFC 9112 7.1.1)";
        ChunkExtensionMalformed => 400, "a control character in a chunk extension (RFC 9112 7.1.1)";
        ChunkLineEnd => 400, "a chunk size line that does not end with CR LF (RFC 9112 7.1)";
        ChunkDataEnd => 400, "chunk data that CR LF does not follow (RFC 9112 7.1)";
        TrailerMalformed => 400, "a control character, a bare CR or a bare LF in the trailers (RFC 9112 7.1.2)";
        TrailersTooLong => 431, "the trailers are longer than allowed (RFC 9112 7.1.2)";

        UpgradeMissing => 426, "this resource speaks WebSocket only: Upgrade: websocket is missing (RFC 6455 4.2.1)";
        UpgradeMethod => 400, "a WebSocket upgrade with a method other than GET (RFC 6455 4.2.1)";
        UpgradeInHttp10 => 400, "a WebSocket upgrade in HTTP/1.0 (RFC 6455 4.2.1)";
        UpgradeConnection => 400, "a WebSocket upgrade without Connection: Upgrade (RFC 6455 4.2.1)";
        UpgradeWithBody => 400, "a WebSocket upgrade with a body, whose bytes could pass for frames";
        KeyMissing => 400, "a WebSocket upgrade without Sec-WebSocket-Key (RFC 6455 4.2.1)";
        KeyRepeated => 400, "more than one Sec-WebSocket-Key (RFC 6455 11.3.1)";
        KeyMalformed => 400, "a Sec-WebSocket-Key that is not 16 bytes in base64 (RFC 6455 4.2.1)";
        WsVersionMissing => 400, "a WebSocket upgrade without Sec-WebSocket-Version (RFC 6455 4.2.1)";
        WsVersionUnsupported => 426, "a Sec-WebSocket-Version other than 13 (RFC 6455 4.4)";

        StatusLineMalformed => 502, "the status line is not 'version status reason' (RFC 9112 4)";
        StatusMalformed => 502, "the status is not a number from 100 to 999 (RFC 9112 4)";
        UpgradeRefused => 502, "the server did not answer the upgrade with 101 (RFC 6455 4.1)";
        UpgradeNotEchoed => 502, "a 101 without Upgrade: websocket and Connection: Upgrade (RFC 6455 4.1)";
        AcceptMismatch => 502, "a 101 whose Sec-WebSocket-Accept does not match the key (RFC 6455 4.1)";
        ExtensionNotOffered => 502, "a 101 with a WebSocket extension nobody offered (RFC 6455 4.1)";
        DeflateTermsNotOffered => 502, "a 101 with permessage-deflate on other terms than offered (RFC 7692 7.1)";
    }
}

rules! {
    /// A WebSocket framing rule the peer broke. The connection must fail: send a Close with
    /// [`FrameError::close_code`], then end it.
    enum FrameError earns CloseCode, by close_code ("The close code this error earns.") {
        ReservedBits => CloseCode::PROTOCOL_ERROR, "a reserved bit is set and no extension was agreed (RFC 6455 5.2)";
        DeflateBitMisplaced => CloseCode::PROTOCOL_ERROR,
            "the bit of compressed messages is set on a frame that does not begin a message (RFC 7692 6.1)";
        ReservedOpCode => CloseCode::PROTOCOL_ERROR, "a reserved opcode (RFC 6455 5.2)";
        ControlFragmented => CloseCode::PROTOCOL_ERROR, "a fragmented control frame (RFC 6455 5.5)";
        ControlTooLong => CloseCode::PROTOCOL_ERROR, "a control frame with more than 125 payload bytes (RFC 6455 5.5)";
        ContinuationWithoutStart => CloseCode::PROTOCOL_ERROR,
            "a continuation frame outside of a message (RFC 6455 5.4)";
        MessageInsideMessage => CloseCode::PROTOCOL_ERROR, "a new message inside an unfinished one (RFC 6455 5.4)";
        MaskMissing => CloseCode::PROTOCOL_ERROR, "a client frame that is not masked (RFC 6455 5.1)";
        MaskForbidden => CloseCode::PROTOCOL_ERROR, "a server frame that is masked (RFC 6455 5.1)";
        LengthNotMinimal => CloseCode::PROTOCOL_ERROR,
            "a payload length in more bytes than it needs (RFC 6455 5.2)";
        LengthHighBit => CloseCode::PROTOCOL_ERROR, "a payload length of 2^63 or more (RFC 6455 5.2)";
        ClosePayloadOneByte => CloseCode::PROTOCOL_ERROR, "a Close frame with half a code (RFC 6455 5.5.1)";
        CloseCodeForbidden => CloseCode::PROTOCOL_ERROR, "a Close frame with a code that must not be sent (RFC 6455 7.4)";
        CloseReasonNotUtf8 => CloseCode::INVALID_PAYLOAD, "a Close reason that is not UTF-8 (RFC 6455 5.5.1)";
        TextNotUtf8 => CloseCode::INVALID_PAYLOAD, "a text message that is not UTF-8 (RFC 6455 8.1)";
        TextEndsInCharacter => CloseCode::INVALID_PAYLOAD,
            "a text message that ends inside a UTF-8 character (RFC 6455 8.1)";
        DeflateMalformed => CloseCode::INVALID_PAYLOAD, "a compressed message that is not DEFLATE (RFC 7692 7.2.2)";
        DeflateTruncated => CloseCode::INVALID_PAYLOAD,
            "a compressed message that ends inside a DEFLATE block (RFC 7692 7.2.2)";
        DeflatedTooLong => CloseCode::TOO_BIG,
            "a compressed message with more bytes on the wire than its bound would need uncompressed";
        InflatedTooLong => CloseCode::TOO_BIG, "a compressed message that inflates to more bytes than allowed";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_that_travel() {
        for code in 0..=u16::MAX {
            let expected = (1000..=1003).contains(&code)
                || (1007..=1011).contains(&code)
                || [1012, 1013, 1014].contains(&code)
                || (3000..5000).contains(&code);
            assert_eq!(CloseCode(code).may_be_sent(), expected, "{code}");
        }
    }

    #[test]
    fn every_rule_has_its_own_words_and_a_sendable_price() {
        let mut words: Vec<&str> = HttpError::ALL.iter().map(|e| e.rule()).collect();
        words.extend(FrameError::ALL.iter().map(|e| e.rule()));
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), count);
        assert!(HttpError::ALL.iter().all(|e| (400..=599).contains(&e.status())));
        assert!(FrameError::ALL.iter().all(|e| e.close_code().may_be_sent()));
        assert_eq!(HttpError::TargetTooLong.to_string(), "the request target is longer than allowed");
    }
}
