//! Where things are: the repository and what is built from it.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The checkout and its target directory.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The repository.
    pub root: PathBuf,
    /// Cargo's target directory: the only place outside of which nothing is written.
    pub target: PathBuf,
}

impl Workspace {
    /// Asks cargo, so that `CARGO_TARGET_DIR` and cargo's own configuration are respected.
    pub(crate) fn find() -> Result<Self> {
        #[derive(Deserialize)]
        struct Metadata {
            workspace_root: PathBuf,
            target_directory: PathBuf,
        }
        let here = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let output = Command::new(cargo())
            .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
            .current_dir(&here)
            .output()
            .context("cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("output of cargo metadata")?;
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory })
    }

    /// That of a guest, which has what it needs of the repository below `/`.
    pub(crate) fn of_guest() -> Self {
        Self { root: "/".into(), target: "/target".into() }
    }

    /// The built eBPF objects; `gateway-userspace/build.rs` embeds two of them from here.
    pub(crate) fn objects(&self) -> PathBuf {
        self.target.join("ebpf")
    }

    /// Tools that are built from source once: `bin/bpf-linker`.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// One log a step, newest run only.
    pub(crate) fn log(&self, step: &str) -> Result<PathBuf> {
        let directory = self.target.join("xtask").join("log");
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let name: String = step.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        Ok(directory.join(format!("{name}.log")))
    }

    /// The host's cargo at the root of the repository, showing its progress to whoever reads its output.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo());
        command
            .args(arguments)
            .current_dir(&self.root)
            .env("CARGO_TERM_PROGRESS_WHEN", "always")
            .env("CARGO_TERM_PROGRESS_WIDTH", "120");
        command
    }

    /// `path` as a person at the repository's root would type it.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

/// The cargo that runs this task: the host's own toolchain, not the one that builds the eBPF objects.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
