//! The pages and what they load, all inside the binary.

/// One file a browser may ask for.
pub(crate) struct Asset {
    /// The path on the admin listener.
    pub(crate) path: &'static str,
    /// Its media type.
    pub(crate) content_type: &'static str,
    /// Its bytes.
    pub(crate) bytes: &'static [u8],
    /// Whether it belongs to the demo, which only `fanfare dev` serves.
    pub(crate) demo: bool,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($path:literal, $file:literal, $content_type:expr, demo: $demo:literal) => {
        Asset {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../assets/", $file)),
            demo: $demo,
        }
    };
}

/// Every file of the admin listener.
pub(crate) static ASSETS: [Asset; 10] = [
    asset!("/", "index.html", HTML, demo: false),
    asset!("/demo", "chat.html", HTML, demo: true),
    asset!("/demo/meter", "meter.html", HTML, demo: true),
    asset!("/assets/style.css", "style.css", "text/css; charset=utf-8", demo: false),
    asset!("/assets/icon.svg", "icon.svg", "image/svg+xml", demo: false),
    asset!("/assets/index.js", "index.js", SCRIPT, demo: false),
    asset!("/assets/hub.js", "hub.js", SCRIPT, demo: false),
    asset!("/assets/chat.js", "chat.js", SCRIPT, demo: true),
    asset!("/assets/meter.js", "meter.js", SCRIPT, demo: true),
    asset!("/assets/meter-worker.js", "meter-worker.js", SCRIPT, demo: true),
];

/// The file at `path`, unless it belongs to a demo that is off.
pub(crate) fn find(path: &str, demo: bool) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path && (demo || !asset.demo))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages must work without a network, so nothing in them may name another host.
    #[test]
    fn no_page_asks_the_internet_for_anything() {
        for asset in &ASSETS {
            let text = std::str::from_utf8(asset.bytes).expect("assets are text");
            for scheme in ["http://", "https://", "\"//", "'//", "url("] {
                let foreign = text.match_indices(scheme).find(|(at, _)| {
                    // The name of the SVG vocabulary is a name, not an address.
                    !text[*at..].starts_with("http://www.w3.org/2000/svg")
                });
                assert_eq!(foreign, None, "{} names {scheme}", asset.path);
            }
        }
    }

    #[test]
    fn every_file_a_page_loads_is_in_the_binary() {
        for asset in &ASSETS {
            let text = std::str::from_utf8(asset.bytes).expect("assets are text");
            for (at, _) in text.match_indices("\"/assets/") {
                let path = text[at + 1..].split('"').next().expect("a split has a first part");
                assert!(find(path, true).is_some(), "{} loads {path}", asset.path);
                assert!(asset.demo || find(path, false).is_some(), "{} loads {path} of the demo", asset.path);
            }
        }
    }

    #[test]
    fn pages_carry_no_inline_script_or_style_because_the_policy_forbids_them() {
        for asset in ASSETS.iter().filter(|asset| asset.content_type == HTML) {
            let text = std::str::from_utf8(asset.bytes).expect("assets are text");
            for inline in ["<style", "style=", "onclick=", "onload=", "javascript:"] {
                assert!(!text.contains(inline), "{} has {inline}", asset.path);
            }
            for script in text.match_indices("<script").map(|(at, _)| &text[at..]) {
                assert!(script.starts_with("<script type=\"module\" src=\"/assets/"), "{}", asset.path);
            }
        }
    }
}
