//! Tells the binary which compiler made it, for `fanfare version --verbose` and `fanfare_build_info`.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(compiler)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .and_then(|text| text.split_whitespace().nth(1).map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=FANFARE_RUSTC={version}");
    println!("cargo:rustc-env=FANFARE_TARGET={}", std::env::var("TARGET").unwrap_or_default());
}
