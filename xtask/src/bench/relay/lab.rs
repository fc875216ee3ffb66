//! The labs of the benches: one of `cargo xtask lab` for each relay that is compared, all up at the same time
//! so that runs can take turns without anything being rebuilt in between.
//!
//! Neighbour entries are permanent in them: nothing but media moves while something is measured.

use crate::command::ask;
use crate::lab::{Description, Lab};
pub(crate) use crate::namespace::enter;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::net::Ipv4Addr;
use std::process::Command;

/// Name of the only interface of caller and callee.
pub(crate) const ENDPOINT_INTERFACE: &str = "to-gateway";

/// Which end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Caller,
    Callee,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Caller, Self::Callee];

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
        }
    }

    /// The gateway's interface towards this end.
    pub(crate) fn gateway_interface(self) -> &'static str {
        match self {
            Self::Caller => "to-caller",
            Self::Callee => "to-callee",
        }
    }
}

/// One end of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: [u8; 6],
}

/// Calls whose ports fit one address; the next ones have addresses of their own.
pub(crate) const CALLS_PER_ADDRESS: usize = 20_000;

impl Port {
    /// The same interface by the address that call number `call` has there.
    pub(crate) fn of_call(self, call: usize) -> Self {
        /// Keeps the addresses of either end apart, which begin at 1 and 2.
        const BETWEEN: u32 = 10;
        let group = (call / CALLS_PER_ADDRESS) as u32;
        Self { address: Ipv4Addr::from(u32::from(self.address) + BETWEEN * group), ..self }
    }
}

/// The way from caller to callee by one relay; its lab goes when this is dropped.
pub(crate) struct Path<'a> {
    lab: Lab<'a>,
    endpoints: [Port; 2],
    gateway: [Port; 2],
}

impl<'a> Path<'a> {
    /// Makes the lab `prefix`, after removing what an interrupted run left of it.
    ///
    /// # Errors
    /// Not root, or the lab cannot be made.
    pub(crate) fn up(workspace: &'a Workspace, prefix: &str) -> Result<Self> {
        let lab = Lab { workspace, prefix: prefix.to_owned(), vlans: false };
        lab.remove()?;
        lab.make()?;
        let description = lab.describe()?;
        let endpoints = [
            port(&description, "caller", ENDPOINT_INTERFACE)?,
            port(&description, "callee", ENDPOINT_INTERFACE)?,
        ];
        let gateway = Side::BOTH.map(|side| port(&description, "gateway", side.gateway_interface()));
        let [to_caller, to_callee] = gateway;
        let path = Self { lab, endpoints, gateway: [to_caller?, to_callee?] };
        for side in Side::BOTH {
            path.remember_neighbour(side.name(), ENDPOINT_INTERFACE, path.gateway(side))?;
            path.remember_neighbour("gateway", side.gateway_interface(), path.endpoint(side))?;
        }
        Ok(path)
    }

    /// Where the relay is.
    pub(crate) fn gateway_namespace(&self) -> String {
        format!("{}-gateway", self.lab.prefix)
    }

    pub(crate) fn endpoint_namespace(&self, side: Side) -> String {
        format!("{}-{}", self.lab.prefix, side.name())
    }

    /// The gateway's end of the link to `side`.
    pub(crate) fn gateway(&self, side: Side) -> Port {
        self.gateway[side as usize]
    }

    /// The caller's or callee's end.
    pub(crate) fn endpoint(&self, side: Side) -> Port {
        self.endpoints[side as usize]
    }

    /// A program in the relay's namespace.
    pub(crate) fn on_gateway(&self, program: &str) -> Command {
        self.lab.on("gateway", program)
    }

    /// A permanent entry on `host` for what is behind one of its interfaces.
    pub(crate) fn remember_neighbour(&self, host: &str, interface: &str, neighbour: Port) -> Result<()> {
        let namespace = format!("{}-{host}", self.lab.prefix);
        let (address, mac) =
            (neighbour.address.to_string(), neighbour.mac.map(|octet| format!("{octet:02x}")).join(":"));
        let entry = ["neigh", "replace", &address, "lladdr", &mac, "dev", interface, "nud", "permanent"];
        ask(Command::new("ip").args(["-n", &namespace]).args(entry))?;
        Ok(())
    }
}

impl Drop for Path<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.lab.remove() {
            eprintln!("lab {} stays: {error:#}", self.lab.prefix);
        }
    }
}

/// MAC and IPv4 address of an interface in the description of a lab.
fn port(description: &Description, host: &str, interface: &str) -> Result<Port> {
    let missing = || format!("the lab has no interface {interface} with an IPv4 address on {host}");
    let host = description.hosts.iter().find(|candidate| candidate.name == host).with_context(missing)?;
    let interface =
        host.interfaces.iter().find(|candidate| candidate.name == interface).with_context(missing)?;
    let mut addresses = interface.addresses.iter().filter_map(|text| text.split('/').next()?.parse().ok());
    let octets: Vec<u8> =
        interface.mac.split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    let mac = octets.try_into().ok().with_context(missing)?;
    Ok(Port { address: addresses.next().with_context(missing)?, mac })
}
