//! Prometheus text format 0.0.4, written family by family.

use std::fmt::Write;

/// Media type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

/// One metric as the catalogue has it.
#[derive(Debug)]
pub(crate) struct Metric {
    /// With prefix, unit and, for a counter, `_total`.
    pub(crate) name: &'static str,
    /// Counter or gauge.
    pub(crate) kind: Kind,
    /// Label names, in the order in which values are given.
    pub(crate) labels: &'static [&'static str],
    /// What it counts, in one line.
    pub(crate) help: &'static str,
}

/// A page of metrics under construction.
#[derive(Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// Starts the samples of `metric`.
    pub(crate) fn family<'p>(&'p mut self, metric: &'static Metric) -> Family<'p> {
        let Metric { name, kind, help, .. } = metric;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
        Family { text: &mut self.text, metric }
    }

    /// The page.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// The samples of one metric.
pub(crate) struct Family<'p> {
    text: &'p mut String,
    metric: &'static Metric,
}

impl Family<'_> {
    /// Adds one sample; `values` are those of the metric's labels, in their order.
    pub(crate) fn sample(&mut self, values: &[&str], value: u64) -> &mut Self {
        debug_assert_eq!(values.len(), self.metric.labels.len(), "{}", self.metric.name);
        self.text.push_str(self.metric.name);
        for (index, (label, value)) in self.metric.labels.iter().zip(values).enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"");
            push_escaped(self.text, value);
            self.text.push('"');
        }
        let close = if self.metric.labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
        self
    }
}

/// Backslash, quote and line feed are the three that the format escapes in a label value.
fn push_escaped(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// One parsed family: its kind and its samples as label text and value.
    pub(crate) type Parsed = BTreeMap<String, (String, Vec<(String, f64)>)>;

    /// Reads a page strictly: each family has HELP and TYPE before its samples, once; each line is a comment or
    /// `name{labels} value`; the page ends with a line feed.
    pub(crate) fn parse(page: &str) -> Result<Parsed, String> {
        if !page.is_empty() && !page.ends_with('\n') {
            return Err("the last line has no line feed".to_owned());
        }
        let mut families = Parsed::new();
        let (mut helped, mut current) = (String::new(), String::new());
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                helped = rest.split_once(' ').ok_or("HELP without text")?.0.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or("TYPE without kind")?;
                if name != helped || !matches!(kind, "counter" | "gauge") || families.contains_key(name) {
                    return Err(format!("bad TYPE line: {line}"));
                }
                current = name.to_owned();
                families.insert(current.clone(), (kind.to_owned(), Vec::new()));
            } else {
                let (name, labels, value) = parse_sample(line).ok_or_else(|| format!("bad sample: {line}"))?;
                let family = families.get_mut(&current).filter(|_| name == current);
                family.ok_or_else(|| format!("sample outside its family: {line}"))?.1.push((labels, value));
            }
        }
        Ok(families)
    }

    fn parse_sample(line: &str) -> Option<(&str, String, f64)> {
        let name_end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(name_end);
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(valid) {
            return None;
        }
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => parse_labels(rest)?,
            None => (String::new(), rest),
        };
        Some((name, labels, value.strip_prefix(' ')?.parse().ok()?))
    }

    /// `name="value",...}` and what follows it.
    fn parse_labels(text: &str) -> Option<(String, &str)> {
        let mut rest = text;
        loop {
            let (name, after) = rest.split_once("=\"")?;
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                return None;
            }
            let mut escaped = false;
            let end = after.char_indices().find_map(|(at, c)| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends.then_some(at)
            })?;
            rest = &after[end + 1..];
            if let Some(after) = rest.strip_prefix('}') {
                return Some((text[..text.len() - after.len() - 1].to_owned(), after));
            }
            rest = rest.strip_prefix(',')?;
        }
    }

    static PLAIN: Metric = Metric { name: "plain", kind: Kind::Gauge, labels: &[], help: "Without labels." };
    static LABELLED: Metric =
        Metric { name: "some_total", kind: Kind::Counter, labels: &["hub", "reason"], help: "With labels." };

    #[test]
    fn families_samples_and_escapes_are_written_as_the_format_wants() {
        let mut page = Page::default();
        page.family(&PLAIN).sample(&[], 7);
        page.family(&LABELLED).sample(&["chat", "normal"], 1).sample(&["a\"b\\c\nd", "x"], 2);
        let text = page.into_text();
        let expected = "# HELP plain Without labels.\n# TYPE plain gauge\nplain 7\n# HELP some_total With labels.\n\
                        # TYPE some_total counter\nsome_total{hub=\"chat\",reason=\"normal\"} 1\n\
                        some_total{hub=\"a\\\"b\\\\c\\nd\",reason=\"x\"} 2\n";
        assert_eq!(text, expected);
        let families = parse(&text).expect("the page parses");
        assert_eq!(families["some_total"].1[0], ("hub=\"chat\",reason=\"normal\"".to_owned(), 1.0));
    }

    #[test]
    fn the_reader_used_by_tests_refuses_broken_pages() {
        for broken in ["a 1", "# HELP a b\n# TYPE a counter\nb 1\n", "# HELP a b\n# TYPE a counter\na{x=\"1} 1\n"] {
            assert!(parse(broken).is_err(), "{broken}");
        }
    }
}
