//! `cargo xtask ebpf`: builds the XDP objects into `<target>/ebpf/`.
//!
//! * `causeway.o`: the product. One object for every kernel; the daemon embeds it.
//! * `causeway-traced.o`: the same with aya-log in it, loaded instead when an operator asks for tracing.
//! * `bench.o`: the empty programs that benches measure against.

use crate::command::run;
use crate::packages::Need;
use crate::report;
use crate::setup::{self, Ebpf, Options};
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use comfy_table::Table;
use object::{Object, ObjectSection, SectionFlags};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// The binary of `gateway-ebpf` that is no part of the product.
const BENCH: &str = "bench";

pub(crate) fn run_task(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    let steps = Steps::new();
    let ready = setup::ensure(&steps, &workspace, &[Need::Ebpf], options)?.or_fail()?;
    let ebpf = ready.ebpf.context("set-up succeeded and found no eBPF toolchain")?;
    let objects = build(&steps, &workspace, &ebpf)?;
    println!("{}", contents(&workspace, &objects)?);
    Ok(())
}

/// Builds all objects and returns their paths. A file is written only when its content changed, so that the
/// daemon, which embeds it, is not rebuilt for nothing.
pub(crate) fn build(steps: &Steps, workspace: &Workspace, ebpf: &Ebpf) -> Result<Vec<PathBuf>> {
    let mut objects = steps.run("XDP objects", |step| {
        let built = compile(workspace, step, ebpf, None)?;
        let places = built.iter().map(|program| {
            let name = if program.name == BENCH { "bench.o" } else { "causeway.o" };
            place(workspace, &program.file, name)
        });
        let places = places.collect::<Result<Vec<_>>>()?;
        step.detail(describe(&places)?);
        Ok(places)
    })?;
    objects.extend(steps.run("traced twin", |step| {
        let built = compile(workspace, step, ebpf, Some("traced"))?;
        let product = built.iter().find(|program| program.name != BENCH);
        let product = product.context("gateway-ebpf builds no program but the bench")?;
        let places = vec![place(workspace, &product.file, "causeway-traced.o")?];
        step.detail(describe(&places)?);
        Ok(places)
    })?);
    Ok(objects)
}

struct Program {
    name: String,
    file: PathBuf,
}

/// Cargo's answer names the files, whatever the binaries of `gateway-ebpf` are called.
fn compile(workspace: &Workspace, step: &Step, ebpf: &Ebpf, feature: Option<&str>) -> Result<Vec<Program>> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        target: Option<Target>,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    let mut cargo = ebpf.toolchain.cargo(&ebpf.linker);
    cargo
        .current_dir(workspace.root.join("gateway-ebpf"))
        .arg("--target-dir")
        .arg(workspace.target.join("ebpf-build"))
        .arg("--message-format=json-render-diagnostics")
        .env("CARGO_ENCODED_RUSTFLAGS", compiler_flags())
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "120");
    if let Some(feature) = feature {
        cargo.args(["--features", feature]);
    }
    let output = run(workspace, step, &mut cargo)?;
    let programs: Vec<Program> = output
        .stdout
        .iter()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter_map(|message| Some(Program { name: message.target?.name, file: message.executable? }))
        .collect();
    ensure!(!programs.is_empty(), "cargo built gateway-ebpf and named no program");
    Ok(programs)
}

/// Why each: the head of `gateway-ebpf/Cargo.toml`.
fn compiler_flags() -> String {
    let architecture = format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH);
    let rest = [
        "-Cdebuginfo=2",
        "-Ctarget-cpu=v3",
        "-Clink-arg=--btf",
        "-Clink-arg=--llvm-args=-phi-elim-split-all-critical-edges",
    ];
    [&[architecture.as_str()], &rest[..]].concat().join("\x1f")
}

fn place(workspace: &Workspace, built: &Path, name: &str) -> Result<PathBuf> {
    let directory = workspace.objects();
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let bytes = fs::read(built).with_context(|| built.display().to_string())?;
    let path = directory.join(name);
    if fs::read(&path).ok().as_ref() != Some(&bytes) {
        fs::write(&path, &bytes).with_context(|| path.display().to_string())?;
    }
    Ok(path)
}

fn describe(objects: &[PathBuf]) -> Result<String> {
    let described = objects.iter().map(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(format!("{name} {} KiB", fs::metadata(path)?.len().div_ceil(1024)))
    });
    Ok(described.collect::<Result<Vec<_>>>()?.join(", "))
}

/// A table of what is in the objects: programs by instructions, data and type information by octets.
fn contents(workspace: &Workspace, objects: &[PathBuf]) -> Result<Table> {
    let mut table = report::table(["object", "section", "octets", "instructions"], &[2, 3]);
    for path in objects {
        let bytes = fs::read(path)?;
        let file = object::File::parse(&*bytes).with_context(|| path.display().to_string())?;
        let name = workspace.relative(path).display().to_string();
        table.add_row([name, "(file)".into(), bytes.len().to_string(), String::new()]);
        for section in file.sections().filter(|section| section.size() > 0) {
            let label = section.name()?.to_owned();
            let Some(instructions) = shown(&label, &section) else { continue };
            table.add_row([String::new(), label, section.size().to_string(), instructions]);
        }
    }
    Ok(table)
}

/// Instructions of an executable section, nothing for one with data, `None` for what loaders do not read.
fn shown<'a>(label: &str, section: &impl ObjectSection<'a>) -> Option<String> {
    const INSTRUCTION_OCTETS: u64 = 8;
    let SectionFlags::Elf { sh_flags } = section.flags() else { return None };
    if sh_flags & u64::from(object::elf::SHF_EXECINSTR) != 0 {
        return Some((section.size() / INSTRUCTION_OCTETS).to_string());
    }
    let data = [".maps", "maps", ".rodata", ".data", ".bss", ".BTF", "license"];
    data.iter().any(|prefix| label.starts_with(prefix)).then(String::new)
}
