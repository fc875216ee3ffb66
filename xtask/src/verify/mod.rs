//! `cargo xtask verify`: does every kernel that Causeway promises take the XDP objects?
//!
//! The object is loaded with aya and, independently, with libbpf: on the running kernel, and on Debian's under
//! QEMU. The loaders need libelf, which a fresh host lacks, so they are behind the feature `kernel`: this task
//! sets the host up, builds a second xtask with that feature, and lets it load here and in the guests. A kernel
//! that could not be asked is a failure like one that said no.

#[cfg(feature = "kernel")]
mod load;

use crate::command::{ask, run};
use crate::ebpf;
use crate::guest;
use crate::packages::{Host, Need};
use crate::report;
use crate::setup::{self, Options};
use crate::steps::{Step, Steps};
use crate::workspace::{Workspace, cargo};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The last line of a run that came to its end.
const END: &str = "end of verdicts";
/// The object that only aya can load.
const TRACED: &str = "causeway-traced.o";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print the verdicts as one line of JSON
    #[arg(long)]
    json: bool,
    /// Load the objects of this directory on the running kernel and print a verdict a line
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    on_this_kernel: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// What one loader on one kernel said of one program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verdict {
    kernel: String,
    rights: Rights,
    object: String,
    /// Empty when the object was refused before its programs were looked at.
    program: String,
    loader: Loader,
    /// Instructions that the verifier walked, over all paths (`verified_insns`; its limit is 1,000,000).
    instructions: Option<u32>,
    /// Octets of stack by function, as the verifier prints them; only libbpf lets us read its log on success.
    stack: Option<String>,
    /// aya: loading the program. libbpf: the verifier's own figure.
    load_ms: Option<f64>,
    /// Why it was refused, with the end of the verifier's log.
    refused: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Loader {
    Aya,
    Libbpf,
    /// The kernel could not be asked.
    None,
}

/// What the loading process was allowed to do. The system call asks for `CAP_BPF` and `CAP_NET_ADMIN`; the
/// verifier asks for `CAP_PERFMON` besides, for without it pointers to a packet may not be computed with, as what
/// a processor does by mistake with them could be observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Rights {
    Root,
    /// Those three: what the daemon is given in production.
    Daemon,
}

impl Verdict {
    pub(crate) fn passed(&self) -> bool {
        self.refused.is_none()
    }

    #[cfg(feature = "kernel")]
    fn accepted(loader: Loader, program: &str) -> Self {
        Self { refused: None, ..Self::refused(loader, program, "") }
    }

    fn refused(loader: Loader, program: &str, reason: &str) -> Self {
        Self {
            kernel: String::new(),
            rights: Rights::Root,
            object: String::new(),
            program: program.to_owned(),
            loader,
            instructions: None,
            stack: None,
            load_ms: None,
            refused: Some(reason.to_owned()),
        }
    }
}

pub(crate) fn run_task(arguments: &Arguments) -> Result<()> {
    if let Some(directory) = &arguments.on_this_kernel {
        return on_this_kernel(directory);
    }
    ensure!(Host::inspect()?.root, "loading programs needs root: sudo cargo xtask verify");
    let (workspace, steps) = (Workspace::find()?, Steps::new());
    let needs = [Need::Ebpf, Need::Kernel, Need::Verify];
    let ready = setup::ensure(&steps, &workspace, &needs, &arguments.options)?.or_fail()?;
    ebpf::build(&steps, &workspace, &ready.ebpf.context("set-up succeeded and found no eBPF toolchain")?)?;
    let verdicts = on_all_kernels(&workspace, &steps)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&verdicts)?);
    } else {
        print_table(&verdicts);
    }
    let refused = verdicts.iter().filter(|verdict| !verdict.passed()).count();
    ensure!(refused == 0, "{refused} of {} refused", verdicts.len());
    Ok(())
}

#[cfg(feature = "kernel")]
fn on_this_kernel(directory: &Path) -> Result<()> {
    load::print_verdicts(directory)
}

#[cfg(not(feature = "kernel"))]
fn on_this_kernel(_: &Path) -> Result<()> {
    anyhow::bail!("this xtask was built without the feature `kernel`")
}

/// Asks the running kernel and every one of [`guest::KERNELS`]. The host is set up and the objects are built.
///
/// # Errors
/// The loaders could not be built. What a kernel did is in the verdicts.
pub(crate) fn on_all_kernels(workspace: &Workspace, steps: &Steps) -> Result<Vec<Verdict>> {
    let objects = ["causeway.o", TRACED].map(|name| workspace.objects().join(name));
    let (loaders, root) = steps.run("loaders", |step| {
        let loaders = build_loaders(workspace, step)?;
        let root = guest_root(workspace, &loaders, &objects)?;
        step.detail("xtask with aya and libbpf");
        Ok((loaders, root))
    })?;
    let release = ask(Command::new("uname").arg("-r"))?;
    let mut verdicts = Vec::new();
    for (rights, label) in [(Rights::Root, ""), (Rights::Daemon, ", least rights")] {
        verdicts.extend(asked(steps, &format!("kernel {}{label}", release.trim()), |step| {
            here(workspace, step, &loaders, &objects, rights)
        }));
    }
    for kernel in guest::KERNELS {
        verdicts.extend(asked(steps, &format!("kernel {}", kernel.version), |step| {
            let image = guest::image(workspace, step, kernel)?;
            let console = guest::boot(workspace, step, &image.kernel, &root, guest::Processors::One)?;
            let ended = console.stdout.iter().any(|line| line.trim() == END);
            ensure!(ended, "the guest did not finish\n{}", console.complaint());
            let verdicts = read_verdicts(&console.stdout)?;
            let right = verdicts.iter().all(|verdict| verdict.kernel.starts_with(kernel.version));
            ensure!(right, "the guest of {} runs another kernel", image.kernel.display());
            Ok(verdicts)
        }));
    }
    Ok(verdicts)
}

