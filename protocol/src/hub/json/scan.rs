//! The JSON scanner: one pass over the bytes, checking every rule of RFC 8259, keeping nothing.
//!
//! It knows no message. It hands out spans of the input (strings, numbers, whole values) and leaves decoding to
//! whoever needs the meaning, so that a message whose arguments nobody reads is never unescaped and never copied.

use std::borrow::Cow;

use crate::hub::DEPTH_MAX;
use crate::hub::error::{JsonFault, JsonRule};

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Marks (in the high bit) each byte of `word` that equals `byte`; exact up to and including the lowest mark.
const fn marks_of(word: u64, byte: u8) -> u64 {
    let zero_where_equal = word ^ (LOW_BITS * byte as u64);
    zero_where_equal.wrapping_sub(LOW_BITS) & !zero_where_equal & HIGH_BITS
}

/// Marks (in the high bit) each control character of `word`; exact up to and including the lowest mark.
const fn marks_of_controls(word: u64) -> u64 {
    word.wrapping_sub(LOW_BITS * 0x20) & !word & HIGH_BITS
}

/// The offset of the first `wanted` in `bytes`, eight bytes at a time.
pub(crate) fn find_byte(bytes: &[u8], wanted: u8) -> Option<usize> {
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let marks = marks_of(u64::from_le_bytes(*chunk), wanted);
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes[at..].iter().position(|&byte| byte == wanted).map(|offset| at + offset)
}

/// How many bytes at the front of `bytes` a JSON string may hold as they are: no quote, backslash or control
/// character. The second value tells whether any of them is outside of ASCII.
pub(crate) fn plain_run(bytes: &[u8]) -> (usize, bool) {
    let mut at = 0;
    let mut seen: u64 = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let marks = marks_of(word, b'"') | marks_of(word, b'\\') | marks_of_controls(word);
        if marks != 0 {
            let plain = marks.trailing_zeros() as usize / 8;
            // Only the bytes before the mark belong to the run; `plain` is at most 7.
            seen |= word & ((1u64 << (plain * 8)) - 1);
            return (at + plain, seen & HIGH_BITS != 0);
        }
        seen |= word;
        at += 8;
    }
    let mut wide = seen & HIGH_BITS != 0;
    for &byte in &bytes[at..] {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            break;
        }
        wide |= byte >= 0x80;
        at += 1;
    }
    (at, wide)
}

/// The content of a string, between its quotes, still escaped. Its escapes are known to be well-formed and its bytes
/// to be UTF-8; surrogates are not yet paired.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    content: &'a [u8],
    escaped: bool,
    /// Where the content starts, for errors.
    at: usize,
}

impl<'a> Text<'a> {
    /// The string itself. Borrowed unless there is an escape in it.
    pub(crate) fn decode(&self) -> Result<Cow<'a, str>, JsonFault> {
        let utf8 = |error: std::str::Utf8Error| JsonFault { rule: JsonRule::Utf8, at: self.at + error.valid_up_to() };
        let content = std::str::from_utf8(self.content).map_err(utf8)?;
        if !self.escaped {
            return Ok(Cow::Borrowed(content));
        }
        let mut text = String::with_capacity(content.len());
        let mut rest = content;
        while let Some(slash) = find_byte(rest.as_bytes(), b'\\') {
            text.push_str(&rest[..slash]);
            let fault = JsonFault { rule: JsonRule::LoneSurrogate, at: self.at + content.len() - rest.len() + slash };
            let (decoded, taken) = unescape(&rest.as_bytes()[slash..]).ok_or(fault)?;
            text.push(decoded);
            rest = &rest[slash + taken..];
        }
        text.push_str(rest);
        Ok(Cow::Owned(text))
    }

    /// Whether the string is `name`; a name in escapes counts as well.
    pub(crate) fn is(&self, name: &str) -> bool {
        if self.escaped { self.decode().is_ok_and(|decoded| decoded == name) } else { self.content == name.as_bytes() }
    }

    /// The content as it stands on the wire, when it has no escapes.
    pub(crate) fn plain(&self) -> Option<&'a [u8]> {
        (!self.escaped).then_some(self.content)
    }
}

/// The character of the escape at the front of `bytes` and its length; `None` for a lone surrogate (or no escape).
fn unescape(bytes: &[u8]) -> Option<(char, usize)> {
    let simple = match bytes.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = hex4(bytes.get(2..6)?)?;
            if !(0xD800..0xDC00).contains(&first) {
                return Some((char::from_u32(first)?, 6));
            }
            if bytes.get(6..8)? != b"\\u" {
                return None;
            }
            let second = hex4(bytes.get(8..12)?)?;
            if !(0xDC00..0xE000).contains(&second) {
                return None;
            }
            return Some((char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))?, 12));
        }
        _ => return None,
    };
    Some((simple, 2))
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

