//! What a count depends on besides the code: the tools that made the program and the ones that count.

use super::callgrind::Callgrind;
use serde::{Deserialize, Serialize};
use std::process::Command;

/// Recorded with the counts. Counts made with other tools are other counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    /// The profile that this program was made with: `instructions`.
    pub profile: String,
    /// The compiler that made this program.
    pub rustc: String,
    /// What counts.
    pub valgrind: String,
    /// Whose memcpy and malloc run.
    pub libc: String,
    /// The processor as programs under valgrind see it: they choose code by it.
    pub processor: String,
}

impl Tools {
    /// Those of this program, here. `processor` is told by a process under valgrind, see [`processor`].
    pub fn here(callgrind: &Callgrind, processor: String) -> Self {
        Self {
            profile: env!("FANFARE_BENCH_PROFILE").to_owned(),
            rustc: env!("FANFARE_BENCH_RUSTC").to_owned(),
            valgrind: callgrind.version().to_owned(),
            libc: libc_version(),
            processor,
        }
    }

    /// What differs, as `rustc 1.95.0 (recorded: rustc 1.94.0)`. Nothing if the counts can be compared. The profile is
    /// not among it: that one is the caller's mistake.
    pub fn differences(&self, recorded: &Self) -> Vec<String> {
        let pairs = [
            (&self.rustc, &recorded.rustc),
            (&self.valgrind, &recorded.valgrind),
            (&self.libc, &recorded.libc),
            (&self.processor, &recorded.processor),
        ];
        let other = pairs.into_iter().filter(|(here, recorded)| here != recorded);
        other.map(|(here, recorded)| format!("{here} (recorded: {recorded})")).collect()
    }
}

fn libc_version() -> String {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let version = output.ok().filter(|output| output.status.success());
    version
        .map_or_else(|| "unknown libc".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The instruction sets by which libraries choose their code, as this process sees them.
pub fn processor() -> String {
    let mut processor = std::env::consts::ARCH.to_owned();
    #[cfg(target_arch = "x86_64")]
    for (name, there) in [
        ("ssse3", is_x86_feature_detected!("ssse3")),
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("sha", is_x86_feature_detected!("sha")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ] {
        if there {
            processor.push('+');
            processor.push_str(name);
        }
    }
    processor
}
