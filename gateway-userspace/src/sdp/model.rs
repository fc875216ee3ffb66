//! A session description, as far as an audio call through a gateway needs it.

use super::crypto::Crypto;
use super::fax::Fax;
use super::ice::Ice;
use super::precondition::Preconditions;
use crate::rtp::Codec;
use std::net::{IpAddr, SocketAddr};

/// A description with one stream that this gateway can carry, audio or the fax that took its place, and whatever streams
/// stand around it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Description {
    pub origin: Origin,
    /// Streams in front of the audio stream, in order: refused with port 0 in an answer.
    pub before: Vec<OtherStream>,
    pub audio: Audio,
    /// Streams after the audio stream, in order.
    pub after: Vec<OtherStream>,
    /// The same description with another audio stream in the middle, secured where this one is plain or the other way
    /// round: a peer that leaves the choice to us offers both.
    #[serde(skip)]
    pub otherwise: Option<Box<Description>>,
}

/// The `o=` line, without its user name, which nobody needs and which may name a person.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// A numeric string of any length.
    pub session_id: String,
    pub version: u64,
    /// An address, or a host name.
    pub address: String,
}

/// A stream that this gateway does not carry: what an `m=` line that refuses it has to repeat.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OtherStream {
    pub media: String,
    pub profile: String,
    /// The format list, as it was written.
    pub formats: String,
}

/// An audio stream over RTP, or fax in its place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Audio {
    /// Unspecified (`0.0.0.0`, `::`) in the hold of RFC 2543: see [`Audio::wishes`].
    pub address: IpAddr,
    /// 0 refuses or ends the stream (RFC 3264 sections 6 and 8.2).
    pub port: u16,
    pub profile: Profile,
    /// In order of preference, payload numbers unique. None of fax.
    pub formats: Vec<Format>,
    pub direction: Direction,
    /// Where RTCP goes if not to the port above RTP (RFC 3605).
    pub rtcp: Option<RtcpPort>,
    /// RTP and RTCP on one port (RFC 5761).
    pub rtcp_mux: bool,
    /// VoIP metrics are wanted of who hears this end (RFC 3611 section 5.1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metrics: bool,
    /// Milliseconds of audio that one packet should carry.
    pub ptime: Option<u16>,
    /// Milliseconds of audio that one packet may carry.
    pub maxptime: Option<u16>,
    /// In a peer's description what it waits for, in ours what we know of that.
    #[serde(default)]
    pub preconditions: Option<Preconditions>,
    /// The lines of `a=crypto` that can be used, in order.
    #[serde(default)]
    pub crypto: Vec<Crypto>,
    /// Connectivity checks (RFC 8839).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice: Option<Box<Ice>>,
    /// Of a stream over [`Profile::Udptl`], and of no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fax: Option<Box<Fax>>,
}

impl Audio {
    /// What the peer wants of the stream, the hold of RFC 2543 included: an unspecified address asks to send
    /// nothing there (RFC 3264 section 8.4).
    pub fn wishes(&self) -> Direction {
        let addressed = !self.address.is_unspecified();
        Direction::of(self.direction.sends(), self.direction.receives() && addressed)
    }

    /// Where RTP goes; `None` if the address is unspecified or the port 0.
    pub fn rtp(&self) -> Option<SocketAddr> {
        (!self.address.is_unspecified() && self.port != 0).then(|| SocketAddr::new(self.address, self.port))
    }

    /// Where RTCP goes without rtcp-mux: as `a=rtcp` says, else the port above RTP (RFC 3550 section 11).
    pub fn rtcp(&self) -> Option<SocketAddr> {
        let rtp = self.rtp()?;
        match self.rtcp {
            Some(RtcpPort { port: 0, .. }) => None,
            Some(RtcpPort { port, address }) => Some(SocketAddr::new(address.unwrap_or(rtp.ip()), port)),
            None => rtp.port().checked_add(1).map(|port| SocketAddr::new(rtp.ip(), port)),
        }
    }
}

/// The `a=rtcp` attribute (RFC 3605).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RtcpPort {
    pub port: u16,
    pub address: Option<IpAddr>,
}