/// Is told what a walk over one value meets, in order. Every method does nothing unless it is overridden.
pub(crate) trait Visitor<'a> {
    /// What stops a walk early; broken JSON always does.
    type Error: From<JsonFault>;
    fn null(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
    fn boolean(&mut self, _value: bool) -> Result<(), Self::Error> {
        Ok(())
    }
    /// `digits` follows the grammar of a JSON number.
    fn number(&mut self, _digits: &'a [u8]) -> Result<(), Self::Error> {
        Ok(())
    }
    fn string(&mut self, _text: Text<'a>) -> Result<(), Self::Error> {
        Ok(())
    }
    fn open(&mut self, _container: Container) -> Result<(), Self::Error> {
        Ok(())
    }
    /// Before each item of an array.
    fn element(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
    /// Before each value of an object.
    fn key(&mut self, _name: Text<'a>) -> Result<(), Self::Error> {
        Ok(())
    }
    fn close(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    Array,
    Map,
}

/// Checks and forgets.
struct Skip;

impl Visitor<'_> for Skip {
    type Error = JsonFault;
}

/// Checks, and counts the items of the outermost array.
struct CountOuter {
    open: u32,
    items: u32,
}

impl Visitor<'_> for CountOuter {
    type Error = JsonFault;
    fn open(&mut self, _container: Container) -> Result<(), JsonFault> {
        self.open += 1;
        Ok(())
    }
    fn element(&mut self) -> Result<(), JsonFault> {
        self.items = self.items.saturating_add(u32::from(self.open == 1));
        Ok(())
    }
    fn close(&mut self) -> Result<(), JsonFault> {
        self.open -= 1;
        Ok(())
    }
}

