//! The demo on another kernel: everything that it needs goes into a guest, and its figures come back over the console.

use super::{Arguments, Figures};
use crate::command::find_program;
use crate::guest::{self, KERNELS, Kernel, Root};
use crate::steps::Steps;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process;

/// Programs of the host that a lab and its ends are made with, beside those of busybox.
const PROGRAMS: [&str; 4] = ["ip", "ethtool", "nsenter", "sipp"];
/// Where the guest has them, in front of busybox's.
const DIRECTORY: &str = "/usr/sbin";
const DAEMON: &str = "/causeway";

/// The kernel of this version.
pub(super) fn kernel(version: &str) -> Result<Kernel, String> {
    let known = KERNELS.map(|kernel| kernel.version).join(" or ");
    KERNELS.into_iter().find(|kernel| kernel.version == version).ok_or_else(|| format!("{known} can be had"))
}

/// Carries the calls in a guest.
///
/// # Errors
/// The guest had no figures to tell: the end of its console.
pub(super) fn run(
    arguments: &Arguments,
    kernel: Kernel,
    workspace: &Workspace,
    steps: &Steps,
    daemon: &Path,
) -> Result<Figures> {
    let image = steps.run(&format!("kernel {}", kernel.version), |step| {
        let image = guest::image(workspace, step, kernel)?;
        step.detail(workspace.relative(&image.kernel).display().to_string());
        Ok(image)
    })?;
    steps.run(&format!("calls on {}", kernel.version), |step| {
        let root = root(arguments, workspace, &image.modules, daemon)?;
        let console = guest::boot(workspace, step, &image.kernel, &root, guest::Processors::Two)?;
        let figures =
            console.stdout.iter().find_map(|line| serde_json::from_str::<Figures>(line.trim()).ok());
        let figures =
            figures.with_context(|| format!("the guest tells no figures\n{}", console.complaint()))?;
        ensure!(figures.kernel.starts_with(kernel.version), "the guest runs {}", figures.kernel);
        step.detail(&figures.kernel);
        Ok(figures)
    })
}

fn root(arguments: &Arguments, workspace: &Workspace, modules: &[PathBuf], daemon: &Path) -> Result<PathBuf> {
    let Arguments { calls, rate, .. } = arguments;
    let options =
        [("--srtp", arguments.srtp), ("--transcode", arguments.transcode), ("--vlans", arguments.vlans)];
    let options: Vec<&str> = options.iter().filter(|(_, asked)| *asked).map(|(option, _)| *option).collect();
    let task = format!("demo --prepared {DAEMON} --json --calls {calls} --rate {rate} {}", options.join(" "));
    let mut root = Root::new(&format!("PATH={DIRECTORY}:/bin TERM=dumb /xtask {task}"))?;
    for (position, module) in modules.iter().enumerate() {
        let name = module.file_name().context("a module is a file")?.to_string_lossy();
        root.file(module, &format!("/modules/{position}-{name}"))?;
    }
    for program in PROGRAMS {
        let path = find_program(program).with_context(|| format!("{program} is not installed"))?;
        root.program(&path, &format!("{DIRECTORY}/{program}"))?;
    }
    // The shell of busybox prefers busybox's own `ip` to any on the path.
    root.program(&find_program("dash").context("dash is not installed")?, "/bin/sh")?;
    root.program(&this_program(), "/xtask")?;
    root.program(daemon, DAEMON)?;
    root.file(&workspace.root.join("scripts/lab.sh"), "/scripts/lab.sh")?;
    root.write(workspace, "demo")
}

/// What runs now: the file that it was started from may have been built anew since, as `cargo xtask test` does.
fn this_program() -> PathBuf {
    PathBuf::from(format!("/proc/{}/exe", process::id()))
}
