//! ICE in session descriptions (RFC 8839): what a peer says, and what a lite agent says of itself.

use super::model::Audio;
use super::negotiated::Negotiated;
use crate::ice::{Credentials, Mint, Peer, UnknownAttributes};
use sdp_types::Attribute;
use std::net::{IpAddr, SocketAddr};

/// Most candidates that are read of one stream.
const CANDIDATES_MAX: usize = 64;

/// RFC 8445 section 5.1.2.1 for a host candidate that is the only one; its component is taken off.
const HOST_PRIORITY: u32 = (126 << 24) + (65_535 << 8) + 256;

/// What a trunk says about ICE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IceTerms {
    /// Our descriptions name a candidate, and checks toward it are answered.
    pub is_lite: bool,
    #[serde(default)]
    pub unknown: UnknownAttributes,
}

/// What a description says about ICE of its audio stream.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ice {
    pub is_lite: bool,
    pub credentials: Credentials,
    /// Of UDP and with a numeric address; others are no choice for us.
    pub candidates: Vec<Candidate>,
}

/// One `a=candidate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Candidate {
    /// 1 for RTP, 2 for RTCP.
    pub component: u16,
    pub at: SocketAddr,
}

/// What an agreement says about checks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Checks {
    /// What checks toward us prove.
    pub local: Credentials,
    /// Who sends them; `None` as long as our offer has no answer.
    pub peer: Option<Peer>,
    pub unknown: UnknownAttributes,
}

impl Ice {
    /// What the attributes of a session and of its stream say. `None` where they say nothing usable, or that ICE broke on
    /// its way (RFC 8839 section 5.2.2): the session goes on without.
    pub(super) fn parse(session: &[Attribute], stream: &[Attribute]) -> Option<Self> {
        let value = |name: &str| {
            let of = |attributes: &'_ [Attribute]| {
                let found = attributes.iter().find(|attribute| attribute.attribute == name);
                found.and_then(|attribute| attribute.value.clone())
            };
            of(stream).or_else(|| of(session))
        };
        let has = |name: &str| session.iter().chain(stream).any(|attribute| attribute.attribute == name);
        let credentials = Credentials {
            ufrag: value("ice-ufrag")?.trim().parse().ok()?,
            password: value("ice-pwd")?.trim().parse().ok()?,
        };
        let candidates = stream
            .iter()
            .filter(|attribute| attribute.attribute == "candidate")
            .take(CANDIDATES_MAX)
            .filter_map(|attribute| Candidate::parse(attribute.value.as_deref()?))
            .collect();
        (!has("ice-mismatch")).then(|| Self { is_lite: has("ice-lite"), credentials, candidates })
    }

    /// Our own, toward checks of `credentials` at `local`: one candidate for each port.
    pub(super) fn own(credentials: Credentials, local: SocketAddr, rtcp_mux: bool) -> Self {
        let rtp = Candidate { component: 1, at: local };
        // A local RTP port is even, so the port above it exists.
        let rtcp = Candidate { component: 2, at: SocketAddr::new(local.ip(), local.port() | 1) };
        let candidates = if rtcp_mux { vec![rtp] } else { vec![rtp, rtcp] };
        Self { is_lite: true, credentials, candidates }
    }

    /// Attributes of the stream, in order. That we are lite stands with the session.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&'static str, String)> {
        let credentials = [
            ("ice-ufrag", self.credentials.ufrag.to_string()),
            ("ice-pwd", self.credentials.password.reveal().to_owned()),
        ];
        credentials
            .into_iter()
            .chain(self.candidates.iter().map(|candidate| ("candidate", candidate.print())))
    }

    /// Whether media would go, without ICE, where no candidate is: somebody between has changed addresses and left ICE
    /// alone, so that nothing it says can be used (RFC 8839 section 4.2.5).
    fn is_mismatched(&self, audio: &Audio) -> bool {
        let is_candidate =
            |default: SocketAddr| self.candidates.iter().any(|candidate| candidate.at == default);
        !self.candidates.is_empty() && audio.rtp().is_some_and(|default| !is_candidate(default))
    }

    /// As an agent knows its far end.
    fn peer(&self) -> Peer {
        let candidates = self.candidates.iter().map(|candidate| candidate.at).collect();
        Peer { ufrag: self.credentials.ufrag.clone(), candidates }
    }
}

impl Candidate {
    /// `foundation component transport priority address port typ type …` (RFC 8839 section 5.1).
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let component = words.nth(1)?.parse().ok()?;
        let is_udp = words.next()?.eq_ignore_ascii_case("udp");
        let address: IpAddr = words.nth(1)?.parse().ok()?;
        let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
        let usable = is_udp && !address.is_multicast() && !address.is_unspecified();
        usable.then(|| Self { component, at: SocketAddr::new(address.to_canonical(), port) })
    }

    fn print(&self) -> String {
        let Self { component, at } = self;
        let priority = HOST_PRIORITY - u32::from(*component);
        format!("1 {component} UDP {priority} {} {} typ host", at.ip(), at.port())
    }
}

/// What the two descriptions of one exchange, `ours` and `theirs`, agree on; `None` where media goes without checks: one
/// of them says nothing of ICE or nothing that holds, or both are lite and nobody would send any (RFC 8445 section 6.1.1).
pub(super) fn checks(ours: &Audio, theirs: &Audio, unknown: UnknownAttributes) -> Option<Checks> {
    let (own, other) = (ours.ice.as_ref()?, theirs.ice.as_ref()?);
    let checked = !other.is_lite && !other.is_mismatched(theirs);
    checked.then(|| Checks { local: own.credentials.clone(), peer: Some(other.peer()), unknown })
}

/// What our answer to `offer` says of ICE; `None` for nothing. A peer that offers another user name fragment than the
/// one that held has restarted, and finds us restarted too: once for each offer, however often it is answered
/// (RFC 8839 section 4.4.3).
pub(super) fn answering(
    mint: &mut Mint,
    offer: &Audio,
    held: Option<&Negotiated>,
    (local, rtcp_mux): (SocketAddr, bool),
) -> Option<Ice> {
    let theirs = offer.ice.as_ref().filter(|theirs| !theirs.is_mismatched(offer))?;
    if let Some(Checks { local: used, peer: Some(peer), .. }) = held.and_then(|held| held.checks.as_deref())
        && peer.ufrag != theirs.credentials.ufrag
        && *used == mint.credentials()
    {
        mint.restart();
    }
    Some(Ice::own(mint.credentials(), local, rtcp_mux))
}
