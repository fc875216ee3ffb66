//! What can go wrong between the daemon and the kernel: each names what is wrong and how to mend it.

use super::compile::CompileFault;
use crate::base::fault::Fault;
use crate::base::id::FlowId;
use crate::codec::LibraryRefused;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A failure of the data plane, at start or for one call.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneFault {
    #[error(
        "no permission to {doing}: run as root, or give the daemon CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON \
         (AmbientCapabilities= in its unit); [dataplane] mode = \"sockets\" needs none of them"
    )]
    NoPermission { doing: String },
    #[error(
        "kernel {found} is too old for the XDP program, which needs {needed} or newer: \
         upgrade the kernel, or set [dataplane] mode = \"sockets\""
    )]
    KernelTooOld { found: String, needed: String },
    #[error(
        "this daemon was built without its XDP program: run `cargo xtask ebpf` and build it again, \
         or set [dataplane] mode = \"sockets\""
    )]
    ObjectNotEmbedded,
    #[error("the embedded XDP object cannot be read ({why}): build it again with `cargo xtask ebpf`")]
    ObjectInvalid { why: String },
    #[error(
        "the kernel's verifier refused program {program}; end of its log:\n{log}\n\
         report it with the kernel's version, and set [dataplane] mode = \"sockets\" meanwhile"
    )]
    VerifierRefused { program: String, log: String },
    #[error("no interface for media: add [[interface]] with its name, or set [dataplane] mode = \"sockets\"")]
    NoInterfaces,
    #[error(
        "interface {interface} does not exist: correct [[interface]] name (`ip link` lists what there is)"
    )]
    InterfaceMissing { interface: String },
    #[error("interface {interface} is down: `ip link set dev {interface} up`")]
    InterfaceDown { interface: String },
    #[error(
        "interface {interface} already runs another XDP program: detach it \
         (`ip link set dev {interface} xdp off`, or `bpftool link` to find who holds it)"
    )]
    InterfaceBusy { interface: String },
    #[error(
        "interface {interface} refused the XDP program in {mode} mode: {why}; set [dataplane] mode = \"auto\""
    )]
    AttachRefused { interface: String, mode: &'static str, why: String },
    #[error(
        "forwarding is off on lo, where the XDP program's route look-ups start, and cannot be switched on here \
         ({why}): `sysctl -w {setting}=1`"
    )]
    ForwardingOff { setting: &'static str, why: String },
    #[error(
        "{path} is not on a BPF file system ({why}): `mount -t bpf bpf /sys/fs/bpf`, and keep \
         [dataplane] pin_directory below it"
    )]
    NotBpffs { path: PathBuf, why: String },
    #[error(
        "another daemon runs on {path}: stop it first, or give this one a [dataplane] pin_directory of its own"
    )]
    PinDirectoryBusy { path: PathBuf },
    #[error(
        "the flows pinned in {path} belong to another version of Causeway (layout {found:#018x}, ours \
         {ours:#018x}): let that version end its calls, or discard them with `rm -r {path}`"
    )]
    AbiMismatch { path: PathBuf, found: u64, ours: u64 },
    #[error("nothing is pinned in {path}: no daemon relays from there (see [dataplane] pin_directory)")]
    NothingPinned { path: PathBuf },
    #[error(
        "{most} networks are denied, which is all that fit: `causeway denied` lists them, `causeway allow` takes one back"
    )]
    DeniedFull { most: u32 },
    #[error("packets of this node do not pass the XDP program ([dataplane] mode), which is what denies")]
    NoGuard,
    #[error("the flow table is full ({flows} flows): raise [dataplane] flows and restart without calls")]
    FlowTableFull { flows: u32 },
    #[error("another flow already arrives at {at}: two calls were given one port")]
    AddressInUse { at: SocketAddr },
    #[error("flow {}/{} is not installed here", id.slot, id.epoch)]
    UnknownFlow { id: FlowId },
    #[error(
        "no AF_XDP sockets for what userspace has to relay ({why}): give the daemon CAP_NET_RAW and LimitMEMLOCK=infinity, \
         or let both sides speak one codec, take AES_CM_128_HMAC_SHA1_80 and do without ICE, which the kernel relays"
    )]
    Userspace { why: String },
    #[error(
        "the table of SRTP flows is full ({flows} flows): raise [dataplane] secured_flows and restart without calls"
    )]
    SecuredFull { flows: u32 },
    #[error(transparent)]
    Plan(#[from] CompileFault),
    #[error("cannot open a media socket on {at}: {source}")]
    Socket { at: SocketAddr, source: io::Error },
    #[error("{doing}: {source}")]
    System { doing: String, source: io::Error },
    #[error(transparent)]
    Codec(#[from] LibraryRefused),
    #[error("{doing}: {why}")]
    Map { doing: String, why: String },
}

impl DataplaneFault {
    /// What it means for the call that met it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::FlowTableFull { .. } => Fault::FlowsExhausted,
            Self::AddressInUse { .. } | Self::Socket { .. } => Fault::PortsExhausted,
            _ => Fault::DataplaneFailed,
        }
    }

    pub(super) fn map(doing: &str, error: &dyn std::error::Error) -> Self {
        Self::Map { doing: doing.to_owned(), why: chain(error) }
    }

    pub(super) fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |source| match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NoPermission { doing },
            _ => Self::System { doing, source },
        }
    }
}

/// An error with all its causes in one line: the innermost is the one that helps.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// The error number at the bottom of a chain of errors.
pub(super) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(number) = inner.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        cause = inner.source();
    }
    None
}
