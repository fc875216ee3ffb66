//! What a trunk says about media.

use super::plan::{GateSpec, RateLimit};
use crate::rtp::Encoding;
use crate::sdp::{FaxTerms, IceTerms, KeyTerms, NoiseTerms, SecurityTerms, Terms, Transcoding};
use gateway_common::flow::Latch;
use ipnet::IpNet;
use std::net::SocketAddr;

/// A trunk's say about the media of its legs.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaPolicy {
    /// Whom the leg's flows hear.
    pub gate: GatePolicy,
    /// When the peer's real source may replace the signalled address.
    pub latch: Latch,
    /// Relay what a peer sends before its answer came, from wherever the gate lets it in, to the signalled address of
    /// the other side: an offerer has to be prepared for it (RFC 3264 section 5.1).
    pub hear_before_answer: bool,
    /// Differentiated services mark, 0 to 63, of packets sent to this trunk; `None` keeps the incoming mark.
    pub dscp: Option<u8>,
    /// Limit on packets that arrive from this trunk, for each flow.
    pub rate: Option<RateLimit>,
    /// Speech encodings that may pass, in the order in which its peers are offered them; `None` lets all pass as they
    /// come. Telephone-events and comfort noise always pass.
    pub codecs: Option<Vec<Encoding>>,
    /// When its peers may speak another codec than the other side of their call.
    pub transcoding: Transcoding,
    /// How keys travel between us and its peers.
    pub keys: KeyTransport,
    /// Milliseconds of audio in each packet to its peers, whatever the other side sends; `None` leaves it as it is.
    pub packet_ms: Option<u16>,
    /// Offer RTP and RTCP on one port (RFC 5761). An offer of it is accepted either way.
    pub offer_rtcp_mux: bool,
    /// Tell its peers where the other side wants VoIP metrics (RFC 3611 section 5.1).
    pub voip_metrics: bool,
    /// Whether media is secured, and by which suites.
    pub security: SecurityTerms,
    /// Whether connectivity checks say where peers are, in place of gate and latch.
    pub ice: IceTerms,
    /// Whether fax over UDPTL may take the place of audio.
    pub fax: FaxTerms,
    /// What becomes of comfort noise.
    pub comfort_noise: NoiseTerms,
    /// Media is relayed in userspace, though the kernel could.
    pub userspace: bool,
}

impl MediaPolicy {
    /// What it says about descriptions.
    pub fn terms(&self) -> Terms {
        Terms {
            codecs: self.codecs.clone(),
            transcoding: self.transcoding,
            offer_rtcp_mux: self.offer_rtcp_mux,
            voip_metrics: self.voip_metrics,
            security: self.security.clone(),
            ice: self.ice,
            fax: self.fax,
            comfort_noise: self.comfort_noise,
            keys: match self.keys {
                KeyTransport::AsNegotiated => KeyTerms::Pass,
                KeyTransport::Events => KeyTerms::Events,
                _ => KeyTerms::Otherwise,
            },
        }
    }
}

impl Default for MediaPolicy {
    /// Signalled addresses only, marks kept, no limit, all codecs.
    fn default() -> Self {
        Self {
            gate: GatePolicy::Signalled,
            latch: Latch::Signalled,
            hear_before_answer: true,
            dscp: None,
            rate: None,
            codecs: None,
            transcoding: Transcoding::default(),
            keys: KeyTransport::default(),
            packet_ms: None,
            offer_rtcp_mux: true,
            voip_metrics: true,
            security: SecurityTerms::default(),
            ice: IceTerms::default(),
            fax: FaxTerms::default(),
            comfort_noise: NoiseTerms::default(),
            userspace: false,
        }
    }
}

/// How keys of a telephone travel between us and the peers of a trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyTransport {
    /// As their descriptions say: as events where both sides have those. Nothing is converted for it.
    #[default]
    AsNegotiated,
    /// As telephone-events (RFC 4733); as tones with peers that have none.
    Events,
    /// As tones in the audio.
    InBand,
    /// In INFO requests with `application/dtmf-relay`.
    InfoRelay,
    /// In INFO requests with `application/dtmf`.
    Info,
    /// In NOTIFY requests with `audio/telephone-event`.
    Notify,
}

