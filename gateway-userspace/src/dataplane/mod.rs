//! The kernel relay from userspace: load, attach, pin, adopt, program flows; and the plain-socket reference.
//!
//! A [`Node`] is made once: it loads the XDP program, attaches it to the media interfaces and pins everything,
//! or adopts what a daemon before it pinned. From it come one [`Dataplane`] per worker, which programs flows
//! without locks, one [`Watch`], which hears what the kernel has to say, and one [`Guard`] of our SIP sockets. When XDP is not to be had the
//! same doors lead to the [`reference`] path over plain sockets, and [`Node::paths`] says so.
//!
//! ```text
//! Settings → Node::boot → sweep → worker(core) → Dataplane: install, update, remove, report, adopt
//!                               → watch()      → Watch: records, routes, neighbours
//!                               → guard()      → Guard: sockets, their sources, who is denied
//! ```

mod attachment;
mod backend;
pub mod compile;
mod fault;
pub mod guard;
mod handover;
pub mod inspect;
mod kernel;
pub mod keys;
mod links;
mod load;
mod mmap;
mod neighbour;
mod netlink;
mod node;
mod pins;
pub mod pod;
mod raw;
mod record;
pub mod reference;
mod report;
mod slots;
mod table;
mod userspace;
mod watch;
mod worker;
mod xsk;

pub use attachment::{InterfacePath, PathKind};
pub use fault::DataplaneFault;
pub use guard::{DeniedView, Guard, GuardLimits, GuardedSocket, Protocol};
pub use kernel::monotonic;
pub use load::object;
pub use node::Node;
pub use record::Record;
pub use report::FlowReport;
pub use slots::Split;
pub use watch::Watch;
pub use worker::{Dataplane, Update};

use gateway_common::abi::{FLOWS_DEFAULT, SECURED_FLOWS_DEFAULT};
use std::path::PathBuf;

/// How packets are to reach the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The driver's own XDP, else the kernel's generic one, else plain sockets; anything but the first is
    /// logged as a warning.
    #[default]
    Auto,
    /// The driver's own XDP or nothing.
    Native,
    /// The kernel's generic XDP or nothing.
    Generic,
    /// No XDP at all.
    Sockets,
}

/// The `[dataplane]` table of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub mode: Mode,
    /// Flows that fit: two a call with RTCP multiplexed, four without.
    pub flows: u32,
    /// Flows with SRTP that fit, of those.
    pub secured_flows: u32,
    /// Packets that wait for userspace at each receive queue at most, of 2 KiB each: rounded up to a power of two.
    pub socket_frames: u32,
    /// Where maps, program and links are pinned: on a BPF file system, one directory per daemon.
    pub pin_directory: PathBuf,
    /// Media interfaces, by name: the devices themselves, not VLANs on them.
    pub interfaces: Vec<String>,
    /// Load the twin of the program that logs each decision: for a lab, far too slow for traffic.
    pub traced: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            flows: FLOWS_DEFAULT,
            secured_flows: SECURED_FLOWS_DEFAULT,
            socket_frames: 1024,
            pin_directory: PathBuf::from("/sys/fs/bpf/causeway"),
            interfaces: Vec::new(),
            traced: false,
        }
    }
}
