//! Loading on the running kernel, by two loaders that share no code: aya, which the daemon uses, and libbpf.

use super::{END, Loader, TRACED, Verdict};
use anyhow::{Context, Result};
use aya::programs::Xdp;
use libbpf_rs::{ObjectBuilder, PrintLevel, set_print};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use std::{fs, mem};

/// Lines of the verifier's log that a failure shows.
const LOG_TAIL: usize = 25;

/// Loads every object of `directory` and prints a verdict a line, then [`END`].
pub(crate) fn print_verdicts(directory: &Path) -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("release of this kernel")?;
    let kernel = release.trim();
    let mut objects: Vec<_> = fs::read_dir(directory)
        .with_context(|| directory.display().to_string())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    objects.sort();
    for path in objects {
        let object = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let mut verdicts = by_aya(&bytes);
        // The rings of aya-log are declared in a section that libbpf 1.0 and later refuses.
        if object != TRACED {
            verdicts.extend(by_libbpf(&bytes));
        }
        verdicts.sort_by(|one, other| (&one.program, one.loader).cmp(&(&other.program, other.loader)));
        for verdict in verdicts {
            let verdict = Verdict { kernel: kernel.to_owned(), object: object.to_string(), ..verdict };
            println!("{}", serde_json::to_string(&verdict)?);
        }
    }
    println!("{END}");
    Ok(())
}

fn by_aya(bytes: &[u8]) -> Vec<Verdict> {
    let mut ebpf = match aya::EbpfLoader::new().load(bytes) {
        Ok(ebpf) => ebpf,
        Err(error) => return vec![Verdict::refused(Loader::Aya, "", &chain(&error))],
    };
    let programs = ebpf.programs_mut().map(|(name, program)| {
        let loaded = <&mut Xdp>::try_from(program).and_then(|xdp| {
            let started = Instant::now();
            xdp.load()?;
            Ok((xdp.info()?.verified_instruction_count(), started.elapsed()))
        });
        match loaded {
            Ok((instructions, took)) => Verdict {
                instructions,
                load_ms: Some(took.as_secs_f64() * 1e3),
                ..Verdict::accepted(Loader::Aya, name)
            },
            Err(error) => Verdict::refused(Loader::Aya, name, &chain(&error)),
        }
    });
    programs.collect()
}

/// With its causes, and of the verifier's log only the end.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    tail(&text)
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    match lines.split_at_checked(lines.len().saturating_sub(LOG_TAIL)) {
        Some(([first, ..], last)) => format!("{first}\n[…]\n{}", last.join("\n")),
        _ => text.to_owned(),
    }
}

/// What libbpf said since it was last taken; its callback is a plain function, so the text has to wait here.
static SAID: Mutex<String> = Mutex::new(String::new());

fn listen(_: PrintLevel, text: String) {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
}

fn by_libbpf(bytes: &[u8]) -> Vec<Verdict> {
    set_print(Some((PrintLevel::Debug, listen)));
    let result = load_with_libbpf(bytes);
    set_print(None);
    let said = mem::take(&mut *SAID.lock().unwrap_or_else(PoisonError::into_inner));
    match result {
        Ok(names) => names.iter().map(|name| accepted_by_libbpf(name, &said)).collect(),
        Err(error) => {
            // Of all that debug level tells, the verifier's log if there is one.
            let log = said.rsplit("-- BEGIN PROG LOAD LOG --").next().unwrap_or_default();
            let log = log.split("-- END PROG LOAD LOG --").next().unwrap_or_default();
            let program = said.split("prog '").find_map(|part| part.split_once("': BPF program load failed"));
            let program = program.map_or("", |(name, _)| name);
            vec![Verdict::refused(Loader::Libbpf, program, &tail(&format!("{error}\n{log}")))]
        }
    }
}

/// Names of the programs, all of which were loaded.
fn load_with_libbpf(bytes: &[u8]) -> libbpf_rs::Result<Vec<String>> {
    /// `BPF_LOG_STATS`: the verifier tells what it counted.
    const LOG_STATISTICS: u32 = 4;
    let mut object = ObjectBuilder::default().name("causeway")?.open_memory(bytes)?;
    for mut program in object.progs_mut() {
        program.set_log_level(LOG_STATISTICS);
    }
    let object = object.load()?;
    Ok(object.progs().map(|program| program.name().to_string_lossy().into_owned()).collect())
}

/// The figures out of the verifier's statistics:
/// `verification time 310 usec\nstack depth 64+16\nprocessed 1234 insns (limit 1000000) …`.
fn accepted_by_libbpf(name: &str, said: &str) -> Verdict {
    let marker = format!("prog '{name}': -- BEGIN PROG LOAD LOG --");
    let log = said.split(&marker).nth(1).unwrap_or_default();
    let log = log.split("-- END PROG LOAD LOG --").next().unwrap_or_default();
    let word = |label: &str| log.split(label).nth(1)?.split_whitespace().next();
    Verdict {
        instructions: word("processed ").and_then(|count| count.parse().ok()),
        stack: word("stack depth ").map(str::to_owned),
        load_ms: word("verification time ").and_then(|micros| Some(micros.parse::<f64>().ok()? / 1e3)),
        ..Verdict::accepted(Loader::Libbpf, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_statistics_of_the_right_program() {
        let said = "libbpf: prog 'first': -- BEGIN PROG LOAD LOG --\nverification time 20 usec\n\
                    stack depth 0\nprocessed 2 insns (limit 1000000)\n-- END PROG LOAD LOG --\n\
                    libbpf: prog 'second': -- BEGIN PROG LOAD LOG --\nverification time 1310 usec\n\
                    stack depth 64+16\nprocessed 1234 insns (limit 1000000)\n-- END PROG LOAD LOG --\n";
        let verdict = accepted_by_libbpf("second", said);
        assert_eq!(verdict.instructions, Some(1234));
        assert_eq!(verdict.stack.as_deref(), Some("64+16"));
        assert_eq!(verdict.load_ms, Some(1.31));
    }

    #[test]
    fn a_long_refusal_keeps_its_first_line_and_its_end() {
        let text: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let kept = tail(&text);
        assert!(kept.starts_with("line 0\n"));
        assert!(kept.ends_with("line 99"));
        assert_eq!(kept.lines().count(), LOG_TAIL + 2);
    }
}