impl KeyTransport {
    /// Whether keys stay out of the media.
    pub fn is_signalling(self) -> bool {
        matches!(self, Self::InfoRelay | Self::Info | Self::Notify)
    }
}

/// Whom a leg's flows hear, before the signalled address is known.
#[derive(Clone, Debug, PartialEq)]
pub enum GatePolicy {
    /// The signalled address and port only.
    Signalled,
    /// Any port of the network of this prefix length around the signalled address: 32 and 128 for the host alone.
    Around { ipv4_prefix: u8, ipv6_prefix: u8 },
    /// Any port of the network that the signalled address lies in; of the first one where it lies in none: peers
    /// behind NAT signal a private address.
    Networks(Box<[IpNet]>),
    /// Everybody.
    Any,
}

impl GatePolicy {
    /// The gate of a flow whose peer signalled `remote`.
    pub fn around(&self, remote: SocketAddr) -> GateSpec {
        match self {
            Self::Signalled => GateSpec::Exact(remote),
            Self::Around { ipv4_prefix, ipv6_prefix } => {
                let prefix = if remote.is_ipv4() { *ipv4_prefix } else { *ipv6_prefix };
                // A prefix beyond the family's width is the host alone.
                GateSpec::Subnet(
                    IpNet::new(remote.ip(), prefix).map_or(remote.ip().into(), |net| net.trunc()),
                )
            }
            Self::Networks(networks) => {
                let around = networks.iter().find(|network| network.contains(&remote.ip()));
                around
                    .or(networks.first())
                    .map_or(GateSpec::Exact(remote), |network| GateSpec::Subnet(*network))
            }
            Self::Any => GateSpec::Any,
        }
    }

    /// The gate of a flow whose peer has not signalled an address yet.
    pub fn before_answer(&self) -> GateSpec {
        match self {
            Self::Networks(networks) => around_all(networks).map_or(GateSpec::Any, GateSpec::Subnet),
            Self::Signalled | Self::Around { .. } | Self::Any => GateSpec::Any,
        }
    }
}

/// The smallest network that holds all of these; `None` if they are of two address families.
fn around_all(networks: &[IpNet]) -> Option<IpNet> {
    let mut around = networks.first()?.trunc();
    while !networks.iter().all(|network| around.contains(network)) {
        around = around.supernet()?;
    }
    Some(around)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_around_the_signalled_address_follows_its_family() {
        let gate = GatePolicy::Around { ipv4_prefix: 24, ipv6_prefix: 64 };
        let v4 = gate.around("192.0.2.77:4000".parse().unwrap());
        assert_eq!(v4, GateSpec::Subnet("192.0.2.0/24".parse().unwrap()));
        let v6 = gate.around("[2001:db8::77]:4000".parse().unwrap());
        assert_eq!(v6, GateSpec::Subnet("2001:db8::/64".parse().unwrap()));
    }

    #[test]
    fn of_several_networks_the_one_around_the_signalled_address_is_heard() {
        let networks = ["192.0.2.0/24", "198.51.100.0/24"].map(|network| network.parse().unwrap());
        let gate = GatePolicy::Networks(networks.into());
        let heard = |remote: &str| gate.around(remote.parse().unwrap());
        assert_eq!(heard("198.51.100.9:4000"), GateSpec::Subnet(networks[1]));
        assert_eq!(heard("10.0.0.9:4000"), GateSpec::Subnet(networks[0]));
        assert_eq!(gate.before_answer(), GateSpec::Subnet("192.0.0.0/5".parse().unwrap()));
        let both = ["192.0.2.0/24", "2001:db8::/32"].map(|network| network.parse().unwrap());
        assert_eq!(GatePolicy::Networks(both.into()).before_answer(), GateSpec::Any);
    }
}
