//! `report.html`: one file that needs nothing else. The result is embedded as it is; a script draws it.

use serde_json::Value;
use std::io::{self, Write};

const FRAME: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPTS: [&str; 4] = [
    include_str!("page/chart.js"),
    include_str!("page/charts.js"),
    include_str!("page/verbs.js"),
    include_str!("page/page.js"),
];

/// Writes the page of a result.
pub fn write(result: &Value, out: &mut impl Write) -> io::Result<()> {
    let text = |name: &str| result.get(name).and_then(Value::as_str).unwrap_or_default();
    let title = format!("{} {} - fanfare-loadgen", text("command"), text("target"));
    let mut rest = FRAME;
    // The frame's placeholders, in order; what is put in is not searched again.
    for (place, content) in [
        ("{{title}}", escaped(&title)),
        ("{{style}}", STYLE.to_owned()),
        ("{{result}}", embedded(result)?),
        ("{{script}}", SCRIPTS.concat()),
    ] {
        let (before, after) = rest.split_once(place).ok_or_else(|| io::Error::other(format!("no {place}")))?;
        out.write_all(before.as_bytes())?;
        out.write_all(content.as_bytes())?;
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

/// JSON that no browser takes for markup.
fn embedded(result: &Value) -> io::Result<String> {
    Ok(serde_json::to_string(result)?.replace('<', "\\u003c"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_server_says_cannot_become_markup() {
        let result = json!({"command": "a<b", "target": "</title><script>", "troubles": "</script><script>alert(1)"});
        let mut page = Vec::new();
        write(&result, &mut page).expect("a page");
        let page = String::from_utf8(page).expect("text");
        assert!(!page.contains("<script>alert") && !page.contains("</title><script>"));
        assert!(page.contains("<title>a&lt;b &lt;/title&gt;"));
    }
}
