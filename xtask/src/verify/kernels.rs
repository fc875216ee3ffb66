//! Debian's kernel images, taken apart under the target directory. Nothing is installed on the host, and the
//! host's own list of package sources is read, never changed.

use crate::command::{ask, run};
use crate::packages::apt_get;
use crate::steps::Step;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A kernel that the XDP program promises to run on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel {
    pub(crate) version: &'static str,
    /// The Debian release that carries it.
    suite: &'static str,
}

pub(crate) const KERNELS: [Kernel; 2] =
    [Kernel { version: "6.1", suite: "bookworm" }, Kernel { version: "6.12", suite: "trixie" }];

/// The image without drivers for hardware, which QEMU does not have either.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// Path of the bootable image; downloads it unless it is there.
pub(crate) fn image(workspace: &Workspace, step: &Step, kernel: Kernel) -> Result<PathBuf> {
    let directory = workspace.target.join("kernels").join(kernel.version);
    if let Some(image) = present(&directory) {
        return Ok(image);
    }
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    step.doing("package index");
    let apt = PrivateApt::new(&directory, kernel.suite)?;
    run(workspace, step, &mut apt.get(&["update"]))?;
    let package = apt.image_package(kernel)?;
    step.doing(&package);
    run(workspace, step, apt.get(&["download", &package]).current_dir(&directory))?;
    take_apart(&directory)?;
    fs::remove_dir_all(directory.join("apt"))?;
    present(&directory).with_context(|| format!("{package} holds no /boot/vmlinuz"))
}

fn present(directory: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(directory.join("boot")).ok()?.filter_map(Result::ok);
    files
        .map(|file| file.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
}

/// An apt of its own: sources, indexes and cache under one directory, keys and mirror from the host.
struct PrivateApt {
    options: Vec<String>,
}

impl PrivateApt {
    fn new(directory: &Path, suite: &str) -> Result<Self> {
        let home = directory.join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(home.join(part)).with_context(|| home.display().to_string())?;
        }
        let sources = home.join("sources.list");
        fs::write(&sources, format!("deb {} {suite} main\n", debian_mirror()?))?;
        let home = home.display();
        let options = [
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={home}/lists"),
            format!("Dir::Cache={home}/cache"),
            // Its download user could not write into a target directory below somebody's home.
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ];
        Ok(Self { options: options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect() })
    }

    fn get(&self, arguments: &[&str]) -> Command {
        let mut command = apt_get(&[]);
        command.args(&self.options).args(arguments);
        command
    }

    /// `linux-image-6.12.43+deb13-cloud-amd64` for 6.12: what the meta package of the suite depends on.
    fn image_package(&self, kernel: Kernel) -> Result<String> {
        let mut command = Command::new("apt-cache");
        command.args(&self.options).args(["show", META_PACKAGE]).env("LC_ALL", "C.UTF-8");
        let shown = ask(&mut command)?;
        let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "));
        let package = depends
            .and_then(|depends| depends.split([' ', ',']).next())
            .with_context(|| format!("{META_PACKAGE} of {} depends on nothing", kernel.suite))?;
        let wanted = format!("linux-image-{}.", kernel.version);
        ensure!(package.starts_with(&wanted), "{} carries {package}, not {}", kernel.suite, kernel.version);
        Ok(package.to_owned())
    }
}

/// Where this host gets Debian's packages from.
fn debian_mirror() -> Result<String> {
    let format = "$(CREATED_BY) $(RELEASE) $(COMPONENT) $(REPO_URI)";
    let targets =
        ask(Command::new("apt-get").args(["indextargets", "--no-release-info", "--format", format]))?;
    let releases = ["bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"];
    for line in targets.lines() {
        if let [_, release, "main", mirror] = line.split(' ').collect::<Vec<_>>()[..]
            && releases.contains(&release)
        {
            return Ok(mirror.to_owned());
        }
    }
    bail!("no Debian release among this host's package sources (apt-get indextargets)")
}

/// Only `/boot` of the package; the modules are larger and not needed.
fn take_apart(directory: &Path) -> Result<()> {
    for file in fs::read_dir(directory)? {
        let package = file?.path();
        if package.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        let mut contents = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(&package)
            .stdout(Stdio::piped())
            .spawn()
            .context("dpkg-deb")?;
        let tar = contents.stdout.take().expect("standard output was asked for as a pipe");
        let taken = Command::new("tar").args(["-x", "./boot"]).current_dir(directory).stdin(tar).status()?;
        ensure!(contents.wait()?.success() && taken.success(), "cannot take apart {}", package.display());
        fs::remove_file(&package)?;
    }
    Ok(())
}
