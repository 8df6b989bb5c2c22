//! Files whose content is to be taken over when it changes: whether one has, and has been left alone since.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often files are looked at. Asking the kernel when they changed costs microseconds.
pub(crate) const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// The state of a file: another one has come, or it was written, when this has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// `None`: there is no such file, or it cannot be looked at.
    fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Stamp { inode: about.ino(), len: about.len(), modified: (about.mtime(), about.mtime_nsec()) })
    }
}

/// Files, and what was last seen of them.
pub(crate) struct FileWatch {
    paths: Vec<PathBuf>,
    /// What is in force, or the last complaint, came from.
    done: Vec<Option<Stamp>>,
    /// What was there at the last look.
    last: Vec<Option<Stamp>>,
    /// Reading failed, perhaps for a reason that passes.
    is_to_be_read_again: bool,
}

impl FileWatch {
    /// To be made before the files are read first: what changes in between is seen.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let mut watch = FileWatch { paths, done: Vec::new(), last: Vec::new(), is_to_be_read_again: false };
        watch.mark();
        watch
    }

    /// Whether there is a change to be read, once for each. A file that changed since the last look may still be being
    /// written: it counts when it has been left alone for one period.
    pub(crate) fn look(&mut self) -> bool {
        let now = self.stamps();
        let settled = now == self.last;
        self.last = now;
        if !settled || self.done == self.last && !self.is_to_be_read_again {
            return false;
        }
        self.is_to_be_read_again = false;
        self.done.clone_from(&self.last);
        true
    }

    /// What there is now is about to be read: whoever asks for that says that it is complete.
    pub(crate) fn mark(&mut self) {
        self.last = self.stamps();
        self.done.clone_from(&self.last);
    }

    /// What was read could not be used: the next look says that there is something to be read.
    pub(crate) fn read_again(&mut self) {
        self.is_to_be_read_again = true;
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.paths.iter().map(|path| Stamp::of(path)).collect()
    }
}

/// The whole file, if it has at most `bytes_max` bytes.
pub(crate) fn read_at_most(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more tells a longer file from one that just fits.
    File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}
