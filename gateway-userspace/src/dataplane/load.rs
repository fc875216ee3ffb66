//! The embedded object into the kernel.

use super::Settings;
use super::fault::{DataplaneFault, chain, os_error};
use super::pins::PinDirectory;
use aya::maps::{MapError, ProgramArray};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use gateway_common::abi::{FINGERPRINT, name, stage};

/// The XDP objects that the build embedded.
pub mod object {
    include!(concat!(env!("OUT_DIR"), "/object.rs"));
}

/// Oldest kernel that the object is verified on.
const KERNEL_NEEDED: (u32, u32) = (6, 1);

/// The verifier gives up (EAGAIN) when anything waits to interrupt its thread; so often it is asked again.
const INTERRUPTED_MAX: usize = 20;

/// Lines of the verifier's log that an error quotes.
const LOG_LINES: usize = 24;

/// Maps that outlive the daemon.
pub(super) const PINNED_MAPS: [&str; 19] = [
    name::INDEX,
    name::FLOWS,
    name::KEYS,
    name::CRYPTO,
    name::STAGES,
    name::QUEUES,
    name::XSKS,
    name::DROPS,
    name::TRAFFIC,
    name::GENERATION,
    name::LINKS,
    name::GUARDED,
    name::SOURCES,
    name::DENIED,
    name::OFFENDERS,
    name::PACES,
    name::RECORDS,
    name::CAPTURES,
    name::ABI,
];

/// Whether there is a kernel for the object, if it is one.
pub(super) fn check(object: &[u8]) -> Result<(), DataplaneFault> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_err(DataplaneFault::system("read the kernel's version"))?;
    let release = release.trim();
    if version(release).is_some_and(|version| version < KERNEL_NEEDED) {
        return Err(DataplaneFault::KernelTooOld {
            found: release.to_owned(),
            needed: format!("{}.{}", KERNEL_NEEDED.0, KERNEL_NEEDED.1),
        });
    }
    if object.is_empty() {
        return Err(DataplaneFault::ObjectNotEmbedded);
    }
    // CW_FINGERPRINT: 64 bits that no other content of the object has by chance.
    if !object.windows(size_of::<u64>()).any(|window| window == FINGERPRINT.to_ne_bytes()) {
        let why = format!("it was built with another layout of its maps than ours, {FINGERPRINT:#018x}");
        return Err(DataplaneFault::ObjectInvalid { why });
    }
    Ok(())
}

/// What of the object is in the kernel.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// Why the programs for SRTP are not, where the verifier refused them: userspace does their work then.
    pub(super) without_srtp: Option<DataplaneFault>,
}

/// Loads the object; maps that are pinned already are those of the pins, the others are made and pinned.
pub(super) fn load(
    settings: &Settings,
    object: &[u8],
    pins: &PinDirectory,
) -> Result<Loaded, DataplaneFault> {
    // The verifier's log makes verification many times longer: it is written only when it will be read.
    match load_with(settings, object, pins, VerifierLogLevel::STATS) {
        Err(DataplaneFault::VerifierRefused { .. }) | Ok(Loaded { without_srtp: Some(_), .. }) => {
            load_with(settings, object, pins, VerifierLogLevel::default())
        }
        done => done,
    }
}

