//! The keys that clients' tokens are verified by: read from files and a URL at start, and again when what they hold
//! changes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanfare_engine::auth::{Algorithm, JWKS_BYTES_MAX, Jwks, Key, KeyFault, KeySet, TokenFault, TokenRules, Tokens};

use crate::control::rt;
use crate::failure::{Code, Failure};
use crate::file_watch::{FileWatch, LOOK_PERIOD, read_at_most};
use crate::key_url::{FetchCounts, Fetcher, KeyUrl};
use crate::output::log;

/// Bytes of a file with a secret: those that people use have a few dozen.
const SECRET_BYTES_MAX: usize = 4 << 10;

/// Whose tokens are good, and which hubs want one.
#[derive(Clone, Debug)]
pub(crate) struct TokenSettings {
    /// Where keys are.
    pub(crate) files: KeyFiles,
    /// Where keys are published, and how often they are asked for.
    pub(crate) url: Option<(KeyUrl, Duration)>,
    /// What is asked of a token.
    pub(crate) rules: TokenRules,
    /// Who may come in without a token.
    pub(crate) anonymous: Anonymous,
    /// Whether a connection ends with its token.
    pub(crate) close_on_expiry: bool,
}

/// Hubs that take clients without a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Anonymous {
    /// All of them.
    Everywhere,
    /// These; perhaps none.
    At(Vec<String>),
}

impl Anonymous {
    /// Whether `hub` is one of them.
    pub(crate) fn at(&self, hub: &str) -> bool {
        match self {
            Anonymous::Everywhere => true,
            Anonymous::At(hubs) => hubs.iter().any(|name| name == hub),
        }
    }
}

/// The files.
#[derive(Clone, Debug)]
pub(crate) struct KeyFiles {
    /// One secret each.
    pub(crate) secrets: Vec<PathBuf>,
    /// What the secrets are for.
    pub(crate) algorithm: Algorithm,
    /// A JWK set.
    pub(crate) jwks: Option<PathBuf>,
}

/// Keys, and how they read in a log.
pub(crate) struct Keyring {
    /// The keys.
    pub(crate) keys: KeySet,
    /// How many, and how many were passed over.
    pub(crate) summary: String,
}

impl KeyFiles {
    /// Reads all files, and takes the keys that a URL had (the text of a JWK set) to theirs.
    ///
    /// # Errors
    /// [`Code::KeyFile`] with the file, what is wrong with it, and what would do.
    fn read(&self, fetched: Option<&Fetcher>) -> Result<Keyring, Failure> {
        let mut keys = Vec::new();
        for path in &self.secrets {
            keys.push(self.read_secret(path)?);
        }
        let mut passed_over = 0;
        if let Some(path) = &self.jwks {
            let text = read_at_most(path, JWKS_BYTES_MAX).map_err(|error| unreadable(path, &error))?;
            let set = Jwks::parse(&text).map_err(|fault| unusable(path, &fault))?;
            if set.keys.is_empty() {
                return Err(unusable(path, &KeyFault::Empty));
            }
            passed_over = set.passed_over;
            keys.extend(set.keys);
        }
        if let Some(fetched) = fetched {
            let set = Jwks::parse(fetched.text()).map_err(|fault| {
                Failure::new(Code::KeyUrl, format!("cannot use the keys from {}", fetched.url()))
                    .fact("why", fault.to_string())
            })?;
            passed_over += set.passed_over;
            keys.extend(set.keys);
        }
        let keys = KeySet::new(keys).map_err(|fault| {
            Failure::new(Code::KeyFile, "the keys for tokens do not fit together").fact("why", fault.to_string())
        })?;
        let others = if passed_over == 0 { String::new() } else { format!(", {passed_over} for other things") };
        Ok(Keyring { summary: format!("{} for tokens{others}", keys.len()), keys })
    }

