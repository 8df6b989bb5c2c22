//! Everything a comparison needs, built and installed.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;

/// Builds `fanfare`, `fanfare-loadgen` and `floor` beside this program, as it was built itself.
pub fn build(workspace: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let packages = ["fanfare", "fanfare-loadgen", "fanfare-bench"];
    let mut arguments = vec!["build", "--release", "--bins"];
    packages.iter().for_each(|package| arguments.extend(["--package", package]));
    run(&cargo, &arguments, workspace)
}

/// Installs the peers of npm in the versions that `package-lock.json` says, unless that was done before.
pub fn install_peers(peers: &Path) -> Result<(), String> {
    let newer = |path: &str| fs::metadata(peers.join(path)).and_then(|metadata| metadata.modified()).ok();
    let (installed, wanted) = (newer("node_modules/.package-lock.json"), newer("package-lock.json"));
    if installed.is_some() && installed >= wanted {
        return Ok(());
    }
    // Nothing of what is installed has to be compiled, so no package's scripts are run.
    run(OsStr::new("npm"), &["ci", "--no-audit", "--no-fund", "--ignore-scripts"], peers)
}

/// Builds the peer of tokio and tungstenite with the versions of its own `Cargo.lock`.
pub fn build_tungstenite(peers: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(&cargo, &["build", "--release", "--locked", "--target-dir", "target"], &peers.join("tungstenite"))
}

fn run(program: &OsStr, arguments: &[&str], directory: &Path) -> Result<(), String> {
    let shown = || format!("`{} {}`", program.to_string_lossy(), arguments.join(" "));
    let status = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| format!("cannot run {}: {error}", shown()))?;
    if status.success() { Ok(()) } else { Err(format!("{} failed with {status}", shown())) }
}

/// What the numbers were taken on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// As the processor calls itself.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
    /// `node --version`.
    pub node: Option<String>,
    /// `nginx -v`.
    pub nginx: Option<String>,
    /// Peers of npm with their exact versions.
    pub npm: serde_json::Value,
    /// The crates of the tungstenite peer with their exact versions.
    pub crates: Vec<String>,
}

impl Machine {
    /// Asks around. What cannot be learned is left open.
    pub fn look(peers: &Path) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let manifest = fs::read_to_string(peers.join("package.json")).unwrap_or_default();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap_or_default();
        Machine {
            processor: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            node: first_line("node", "--version"),
            nginx: first_line("nginx", "-v"),
            npm: manifest["dependencies"].clone(),
            crates: locked(&fs::read_to_string(peers.join("tungstenite/Cargo.lock")).unwrap_or_default()),
        }
    }
}

/// `tokio 1.2.3` and what else makes the peer what it is, out of its lock file.
fn locked(lock: &str) -> Vec<String> {
    let quoted = |line: &str, key: &str| Some(line.strip_prefix(key)?.trim_matches(['"', ' ', '=']).to_owned());
    let packages = lock.split("[[package]]").filter_map(|package| {
        let name = package.lines().find_map(|line| quoted(line, "name"))?;
        let version = package.lines().find_map(|line| quoted(line, "version"))?;
        ["tokio", "tungstenite"].contains(&name.as_str()).then(|| format!("{name} {version}"))
    });
    packages.collect()
}

fn first_line(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output().ok()?;
    // nginx speaks on standard error.
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&said).lines().next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_read_out_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"tokio\"\nversion = \"1.2.3\"\n\n[[package]]\nname = \"bytes\"\n\
                    version = \"9.9.9\"\n";
        assert_eq!(super::locked(lock), ["tokio 1.2.3"]);
    }
}