/// A position in a text. Invariant: `at <= bytes.len()`.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn fault(&self, rule: JsonRule) -> JsonFault {
        JsonFault { rule, at: self.at }
    }

    fn byte(&self) -> Result<u8, JsonFault> {
        self.bytes.get(self.at).copied().ok_or(self.fault(JsonRule::UnexpectedEnd))
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The first byte of the next token, which stays where it is.
    pub(crate) fn peek(&mut self) -> Result<u8, JsonFault> {
        self.skip_space();
        self.byte()
    }

    /// Takes `wanted`, which has to be the next token.
    fn take(&mut self, wanted: u8) -> Result<(), JsonFault> {
        if self.peek()? != wanted {
            return Err(self.fault(JsonRule::UnexpectedByte));
        }
        self.at += 1;
        Ok(())
    }

    /// Only white space may be left.
    pub(crate) fn end(&mut self) -> Result<(), JsonFault> {
        self.skip_space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.fault(JsonRule::TrailingBytes)) }
    }

    /// Takes a string. The next byte must be its opening quote.
    pub(crate) fn string(&mut self) -> Result<Text<'a>, JsonFault> {
        self.take(b'"')?;
        let start = self.at;
        let (mut escaped, mut wide) = (false, false);
        loop {
            let (run, run_is_wide) = plain_run(&self.bytes[self.at..]);
            self.at += run;
            wide |= run_is_wide;
            match self.byte()? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.fault(JsonRule::ControlInString)),
            }
        }
        let content = &self.bytes[start..self.at];
        if wide {
            std::str::from_utf8(content)
                .map_err(|error| JsonFault { rule: JsonRule::Utf8, at: start + error.valid_up_to() })?;
        }
        self.at += 1;
        Ok(Text { content, escaped, at: start })
    }

    fn escape(&mut self) -> Result<(), JsonFault> {
        self.at += 1;
        match self.byte()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                for _ in 0..4 {
                    self.at += 1;
                    if !self.byte()?.is_ascii_hexdigit() {
                        return Err(self.fault(JsonRule::Escape));
                    }
                }
                self.at += 1;
            }
            _ => return Err(self.fault(JsonRule::Escape)),
        }
        Ok(())
    }

    /// Takes a number and gives its characters.
    pub(crate) fn number(&mut self) -> Result<&'a [u8], JsonFault> {
        let start = self.at;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
            if self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
                return Err(self.fault(JsonRule::Number));
            }
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.bytes[start..self.at])
    }

    /// Takes one digit or more.
    fn digits(&mut self) -> Result<(), JsonFault> {
        let rest = &self.bytes[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            let rule = if rest.is_empty() { JsonRule::UnexpectedEnd } else { JsonRule::Number };
            return Err(self.fault(rule));
        }
        self.at += count;
        Ok(())
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), JsonFault> {
        for &letter in word {
            if self.byte()? != letter {
                return Err(self.fault(JsonRule::UnexpectedByte));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Takes `null`, if that is the next token.
    pub(crate) fn take_null(&mut self) -> Result<bool, JsonFault> {
        if self.peek()? != b'n' {
            return Ok(false);
        }
        self.literal(b"null")?;
        Ok(true)
    }

    fn key<V: Visitor<'a>>(&mut self, visitor: &mut V) -> Result<(), V::Error> {
        let name = self.string()?;
        self.take(b':')?;
        visitor.key(name)
    }

    /// Takes one value and tells `visitor` about it. `depth` containers are open already; the kinds of those opened
    /// here are kept in one bit each, so 64 levels need neither recursion nor a heap.
    pub(crate) fn walk<V: Visitor<'a>>(&mut self, depth: u32, visitor: &mut V) -> Result<(), V::Error> {
        const { assert!(DEPTH_MAX <= u64::BITS) };
        let mut maps: u64 = 0;
        let mut open: u32 = 0;
        loop {
            match self.peek()? {
                first @ (b'{' | b'[') => {
                    if depth + open >= DEPTH_MAX {
                        return Err(self.fault(JsonRule::Depth).into());
                    }
                    self.at += 1;
                    let is_map = first == b'{';
                    visitor.open(if is_map { Container::Map } else { Container::Array })?;
                    if self.peek()? == if is_map { b'}' } else { b']' } {
                        self.at += 1;
                        visitor.close()?;
                    } else {
                        maps = maps << 1 | u64::from(is_map);
                        open += 1;
                        if is_map {
                            self.key(visitor)?
                        } else {
                            visitor.element()?
                        }
                        continue;
                    }
                }
                b'"' => visitor.string(self.string()?)?,
                b'-' | b'0'..=b'9' => visitor.number(self.number()?)?,
                b'n' => {
                    self.literal(b"null")?;
                    visitor.null()?;
                }
                b't' => {
                    self.literal(b"true")?;
                    visitor.boolean(true)?;
                }
                b'f' => {
                    self.literal(b"false")?;
                    visitor.boolean(false)?;
                }
                _ => return Err(self.fault(JsonRule::UnexpectedByte).into()),
            }
            // A value has ended: so may have the containers around it.
            loop {
                if open == 0 {
                    return Ok(());
                }
                let in_map = maps & 1 == 1;
                match (self.peek()?, in_map) {
                    (b',', true) => {
                        self.at += 1;
                        self.key(visitor)?;
                        break;
                    }
                    (b',', false) => {
                        self.at += 1;
                        visitor.element()?;
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        self.at += 1;
                        visitor.close()?;
                        maps >>= 1;
                        open -= 1;
                    }
                    _ => return Err(self.fault(JsonRule::UnexpectedByte).into()),
                }
            }
        }
    }

    /// Takes one value and gives its bytes, without the white space around it.
    pub(crate) fn span(&mut self, depth: u32) -> Result<&'a [u8], JsonFault> {
        self.skip_space();
        let start = self.at;
        self.walk(depth, &mut Skip)?;
        Ok(&self.bytes[start..self.at])
    }

    /// Takes one array and gives its bytes, brackets included, and the number of its items. The next token must be
    /// the opening bracket.
    pub(crate) fn array_span(&mut self, depth: u32) -> Result<(&'a [u8], u32), JsonFault> {
        self.skip_space();
        let start = self.at;
        let mut counter = CountOuter { open: 0, items: 0 };
        self.walk(depth, &mut counter)?;
        Ok((&self.bytes[start..self.at], counter.items))
    }

    /// Takes an object, calling `property` after each name and colon to take the value. The next token must be the
    /// opening brace.
    pub(crate) fn object<E: From<JsonFault>>(
        &mut self,
        mut property: impl FnMut(&mut Self, Text<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let name = self.string()?;
            self.take(b':')?;
            property(self, name)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.fault(JsonRule::UnexpectedByte).into()),
            }
        }
    }

    /// Moves over the opening bracket: true when there are items, false when it was an empty container (all of which
    /// is then behind).
    pub(crate) fn enter(&mut self, container: Container) -> Result<bool, JsonFault> {
        let (open, close) = if container == Container::Map { (b'{', b'}') } else { (b'[', b']') };
        self.take(open)?;
        if self.peek()? == close {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// After an item: true when another follows, false when the container has ended.
    pub(crate) fn another(&mut self) -> Result<bool, JsonFault> {
        let byte = self.peek()?;
        let fault = self.fault(JsonRule::UnexpectedByte);
        self.at += 1;
        match byte {
            b',' => Ok(true),
            b']' | b'}' => Ok(false),
            _ => Err(fault),
        }
    }

    /// Takes a name and its colon, and gives the name with its quotes.
    pub(crate) fn name_span(&mut self) -> Result<&'a [u8], JsonFault> {
        self.skip_space();
        let start = self.at;
        self.string()?;
        let name = &self.bytes[start..self.at];
        self.take(b':')?;
        Ok(name)
    }
}
