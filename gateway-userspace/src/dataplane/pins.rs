//! The directory on the BPF file system where maps, program and links outlive the daemon.
//!
//! ```text
//! <pin directory>/maps/CW_FLOWS …      one entry per map
//!                /program              the program that the links run
//!                /links/<ifindex>      one link per interface
//! ```

use super::fault::DataplaneFault;
use super::kernel::{is_bpffs, mount_bpffs};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Where distributions mount the BPF file system.
const BPFFS: &str = "/sys/fs/bpf";

/// How long the lock of a daemon that has just ended is waited for: its last thread may still be going, and a child
/// that it had just forked shares the lock until it runs its own program.
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(20);

/// The pin directory, locked for one daemon.
#[derive(Debug)]
pub(super) struct PinDirectory {
    path: PathBuf,
    /// Holds the lock, which goes with the process however it ends.
    _lock: File,
}

impl PinDirectory {
    /// Makes the directory, mounting the BPF file system where it belongs but is not, and takes the lock.
    pub(super) fn open(path: &Path) -> Result<Self, DataplaneFault> {
        let not_bpffs = |why: String| DataplaneFault::NotBpffs { path: path.to_owned(), why };
        if path.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS)).unwrap_or(false) {
            mount_bpffs(Path::new(BPFFS)).map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => not_bpffs(format!("nothing is mounted at {BPFFS}")),
                _ => not_bpffs(format!("mounting one at {BPFFS} failed: {error}")),
            })?;
        }
        let parent = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
        match is_bpffs(parent) {
            Ok(true) => {}
            Ok(false) => return Err(not_bpffs(format!("{} is of another type", parent.display()))),
            Err(error) => return Err(not_bpffs(error.to_string())),
        }
        let making = |error| DataplaneFault::system(format!("make {}", path.display()))(error);
        for directory in [maps(path), links(path)] {
            fs::create_dir_all(directory).map_err(making)?;
        }
        let lock = File::open(path).map_err(making)?;
        let asked = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { path: path.to_owned(), _lock: lock }),
                Err(TryLockError::WouldBlock) if asked.elapsed() < PATIENCE => thread::sleep(RETRY),
                Err(TryLockError::WouldBlock) => {
                    return Err(DataplaneFault::PinDirectoryBusy { path: path.to_owned() });
                }
                Err(TryLockError::Error(error)) => return Err(making(error)),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        maps(&self.path).join(name)
    }

    pub(super) fn program(&self) -> PathBuf {
        program(&self.path)
    }

    pub(super) fn link(&self, ifindex: u32) -> PathBuf {
        link(&self.path, ifindex)
    }

    /// Interfaces that have a pinned link.
    pub(super) fn linked(&self) -> io::Result<Vec<u32>> {
        let names = fs::read_dir(links(&self.path))?;
        names
            .map(|entry| Ok(entry?.file_name().to_string_lossy().parse().ok()))
            .filter_map(Result::transpose)
            .collect()
    }

    /// Removes every pin: links first, so that no packet meets half a data plane.
    pub(super) fn clear(&self) -> io::Result<()> {
        for directory in [links(&self.path), maps(&self.path)] {
            for entry in fs::read_dir(&directory)? {
                fs::remove_file(entry?.path())?;
            }
        }
        remove_if_there(&self.program())
    }

    /// Removes every pin and the directory itself.
    pub(super) fn remove(self) -> io::Result<()> {
        self.clear()?;
        fs::remove_dir(links(&self.path))?;
        fs::remove_dir(maps(&self.path))?;
        fs::remove_dir(&self.path)
    }
}

/// Where the maps of a data plane in `directory` are pinned.
pub(super) fn maps(directory: &Path) -> PathBuf {
    directory.join("maps")
}

/// Where its program is pinned.
pub(super) fn program(directory: &Path) -> PathBuf {
    directory.join("program")
}

/// Where its link to an interface is pinned.
pub(super) fn link(directory: &Path, ifindex: u32) -> PathBuf {
    links(directory).join(ifindex.to_string())
}

fn links(directory: &Path) -> PathBuf {
    directory.join("links")
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
