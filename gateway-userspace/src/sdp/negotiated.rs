//! What holds after an answer: the two descriptions of a leg put together.

use super::capability::{counterpart, same_payload};
use super::crypto::{self, Crypto};
use super::fault::Refusal;
use super::fax::Fax;
use super::ice::{self, Checks, IceTerms};
use super::leg::Terms;
use super::model::{Audio, Direction, Format};
use crate::rtp::Codec;
use crate::srtp::MasterKey;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// Payload numbers that RTCP's packet types look like when both share a port (RFC 5761 section 4).
const RTCP_LOOKALIKES: RangeInclusive<u8> = 64..=95;

/// What a leg's peer and this gateway agreed on for the audio stream, or the fax in its place.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Negotiated {
    /// Where the peer sends RTP. RTCP goes to the port above, or to the same one with `rtcp_mux`.
    pub local: SocketAddr,
    /// Where the peer wants RTP. While it holds the call by an unspecified address, the last one that it named;
    /// `None` if it never named one.
    pub remote: Option<SocketAddr>,
    /// Where the peer wants RTCP; `None` if nowhere.
    pub remote_rtcp: Option<SocketAddr>,
    pub rtcp_mux: bool,
    /// In the peer's view: whether it sends and receives.
    pub direction: Direction,
    /// In the answerer's order of preference; at least one is speech. None of fax.
    pub formats: Vec<NegotiatedFormat>,
    /// The peer wants VoIP metrics of how it is heard (RFC 3611 section 5.1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metrics: bool,
    /// Milliseconds of audio that a packet to the peer should carry, as the peer asked.
    pub ptime: Option<u16>,
    /// Milliseconds of audio that a packet to the peer may carry.
    pub maxptime: Option<u16>,
    #[serde(default)]
    pub security: Security,
    /// Connectivity checks that vouch for where the peer is; `None` where the addresses above do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Box<Checks>>,
    /// What the peer says of fax over UDPTL, where that is what goes between us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fax: Option<Box<Fax>>,
}

/// What packets of a leg are protected with.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Security {
    #[default]
    Plain,
    /// Our offer speaks of SRTP, and the peer's key comes with its answer.
    Awaited,
    Srtp(Box<Keys>),
}

/// A key for each direction (RFC 4568 section 6.1: each side chooses the one that it sends with).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Keys {
    pub from_peer: MasterKey,
    pub to_peer: MasterKey,
}

impl Security {
    pub fn keyed(from_peer: MasterKey, to_peer: MasterKey) -> Self {
        Self::Srtp(Box::new(Keys { from_peer, to_peer }))
    }

    /// What packets from the peer are protected with.
    pub fn from_peer(&self) -> Option<&MasterKey> {
        self.keys().map(|keys| &keys.from_peer)
    }

    /// What packets to the peer are protected with.
    pub fn to_peer(&self) -> Option<&MasterKey> {
        self.keys().map(|keys| &keys.to_peer)
    }

    fn keys(&self) -> Option<&Keys> {
        match self {
            Self::Srtp(keys) => Some(keys),
            Self::Plain | Self::Awaited => None,
        }
    }
}

/// A format that both may use, with the numbers of either direction (RFC 3264 section 5.1 lets them differ).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NegotiatedFormat {
    pub codec: Codec,
    pub fmtp: Option<Box<str>>,
    /// The number in packets from the peer: that of our description.
    pub from_peer: u8,
    /// Another number that packets from the peer may carry: that of its own description. Answerers that choose
    /// numbers of their own often send by them too, against RFC 3264 section 6.1.
    pub also_from_peer: Option<u8>,
    /// The number in packets to the peer: that of its description.
    pub to_peer: u8,
}

impl Negotiated {
    /// The format that the peer is sent, and most likely sends: the answerer's first of speech.
    pub fn preferred(&self) -> Option<&NegotiatedFormat> {
        self.formats.iter().find(|format| format.codec.encoding.is_speech())
    }
}

