//! The state directory and the lock on it.

use super::StoreFault;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A directory that this process alone writes to, until the value is dropped or the process dies.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// Holds the lock: the kernel lets go of it with the process, however it ends.
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    /// [`StoreFault::Locked`] while another process holds it; otherwise what the file system says.
    pub fn open(path: &Path) -> Result<Self, StoreFault> {
        fs::create_dir_all(path).map_err(StoreFault::file("make the state directory", path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(StoreFault::file("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreFault::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(StoreFault::file("lock", &lock_path)(error)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of this run, above that of every run before: seconds since the epoch, `clock`, unless the clock was set
    /// back. It is written down before it is used.
    ///
    /// # Errors
    /// What the file system says. A number that cannot be read counts as none.
    pub fn begin_run(&self, clock: u32) -> Result<u32, StoreFault> {
        let path = self.path.join("run");
        let last = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse::<u32>().ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(StoreFault::file("read", &path)(error)),
        };
        let run = last.map_or(clock, |last| clock.max(last.saturating_add(1)));
        let fresh = self.path.join("run.new");
        fs::write(&fresh, format!("{run}\n")).map_err(StoreFault::file("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(StoreFault::file("replace", &path))?;
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_kept_out_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let first = StateDirectory::open(&path).unwrap();
        assert!(matches!(StateDirectory::open(&path), Err(StoreFault::Locked(_))));
        drop(first);
        StateDirectory::open(&path).unwrap();
    }

    #[test]
    fn no_run_has_the_number_of_one_before_whatever_the_clock_says() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(directory.path()).unwrap();
        let runs = [1_000, 1_000, 5, 2_000, 0].map(|clock| state.begin_run(clock).unwrap());
        assert_eq!(runs, [1_000, 1_001, 1_002, 2_000, 2_001]);
        fs::write(directory.path().join("run"), "torn").unwrap();
        assert_eq!(state.begin_run(3_000).unwrap(), 3_000);
    }
}
