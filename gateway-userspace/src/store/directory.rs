//! The state directory and the lock on it.

use super::StoreFault;
use std::fs::{self, File, OpenOptions, TryLockError};
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
}
