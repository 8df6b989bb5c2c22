//! The documentation says what is: flags, metrics, reasons, limits, links and the names of tests.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fanfare_engine::{EndpointOptions, Limits};
use support::{Fanfare, Server, get};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows under the table head that begins with `head`, cell by cell. An escaped bar is part of its cell.
fn table<'t>(text: &'t str, head: &str) -> Vec<Vec<String>> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(head));
    assert!(lines.next().is_some(), "no table `{head}`");
    let cells = |line: &'t str| {
        let line = line.replace("\\|", "\u{1}");
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
    };
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    items.into_iter().collect()
}

/// The long flags in a help text, but for `--help`.
fn flags_of(verb: &str) -> BTreeSet<String> {
    let (code, help) = Fanfare::start(&[verb, "--help"]).code();
    assert_eq!(code, 0, "{help}");
    // An option's line begins with the flag, or with its short form.
    let flag = |line: &str| {
        let at = line.trim_start().split(", ").find(|part| part.starts_with("--"))?;
        Some(at.split([' ', '=']).next()?.trim_end_matches("...").to_owned())
    };
    let options = help.split("\nOptions:\n").nth(1).unwrap_or_else(|| panic!("no options in\n{help}"));
    let options = options.split("\n\n\n").next().unwrap_or_default();
    let own = options.lines().filter(|line| line.trim_start().starts_with('-')).filter_map(flag);
    sorted(own.filter(|flag| flag != "--help"))
}

#[test]
fn every_flag_that_is_named_is_taken_and_every_flag_is_named() {
    let operating = read("docs/operating.md");
    let named = |heads: &[&str]| {
        let rows = heads.iter().flat_map(|head| table(&operating, head));
        let names = rows.map(|row| row[0].trim_matches('`').split(' ').next().expect("a word").to_owned());
        sorted(names)
    };
    let common = "| Flag of `listen` and `send` |";
    for (verb, heads) in [
        ("serve", &["| Flag of `serve` |"][..]),
        ("dev", &["| Flag of `dev` |"]),
        ("listen", &[common, "| Flag of `listen` |"]),
        ("send", &[common, "| Flag of `send` (exactly one) |"]),
    ] {
        assert_eq!(named(heads), flags_of(verb), "docs/operating.md against fanfare {verb} --help");
    }
}

#[test]
fn every_metric_that_is_named_is_served() {
    let server = Server::dev(&[]);
    let page = get(server.admin, "/metrics").body;
    let served = sorted(page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()));
    let operating = read("docs/operating.md");
    let name = |text: &str| {
        let rest = text.strip_prefix("fanfare_")?;
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
        Some(text[.."fanfare_".len() + end].to_owned())
    };
    let catalogue =
        sorted(table(&operating, "| Metric | Kind |").iter().filter_map(|row| name(row[0].trim_matches('`'))));
    assert_eq!(catalogue, served.iter().map(|name| (*name).to_owned()).collect(), "the table of all metrics");
    for document in markdown_files() {
        let text = read(&document);
        for name in quoted(&text).filter(|text| !text.contains("::")).filter_map(name) {
            let known = served.contains(name.as_str()) || ["fanfare_engine", "fanfare_protocol"].contains(&&*name);
            assert!(known, "{document} names {name}, which /metrics does not have");
        }
    }
}

#[test]
fn every_reason_is_named() {
    let server = Server::dev(&[]);
    let page = get(server.admin, "/metrics").body;
    let operating = read("docs/operating.md");
    for (metric, head) in [
        ("fanfare_connections_closed_total", "| `reason` | Why |"),
        ("fanfare_connect_refused_total", "| `reason` | Status |"),
        ("fanfare_tls_handshake_failures_total", "| `reason` | What |"),
    ] {
        let start = format!("{metric}{{reason=\"");
        let served = page.lines().filter_map(|line| line.strip_prefix(&start)?.split('"').next());
        let rows = table(&operating, head);
        let named = rows.iter().flat_map(|row| quoted(&row[0]));
        assert_eq!(sorted(named), sorted(served), "reasons of {metric}");
    }
}

