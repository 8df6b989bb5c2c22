//! A JSON object in which every name stands once.

use fanfare_protocol::hub::{Format, Raw};
use std::borrow::Cow;

/// The members of an object, by name. Borrowed from the text but for names with escapes.
///
/// RFC 7519 4 leaves open which of two claims of one name counts. Where readers differ on that, one of them can be
/// told something else than the other: so such an object is none.
pub(super) struct Object<'a> {
    /// Sorted by name.
    members: Vec<(Cow<'a, str>, Raw<'a>)>,
}

impl<'a> Object<'a> {
    /// The object that `text` is, and nothing else. JSON as strict as RFC 8259, of bounded depth.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        Self::of(Raw::parse(Format::Json, text).ok()?)
    }

    /// The object that a value is.
    pub(super) fn of(value: Raw<'a>) -> Option<Self> {
        let mut members = Vec::new();
        for (name, value) in value.entries().ok()? {
            members.push((name.as_str().ok()?, value));
        }
        members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let once = members.windows(2).all(|pair| pair[0].0 != pair[1].0);
        once.then_some(Self { members })
    }

    /// The value of that name.
    pub(super) fn get(&self, name: &str) -> Option<Raw<'a>> {
        let at = self.members.binary_search_by(|(member, _)| member.as_ref().cmp(name)).ok()?;
        Some(self.members[at].1)
    }

    /// The text of that name: `Ok(None)` if there is none, `Err` if it is no text.
    pub(super) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, ()> {
        self.get(name).map(|value| value.as_str().map_err(drop)).transpose()
    }
}
