//! What survives a restart: call checkpoints and the CDR file.
//!
//! Everything lives below one state directory that one daemon at a time holds ([`StateDirectory`]). Each core
//! appends the checkpoints of its calls to a [`Journal`] of its own; a thread appends call detail records to
//! the CDR file ([`CdrFile`]). Checkpoints outlive the daemon (`kill -9` included), not the host: calls do not
//! either.

mod cdr_file;
mod directory;
mod frame;
mod journal;

pub use cdr_file::CdrFile;
pub use directory::StateDirectory;
pub use journal::{Journal, Recovered, recover};

use std::io;
use std::path::{Path, PathBuf};

/// Why something could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    #[error("another causeway uses the state directory {0}: stop it, or set [node] state_directory")]
    Locked(PathBuf),
    #[error("cannot {doing} {path}: {source}")]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    /// The journal held records back while it could not write, and then had to let some go.
    #[error("{lost} call checkpoints lost: {path} cannot be written: {source}")]
    CheckpointsLost { lost: u64, path: PathBuf, source: io::Error },
}

impl StoreFault {
    fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }
}