impl NegotiatedFormat {
    /// Whether it is this format of a description, whatever the number.
    pub fn is_of(&self, format: &Format) -> bool {
        same_payload((&self.codec, self.fmtp.as_deref()), (&format.codec, format.fmtp.as_deref()))
    }

    /// Whether packets of this format can be relayed as packets of `other` without a codec.
    pub fn relays_as(&self, other: &Self) -> bool {
        same_payload((&self.codec, self.fmtp.as_deref()), (&other.codec, other.fmtp.as_deref()))
    }
}

/// Our answer to `offer` that carries what the other leg's peer agreed to; where `own` and `other`, the trunks' terms, let
/// audio go through a codec of ours, what the peer speaks if the other one prefers something else: a peer sends the
/// format that it names first.
pub(super) fn accept(
    local: SocketAddr,
    offer: &Audio,
    media: &Negotiated,
    crypto: Vec<Crypto>,
    (own, other): (&Terms, &Terms),
) -> Result<Audio, Refusal> {
    match (&offer.fax, &media.fax) {
        (None, None) => {}
        (Some(_), Some(theirs)) => return Ok(accept_fax(local, offer, media, theirs)),
        _ => return Err(Refusal::NothingInCommon),
    }
    let mut is_carried = false;
    let mut taken = Vec::with_capacity(media.formats.len());
    let mut formats = Vec::with_capacity(media.formats.len());
    for NegotiatedFormat { codec, fmtp, from_peer, .. } in &media.formats {
        let wanted = Format { payload_type: *from_peer, codec: codec.clone(), fmtp: fmtp.clone() };
        if let Some(position) = counterpart(&wanted, &offer.formats, &taken) {
            taken.push(position);
            is_carried |= media.preferred().is_some_and(|preferred| preferred.is_of(&wanted));
            formats.push(Format { payload_type: offer.formats[position].payload_type, ..wanted });
        }
    }
    let translated = !is_carried && own.transcodes(other);
    if translated {
        formats = own.answer(offer);
    }
    formats.extend(own.keys.accept(other.keys, &formats, &offer.formats));
    formats.extend(own.comfort_noise.accept(&formats, &offer.formats));
    if !speaks(formats.iter()) {
        return Err(Refusal::NothingInCommon);
    }
    Ok(Audio {
        address: local.ip(),
        port: local.port(),
        profile: offer.profile.answered(),
        direction: media.direction.with(offer.wishes()),
        rtcp: None,
        rtcp_mux: offer.rtcp_mux && may_share_port(&formats),
        metrics: media.metrics && own.voip_metrics,
        formats,
        // What packets to the other peer carry is made here, whatever comes.
        ptime: media.ptime.filter(|_| !translated),
        maxptime: media.maxptime.filter(|_| !translated),
        preconditions: offer.preconditions,
        crypto,
        ice: None,
        fax: None,
    })
}

/// The same of fax: what the other peer says of its end.
fn accept_fax(local: SocketAddr, offer: &Audio, media: &Negotiated, theirs: &Fax) -> Audio {
    Audio {
        address: local.ip(),
        port: local.port(),
        direction: media.direction.with(offer.wishes()),
        rtcp: None,
        crypto: Vec::new(),
        fax: Some(Box::new(theirs.clone())),
        ..offer.clone()
    }
}

/// Our answer that refuses the stream: port 0, formats as offered because a list may not be empty.
pub(super) fn refuse(local: SocketAddr, offer: &Audio) -> Audio {
    Audio {
        address: local.ip(),
        port: 0,
        direction: Direction::Inactive,
        rtcp: None,
        rtcp_mux: false,
        metrics: false,
        ptime: None,
        maxptime: None,
        preconditions: None,
        crypto: Vec::new(),
        ice: None,
        ..offer.clone()
    }
}

