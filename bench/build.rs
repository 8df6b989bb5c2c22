//! Tells the program by which compiler it was made: instruction counts are recorded with it.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").expect("cargo says which compiler it uses");
    let output = Command::new(rustc).arg("--version").output().expect("a compiler that starts");
    let version = String::from_utf8(output.stdout).expect("a version");
    println!("cargo:rustc-env=FANFARE_BENCH_RUSTC={}", version.trim());
}
