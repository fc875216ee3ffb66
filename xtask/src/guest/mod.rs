//! Another kernel under QEMU: busybox as init, copies of the programs that are needed, and the serial console for
//! the answer. No network and no disk, and no hardware help either: boot takes seconds without, and a host that is
//! itself a guest may offer a KVM that does not work.

mod archive;
mod kernels;

use crate::command::{Finished, ask, run};
use crate::steps::Step;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use archive::Archive;
pub(crate) use kernels::{KERNELS, Kernel, image};
use std::collections::BTreeSet;
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
/// Modules stand in the order in which they need each other.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t bpf bpf /sys/fs/bpf
/bin/busybox --install -s /bin 2>/dev/null
for module in /modules/*; do insmod $module; done
COMMAND >/dev/ttyS0 2>&1
sync
reboot -f
";

/// The first root of a guest.
pub(crate) struct Root {
    archive: Archive,
    present: BTreeSet<PathBuf>,
}

impl Root {
    /// One whose guest runs `command` and ends with it.
    ///
    /// # Errors
    /// There is no busybox.
    pub(crate) fn new(command: &str) -> Result<Self> {
        let mut root = Self { archive: Archive::default(), present: BTreeSet::new() };
        for directory in ["proc", "sys", "dev", "tmp", "run", "modules"] {
            root.archive.directory(directory);
        }
        root.archive.file("/init", INIT.replace("COMMAND", command).as_bytes());
        root.file(Path::new("/bin/busybox"), "/bin/busybox")?;
        Ok(root)
    }

    /// A copy of a file of this host.
    pub(crate) fn file(&mut self, from: &Path, to: &str) -> Result<()> {
        let contents = fs::read(from).with_context(|| from.display().to_string())?;
        self.archive.file(to, &contents);
        Ok(())
    }

    /// A copy of a program of this host with the shared libraries that it is linked against.
    pub(crate) fn program(&mut self, from: &Path, to: &str) -> Result<()> {
        for library in libraries(from)? {
            if self.present.insert(library.clone()) {
                self.file(&library, &library.display().to_string())?;
            }
        }
        self.file(from, to)
    }

    /// Writes it where [`boot`] finds it.
    pub(crate) fn write(self, workspace: &Workspace, name: &str) -> Result<PathBuf> {
        let directory = workspace.target.join("kernels");
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let path = directory.join(name);
        fs::write(&path, self.archive.finish()).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// Processors of a guest.
#[derive(Clone, Copy)]
pub(crate) enum Processors {
    /// A kernel patches its own text by a breakpoint that another processor may run into. QEMU lets it see one that is gone
    /// already, whereupon the kernel panics (seen once on 6.12): what needs one processor has one.
    One,
    /// For calls, which have two ends and a gateway between them.
    Two,
}

impl Processors {
    fn count(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Two => "2",
        }
    }
}

/// Boots a kernel and returns its console, once the guest has ended; whether it came to its end is for the caller to see.
///
/// # Errors
/// The guest could not be started, or did not end in time.
pub(crate) fn boot(
    workspace: &Workspace,
    step: &Step,
    image: &Path,
    root: &Path,
    processors: Processors,
) -> Result<Finished> {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", LIMIT_SECONDS, "qemu-system-x86_64"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .args(["-machine", "pc", "-accel", "tcg", "-cpu", PROCESSOR])
        .args(["-m", MEMORY_MIB, "-smp", processors.count()])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(root)
        // A panic reboots at once, which ends QEMU.
        .args(["-append", "console=ttyS0 panic=-1 loglevel=3 rdinit=/init"]);
    run(workspace, step, &mut command)
}

/// The shared libraries and the loader that `program` is linked against.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    // `libelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`
    let listed = ask(Command::new("ldd").arg(program))?;
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(listed.lines().filter_map(path).collect())
}
