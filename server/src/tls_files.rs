//! The certificates of TLS listeners: read from files at start, and again when a file changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fanfare_engine::{CertificateError, Certificates};

use crate::cli::TlsFileArgs;
use crate::control::rt;
use crate::failure::{Code, Failure};
use crate::file_watch::{FileWatch, LOOK_PERIOD, read_at_most};
use crate::output::log;
use crate::units::human_duration;

/// Bytes of a file with a certificate chain or a key: long chains have a dozen KiB.
const FILE_BYTES_MAX: usize = 1 << 20;
/// A certificate that is good for less than this is spoken of at start and whenever it is read.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Chains and their keys, each in a file of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    /// A chain and its key.
    pub(crate) pairs: Vec<(PathBuf, PathBuf)>,
}

type Pem = (Vec<u8>, Vec<u8>);

/// How often changed certificates were read again, since the start.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    taken: AtomicU64,
    kept: AtomicU64,
}

impl Reloads {
    /// By what came of it: new ones were taken, or the old ones kept.
    pub(crate) fn by_result(&self) -> [(&'static str, u64); 2] {
        [("taken", self.taken.load(Ordering::Relaxed)), ("kept", self.kept.load(Ordering::Relaxed))]
    }
}

impl TlsFiles {
    /// Each certificate with the key in the same place.
    ///
    /// # Errors
    /// [`Code::Missing`] if there are more of one than of the other.
    pub(crate) fn named(args: &TlsFileArgs) -> Result<TlsFiles, Failure> {
        let (certificates, keys) = (args.cert_files.len(), args.key_files.len());
        if certificates != keys {
            return Err(Failure::new(Code::Missing, "each `--tls-cert-file` needs a `--tls-key-file`")
                .fact("given", format!("{certificates} certificate files, {keys} key files"))
                .fix("name as many of one as of the other, in the same order"));
        }
        Ok(TlsFiles { pairs: args.cert_files.iter().cloned().zip(args.key_files.iter().cloned()).collect() })
    }

    /// Reads all files, and sees to it that they can be used.
    fn read(&self) -> Result<Vec<Pem>, Failure> {
        let read_pair = |(chain_path, key_path): &(PathBuf, PathBuf)| {
            let [chain, key] = [chain_path, key_path].map(|path| {
                let bytes = read_at_most(path, FILE_BYTES_MAX).map_err(|error| unusable(path, &error));
                bytes.map_err(|failure| failure.fix("name a file of PEM text that this user may read"))
            });
            let (chain, key) = (chain?, key?);
            Certificates::from_pem(&chain, &key).map_err(|error| match error {
                CertificateError::NoKey(_) => unusable(key_path, &error)
                    .fix("name the file with the certificate's private key; it begins -----BEGIN PRIVATE KEY-----"),
                CertificateError::KeyMismatch => unusable(key_path, &error)
                    .fact("chain", chain_path.display().to_string())
                    .fix("name chain and key of one certificate, in the same order"),
                CertificateError::NoCertificate(_) => unusable(chain_path, &error)
                    .fix("name the file with the certificate and its issuers'; it begins -----BEGIN CERTIFICATE-----"),
                _ => unusable(chain_path, &error)
                    .fact("key", key_path.display().to_string())
                    .fix("use an X.509 certificate with a key of RSA, ECDSA (P-256, P-384) or Ed25519"),
            })?;
            Ok((chain, key))
        };
        self.pairs.iter().map(read_pair).collect()
    }

    /// The certificates as they are now.
    ///
    /// # Errors
    /// [`Code::TlsFile`] with the file and what is wrong with it.
    pub(crate) fn load(&self) -> Result<Certificates, Failure> {
        let pairs = self.read()?;
        Certificates::from_pem_pairs(&borrowed(&pairs)).map_err(|error| unfit(&error))
    }

    /// Puts the files' certificates in the place of those that are in force.
    fn reload(&self, certificates: &Certificates) -> Result<(), Failure> {
        let pairs = self.read()?;
        certificates.replace_pem_pairs(&borrowed(&pairs)).map_err(|error| unfit(&error))
    }

