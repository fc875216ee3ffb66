//! Causeway's relay in a lab: attached and programmed by the daemon's own loader, with the flows that the
//! daemon's own planner makes of a negotiated call.

use super::lab::{CALLS_PER_ADDRESS, Path, Side, enter};
use super::secured;
use super::traffic::{CallPorts, endpoint_port, port_from};
use anyhow::{Context, Result, bail, ensure};
use aya::maps::{HashMap, Map, MapData};
use aya::programs::Xdp;
use aya_obj::programs::XdpAttachType;
use gateway_common::abi::{Link, name};
use gateway_common::flow::Latch;
use gateway_common::verdict::Traffic;
use gateway_userspace::base::id::{CoreId, FlowId, Side as CallSide};
use gateway_userspace::dataplane::{Dataplane, Mode, Node, PathKind, Settings};
use gateway_userspace::media::plan::{FlowSpec, LegMedia, MediaPlan, PlanSettings, plan};
use gateway_userspace::media::policy::MediaPolicy;
use gateway_userspace::sdp::{Direction, Negotiated, NegotiatedFormat, Security};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

/// First media port of the gateway, on both sides; each call takes two, the odd one for RTCP.
pub(super) const RELAY_PORTS: u16 = 20_000;
/// Expedited forwarding (RFC 3246), as trunks usually ask for.
pub(super) const EXPEDITED_FORWARDING: u8 = 46;

/// [`Link`]: the interface to leave by, VLAN tags, the interface whose packets leave by XDP_TX.
type LinkWords = [u32; size_of::<Link>() / 4];

/// The attached program; detached when this is dropped.
#[derive(Debug)]
pub(super) struct Attached {
    /// Only `None` while this is dropped.
    node: Option<Node>,
    namespace: String,
    pins: PathBuf,
}

impl Attached {
    /// Attaches to both interfaces of the gateway, natively or not at all, for one worker.
    ///
    /// # Errors
    /// The loader's own, which name their fix.
    pub(super) fn boot(path: &Path<'_>) -> Result<(Self, Dataplane)> {
        let namespace = path.gateway_namespace();
        let pins = PathBuf::from(format!("/sys/fs/bpf/{namespace}"));
        // What a bench that was killed left pinned belongs to a lab that is gone; adopted, its flows would be in the way.
        if pins.exists() {
            fs::remove_dir_all(&pins)
                .with_context(|| format!("pins of an earlier run at {}", pins.display()))?;
        }
        let settings = Settings {
            mode: Mode::Native,
            pin_directory: pins.clone(),
            interfaces: Side::BOTH.map(|side| side.gateway_interface().to_owned()).to_vec(),
            ..Settings::default()
        };
        let (node, dataplane) = enter(&namespace, || {
            let node = Node::boot(&settings).context("Causeway's data plane")?;
            let dataplane = node.worker(CoreId(0), 1).context("Causeway's data plane")?;
            Ok((node, dataplane))
        })?;
        Ok((Self { node: Some(node), namespace, pins }, dataplane))
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    fn node(&self) -> Result<&Node> {
        self.node.as_ref().context("Causeway is detached")
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let node = self.node.take();
        let detached = enter(&self.namespace, || node.map_or(Ok(()), |node| node.detach().context("detach")));
        if let Err(error) = detached {
            eprintln!("Causeway's data plane stays pinned: {error:#}");
        }
    }
}

/// The attached program with its flows.
#[derive(Debug)]
pub(crate) struct Causeway {
    attached: Attached,
    dataplane: Dataplane,
}

impl Causeway {
    /// # Errors
    /// As [`Attached::boot`].
    pub(crate) fn start(path: &Path<'_>) -> Result<Self> {
        let (attached, dataplane) = Attached::boot(path)?;
        Ok(Self { attached, dataplane })
    }

    /// Installs the flows of call number `call`: RTP and RTCP in both directions.
    ///
    /// # Errors
    /// The flow table is full.
    pub(crate) fn call(&mut self, path: &Path<'_>, call: usize, with_srtp: bool) -> Result<CallPorts> {
        if call > 0 && call.is_multiple_of(CALLS_PER_ADDRESS) {
            for side in Side::BOTH {
                let endpoint = path.endpoint(side).of_call(call);
                path.remember_neighbour("gateway", side.gateway_interface(), endpoint)?;
            }
        }
        let (relay, endpoint) = (port_from(RELAY_PORTS, call), endpoint_port(call));
        let mut plan = flows(path, call, relay, endpoint);
        for flow in plan.flows.iter_mut().filter(|_| with_srtp) {
            match flow.from {
                CallSide::Caller => flow.protect = Some(secured::to_callee()?),
                CallSide::Callee => flow.unprotect = Some(secured::from_callee()?),
            }
        }
        self.install(&plan.flows)?;
        Ok(CallPorts { endpoint: [endpoint; 2], relay: [relay; 2] })
    }

