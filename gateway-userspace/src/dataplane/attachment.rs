//! The program on the media interfaces: attached at boot or adopted from the daemon before, and attached again to an
//! interface that was made anew while the daemon runs.

use super::Mode;
use super::fault::DataplaneFault;
use super::netlink::{AttachedProgram, Device};
use super::pins::{self, PinDirectory};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp, loaded_programs};
use aya_obj::programs::XdpAttachType;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Who takes packets from an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// XDP in the driver.
    Native,
    /// XDP in the kernel's generic receive path: slower.
    Generic,
    /// Plain sockets: slowest.
    Sockets,
    /// Nobody: the interface is gone, or one made anew refused the program.
    None,
}

/// The path in use on one interface.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InterfacePath {
    pub interface: String,
    pub path: PathKind,
    /// Why this path and not the faster one, for people.
    pub why: String,
}

/// Keeps the program on the media interfaces while the daemon runs.
#[derive(Debug)]
pub(super) struct Attachments {
    pub(super) directory: PathBuf,
    pub(super) mode: Mode,
    /// Indices of the interfaces that the program runs on.
    pub(super) media: Vec<u32>,
    pub(super) paths: Arc<Mutex<Vec<InterfacePath>>>,
}

impl Attachments {
    /// Attaches the program to media interfaces that are new under their name, forgets those that are gone, and says
    /// so. One that refuses the program is told as an error; its media waits for the next change of devices.
    pub(super) fn follow(&mut self, devices: &[Device]) {
        for path in self.paths.lock().iter_mut() {
            let device = devices.iter().find(|device| device.name == path.interface);
            match device {
                Some(device) if self.media.contains(&device.index) => {}
                Some(device) if device.up => match self.attach(device) {
                    Ok(attached) => {
                        self.media.push(device.index);
                        *path = attached;
                    }
                    Err(fault) => {
                        tracing::error!(
                            interface = device.name,
                            "no media over an interface made anew: {fault}"
                        );
                        path.lose(&fault.to_string());
                    }
                },
                _ if path.path == PathKind::None => {}
                _ => {
                    tracing::error!(
                        interface = path.interface,
                        "a media interface is gone, and its media with it"
                    );
                    path.lose("the interface is gone");
                }
            }
        }
        let gone = |ifindex: &u32| devices.iter().all(|device| device.index != *ifindex);
        for ifindex in self.media.extract_if(.., |ifindex| gone(ifindex)) {
            if let Err(error) = pins::remove_if_there(&pins::link(&self.directory, ifindex)) {
                tracing::warn!(ifindex, "the link of a device that is gone stays pinned: {error}");
            }
        }
    }

    fn attach(&self, device: &Device) -> Result<InterfacePath, DataplaneFault> {
        let opening = |error| DataplaneFault::map("open the pinned program", &error);
        let mut xdp =
            Xdp::from_pin(pins::program(&self.directory), XdpAttachType::Interface).map_err(opening)?;
        let (link, path, why) = attach_fresh(self.mode, &mut xdp, device)?;
        let pinning = |error| DataplaneFault::map("pin the link of an interface made anew", &error);
        link.pin(pins::link(&self.directory, device.index)).map_err(pinning)?;
        tracing::warn!(interface = device.name, ?path, "the program runs on an interface made anew: {why}");
        Ok(InterfacePath { interface: device.name.clone(), path, why })
    }
}

impl InterfacePath {
    fn lose(&mut self, why: &str) {
        (self.path, self.why) = (PathKind::None, why.to_owned());
    }
}

/// Attaches the program to one interface, or takes over the link that is pinned for it.
pub(super) fn attach(
    mode: Mode,
    xdp: &mut Xdp,
    directory: &PinDirectory,
    device: &Device,
) -> Result<(InterfacePath, FdLink), DataplaneFault> {
    let adopted = adopt_link(xdp, &directory.link(device.index), device)?;
    let (link, path, why) = match adopted {
        Some((link, native)) => {
            let path = if native { PathKind::Native } else { PathKind::Generic };
            (link, path, "adopted as it was attached".to_owned())
        }
        None => attach_fresh(mode, xdp, device)?,
    };
    let pinning = |error| DataplaneFault::map("pin the program and its links", &error);
    if !directory.program().exists() {
        xdp.pin(directory.program()).map_err(pinning)?;
    }
    let link = match directory.link(device.index) {
        there if there.exists() => link,
        missing => FdLink::from(link.pin(missing).map_err(pinning)?),
    };
    match path {
        PathKind::Native => tracing::info!(interface = device.name, "XDP in the driver: {why}"),
        _ => tracing::warn!(
            interface = device.name,
            "XDP in the generic path, slower than the driver's: {why}"
        ),
    }
    Ok((InterfacePath { interface: device.name.clone(), path, why }, link))
}

