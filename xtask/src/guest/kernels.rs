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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) version: &'static str,
    /// The Debian release that carries it.
    suite: &'static str,
}

pub(crate) const KERNELS: [Kernel; 2] =
    [Kernel { version: "6.1", suite: "bookworm" }, Kernel { version: "6.12", suite: "trixie" }];

/// The image without drivers for hardware, which QEMU does not have either.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// What a lab needs and the image has as modules, in the order in which they need each other.
const MODULES: [&str; 6] = ["llc", "stp", "mrp", "garp", "8021q", "veth"];

/// A kernel that was taken apart.
#[derive(Debug)]
pub(crate) struct Image {
    /// What boots.
    pub(crate) kernel: PathBuf,
    /// Veths and VLANs, in the order in which they need each other.
    pub(crate) modules: Vec<PathBuf>,
}

/// The bootable image and its modules; downloads them unless they are there.
pub(crate) fn image(workspace: &Workspace, step: &Step, kernel: Kernel) -> Result<Image> {
    let directory = workspace.target.join("kernels").join(kernel.version);
    if let Some(image) = present(&directory) {
        return Ok(image);
    }
    // A part of another build of this version would not fit.
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    step.doing("package index");
    let apt = PrivateApt::new(&directory, kernel.suite)?;
    run(workspace, step, &mut apt.get(&["update"]))?;
    let package = apt.image_package(kernel)?;
    step.doing(&package);
    run(workspace, step, apt.get(&["download", &package]).current_dir(&directory))?;
    take_apart(&directory)?;
    fs::remove_dir_all(directory.join("apt"))?;
    present(&directory).with_context(|| {
        format!("{package} holds no /boot/vmlinuz, or not all of the modules {}", MODULES.join(" "))
    })
}

fn present(directory: &Path) -> Option<Image> {
    let files = fs::read_dir(directory.join("boot")).ok()?.filter_map(Result::ok);
    let kernel = files
        .map(|file| file.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))?;
    let modules = MODULES.map(|name| directory.join("modules").join(format!("{name}.ko")));
    modules.iter().all(|module| module.exists()).then(|| Image { kernel, modules: modules.into() })
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

/// Of the package only `/boot` and [`MODULES`], which lie in one directory then.
fn take_apart(directory: &Path) -> Result<()> {
    let modules = directory.join("modules");
    fs::create_dir_all(&modules).with_context(|| modules.display().to_string())?;
    for file in fs::read_dir(directory)? {
        let package = file?.path();
        if package.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        unpack(&package, directory, &["./boot".to_owned()])?;
        let wanted = MODULES.map(|name| format!("*/{name}.ko*"));
        let flat = ["--wildcards".to_owned(), "--transform=s|.*/||".to_owned()];
        unpack(&package, &modules, &[&flat[..], &wanted].concat())?;
        fs::remove_file(&package)?;
    }
    // Debian packs modules since 6.12, and busybox loads them plain.
    for file in fs::read_dir(&modules)? {
        let module = file?.path();
        if module.extension().is_some_and(|extension| extension == "xz") {
            ask(Command::new("xz").args(["--decompress", "--force"]).arg(&module))?;
        }
    }
    Ok(())
}

/// What tar takes with `arguments` out of `package`, put into `directory`.
fn unpack(package: &Path, directory: &Path, arguments: &[String]) -> Result<()> {
    let mut contents = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("dpkg-deb")?;
    let tar = contents.stdout.take().expect("standard output was asked for as a pipe");
    let taken = Command::new("tar").arg("-x").args(arguments).current_dir(directory).stdin(tar).status()?;
    ensure!(contents.wait()?.success() && taken.success(), "cannot take apart {}", package.display());
    Ok(())
}