    fn read_secret(&self, path: &Path) -> Result<Key, Failure> {
        let text = read_at_most(path, SECRET_BYTES_MAX).map_err(|error| unreadable(path, &error))?;
        // Editors end a file with a line end, and nobody means it as a part of the secret.
        let secret = text.strip_suffix(b"\n").map_or(&text[..], |text| text.strip_suffix(b"\r").unwrap_or(text));
        Key::secret(self.algorithm, secret).map_err(|fault| {
            let min = self.algorithm.secret_bytes_min();
            unusable(path, &fault).fix(format!("make one: openssl rand -base64 {min} > {}", path.display()))
        })
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.secrets.iter().chain(&self.jwks)
    }
}

/// Puts changed keys in force, for as long as the server runs. `asked` is set by whoever wants files and URL read again
/// whether they have changed or not; that is seen within a period.
pub(crate) async fn watch(mut watched: Watched, tokens: Tokens, asked: Arc<AtomicBool>) {
    loop {
        rt::sleep(LOOK_PERIOD).await;
        let asked = asked.swap(false, Ordering::Relaxed);
        let missed = tokens.counts().refused(TokenFault::NoKey);
        for read in [watched.look_at_url(missed, asked), if asked { Some(watched.read()) } else { watched.look() }] {
            match read {
                None => {}
                Some(Ok(keyring)) => {
                    tokens.replace_keys(keyring.keys);
                    log(&format!("keys  {}, read again", keyring.summary));
                }
                Some(Err(failure)) => log(&kept(&failure).to_string()),
            }
        }
    }
}

/// Files and a URL, and what was last seen of them.
pub(crate) struct Watched {
    files: KeyFiles,
    fetcher: Option<Fetcher>,
    seen: FileWatch,
    /// Why they could not be read last time, if so: said once, as long as it is the same.
    complaint: Option<String>,
}

impl Watched {
    /// Reads all of it for the first time.
    ///
    /// # Errors
    /// [`Code::KeyFile`], or [`Code::KeyUrl`] after some seconds.
    pub(crate) fn start(settings: &TokenSettings) -> Result<(Self, Keyring), Failure> {
        let files = settings.files.clone();
        // Before they are read: what changes in between is seen.
        let seen = FileWatch::new(files.paths().cloned().collect());
        let fetcher = settings.url.clone().map(|(url, period)| Fetcher::start(url, period)).transpose()?;
        let watched = Watched { files, fetcher, seen, complaint: None };
        let keyring = watched.keyring()?;
        Ok((watched, keyring))
    }

    /// How often the URL was asked, if there is one.
    pub(crate) fn fetch_counts(&self) -> Option<Arc<FetchCounts>> {
        self.fetcher.as_ref().map(Fetcher::counts)
    }

    fn keyring(&self) -> Result<Keyring, Failure> {
        self.files.read(self.fetcher.as_ref())
    }

    /// Asks the URL if it is time to, and tells what came of an earlier question. `missed`: tokens that named a key
    /// which is not there.
    fn look_at_url(&mut self, missed: u64, asked: bool) -> Option<Result<Keyring, Failure>> {
        let fetcher = self.fetcher.as_mut()?;
        fetcher.ask_if_due(missed, asked);
        let came = fetcher.look()?;
        match came {
            Ok(()) => self.take_over(),
            Err(failure) => Some(Err(failure)),
        }
    }

    /// What came of a change, once. What cannot be used is read again and again: the reason may pass.
    fn look(&mut self) -> Option<Result<Keyring, Failure>> {
        if self.seen.look() { self.take_over() } else { None }
    }

    fn take_over(&mut self) -> Option<Result<Keyring, Failure>> {
        let read = self.keyring();
        let complaint = read.as_ref().err().map(ToString::to_string);
        if complaint.is_some() {
            self.seen.read_again();
        }
        let is_known = complaint.is_some() && complaint == self.complaint;
        self.complaint = complaint;
        (!is_known).then_some(read)
    }

    /// What the files hold now: whoever asks says that they are complete.
    fn read(&mut self) -> Result<Keyring, Failure> {
        self.seen.mark();
        self.keyring()
    }
}

