//! Why a session description cannot be read, and why an offer or answer cannot be relayed.

use super::offer_answer::{Event, State};
use crate::base::fault::Fault;
use std::net::IpAddr;

/// A body that is no session description, or describes nothing that this gateway carries.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpFault {
    #[error("the session description has {0} octets, {max} are the most", max = super::parse::BODY_MAX)]
    TooLarge(usize),
    #[error("line {0} of the session description is longer than {max} octets", max = super::parse::LINE_MAX)]
    LineTooLong(usize),
    #[error("the session description has more than {0} lines")]
    TooManyLines(usize),
    #[error("the session description breaks its grammar: {0}")]
    Grammar(#[from] sdp_types::ParserError),
    #[error("the format list of the audio stream is no list of payload numbers: {0:?}")]
    FormatList(String),
    #[error("no stream is audio")]
    NoAudio,
    #[error("the audio stream's profile {0:?} is none that this gateway carries")]
    Profile(String),
    #[error("the audio stream has no connection address")]
    NoAddress,
    #[error("the audio stream's address {0:?} is not one numeric unicast address")]
    Address(String),
    #[error("the audio stream spreads over {0} port pairs")]
    PortCount(u16),
}

impl SdpFault {
    pub fn fault(&self) -> Fault {
        match self {
            Self::TooLarge(_) | Self::LineTooLong(_) | Self::TooManyLines(_) => Fault::MalformedSdp,
            Self::Grammar(_) | Self::FormatList(_) | Self::NoAddress => Fault::MalformedSdp,
            Self::NoAudio | Self::Profile(_) | Self::Address(_) | Self::PortCount(_) => {
                Fault::NotAcceptableHere
            }
        }
    }
}

/// An offer or answer that a leg does not take, or cannot relay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Offers that cross, an answer without an offer: RFC 3264 section 4, RFC 6337 section 2.
    #[error("{event:?} cannot come in state {state:?}")]
    Illegal { state: State, event: Event },
    #[error("no speech codec that the other side offered and both trunks allow")]
    NothingInCommon,
    #[error("the trunk carries no fax over UDPTL")]
    NoFax,
    #[error("the first offer of a session refuses its own audio stream")]
    NeverEnabled,
    #[error("the audio stream moved from line {before} to line {now} of the media lines")]
    StreamMoved { before: usize, now: usize },
    #[error("the peer's media address {peer} is not of the family of ours, {ours}")]
    AddressFamily { ours: IpAddr, peer: IpAddr },
    #[error("the final response brought no answer to our offer, nor did a provisional one")]
    NoAnswer,
    #[error("more formats than there are payload numbers")]
    NumbersExhausted,
    #[error("the trunk requires SRTP, and the peer speaks plain RTP or none of the trunk's suites")]
    NotSecured,
    #[error("the trunk carries plain RTP only, and the peer speaks SRTP only")]
    Secured,
    /// Our own call asked to relay what the other leg does not have.
    #[error("the other leg has nothing to relay")]
    NothingToRelay,
}

impl Refusal {
    pub fn fault(&self) -> Fault {
        match self {
            Self::Illegal { event: Event::ReceiveOffer | Event::SendOffer, .. } => Fault::RequestPending,
            Self::Illegal { event: Event::ReceivePreview | Event::ReceiveAnswer, .. } => {
                Fault::NotAcceptableHere
            }
            Self::NotSecured => Fault::MediaNotSecured,
            Self::Secured => Fault::NotAcceptableHere,
            Self::Illegal { .. } | Self::NothingToRelay => Fault::Internal,
            Self::NothingInCommon | Self::NoFax | Self::NeverEnabled | Self::StreamMoved { .. } => {
                Fault::NotAcceptableHere
            }
            Self::AddressFamily { .. } | Self::NumbersExhausted | Self::NoAnswer => Fault::NotAcceptableHere,
        }
    }
}