/// `name: value` pairs at the top level of what `{:?}` writes for a struct.
fn fields(debug: &str) -> Vec<(String, String)> {
    let inside = debug.split_once('{').expect("a struct").1.rsplit_once('}').expect("its end").0;
    let mut depth = 0;
    let parts = inside.split(|c: char| {
        depth += i32::from(matches!(c, '{' | '[')) - i32::from(matches!(c, '}' | ']'));
        c == ',' && depth == 0
    });
    let pair =
        |part: &str| part.split_once(": ").map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    parts.filter_map(pair).collect()
}

/// `64 KiB`, `30,000` or `0: all slots` as a number.
fn number(text: &str) -> Option<u64> {
    let text = text.split(':').next().unwrap_or_default();
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    Some(digits.replace(',', "").parse::<u64>().ok()? * factor)
}

#[test]
fn limits_and_options_have_the_defaults_that_are_told() {
    let embedding = read("docs/embedding.md");
    for (head, debug) in [
        ("| Field | Default | Bounds |", format!("{:?}", Limits::default())),
        ("| Field | Default | Meaning |", format!("{:?}", EndpointOptions::default())),
    ] {
        let rows = table(&embedding, head);
        let named = rows.iter().map(|row| row[0].trim_matches('`').split('.').next().expect("a name").to_owned());
        let actual = fields(&debug);
        assert_eq!(named.collect::<Vec<_>>(), actual.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        for (row, (name, value)) in rows.iter().zip(actual) {
            if let Ok(value) = value.parse::<u64>() {
                assert_eq!(number(&row[1]), Some(value), "the default of {name}");
            }
        }
    }
}

/// Every Markdown file of the tree, by its path from the top.
fn markdown_files() -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() {
                if !["target", "node_modules", ".git", ".venv"].iter().any(|skipped| name == *skipped) {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    walk(&root, &mut found);
    let relative = |path: &PathBuf| path.strip_prefix(&root).expect("inside").to_string_lossy().into_owned();
    let files: Vec<String> = found.iter().map(relative).collect();
    assert!(files.iter().any(|file| file == "README.md"), "{files:?}");
    files
}

/// The lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The anchors of a text's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let slug = |title: &str| {
        let kept = title.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect::<String>()
    };
    sorted(prose(text).filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#').trim())))
}

#[test]
fn every_relative_link_leads_somewhere() {
    for document in markdown_files() {
        let text = read(&document);
        let folder = Path::new(&document).parent().expect("a folder");
        for line in prose(&text) {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path = if path.is_empty() { document.clone() } else { clean(&folder.join(path)) };
                assert!(root().join(&path).exists(), "{document} links to {target}, which is not there");
                assert!(
                    anchor.is_empty() || anchors(&read(&path)).contains(anchor),
                    "{document} links to {target}, which has no such heading"
                );
            }
        }
    }
}

/// A path without `..`.
fn clean(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(parts.pop()),
            part => parts.push(part.as_os_str().to_string_lossy().into_owned()),
        }
    }
    parts.join("/")
}

/// In a cell of "Held by" a file is followed by the names of the tests, or of the values, in it.
#[test]
fn every_test_that_holds_a_promise_exists() {
    let specification = read("docs/specification.md");
    let mut tests = 0;
    for line in prose(&specification).filter(|line| line.starts_with('|')) {
        let mut file: Option<(&str, String)> = None;
        for name in quoted(line) {
            let is_file = name.contains('/') && (name.ends_with(".rs") || name.ends_with(".mjs"));
            if is_file {
                file = Some((name, read(name)));
            } else if let Some((path, text)) = &file {
                // In the clients' tests names are text, perhaps with a quote escaped and the protocol behind.
                let held = if path.ends_with(".mjs") {
                    text.replace("\\'", "'").contains(name)
                } else {
                    [format!("fn {name}("), format!("{name}:")].iter().any(|definition| text.contains(definition))
                };
                assert!(held, "docs/specification.md: {path} has no `{name}`");
                tests += 1;
            }
        }
    }
    assert!(tests > 30, "{tests} names were found: the tables are written in another way");
}