fn load_with(
    settings: &Settings,
    object: &[u8],
    pins: &PinDirectory,
    log: VerifierLogLevel,
) -> Result<Loaded, DataplaneFault> {
    let mut loader = EbpfLoader::new();
    for map in PINNED_MAPS {
        loader.map_pin_path(map, pins.map(map));
    }
    loader
        .verifier_log_level(log)
        .map_max_entries(name::FLOWS, settings.flows)
        .map_max_entries(name::KEYS, settings.secured_flows.max(1))
        .map_max_entries(name::CRYPTO, settings.secured_flows.max(1));
    let mut ebpf = loader.load(object).map_err(|error| unloadable(settings, &error))?;
    load_program(&mut ebpf, name::PROGRAM)?;
    let failed = |error: &dyn std::error::Error| DataplaneFault::map("chain the programs", error);
    let (mut stages, mut without_srtp) = (Vec::new(), None);
    for (index, stage) in (0..).zip(name::STAGE_PROGRAMS) {
        match load_program(&mut ebpf, stage) {
            Ok(()) => {}
            Err(fault @ DataplaneFault::VerifierRefused { .. }) if index != stage::PUNT => {
                without_srtp = Some(fault);
                continue;
            }
            Err(fault) => return Err(fault),
        }
        let fd = named(&mut ebpf, stage)?.fd().map_err(|error| failed(&error))?;
        stages.push((index, fd.try_clone().map_err(|error| failed(&error))?));
    }
    let map = ebpf.map_mut(name::STAGES).ok_or_else(|| missing("map", name::STAGES))?;
    let mut array = ProgramArray::try_from(map).map_err(|error| failed(&error))?;
    for (index, stage) in &stages {
        array.set(*index, stage, 0).map_err(|error| failed(&error))?;
    }
    Ok(Loaded { ebpf, without_srtp })
}

fn load_program(ebpf: &mut Ebpf, name: &str) -> Result<(), DataplaneFault> {
    let xdp = named(ebpf, name)?;
    let interrupted = |result: &Result<(), ProgramError>| {
        matches!(result, Err(ProgramError::LoadError { io_error, .. })
            if io_error.raw_os_error() == Some(libc::EAGAIN))
    };
    let mut loaded = xdp.load();
    for _ in 0..INTERRUPTED_MAX {
        if !interrupted(&loaded) {
            break;
        }
        loaded = xdp.load();
    }
    loaded.map_err(|error| refused(name, error))
}

/// The program that runs on every media interface.
pub(super) fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, DataplaneFault> {
    named(ebpf, name::PROGRAM)
}

fn named<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, DataplaneFault> {
    let program = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    program.ok_or_else(|| missing("XDP program", name))
}

fn missing(what: &str, name: &str) -> DataplaneFault {
    DataplaneFault::ObjectInvalid { why: format!("it has no {what} {name}") }
}

/// The embedded object that the settings ask for.
pub(super) fn chosen(settings: &Settings) -> &'static [u8] {
    if settings.traced { object::TRACED_OBJECT } else { object::OBJECT }
}

fn unloadable(settings: &Settings, error: &EbpfError) -> DataplaneFault {
    match (error, os_error(error)) {
        (_, Some(libc::EPERM)) => DataplaneFault::NoPermission { doing: "create BPF maps".to_owned() },
        (EbpfError::MapError(MapError::CreateError { name, .. }), Some(libc::ENOMEM | libc::E2BIG)) => {
            DataplaneFault::Map {
                doing: format!("create map {name} for {} flows", settings.flows),
                why: "not enough memory: lower dataplane.flows".to_owned(),
            }
        }
        (EbpfError::MapError(_), _) => DataplaneFault::map("create BPF maps", error),
        _ => DataplaneFault::ObjectInvalid { why: chain(error) },
    }
}

fn refused(program: &str, error: ProgramError) -> DataplaneFault {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            if io_error.raw_os_error() == Some(libc::EPERM) && log.trim().is_empty() {
                return DataplaneFault::NoPermission { doing: "load BPF programs".to_owned() };
            }
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
            DataplaneFault::VerifierRefused {
                program: program.to_owned(),
                log: format!("{}\n{io_error}", tail.join("\n")),
            }
        }
        other => DataplaneFault::map("load the XDP program", &other),
    }
}

/// Major and minor number of a kernel release such as `6.12.3-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_of_every_fashion_compare_by_number() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.14.0-427.el9"), Some((5, 14)));
        assert_eq!(version("6.18-rc3"), Some((6, 18)));
        assert!(version("5.15.0") < Some(KERNEL_NEEDED));
        assert_eq!(version("unknown"), None);
    }
}
