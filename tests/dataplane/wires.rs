//! A gateway between a caller and a callee, each in a namespace of its own, with real packets on the wires.

use anyhow::{Context, Result, ensure};
use gateway_userspace::dataplane::{Mode, Settings};
use gateway_userspace::media::plan::{FlowSpec, OutputSpec};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;
use support::namespace::{Namespace, ip, run, without_ipv6};
use support::wire::Rtp;

/// Long enough for a packet that comes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// For a packet that does not come.
const IMPATIENCE: Duration = Duration::from_millis(300);

pub const CALLER: &str = "192.0.2.10:4000";
pub const CALLEE: &str = "198.51.100.9:5000";
pub const NEAR: &str = "192.0.2.1:30000";
pub const FAR: &str = "198.51.100.1:40000";

pub struct Wires {
    pub caller: Namespace,
    pub callee: Namespace,
    _gateway: Namespace,
    name: String,
}

impl Wires {
    /// Moves the calling thread into the gateway's new namespace. `name` keeps pin directories apart.
    pub fn new(name: &str) -> Result<Self> {
        let (gateway, caller, callee) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        gateway.enter()?;
        let wires = Self { caller, callee, _gateway: gateway, name: name.to_owned() };
        connect(["lan", "lan-far"], ["192.0.2.1/24", "192.0.2.10/24"], &wires.caller)?;
        wires.connect_callee()?;
        Ok(wires)
    }

    /// The wire `wan` to the callee.
    pub fn connect_callee(&self) -> Result<()> {
        connect(["wan", "wan-far"], ["198.51.100.1/24", "198.51.100.9/24"], &self.callee)
    }

    pub fn settings(&self) -> Settings {
        Settings {
            mode: Mode::Auto,
            flows: 64,
            secured_flows: 64,
            socket_frames: 64,
            pin_directory: PathBuf::from(format!(
                "/sys/fs/bpf/causeway-test-{}-{}",
                self.name,
                std::process::id()
            )),
            interfaces: vec!["lan".to_owned(), "wan".to_owned()],
            traced: false,
        }
    }

    /// Sockets of caller and callee.
    pub fn phones(&self) -> Result<(Phone, Phone)> {
        Ok((Phone::new(&self.caller, CALLER, NEAR)?, Phone::new(&self.callee, CALLEE, FAR)?))
    }

    /// Waits until the gateway knows the link address of `far_end`.
    pub fn resolved(&self, far_end: &str) -> Result<()> {
        for _ in 0..100 {
            let output = Command::new("ip").args(["neigh", "show", far_end]).output()?;
            if String::from_utf8_lossy(&output.stdout).contains("lladdr") {
                return Ok(());
            }
            thread::sleep(PATIENCE / 100);
        }
        anyhow::bail!("nobody resolved {far_end}")
    }
}

/// A wire from the gateway, whose namespace the thread is in, to `namespace`.
fn connect(
    [near, far]: [&str; 2],
    [near_address, far_address]: [&str; 2],
    namespace: &Namespace,
) -> Result<()> {
    ip(&format!("link add {near} type veth peer name {far}"))?;
    ip(&format!("addr add {near_address} dev {near}"))?;
    ip(&format!("link set {near} up"))?;
    namespace.take(far)?;
    namespace.inside(|| {
        without_ipv6()?;
        ip(&format!("addr add {far_address} dev {far}"))?;
        ip(&format!("link set {far} up"))?;
        // A veth takes redirected packets only when its other end polls, and leaves checksums to hardware that is
        // not there.
        run("ethtool", &["-K", far, "gro", "on", "tx", "off"])
    })
}

/// One end of a call.
pub struct Phone {
    socket: UdpSocket,
    gateway: String,
    sequence: u16,
}

impl Phone {
    pub fn new(namespace: &Namespace, at: &str, gateway: &str) -> Result<Self> {
        let socket = namespace.inside(|| UdpSocket::bind(at).with_context(|| format!("bind {at}")))?;
        Ok(Self { socket, gateway: gateway.to_owned(), sequence: 1 })
    }

    pub fn say(&mut self) -> Result<Vec<u8>> {
        let packet = Rtp { sequence: self.sequence, ..Rtp::default() }.octets();
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send_to(&packet, &self.gateway)?;
        Ok(packet)
    }

    /// Sends what is no packet of its stream.
    pub fn send(&self, octets: &[u8]) -> Result<()> {
        self.socket.send_to(octets, &self.gateway)?;
        Ok(())
    }

    pub fn hears(&self, packet: &[u8], from: &str) -> Result<()> {
        let mut buffer = [0; 2048];
        self.socket.set_read_timeout(Some(PATIENCE))?;
        let (length, source) = self.socket.recv_from(&mut buffer).context("nothing came")?;
        ensure!(source.to_string() == from, "a packet came from {source}, expected {from}");
        ensure!(&buffer[..length] == packet, "another packet came");
        Ok(())
    }

    /// The next packet, whoever sent it.
    pub fn next(&self) -> Result<Vec<u8>> {
        let mut buffer = [0; 2048];
        self.socket.set_read_timeout(Some(PATIENCE))?;
        let (length, _) = self.socket.recv_from(&mut buffer).context("nothing came")?;
        Ok(buffer[..length].to_vec())
    }

    pub fn hears_nothing(&self) -> Result<()> {
        self.socket.set_read_timeout(Some(IMPATIENCE))?;
        let mut buffer = [0; 2048];
        match self.socket.recv_from(&mut buffer) {
            Ok((length, source)) => anyhow::bail!("{length} octets came from {source}"),
            Err(_) => Ok(()),
        }
    }
}

/// Both say `count` packets, in turn; none may be lost.
pub fn talk(caller: &mut Phone, callee: &mut Phone, count: usize) -> Result<()> {
    for index in 0..count {
        let packet = caller.say()?;
        callee.hears(&packet, FAR).with_context(|| format!("packet {index} of the caller"))?;
        let packet = callee.say()?;
        caller.hears(&packet, NEAR).with_context(|| format!("packet {index} of the callee"))?;
    }
    Ok(())
}

/// The flows of a call between [`CALLER`] and [`CALLEE`]; each learns where the other's far end really is.
pub fn plan() -> Vec<FlowSpec> {
    let learns = |mut flow: FlowSpec, from: usize| {
        let output = flow.rtp.map(|output| OutputSpec { learned_from: Some(from), ..output });
        (flow.rtp, flow.rtcp) = (output, output);
        flow.latch = gateway_common::flow::Latch::SameSsrc;
        flow
    };
    vec![learns(crate::row::flow(NEAR, FAR, CALLEE), 1), learns(crate::row::flow(FAR, NEAR, CALLER), 0)]
}