    /// To be made before the files are read first.
    pub(crate) fn watch(&self) -> FileWatch {
        FileWatch::new(self.pairs.iter().flat_map(|(chain, key)| [chain.clone(), key.clone()]).collect())
    }
}

fn borrowed(pairs: &[Pem]) -> Vec<(&[u8], &[u8])> {
    pairs.iter().map(|(chain, key)| (&chain[..], &key[..])).collect()
}

/// Certificates in force, what was last seen of their files, and the books about that.
pub(crate) struct Watched {
    /// To be made before the files are read first.
    pub(crate) seen: FileWatch,
    /// What TLS listeners use.
    pub(crate) certificates: Certificates,
    /// Counted here.
    pub(crate) reloads: Arc<Reloads>,
}

/// Puts changed certificates in force, for as long as the server runs. `asked` is set by whoever wants the files read
/// again whether they have changed or not; that is seen within a period.
pub(crate) async fn watch(files: TlsFiles, watched: Watched, asked: Arc<AtomicBool>) {
    let Watched { mut seen, certificates, reloads } = watched;
    let mut complaint = None;
    loop {
        rt::sleep(LOOK_PERIOD).await;
        if asked.swap(false, Ordering::Relaxed) {
            seen.mark();
        } else if !seen.look() {
            continue;
        }
        match files.reload(&certificates) {
            Ok(()) => {
                complaint = None;
                reloads.taken.fetch_add(1, Ordering::Relaxed);
                log(&format!("tls   {}, read again", summary(&files, &certificates)));
                warn_if_ending(&certificates);
            }
            // The reason may pass: they are read again and again, and it is said once.
            Err(failure) => {
                seen.read_again();
                let text = failure.to_string();
                if complaint.as_ref() != Some(&text) {
                    reloads.kept.fetch_add(1, Ordering::Relaxed);
                    log(&kept(&failure).to_string());
                    complaint = Some(text);
                }
            }
        }
    }
}

/// How many there are, and how long they are good.
pub(crate) fn summary(files: &TlsFiles, certificates: &Certificates) -> String {
    let count = files.pairs.len();
    let left = certificates.not_after().and_then(|end| end.duration_since(SystemTime::now()).ok());
    let noun = if count == 1 { "certificate" } else { "certificates" };
    match left {
        Some(left) => format!("{count} {noun}, good for {} days", left.as_secs() / 86_400),
        None => format!("{count} {noun}"),
    }
}

/// Says so when a certificate has expired, or will soon. The server runs on: clients that look will not come in.
pub(crate) fn warn_if_ending(certificates: &Certificates) {
    if let Some(failure) = certificates.not_after().and_then(|end| ending(end, SystemTime::now())) {
        log(&failure.to_string());
    }
}

fn ending(end: SystemTime, now: SystemTime) -> Option<Failure> {
    let what = match end.duration_since(now) {
        Ok(left) if left > WARN_BEFORE => return None,
        Ok(left) => format!("a TLS certificate expires in {}", human_duration(Duration::from_secs(left.as_secs()))),
        Err(past) => {
            let past = human_duration(Duration::from_secs(past.duration().as_secs()));
            format!("a TLS certificate expired {past} ago: clients refuse it")
        }
    };
    Some(Failure::new(Code::TlsExpiry, what).fix("put a new one in its file; it is read when it changes"))
}

fn kept(failure: &Failure) -> Failure {
    Failure::new(Code::TlsKept, "the TLS certificates stay as they were: the changed ones cannot be used")
        .fact("why", failure.to_string())
        .fix("mend the file; it is read again when it changes")
}

fn unusable(path: &Path, why: &impl ToString) -> Failure {
    Failure::new(Code::TlsFile, format!("cannot use {} for TLS", path.display())).fact("why", why.to_string())
}

fn unfit(error: &CertificateError) -> Failure {
    Failure::new(Code::TlsFile, "the TLS certificates cannot be used").fact("why", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_spoken_of_in_time() {
        let now = SystemTime::now();
        let day = Duration::from_secs(86_400);
        assert!(ending(now + 15 * day, now).is_none());
        let soon = ending(now + 3 * day, now).expect("a warning").to_string();
        assert!(soon.contains("FF2301") && soon.contains("expires in"), "{soon}");
        let past = ending(now - day, now).expect("a warning").to_string();
        assert!(past.contains("FF2301") && past.contains("ago"), "{past}");
    }
}