/// RTP profiles that this gateway carries, and what fax goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Profile {
    /// RTP/AVP (RFC 3551).
    Avp,
    /// RTP/AVPF (RFC 4585).
    Avpf,
    /// RTP/SAVP (RFC 3711).
    Savp,
    /// RTP/SAVPF (RFC 5124).
    Savpf,
    /// UDP/TLS/RTP/SAVP (RFC 5764), for its `a=crypto` lines: peers write it that leave the choice between those and
    /// DTLS to us.
    TlsSavp,
    /// UDP/TLS/RTP/SAVPF.
    TlsSavpf,
    /// UDPTL of T.38.
    Udptl,
}

impl Profile {
    /// Those of audio.
    const ALL: [Self; 6] = [Self::Avp, Self::Avpf, Self::Savp, Self::Savpf, Self::TlsSavp, Self::TlsSavpf];

    pub fn name(self) -> &'static str {
        match self {
            Self::Avp => "RTP/AVP",
            Self::Avpf => "RTP/AVPF",
            Self::Savp => "RTP/SAVP",
            Self::Savpf => "RTP/SAVPF",
            Self::TlsSavp => "UDP/TLS/RTP/SAVP",
            Self::TlsSavpf => "UDP/TLS/RTP/SAVPF",
            Self::Udptl => "udptl",
        }
    }

    /// The RTP profile of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name().eq_ignore_ascii_case(name))
    }

    pub const fn is_secure(self) -> bool {
        !matches!(self, Self::Avp | Self::Avpf | Self::Udptl)
    }

    /// Whether RTCP feedback goes with it (RFC 4585).
    pub const fn has_feedback(self) -> bool {
        matches!(self, Self::Avpf | Self::Savpf | Self::TlsSavpf)
    }

    /// What we say ourselves: never that keys come by DTLS.
    pub const fn of(is_secure: bool, has_feedback: bool) -> Self {
        match (is_secure, has_feedback) {
            (false, false) => Self::Avp,
            (false, true) => Self::Avpf,
            (true, false) => Self::Savp,
            (true, true) => Self::Savpf,
        }
    }

    /// What we answer to it: an offer of DTLS beside keys is answered by the keys.
    pub const fn answered(self) -> Self {
        match self {
            Self::Udptl => Self::Udptl,
            of_rtp => Self::of(of_rtp.is_secure(), of_rtp.has_feedback()),
        }
    }
}

/// One entry of the format list with its `a=rtpmap` and `a=fmtp`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Format {
    /// 0 to 127.
    pub payload_type: u8,
    pub codec: Codec,
    /// The parameters of `a=fmtp`, as they were written.
    pub fmtp: Option<Box<str>>,
}

/// Who sends, from the view of the side whose description it is (RFC 3264 section 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    #[default]
    SendReceive,
    SendOnly,
    ReceiveOnly,
    Inactive,
}

impl Direction {
    pub const fn of(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendReceive,
            (true, false) => Self::SendOnly,
            (false, true) => Self::ReceiveOnly,
            (false, false) => Self::Inactive,
        }
    }

    pub const fn sends(self) -> bool {
        matches!(self, Self::SendReceive | Self::SendOnly)
    }

    pub const fn receives(self) -> bool {
        matches!(self, Self::SendReceive | Self::ReceiveOnly)
    }

    /// The same, from the other side's view.
    pub const fn reversed(self) -> Self {
        Self::of(self.receives(), self.sends())
    }

    /// What is left of this when the other side, in its own view, wants `other` (RFC 3264 section 6.1): nobody
    /// sends what is not to be received.
    pub const fn with(self, other: Self) -> Self {
        Self::of(self.sends() && other.receives(), self.receives() && other.sends())
    }

    /// Name of the attribute.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendReceive => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::ReceiveOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Self::SendReceive, Self::SendOnly, Self::ReceiveOnly, Self::Inactive]
            .into_iter()
            .find(|direction| direction.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Direction; 4] =
        [Direction::SendReceive, Direction::SendOnly, Direction::ReceiveOnly, Direction::Inactive];

    #[test]
    fn what_two_sides_agree_on_looks_the_same_from_both() {
        for ours in ALL {
            for theirs in ALL {
                assert_eq!(ours.with(theirs), theirs.with(ours).reversed());
            }
            assert_eq!(ours.with(Direction::SendReceive), ours);
            assert_eq!(ours.with(Direction::Inactive), Direction::Inactive);
            assert_eq!(Direction::named(ours.name()), Some(ours));
        }
    }
}