/// What the guests boot into: `loaders` is this program with its loaders.
fn guest_root(workspace: &Workspace, loaders: &Path, objects: &[PathBuf]) -> Result<PathBuf> {
    let mut root = guest::Root::new("/xtask verify --on-this-kernel /objects")?;
    root.program(loaders, "/xtask")?;
    for object in objects {
        let name = object.file_name().context("an object is a file")?.to_string_lossy();
        root.file(object, &format!("/objects/{name}"))?;
    }
    root.write(workspace, "verify")
}

/// A kernel's verdicts; one that says it could not be asked, if so.
fn asked(steps: &Steps, kernel: &str, ask: impl FnOnce(&Step) -> Result<Vec<Verdict>>) -> Vec<Verdict> {
    let answer = steps.run(kernel, |step| {
        let verdicts = ask(step)?;
        ensure!(!verdicts.is_empty(), "no verdict at all");
        let refused = verdicts.iter().filter(|verdict| !verdict.passed()).count();
        let loaded = format!("{} programs loaded, {refused} refused", verdicts.len() - refused);
        if refused > 0 {
            step.failed(loaded)
        } else {
            step.detail(loaded)
        }
        Ok(verdicts)
    });
    answer.unwrap_or_else(|error| {
        let failed = Verdict::refused(Loader::None, "", &format!("could not be asked: {error:#}"));
        vec![Verdict { kernel: kernel.to_owned(), ..failed }]
    })
}

fn here(
    workspace: &Workspace,
    step: &Step,
    loaders: &Path,
    objects: &[PathBuf],
    rights: Rights,
) -> Result<Vec<Verdict>> {
    // A directory of their own: what else was built is not the product's.
    let directory = workspace.target.join("xtask/verify");
    fs::create_dir_all(&directory)?;
    for object in objects {
        fs::copy(object, directory.join(object.file_name().context("an object is a file")?))?;
    }
    let mut command = match rights {
        Rights::Root => Command::new(loaders),
        Rights::Daemon => {
            let mut command = Command::new("setpriv");
            command.arg("--bounding-set=-all,+bpf,+net_admin,+perfmon").arg(loaders);
            command
        }
    };
    let finished = run(workspace, step, command.args(["verify", "--on-this-kernel"]).arg(directory))?;
    ensure!(finished.stdout.iter().any(|line| line.trim() == END), finished.complaint());
    let verdicts = read_verdicts(&finished.stdout)?;
    Ok(verdicts.into_iter().map(|verdict| Verdict { rights, ..verdict }).collect())
}

/// Of all lines, those that are verdicts; a serial console also carries what the kernel says.
fn read_verdicts(lines: &[String]) -> Result<Vec<Verdict>> {
    let lines = lines.iter().map(|line| line.trim()).filter(|line| line.starts_with("{\"kernel\""));
    lines.map(|line| serde_json::from_str(line).with_context(|| format!("verdict {line}"))).collect()
}

/// Builds this program with its loaders and takes a copy, because the next `cargo xtask` replaces the original.
fn build_loaders(workspace: &Workspace, step: &Step) -> Result<PathBuf> {
    let mut command = Command::new(cargo());
    command
        .args(["build", "--package", "xtask", "--features", "kernel"])
        .current_dir(&workspace.root)
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "120");
    run(workspace, step, &mut command)?;
    let (built, copy) = (workspace.target.join("debug/xtask"), workspace.target.join("xtask/loaders"));
    fs::copy(&built, &copy).with_context(|| built.display().to_string())?;
    Ok(copy)
}

fn print_table(verdicts: &[Verdict]) {
    let header =
        ["kernel", "rights", "object", "program", "loader", "instructions", "stack, octets", "time, ms", ""];
    let mut table = report::table(header, &[5, 6, 7]);
    for verdict in verdicts {
        let loader = match verdict.loader {
            Loader::Aya => "aya",
            Loader::Libbpf => "libbpf",
            Loader::None => "",
        };
        let rights = match verdict.rights {
            Rights::Root => "root",
            Rights::Daemon => "daemon",
        };
        table.add_row([
            verdict.kernel.clone(),
            rights.to_owned(),
            verdict.object.clone(),
            verdict.program.clone(),
            loader.to_owned(),
            verdict.instructions.map_or_else(String::new, |count| count.to_string()),
            verdict.stack.clone().unwrap_or_default(),
            verdict.load_ms.map_or_else(String::new, |ms| format!("{ms:.2}")),
            if verdict.passed() { "ok" } else { "REFUSED" }.to_owned(),
        ]);
    }
    println!("{table}");
    println!("instructions: walked by the verifier over all paths. stack: by function, from libbpf's log.");
    println!("rights: root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON alone, as the daemon in production.");
    println!("time: loading the program (aya), the verifier's own figure (libbpf).");
    println!("{TRACED}: aya only, because libbpf refuses the way in which aya-log declares its ring.");
    for verdict in verdicts {
        if let Some(reason) = &verdict.refused {
            println!("\n{} {} {}\n{reason}", verdict.kernel, verdict.object, verdict.program);
        }
    }
}