/// What holds after our answer to the peer's offer: both use the offer's numbers.
pub(super) fn agreed_by_offer(
    local: SocketAddr,
    offer: &Audio,
    answer: &Audio,
    before: Option<&Negotiated>,
    terms: IceTerms,
) -> Result<Negotiated, Refusal> {
    let format = |format: &Format| NegotiatedFormat {
        codec: format.codec.clone(),
        fmtp: format.fmtp.clone(),
        from_peer: format.payload_type,
        also_from_peer: None,
        to_peer: format.payload_type,
    };
    let formats = answer.formats.iter().map(format).collect();
    let direction = offer.wishes().with(answer.direction);
    let security = crypto::agreed(offer, answer, false)?;
    let checks = ice::checks(answer, offer, terms.unknown).map(Box::new);
    Ok(Negotiated {
        security,
        checks,
        ..negotiated(local, offer, answer.rtcp_mux, direction, formats, before)
    })
}

/// What holds after the peer's answer to our offer.
pub(super) fn agreed_by_answer(
    local: SocketAddr,
    offer: &Audio,
    answer: &Audio,
    before: Option<&Negotiated>,
    terms: IceTerms,
) -> Result<Negotiated, Refusal> {
    if offer.fax.is_some() != answer.fax.is_some() {
        return Err(Refusal::NothingInCommon);
    }
    let mut taken = Vec::with_capacity(answer.formats.len());
    let mut formats = Vec::with_capacity(answer.formats.len());
    let ours = |number: &u8| offer.formats.iter().any(|format| format.payload_type == *number);
    for format in &answer.formats {
        let Some(position) = counterpart(format, &offer.formats, &taken) else { continue };
        taken.push(position);
        formats.push(NegotiatedFormat {
            codec: format.codec.clone(),
            fmtp: format.fmtp.clone(),
            from_peer: offer.formats[position].payload_type,
            also_from_peer: Some(format.payload_type).filter(|number| !ours(number)),
            to_peer: format.payload_type,
        });
    }
    if answer.fax.is_none() && !formats.iter().any(|format| format.codec.encoding.is_speech()) {
        return Err(Refusal::NothingInCommon);
    }
    let rtcp_mux = offer.rtcp_mux && answer.rtcp_mux && may_share_port(&answer.formats);
    let direction = answer.wishes().with(offer.direction);
    let security = crypto::agreed(offer, answer, true)?;
    let checks = ice::checks(offer, answer, terms.unknown).map(Box::new);
    Ok(Negotiated { security, checks, ..negotiated(local, answer, rtcp_mux, direction, formats, before) })
}

fn negotiated(
    local: SocketAddr,
    peer: &Audio,
    rtcp_mux: bool,
    direction: Direction,
    formats: Vec<NegotiatedFormat>,
    before: Option<&Negotiated>,
) -> Negotiated {
    let held = before.filter(|_| peer.address.is_unspecified());
    // There is nothing beside UDPTL that would want a port of its own.
    let rtcp_mux = rtcp_mux || peer.fax.is_some();
    let remote = peer.rtp().or(held.and_then(|held| held.remote));
    let remote_rtcp = match rtcp_mux {
        true => remote,
        false => peer.rtcp().or(held.and_then(|held| held.remote_rtcp)),
    };
    let Audio { metrics, ptime, maxptime, .. } = *peer;
    Negotiated {
        local,
        remote,
        remote_rtcp,
        rtcp_mux,
        direction,
        formats,
        metrics,
        ptime,
        maxptime,
        security: Security::Plain,
        checks: None,
        fax: peer.fax.clone(),
    }
}

/// Whether RTCP can be told from packets of these formats on one port.
pub(super) fn may_share_port(formats: &[Format]) -> bool {
    formats.iter().all(|format| !RTCP_LOOKALIKES.contains(&format.payload_type))
}

/// Whether there is speech among them.
pub(super) fn speaks<'a>(mut formats: impl Iterator<Item = &'a Format>) -> bool {
    formats.any(|format| format.codec.encoding.is_speech())
}
