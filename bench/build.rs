//! Tells the program by which compiler and with which profile it was made: instruction counts are recorded with both.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").expect("cargo says which compiler it uses");
    let output = Command::new(rustc).arg("--version").output().expect("a compiler that starts");
    let version = String::from_utf8(output.stdout).expect("a version");
    println!("cargo:rustc-env=FANFARE_BENCH_RUSTC={}", version.trim());
    // target/PROFILE/build/PACKAGE-HASH/out: cargo names only the profile that a profile goes back to.
    let out = std::env::var_os("OUT_DIR").expect("cargo says where things go");
    let profile = Path::new(&out).ancestors().nth(3).and_then(Path::file_name).expect("a folder of a profile");
    println!("cargo:rustc-env=FANFARE_BENCH_PROFILE={}", profile.to_string_lossy());
}