/// The pinned link of an interface, running our program from now on; `None` when there is none, or the device
/// that it was for is gone.
fn adopt_link(xdp: &mut Xdp, pin: &Path, device: &Device) -> Result<Option<(FdLink, bool)>, DataplaneFault> {
    if !pin.exists() {
        return Ok(None);
    }
    let failed = |error: &dyn std::error::Error| DataplaneFault::map("take over a pinned link", error);
    let link = FdLink::from(PinnedLink::from_pin(pin).map_err(|error| failed(&error))?);
    let runs = link.info().map_err(|error| failed(&error))?.program_id();
    let Some(AttachedProgram { native, .. }) = device.xdp.filter(|attached| attached.id == runs) else {
        pins::remove_if_there(pin)
            .map_err(DataplaneFault::system("remove the link of a device that is gone"))?;
        return Ok(None);
    };
    let ours = xdp.info().map_err(|error| failed(&error))?.tag();
    let theirs =
        loaded_programs().flatten().find(|program| program.id() == runs).map(|program| program.tag());
    if theirs == Some(ours) {
        return Ok(Some((link, native)));
    }
    let link = XdpLink::try_from(link).map_err(|error| failed(&error))?;
    let id = xdp.attach_to_link(link).map_err(|error| failed(&error))?;
    let link = xdp.take_link(id).map_err(|error| failed(&error))?;
    let program = pin.with_file_name("../program");
    pins::remove_if_there(&program).map_err(DataplaneFault::system("replace the pinned program"))?;
    tracing::info!(interface = device.name, "replaced the program of another build in place");
    Ok(Some((FdLink::try_from(link).map_err(|error| failed(&error))?, native)))
}

/// Attaches by the fastest way that `mode` and the interface allow.
fn attach_fresh(
    mode: Mode,
    xdp: &mut Xdp,
    device: &Device,
) -> Result<(FdLink, PathKind, String), DataplaneFault> {
    let native = match mode {
        Mode::Generic => Err("configured: dataplane.mode = \"generic\"".to_owned()),
        _ => match try_attach(xdp, device, XdpMode::Driver) {
            Ok(link) => Ok(link),
            Err(AttachError::Refused(why)) if mode == Mode::Auto => Err(why),
            Err(error) => return Err(error.into_fault(device, "native")),
        },
    };
    match native {
        Ok(link) => Ok((link, PathKind::Native, "attached".to_owned())),
        Err(why) => match try_attach(xdp, device, XdpMode::Skb) {
            Ok(link) => Ok((link, PathKind::Generic, why)),
            Err(error) => Err(error.into_fault(device, "generic")),
        },
    }
}

enum AttachError {
    Busy,
    NotPermitted,
    Refused(String),
}

impl AttachError {
    fn into_fault(self, device: &Device, mode: &'static str) -> DataplaneFault {
        let interface = device.name.clone();
        match self {
            Self::Busy => DataplaneFault::InterfaceBusy { interface },
            Self::NotPermitted => {
                DataplaneFault::NoPermission { doing: format!("attach a program to {interface}") }
            }
            Self::Refused(why) => DataplaneFault::AttachRefused { interface, mode, why },
        }
    }
}

fn try_attach(xdp: &mut Xdp, device: &Device, mode: XdpMode) -> Result<FdLink, AttachError> {
    let refused = |error: ProgramError| match super::fault::os_error(&error) {
        Some(libc::EBUSY | libc::EEXIST) => AttachError::Busy,
        Some(libc::EPERM) => AttachError::NotPermitted,
        Some(libc::EOPNOTSUPP) => AttachError::Refused("its driver has no XDP of its own".to_owned()),
        Some(libc::ERANGE | libc::EMSGSIZE) => {
            AttachError::Refused("its MTU is too large for XDP".to_owned())
        }
        _ => AttachError::Refused(super::fault::chain(&error)),
    };
    let id = xdp.attach_to_if_index(device.index, mode).map_err(refused)?;
    let link = xdp.take_link(id).map_err(refused)?;
    FdLink::try_from(link).map_err(|error| AttachError::Refused(super::fault::chain(&error)))
}

/// Takes the program off interfaces that are no longer configured.
pub(super) fn unlink_others(directory: &PinDirectory, media: &[u32]) -> Result<(), DataplaneFault> {
    let unlinking = |error| DataplaneFault::system("detach an interface that is no longer configured")(error);
    for ifindex in directory.linked().map_err(unlinking)? {
        if !media.contains(&ifindex) {
            pins::remove_if_there(&directory.link(ifindex)).map_err(unlinking)?;
        }
    }
    Ok(())
}
