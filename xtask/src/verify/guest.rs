//! Another kernel under QEMU: busybox as init, a copy of this program, the objects, and the serial console for
//! the answer. No network and no disk, and no hardware help either: boot takes seconds without, and a host that is
//! itself a guest may offer a KVM that does not work.

use super::archive::Archive;
use super::{END, Verdict, read_verdicts};
use crate::command::{ask, run};
use crate::steps::Step;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A guest that has not ended by then has failed; software emulation takes a fraction of it.
const LIMIT_SECONDS: &str = "300";
/// Everything the emulator has, but CMPXCHG16B: QEMU 7.2 now and then loses the flags after it, and a kernel that
/// allocates memory with it (6.12) then panics; one boot in six did, none of 24 without.
const PROCESSOR: &str = "max,-cx16";
/// Enough for the product's maps at their default size.
const MEMORY_MIB: &str = "2048";

const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t bpf bpf /sys/fs/bpf
/xtask verify --on-this-kernel /objects >/dev/ttyS0 2>&1
/bin/busybox sync
/bin/busybox reboot -f
";

/// Writes what the guests boot into: `xtask` is this program with its loaders, `objects` a directory.
pub(crate) fn initramfs(workspace: &Workspace, xtask: &Path, objects: &[PathBuf]) -> Result<PathBuf> {
    let mut archive = Archive::default();
    for directory in ["proc", "sys", "dev", "tmp"] {
        archive.directory(directory);
    }
    archive.file("/init", INIT.as_bytes());
    archive.file("/bin/busybox", &read(Path::new("/bin/busybox"))?);
    archive.file("/xtask", &read(xtask)?);
    for library in libraries(xtask)? {
        archive.file(&library.display().to_string(), &read(&library)?);
    }
    for object in objects {
        let name = object.file_name().context("an object is a file")?.to_string_lossy();
        archive.file(&format!("/objects/{name}"), &read(object)?);
    }
    let directory = workspace.target.join("kernels");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let path = directory.join("initramfs");
    fs::write(&path, archive.finish()).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Boots `image` and returns what the loaders in it said.
///
/// # Errors
/// The guest did not come to the end: the last lines of its console.
pub(crate) fn verdicts(
    workspace: &Workspace,
    step: &Step,
    image: &Path,
    initramfs: &Path,
) -> Result<Vec<Verdict>> {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", LIMIT_SECONDS, "qemu-system-x86_64"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .args(["-machine", "pc", "-accel", "tcg", "-cpu", PROCESSOR, "-m", MEMORY_MIB])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        // A panic reboots at once, which ends QEMU.
        .args(["-append", "console=ttyS0 panic=-1 loglevel=3 rdinit=/init"]);
    let console = run(workspace, step, &mut command)?;
    let ended = console.stdout.iter().any(|line| line.trim() == END);
    ensure!(ended, "the guest did not finish\n{}", console.complaint());
    read_verdicts(&console.stdout)
}

/// The shared libraries and the loader that `program` is linked against.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    // `libelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`
    let listed = ask(Command::new("ldd").arg(program))?;
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(listed.lines().filter_map(path).collect())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}
