//! The compiler and the linker that make BPF objects out of Rust.
//!
//! Two compilers will do: Debian's `rustc-web` with its prebuilt `core` for BPF, which is preferred because it
//! needs nothing but the distribution, or a rustup nightly with `rust-src`, which builds `core` itself. The
//! workspace's own crates keep the host's toolchain; neither sees the other's environment.
//!
//! `bpf-linker` reads the compiler's bitcode with the same LLVM that wrote it, so it is built from source, once,
//! against the compiler's LLVM.

use crate::command::{ask, command_line, run};
use crate::steps::Step;
use crate::workspace::{Workspace, cargo};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// Debian's compiler for BPF.
pub(crate) const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
/// Debian 12 has them among its security updates, which an installed system asks for, and a bare image may not.
pub(crate) const COMPILER_SOURCE: &str = "deb http://deb.debian.org/debian-security bookworm-security main";
/// What a host without Debian's packages does instead.
pub(crate) const NIGHTLY_COMMAND: &str = "rustup toolchain install nightly --component rust-src";

const BPF_LINKER: &str = "0.13.0";
/// The versions of LLVM that this bpf-linker has a feature for.
const LLVM_VERSIONS: std::ops::RangeInclusive<u32> = 21..=23;

/// A compiler that was found to work.
#[derive(Debug, Clone)]
pub(crate) struct Toolchain {
    source: Source,
    /// `1.96.0`.
    version: String,
    /// Major version of its LLVM.
    pub llvm: u32,
}

#[derive(Debug, Clone)]
enum Source {
    /// `/usr/bin/rustc`, with `core` for BPF prebuilt.
    Distribution,
    /// A toolchain of rustup by this name, with the source of `core`.
    Nightly(String),
}

impl Toolchain {
    /// The first that can build, or why each cannot.
    pub(crate) fn find() -> Result<Self, NotFound> {
        let distribution = match distribution() {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => error,
        };
        nightly().map_err(|nightly| NotFound { distribution, nightly })
    }

    pub(crate) fn describe(&self) -> String {
        let Self { version, llvm, .. } = self;
        match &self.source {
            Source::Distribution => format!("rustc {version} of the distribution, LLVM {llvm}"),
            Source::Nightly(name) => format!("rustc {version} ({name} with rust-src), LLVM {llvm}"),
        }
    }

    /// `cargo`, ready for `build`, with nothing of the toolchain that runs xtask in its environment.
    pub(crate) fn cargo(&self, linker: &Path) -> Command {
        let mut command = match &self.source {
            Source::Distribution => distribution_command("cargo"),
            Source::Nightly(name) => rustup_command(name, "cargo"),
        };
        command.arg("build").args(["--release", "--target", TARGET]);
        match &self.source {
            // The prebuilt core belongs to a stable compiler, whose gate on unstable features this opens.
            Source::Distribution => command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1"),
            Source::Nightly(_) => command.args(["-Z", "build-std=core"]),
        };
        command.env(format!("CARGO_TARGET_{}_LINKER", TARGET.to_uppercase().replace('-', "_")), linker);
        command
    }

    /// The package that holds the LLVM of this compiler, or why bpf-linker cannot be built for it.
    pub(crate) fn llvm_package(&self) -> Result<String> {
        let (first, last) = (LLVM_VERSIONS.start(), LLVM_VERSIONS.end());
        ensure!(
            LLVM_VERSIONS.contains(&self.llvm),
            "{}: bpf-linker {BPF_LINKER} knows LLVM {first} to {last}; renew the compiler (apt-get update && \
             apt-get install {})",
            self.describe(),
            COMPILER_PACKAGES.join(" ")
        );
        Ok(format!("llvm-{}-dev", self.llvm))
    }
}

/// Why there is no compiler.
#[derive(Debug)]
pub(crate) struct NotFound {
    distribution: anyhow::Error,
    nightly: anyhow::Error,
}

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "distribution: {:#}; rustup: {:#}", self.distribution, self.nightly)
    }
}

