//! `junit.xml`: what a build server shows. One test case for each threshold, and one for the verdict.

use super::Report;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Writes the one suite of a run.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let missed = report.thresholds.iter().filter(|checked| !checked.met).count();
    let invalid = usize::from(!report.verdict.valid);
    let elapsed_s = report.run.as_ref().map_or(0.0, |run| run.elapsed_s);
    let (tests, failures) = (report.thresholds.len() + 1, missed + invalid);
    let name = format!("fanfare-loadgen.{}", report.command);
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(out, r#"<testsuites tests="{tests}" failures="{failures}" errors="0" time="{elapsed_s:.3}">"#)?;
    writeln!(
        out,
        r#"  <testsuite name="{name}" tests="{tests}" failures="{failures}" errors="0" skipped="0" time="{elapsed_s:.3}">"#
    )?;
    for checked in &report.thresholds {
        let case = escaped(&checked.threshold);
        write!(out, r#"    <testcase classname="{name}.threshold" name="{case}" time="0">"#)?;
        if !checked.met {
            let value =
                checked.value.map_or("this run has no such figure".to_owned(), |value| format!("it is {value}"));
            let text = format!("{} does not hold: {value}", checked.threshold);
            write!(out, r#"<failure type="threshold" message="{}"/>"#, escaped(&text))?;
        }
        writeln!(out, "</testcase>")?;
    }
    write!(out, r#"    <testcase classname="{name}.verdict" name="valid" time="0">"#)?;
    if !report.verdict.valid {
        let text = report.verdict.reasons.join("; ");
        write!(out, r#"<failure type="verdict" message="{}"/>"#, escaped(&text))?;
    }
    let faults = report.verdict.faults.iter().map(|fault| format!("{}: {}", fault.name, fault.text));
    let told: Vec<String> = faults.chain(report.verdict.notes.iter().cloned()).collect();
    if !told.is_empty() {
        write!(out, "<system-out>{}</system-out>", escaped(&told.join("\n")))?;
    }
    writeln!(out, "</testcase>\n  </testsuite>\n</testsuites>")
}

/// For text and attribute values alike. What XML 1.0 cannot hold is written as its number in words.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "(U+{:04X})", c as u32);
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_cannot_break_the_file() {
        assert_eq!(escaped("a<b & \"c\"\u{1}\u{1b}[0m"), "a&lt;b &amp; &quot;c&quot;(U+0001)(U+001B)[0m");
    }
}