/// Lines of the checklist of the specification that the server is built from.
const CHECKLIST_LINES: u32 = 160;

/// The lines that a test's name says it is about: `line 72: ...`, `lines 93 and 95: ...`, `line_088_...`.
fn lines_of(name: &str) -> BTreeSet<u32> {
    let mut lines = BTreeSet::new();
    let mut counting = false;
    for word in name.split([' ', '_', ':', ';', ',', '(', ')']) {
        counting = match (word, word.parse()) {
            ("line" | "lines", _) => true,
            ("" | "and", _) => counting,
            (_, Ok(line)) if counting => {
                lines.insert(line);
                true
            }
            _ => false,
        };
    }
    lines
}

/// Whether the text of a test file has a test whose name begins so.
fn has_test(path: &str, text: &str, name: &str) -> bool {
    let begins = |before: &[&str]| before.iter().any(|before| text.contains(&format!("{before}{name}")));
    match path.rsplit('.').next() {
        Some("mjs") => {
            ["'", "\"", "`"].iter().any(|quote| text.replace("\\'", "'").contains(&format!("{quote}{name}")))
        }
        Some("java") => begins(&["@DisplayName(\""]),
        Some("py") => text.contains(&format!("def {name}(")),
        Some("rs") => text.contains(&format!("fn {name}(")),
        _ => false,
    }
}

#[test]
fn every_line_of_the_checklist_has_its_tests_or_says_why_not() {
    let conformance = read("docs/conformance.md");
    let rows = prose(&conformance).filter(|line| line.starts_with("| ") && !line.starts_with("| Line "));
    let mut lines = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let &[line, _, held_by] = &cells[..] else { panic!("docs/conformance.md: three cells in {row}") };
        let line: u32 = line.parse().unwrap_or_else(|error| panic!("docs/conformance.md: {line}: {error}"));
        lines.push(line);
        let (mut tests, mut numbered, mut judged_by_name) = (0, false, false);
        let mut file: Option<(&str, String)> = None;
        for name in quoted(held_by) {
            if name.contains('/') && [".rs", ".mjs", ".py", ".java"].iter().any(|kind| name.ends_with(kind)) {
                file = Some((name, read(name)));
            } else if let Some((path, text)) = &file {
                assert!(has_test(path, text, name), "docs/conformance.md, line {line}: {path} has no `{name}`");
                tests += 1;
                numbered |= lines_of(name).contains(&line);
                // Clients of other languages have names of their own.
                judged_by_name |= path.ends_with(".rs") || path.ends_with(".mjs");
            }
        }
        assert!(
            tests > 0 || held_by.starts_with("*Not "),
            "docs/conformance.md, line {line}: neither a test nor a reason"
        );
        assert!(numbered || !judged_by_name, "docs/conformance.md, line {line}: no test of it carries its number");
    }
    assert_eq!(lines, (1..=CHECKLIST_LINES).collect::<Vec<_>>(), "every line of the checklist once, in order");
}

#[test]
fn names_of_tests_say_their_lines() {
    let lines = |name: &str| lines_of(name).into_iter().collect::<Vec<_>>();
    assert_eq!(lines("line 72: the end with data is 200"), [72]);
    assert_eq!(lines("line 63: the first poll; line 66: with its headers"), [63, 66]);
    assert_eq!(lines("lines 93 and 95: headers, 7 of them"), [93, 95]);
    assert_eq!(lines("lines_130_131_and_132_each_target"), [130, 131, 132]);
    assert_eq!(lines("a redirect is followed, once (line 16)"), [16]);
    assert_eq!(lines("32 lines of 80"), [80; 0]);
}