fn distribution() -> Result<Toolchain> {
    ensure!(Path::new("/usr/bin/rustc").exists(), "no /usr/bin/rustc");
    ensure!(Path::new("/usr/bin/cargo").exists(), "no /usr/bin/cargo");
    let libraries =
        ask(distribution_command("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
    let libraries = libraries.trim();
    let core = fs::read_dir(libraries)
        .with_context(|| format!("/usr/bin/rustc has no core for {TARGET}"))?
        .filter_map(Result::ok)
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"));
    ensure!(core, "no libcore in {libraries}");
    toolchain(Source::Distribution, &ask(distribution_command("rustc").arg("-vV"))?)
}

fn nightly() -> Result<Toolchain> {
    let list = ask(Command::new("rustup").args(["toolchain", "list"]))?;
    let name = list
        .split_whitespace()
        .find(|name| name.starts_with("nightly"))
        .context("no nightly among rustup's toolchains")?;
    let root = ask(rustup_command(name, "rustc").args(["--print", "sysroot"]))?;
    let source = Path::new(root.trim()).join("lib/rustlib/src/rust/library/core");
    ensure!(source.exists(), "{name} lacks the component rust-src");
    toolchain(Source::Nightly(name.to_owned()), &ask(rustup_command(name, "rustc").arg("-vV"))?)
}

fn toolchain(source: Source, verbose_version: &str) -> Result<Toolchain> {
    let field = |name: &str| verbose_version.lines().find_map(|line| line.strip_prefix(name));
    let version = field("release: ").context("rustc -vV names no release")?.to_owned();
    let llvm = field("LLVM version: ")
        .and_then(|version| version.split('.').next()?.parse().ok())
        .context("rustc -vV names no LLVM version")?;
    Ok(Toolchain { source, version, llvm })
}

fn distribution_command(program: &str) -> Command {
    let mut command = Command::new(Path::new("/usr/bin").join(program));
    clean(&mut command);
    command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    command
}

fn rustup_command(toolchain: &str, program: &str) -> Command {
    let mut command = Command::new("rustup");
    clean(&mut command);
    command.args(["run", toolchain, program]);
    command
}

/// `cargo xtask` runs inside rustup's and cargo's environment; a second toolchain must see none of it. What
/// says where crates come from stays, and so does what keeps rustup from installing things unasked.
fn clean(command: &mut Command) {
    const KEPT: [&str; 8] = [
        "RUSTUP_AUTO_INSTALL",
        "CARGO_HOME",
        "CARGO_HTTP",
        "CARGO_NET",
        "CARGO_REGISTR",
        "CARGO_SOURCE",
        "CARGO_TERM",
        "RUSTUP_HOME",
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let foreign = text.starts_with("CARGO") || text.starts_with("RUST");
        if foreign && !KEPT.iter().any(|kept| text.starts_with(kept)) {
            command.env_remove(&name);
        }
    }
}

/// bpf-linker, if it was built for this compiler's LLVM.
pub(crate) fn linker(workspace: &Workspace, toolchain: &Toolchain) -> Option<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Installed {
        installs: std::collections::BTreeMap<String, Install>,
    }
    #[derive(serde::Deserialize)]
    struct Install {
        features: Vec<String>,
    }
    let record = fs::read(workspace.tools().join(".crates2.json")).ok()?;
    let record: Installed = serde_json::from_slice(&record).ok()?;
    let wanted = format!("bpf-linker {BPF_LINKER} ");
    let (_, install) = record.installs.iter().find(|(package, _)| package.starts_with(&wanted))?;
    let path = workspace.tools().join("bin/bpf-linker");
    (install.features.contains(&format!("llvm-{}", toolchain.llvm)) && path.exists()).then_some(path)
}

/// What cargo is told to build it into the target directory; about a minute and a half on two cores.
fn linker_arguments(workspace: &Workspace, toolchain: &Toolchain) -> Vec<String> {
    let (version, feature) = (format!("={BPF_LINKER}"), format!("llvm-{}", toolchain.llvm));
    let root = workspace.tools().display().to_string();
    let build = workspace.tools().join("build").display().to_string();
    ["install", "bpf-linker", "--version", &version, "--locked"]
        .into_iter()
        .chain(["--no-default-features", "--features", &feature])
        .chain(["--root", &root, "--target-dir", &build])
        .map(str::to_owned)
        .collect()
}

/// Builds bpf-linker unless it is there.
pub(crate) fn build_linker(workspace: &Workspace, step: &Step, toolchain: &Toolchain) -> Result<PathBuf> {
    if let Some(path) = linker(workspace, toolchain) {
        step.detail(format!("bpf-linker {BPF_LINKER} for LLVM {}", toolchain.llvm));
        return Ok(path);
    }
    let config = format!("llvm-config-{}", toolchain.llvm);
    let prefix = ask(Command::new(&config).arg("--prefix"))?;
    // The host's own toolchain, in the environment that chose it: without RUSTUP_TOOLCHAIN, rustup would obey a
    // rust-toolchain.toml inside a dependency's source, and change the host's toolchain for it.
    let mut command = Command::new(cargo());
    command
        .args(linker_arguments(workspace, toolchain))
        .env("LLVM_PREFIX", prefix.trim())
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "120");
    run(workspace, step, &mut command)?;
    match linker(workspace, toolchain) {
        Some(path) => {
            step.detail(format!("built bpf-linker {BPF_LINKER} for LLVM {}", toolchain.llvm));
            Ok(path)
        }
        None => bail!("cargo install left no bpf-linker in {}", workspace.tools().display()),
    }
}

/// What a person types to build it.
pub(crate) fn linker_command(workspace: &Workspace, toolchain: &Toolchain) -> String {
    let mut command = Command::new("cargo");
    command.args(linker_arguments(workspace, toolchain));
    format!("LLVM_PREFIX=$(llvm-config-{} --prefix) {}", toolchain.llvm, command_line(&command))
}
