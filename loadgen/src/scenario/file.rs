//! A scenario as it is written: TOML with every key known, and the place of every value kept for what is said about it.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use toml::Spanned;

/// Text, and where it stands.
pub(super) type Text = Spanned<String>;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    #[serde(default)]
    pub(super) about: String,
    pub(super) seed: Option<u64>,
    pub(super) target: Option<Text>,
    pub(super) duration: Option<Text>,
    pub(super) warmup: Option<Text>,
    pub(super) drain: Option<Text>,
    pub(super) deadline: Option<Text>,
    #[serde(default)]
    pub(super) clients: Vec<Spanned<Clients>>,
    #[serde(default)]
    pub(super) load: Vec<Spanned<LoadPart>>,
    #[serde(default)]
    pub(super) fault: Vec<Spanned<Fault>>,
    #[serde(default)]
    pub(super) thresholds: BTreeMap<String, Text>,
}

/// Connections that are alike.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Clients {
    pub(super) name: Text,
    pub(super) count: Spanned<u32>,
    pub(super) ramp: Option<Text>,
    pub(super) transport: Option<Text>,
    pub(super) protocol: Option<Text>,
    pub(super) groups: Option<Spanned<Groups>>,
    pub(super) stay: Option<Text>,
    pub(super) read: Option<Read>,
    pub(super) reconnect: Option<Text>,
}

/// Which groups they are in.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Groups {
    pub(super) pick: u32,
    pub(super) of: u32,
    pub(super) skew: Option<String>,
}

/// They read slowly on purpose.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    pub(super) rate: Text,
    pub(super) receive_buffer: Option<Text>,
}

/// What is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoadPart {
    pub(super) kind: Text,
    pub(super) via: Option<Text>,
    pub(super) rate: Option<Spanned<Rate>>,
    pub(super) rate_each: Option<Text>,
    pub(super) arrival: Option<Text>,
    pub(super) size: Option<Text>,
    pub(super) burst: Option<u32>,
    pub(super) publishers: Option<u16>,
    pub(super) users: Option<u32>,
    pub(super) method: Option<String>,
    pub(super) client_method: Option<String>,
    pub(super) arguments: Option<Text>,
    pub(super) join_method: Option<String>,
    pub(super) id_method: Option<String>,
    pub(super) user_query: Option<String>,
}

/// What happens to connections.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    pub(super) at: Text,
    pub(super) kind: Text,
    pub(super) part: Option<Spanned<f64>>,
}

/// One rate, or several one after the other.
#[derive(Debug)]
pub(super) enum Rate {
    One(String),
    Steps { steps: Vec<String>, each: String },
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSteps;

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Steps {
            steps: Vec<String>,
            each: String,
        }

        impl<'de> Visitor<'de> for OneOrSteps {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate as \"500/s\", or { steps = [\"500/s\", \"1000/s\"], each = \"30s\" }")
            }

            fn visit_str<E>(self, text: &str) -> Result<Rate, E> {
                Ok(Rate::One(text.to_owned()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Rate, M::Error> {
                let Steps { steps, each } = Steps::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Rate::Steps { steps, each })
            }
        }

        deserializer.deserialize_any(OneOrSteps)
    }
}