    /// # Errors
    /// The flow table is full.
    pub(crate) fn install(&mut self, flows: &[FlowSpec]) -> Result<Vec<FlowId>> {
        let dataplane = &mut self.dataplane;
        enter(&self.attached.namespace, || dataplane.install(flows).context("flows of a call"))
    }

    pub(crate) fn remove(&mut self, flows: &[FlowId]) {
        self.dataplane.remove(flows);
    }

    /// The program that runs on the interfaces.
    ///
    /// # Errors
    /// It is not where the daemon pins it.
    pub(crate) fn program(&self) -> Result<Xdp> {
        let pin = self.attached.pins.join("program");
        Xdp::from_pin(&pin, XdpAttachType::Interface)
            .with_context(|| format!("program pinned at {}", pin.display()))
    }

    /// Lets packets leave by XDP_TX where they came in, as drivers other than that of veth do it. For test-run, whose
    /// packets reach no far end.
    ///
    /// # Errors
    /// The map of links is not where the daemon pins it.
    pub(crate) fn transmit(&self) -> Result<()> {
        let pin = self.attached.pins.join("maps").join(name::LINKS);
        let map = MapData::from_pin(&pin).with_context(|| format!("map pinned at {}", pin.display()))?;
        let mut links = HashMap::<_, u32, LinkWords>::try_from(Map::HashMap(map))?;
        let known = links.iter().collect::<Result<Vec<_>, _>>()?;
        for (interface, [ifindex, vlans, _]) in known {
            links.insert(interface, [ifindex, vlans, ifindex], 0)?;
        }
        Ok(())
    }

    /// The path in use, the same on both interfaces.
    ///
    /// # Errors
    /// They differ.
    pub(crate) fn datapath(&self) -> Result<&'static str> {
        let paths = self.attached.node()?.paths();
        let first = paths.first().context("Causeway is attached to no interface")?;
        ensure!(
            paths.iter().all(|other| other.path == first.path),
            "Causeway takes different paths: {paths:?}"
        );
        Ok(match first.path {
            PathKind::Native => "native",
            PathKind::Generic => "generic",
            PathKind::Sockets => "sockets",
            PathKind::None => bail!("an interface of the lab has lost its program"),
        })
    }

    /// Packets that the program relayed so far.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub(crate) fn relayed(&self) -> Result<u64> {
        let traffic = self.attached.node()?.traffic().context("Causeway's counters")?;
        Ok([Traffic::Redirected, Traffic::Transmitted].iter().filter_map(|kind| traffic.get(kind)).sum())
    }

    /// Packets that it refused so far, by reason.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub(crate) fn refused(&self) -> Result<String> {
        let drops = self.attached.node()?.drops().context("Causeway's counters")?;
        let drops: Vec<String> =
            drops.iter().map(|(reason, count)| format!("{} {count}", reason.label())).collect();
        Ok(if drops.is_empty() { "none".to_owned() } else { drops.join(", ") })
    }
}

/// What the daemon programs for a call that was answered with G.711 A-law and telephone-events, RTCP beside
/// RTP, between trunks that latch to the real source and mark their media.
pub(super) fn flows(path: &Path<'_>, call: usize, relay: u16, endpoint: u16) -> MediaPlan {
    let policy =
        MediaPolicy { latch: Latch::SameSsrc, dscp: Some(EXPEDITED_FORWARDING), ..MediaPolicy::default() };
    let leg = |side: Side| {
        let [local, remote] =
            [path.gateway(side), path.endpoint(side)].map(|port| port.of_call(call).address);
        Negotiated {
            local: SocketAddr::from((local, relay)),
            remote: Some(SocketAddr::from((remote, endpoint))),
            remote_rtcp: Some(SocketAddr::from((remote, endpoint + 1))),
            rtcp_mux: false,
            metrics: false,
            direction: Direction::SendReceive,
            ptime: Some(20),
            maxptime: None,
            formats: vec![format("PCMA/8000", 8), format("telephone-event/8000", 101)],
            security: Security::Plain,
            checks: None,
            fax: None,
        }
    };
    let (caller, callee) = (leg(Side::Caller), leg(Side::Callee));
    let media = |negotiated| LegMedia { negotiated, policy: &policy };
    plan(media(&caller), media(&callee), PlanSettings { continuity: true, rtcp_copy: true })
}

fn format(codec: &str, number: u8) -> NegotiatedFormat {
    NegotiatedFormat {
        codec: codec.parse().expect("the names of both codecs are constants that parse"),
        fmtp: None,
        from_peer: number,
        also_from_peer: None,
        to_peer: number,
    }
}