fn kept(failure: &Failure) -> Failure {
    Failure::new(Code::KeysKept, "the keys for tokens stay as they were: the changed ones cannot be used")
        .fact("why", failure.to_string())
        .fix("mend the file, or what the URL has; it is read again")
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::KeyFile, format!("cannot read keys from {}", path.display())).fact("why", error.to_string())
}

fn unusable(path: &Path, fault: &KeyFault) -> Failure {
    Failure::new(Code::KeyFile, format!("cannot use the keys in {}", path.display())).fact("why", fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("fanfare-keyring-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Folder(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).expect("a file");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn files(secrets: Vec<PathBuf>, jwks: Option<PathBuf>) -> KeyFiles {
        KeyFiles { secrets, algorithm: Algorithm::Hs256, jwks }
    }

    fn refused(files: &KeyFiles) -> String {
        files.read(None).err().expect("a refusal").to_string()
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn secrets_lose_one_line_end_and_nothing_else() {
        let folder = Folder::new("line-end");
        for end in ["", "\n", "\r\n"] {
            files(vec![folder.write("key", &format!("{SECRET}{end}"))], None).read(None).expect("a secret");
            let short = folder.write("short", &format!("{}{end}", &SECRET[1..]));
            let text = refused(&files(vec![short], None));
            assert!(text.contains("FF2030") && text.contains("31 bytes"), "{text}");
            assert!(text.contains("openssl rand") && !text.contains(&SECRET[1..]), "{text}");
        }
        let blanks = folder.write("blanks", &format!("{}\n\n", &SECRET[1..]));
        files(vec![blanks], None).read(None).expect("31 letters and a line end");
    }

    #[test]
    fn files_that_cannot_be_used_are_named_with_the_reason() {
        let folder = Folder::new("bad");
        let secret = folder.write("key", SECRET);
        for (name, text, why) in [
            ("no-set", "[]", "array `keys`"),
            ("empty", r#"{"keys":[]}"#, "no key that can verify"),
            ("others", r#"{"keys":[{"kty":"OKP","crv":"Ed25519"}]}"#, "no key that can verify"),
            ("broken", r#"{"keys":[{"kty":"RSA","n":"AQAB"}]}"#, "`keys[0].e`"),
        ] {
            let path = folder.write(name, text);
            let refusal = refused(&files(vec![secret.clone()], Some(path)));
            assert!(refusal.contains("FF2030") && refusal.contains(name) && refusal.contains(why), "{refusal}");
        }
        let missing = refused(&files(vec![folder.0.join("nowhere")], None));
        assert!(missing.contains("FF2030") && missing.contains("nowhere"), "{missing}");
        let large = folder.write("large", &"x".repeat(SECRET_BYTES_MAX + 1));
        assert!(refused(&files(vec![large], None)).contains("4096 bytes"));
    }

    #[test]
    fn a_change_is_read_once_and_only_when_the_file_is_left_alone() {
        let folder = Folder::new("change");
        let path = folder.write("key", SECRET);
        let files = files(vec![path.clone()], None);
        let seen = FileWatch::new(files.paths().cloned().collect());
        let mut watched = Watched { files, fetcher: None, seen, complaint: None };
        assert!(watched.look().is_none(), "nothing has changed");
        folder.write("key", "too short");
        assert!(watched.look().is_none(), "it may still be being written");
        assert!(watched.look().is_some_and(|read| read.is_err()), "now it is read");
        assert!(watched.look().is_none() && watched.look().is_none(), "one complaint for one change");
        assert!(watched.seen.look(), "and it is read again and again, in case the reason passes");
        watched.seen.read_again();
        fs::remove_file(&path).expect("the file");
        assert!(watched.look().is_none());
        assert!(watched.look().is_some_and(|read| read.is_err()), "a file that has gone is a change");
        folder.write("key", &format!("{SECRET}{SECRET}"));
        assert!(watched.look().is_none());
        assert!(watched.look().is_some_and(|read| read.is_ok()), "mended");
        assert!(watched.look().is_none());
        assert!(watched.read().is_ok() && watched.look().is_none(), "asked for");
    }
}
