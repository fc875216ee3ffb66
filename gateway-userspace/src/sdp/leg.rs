//! One side's part in offer and answer: what its peer said, what we said, and what holds.
//!
//! The call drives two legs. What a peer offers goes to [`Leg::receive_offer`] of its leg and out through
//! [`Leg::relay_offer`] of the other; the answer comes back by [`Leg::receive_answer`] and
//! [`Leg::relay_answer`]. It is the same whether the offer came in an INVITE, in a 200 to one without a body,
//! or in a re-INVITE from either side. A refusal changes nothing. Forked dialogs of one INVITE each get a clone
//! of the leg that offered.

mod terminated;

use super::comfort_noise::NoiseTerms;
use super::crypto::{Crypto, MediaSecurity, Said, SecurityTerms, lines};
use super::events::KeyTerms;
use super::fault::Refusal;
use super::fax::{self, Fax, FaxTerms};
use super::ice::{self, Checks, Ice, IceTerms};
use super::model::{Audio, Description, Direction, Format, Origin, OtherStream, Profile};
use super::negotiated::{
    Negotiated, Security, accept, agreed_by_answer, agreed_by_offer, may_share_port, refuse, speaks,
};
use super::numbering::Numbering;
use super::offer_answer::{Event, OfferAnswer, State};
use super::precondition::Preconditions;
use super::print::print;
use super::transcoding::Transcoding;
use crate::base::machine::{Machine, Step};
use crate::base::token::Tokens;
use crate::ice::Mint;
use crate::rtp::Encoding;
use crate::srtp::MasterKey;
use std::net::SocketAddr;

/// What a trunk says about the descriptions of its legs.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Terms {
    /// Speech encodings that may pass, in the order in which they are offered; `None` lets all pass as they come.
    /// Telephone-events and comfort noise always pass.
    pub codecs: Option<Vec<Encoding>>,
    #[serde(default)]
    pub transcoding: Transcoding,
    /// Offer RTP and RTCP on one port (RFC 5761). An offer of it is accepted either way.
    pub offer_rtcp_mux: bool,
    /// Descriptions say so where the other side wants VoIP metrics (`a=rtcp-xr`, RFC 3611 section 5.1).
    #[serde(default)]
    pub voip_metrics: bool,
    #[serde(default)]
    pub security: SecurityTerms,
    #[serde(default)]
    pub ice: IceTerms,
    #[serde(default)]
    pub fax: FaxTerms,
    #[serde(default)]
    pub comfort_noise: NoiseTerms,
    #[serde(default)]
    pub keys: KeyTerms,
}

impl Terms {
    /// Without the encodings that telephone networks do not have, and with none that the trunk does not name.
    fn slimmed(&self) -> Self {
        let transcoding = if self.codecs.is_some() { self.transcoding } else { Transcoding::Never };
        let of_networks = self.codecs.clone().unwrap_or_else(|| Encoding::OF_NETWORKS.to_vec());
        let codecs = of_networks.into_iter().filter(|encoding| Encoding::OF_NETWORKS.contains(encoding));
        Self { codecs: Some(codecs.collect()), transcoding, ..self.clone() }
    }

    pub(super) fn allow(&self, format: &Format) -> bool {
        let encoding = &format.codec.encoding;
        // Redundancy (RFC 2198) carries payload numbers inside its packets, which a relay does not translate.
        *encoding != Encoding::Red
            && (!encoding.is_speech()
                || self.codecs.as_ref().is_none_or(|allowed| allowed.contains(encoding)))
    }
}

/// Whether an answer may still be followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// In an unreliable provisional response: early media flows by it, and the final response repeats it.
    Preview,
    /// In a final response, a reliable provisional response (RFC 3262), an ACK or a PRACK.
    Final,
}

/// Whether what a peer said was news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Taken,
    /// Nothing was open: a repetition, to be ignored (RFC 3261 section 13.2.1).
    Already,
}

/// One side's part in offer and answer.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Leg {
    session_id: u64,
    version: u64,
    local: SocketAddr,
    terms: Terms,
    numbering: Numbering,
    /// Streams in front of the audio stream and after it, which each later description has to repeat (RFC 3264
    /// section 8); `None` before the first exchange.
    around: Option<Around>,
    /// Our last description; empty before the first.
    sent: Said,
    /// What we send with, one for each suite of the trunk: the same as long as it is in use, so that no description that only
    /// says something again changes a key (RFC 4568 section 7.1.4).
    #[serde(default)]
    keys: Vec<MasterKey>,
    /// Makes our ICE credentials, where the trunk wants any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mint: Option<Mint>,
    exchange: Exchange,
    /// Our offers ask for preconditions (RFC 3312): what the peer has said of them. `None` asks for none.
    #[serde(default)]
    preconditions: Option<Preconditions>,
    /// What holds, a preview included; `None` without a stream.
    agreed: Option<Negotiated>,
}

/// The streams in front of the one that is carried, and those after it.
type Around = (Vec<OtherStream>, Vec<OtherStream>);

/// [`State`] with its data.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
enum Exchange {
    Stable,
    /// `before` is what held when the offer was made.
    LocalOffer {
        offer: Audio,
        previewed: bool,
        before: Option<Negotiated>,
        /// Where the stream stood that held.
        #[serde(default)]
        around: Option<Around>,
    },
    RemoteOffer {
        offer: Description,
        before: Option<Negotiated>,
    },
}

impl Leg {
    /// A leg whose media we receive at `local` (RTP; RTCP one port above). `session_id` is its own `o=` line's:
    /// random, below 2^62 so that peers that hold it in a signed integer can. `chance` makes its keys.
    pub fn new(session_id: u64, local: SocketAddr, terms: Terms, chance: &mut Tokens) -> Self {
        Self {
            keys: terms.security.mint(chance),
            mint: terms.ice.is_lite.then(|| Mint::new(chance)),
            session_id,
            version: 1,
            local,
            terms,
            numbering: Numbering::default(),
            around: None,
            sent: Said::default(),
            exchange: Exchange::Stable,
            preconditions: None,
            agreed: None,
        }
    }

    /// Lets nothing but encodings of telephone networks pass from now on; what let others pass comes back.
    pub fn slim(&mut self) -> Terms {
        let slimmed = self.terms.slimmed();
        std::mem::replace(&mut self.terms, slimmed)
    }

    pub fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// Takes the peer's offer. [`Leg::relay_answer`] or [`Leg::abandon`] closes it.
    pub fn receive_offer(&mut self, offer: Description) -> Result<(), Refusal> {
        self.allowed(Event::ReceiveOffer)?;
        let offer = self.meant(offer);
        self.check_peer(&offer)?;
        self.check_place(&offer)?;
        if offer.audio.port != 0 {
            self.terms.security.choose(&offer.audio)?;
        }
        match &offer.audio.fax {
            Some(_) if self.terms.fax == FaxTerms::Refuse => return Err(Refusal::NoFax),
            None if !speaks(offer.audio.formats.iter().filter(|format| self.terms.allow(format))) => {
                return Err(Refusal::NothingInCommon);
            }
            Some(_) | None => {}
        }
        if offer.audio.port == 0 && self.around.is_none() {
            return Err(Refusal::NeverEnabled);
        }
        self.learn_preconditions(&offer);
        self.exchange = Exchange::RemoteOffer { offer, before: self.agreed.clone() };
        Ok(())
    }

    /// Writes the offer that carries the peer's of `from`: its formats as far as both trunks allow them, codecs of our
    /// own where the trunks say so, by this leg's numbers, its direction and packet times, and nothing else of it.
    pub fn relay_offer(&mut self, from: &Leg) -> Result<String, Refusal> {
        self.relay_offer_as(from, None)
    }

    /// As [`Leg::relay_offer`], with another direction than the peer's own.
    pub fn relay_offer_as(&mut self, from: &Leg, direction: Option<Direction>) -> Result<String, Refusal> {
        self.allowed(Event::SendOffer)?;
        let Exchange::RemoteOffer { offer: Description { audio: theirs, .. }, .. } = &from.exchange else {
            return Err(Refusal::NothingToRelay);
        };
        if let Some(fax) = &theirs.fax {
            return self.relay_fax(theirs, fax, direction);
        }
        let allowed = self.terms.offer(&from.terms, &theirs.formats, &self.spoken());
        if !speaks(allowed.iter()) {
            return Err(Refusal::NothingInCommon);
        }
        let formats = self.numbering.assign(&allowed).ok_or(Refusal::NumbersExhausted)?;
        let (profile, crypto) = self.secured(theirs.profile.has_feedback());
        let rtcp_mux = self.terms.offer_rtcp_mux && may_share_port(&formats);
        let offer = Audio {
            address: self.local.ip(),
            port: if theirs.port == 0 { 0 } else { self.local.port() },
            profile,
            direction: direction.unwrap_or_else(|| theirs.wishes()),
            rtcp: None,
            rtcp_mux,
            metrics: theirs.metrics && self.terms.voip_metrics,
            formats,
            ptime: theirs.ptime,
            maxptime: theirs.maxptime,
            // The other side's end on the leg that they came by.
            preconditions: self.preconditions.map(Preconditions::offered),
            crypto,
            ice: self.offering_ice(rtcp_mux),
            fax: None,
        };
        Ok(self.offer(offer))
    }

    /// Offers fax in the place of the audio stream, as the peer of the other leg describes its end.
    fn relay_fax(
        &mut self,
        theirs: &Audio,
        fax: &Fax,
        direction: Option<Direction>,
    ) -> Result<String, Refusal> {
        if self.terms.fax == FaxTerms::Refuse {
            return Err(Refusal::NoFax);
        }
        // Nothing protects UDPTL.
        if self.terms.security.security == MediaSecurity::Required {
            return Err(Refusal::NotSecured);
        }
        Ok(self.offer(Audio {
            address: self.local.ip(),
            port: if theirs.port == 0 { 0 } else { self.local.port() },
            direction: direction.unwrap_or_else(|| theirs.wishes()),
            fax: Some(Box::new(fax.clone())),
            ..theirs.clone()
        }))
    }

    /// Writes an offer of this stream, and waits for its answer.
    fn offer(&mut self, offer: Audio) -> String {
        let held = self.around.take();
        let around = self.around_offer(held.clone().unwrap_or_default(), offer.fax.is_some());
        self.around = Some(around.clone());
        let body = self.describe(offer.clone(), around);
        let before = self.agreed.clone();
        self.exchange = Exchange::LocalOffer { offer, previewed: false, before, around: held };
        body
    }

    /// What stands around a stream of audio, or of fax, in an offer of ours. The media line that is carried changes its kind
    /// (RFC 3264 section 8.3.3), unless the peer has brought up a line of that kind itself: then that one is taken up
    /// again, and the one that was carried is refused.
    fn around_offer(&self, (mut before, mut after): Around, is_fax: bool) -> Around {
        let carried = match &self.agreed {
            Some(agreed) if agreed.fax.is_some() != is_fax => agreed,
            Some(_) | None => return (before, after),
        };
        let place = before.len();
        let is_wanted = |line: &OtherStream| match is_fax {
            true => line.media.eq_ignore_ascii_case(fax::MEDIA) && line.profile.eq_ignore_ascii_case("udptl"),
            false => line.media.eq_ignore_ascii_case("audio"),
        };
        before.push(left(carried));
        before.append(&mut after);
        match before.iter().enumerate().position(|(at, line)| at != place && is_wanted(line)) {
            Some(at) => {
                let after = before.split_off(at + 1);
                before.pop();
                (before, after)
            }
            None => {
                let after = before.split_off(place + 1);
                before.pop();
                (before, after)
            }
        }
    }

    /// Takes the peer's answer to our offer. After a preview, another preview or the final answer may replace
    /// it.
    pub fn receive_answer(&mut self, answer: &Description, finality: Finality) -> Result<Progress, Refusal> {
        let event = match finality {
            Finality::Preview => Event::ReceivePreview,
            Finality::Final => Event::ReceiveAnswer,
        };
        if self.allowed(event)? == Progress::Already {
            return Ok(Progress::Already);
        }
        let Exchange::LocalOffer { offer, before, .. } = &self.exchange else {
            return Err(Refusal::Illegal { state: self.state(), event });
        };
        self.check_peer(answer)?;
        self.check_place(answer)?;
        let agreed = match answer.audio.port {
            0 => None,
            _ => Some(agreed_by_answer(self.local, offer, &answer.audio, before.as_ref(), self.terms.ice)?),
        };
        self.agree(agreed);
        self.learn_preconditions(answer);
        self.close_or_preview(finality);
        Ok(Progress::Taken)
    }

    /// Takes the preview for the answer: the final response came without a description of its own.
    pub fn confirm_preview(&mut self) -> Result<Progress, Refusal> {
        if let Exchange::LocalOffer { previewed: false, .. } = self.exchange {
            return Err(Refusal::NoAnswer);
        }
        let progress = self.allowed(Event::ReceiveAnswer)?;
        self.exchange = Exchange::Stable;
        Ok(progress)
    }

    /// Writes the answer to the peer's offer that carries what the peer of `from` answered: formats in that
    /// peer's order by this peer's numbers, and every other stream refused.
    pub fn relay_answer(&mut self, from: &Leg, finality: Finality) -> Result<String, Refusal> {
        let event = match finality {
            Finality::Preview => Event::SendPreview,
            Finality::Final => Event::SendAnswer,
        };
        self.allowed(event)?;
        let Exchange::RemoteOffer { offer: Description { before, audio: offer, after, .. }, before: held } =
            &self.exchange
        else {
            return Err(Refusal::Illegal { state: self.state(), event });
        };
        let (answer, agreed) = match from.answered()? {
            Some(media) if offer.port != 0 => {
                let crypto = self.answering(offer)?;
                let mut answer = accept(self.local, offer, media, crypto, (&self.terms, &from.terms))?;
                let at = (self.local, answer.rtcp_mux);
                answer.ice = self
                    .mint
                    .as_mut()
                    .and_then(|mint| ice::answering(mint, offer, held.as_ref(), at))
                    .map(Box::new);
                let agreed = agreed_by_offer(self.local, offer, &answer, held.as_ref(), self.terms.ice)?;
                (answer, Some(agreed))
            }
            _ => (refuse(self.local, offer), None),
        };
        let around = (before.clone(), after.clone());
        if finality == Finality::Final {
            // A preview may still be abandoned, and then the peer's new streams never were.
            self.around = Some(around.clone());
        }
        self.numbering.adopt(&answer.formats);
        self.agree(agreed);
        let body = self.describe(answer, around);
        self.close_or_preview(finality);
        Ok(body)
    }

    /// This holds from now on. A key of ours that protects nothing by it is not said again: who relays has forgotten what was
    /// counted under it, and would protect two packets alike (RFC 3711 section 9.1).
    fn agree(&mut self, agreed: Option<Negotiated>) {
        let ours = |agreed: Option<&Negotiated>| agreed?.security.to_peer().cloned();
        let now = ours(agreed.as_ref());
        if let Some(before) = ours(self.agreed.as_ref()).filter(|before| now.as_ref() != Some(before))
            && let Some(retired) = self.keys.iter_mut().find(|key| **key == before)
        {
            *retired = before.successor();
        }
        self.agreed = agreed;
    }

    /// Gives up the exchange that is open: what held before it holds again.
    pub fn abandon(&mut self) {
        match std::mem::replace(&mut self.exchange, Exchange::Stable) {
            Exchange::Stable => {}
            Exchange::LocalOffer { before, around, .. } => {
                self.agreed = before;
                self.around = around.or(self.around.take());
            }
            Exchange::RemoteOffer { before, .. } => self.agreed = before,
        }
    }

    pub fn state(&self) -> State {
        match self.exchange {
            Exchange::Stable => State::Stable,
            Exchange::LocalOffer { .. } => State::LocalOffer,
            Exchange::RemoteOffer { .. } => State::RemoteOffer,
        }
    }

    /// What holds now, a preview included; `None` before the first answer and while the stream is refused.
    pub fn media(&self) -> Option<&Negotiated> {
        self.agreed.as_ref()
    }

    /// What would hold if the offer that is open were accepted as it stands: by it the side that made the offer can be
    /// sent media before the other has answered (RFC 3264 section 5.1). `None` without an open offer, and where the
    /// offer has no stream.
    ///
    /// Of an offer of ours, `remote` is `None`, since nothing tells yet where the peer is; and `rtcp_mux` says that it
    /// may send RTCP to the port of RTP.
    pub fn prospect(&self) -> Option<Negotiated> {
        let (audio, direction) = match &self.exchange {
            Exchange::Stable => return None,
            Exchange::LocalOffer { offer, .. } => (offer, offer.direction.reversed()),
            Exchange::RemoteOffer { offer, .. } => (&offer.audio, offer.audio.wishes()),
        };
        if audio.port == 0 {
            return None;
        }
        let formats: Vec<_> =
            audio.formats.iter().filter(|format| self.terms.allow(format)).cloned().collect();
        let ours = matches!(self.exchange, Exchange::LocalOffer { .. });
        let crypto = if ours { audio.crypto.clone() } else { self.answering(audio).ok()? };
        let answer = Audio { formats, crypto, ..audio.clone() };
        let mut prospect = agreed_by_offer(self.local, audio, &answer, None, self.terms.ice).ok()?;
        prospect.direction = direction;
        prospect.checks = None;
        if ours {
            let own = audio.ice.as_ref().map(|own| own.credentials.clone());
            let unknown = self.terms.ice.unknown;
            prospect.checks = own.map(|local| Box::new(Checks { local, peer: None, unknown }));
            (prospect.remote, prospect.remote_rtcp) = (None, None);
            prospect.security = if audio.crypto.is_empty() { Security::Plain } else { Security::Awaited };
        }
        Some(prospect)
    }

    /// Where this leg's peer is told to send RTP.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Our last description, to say it again; `None` before the first.
    pub fn sent(&self) -> Option<&str> {
        (!self.sent.0.is_empty()).then_some(&self.sent.0)
    }

    fn allowed(&self, event: Event) -> Result<Progress, Refusal> {
        match OfferAnswer::step(self.state(), event) {
            Step::To(..) => Ok(Progress::Taken),
            Step::Already => Ok(Progress::Already),
            Step::Illegal => Err(Refusal::Illegal { state: self.state(), event }),
        }
    }

    fn close_or_preview(&mut self, finality: Finality) {
        match (finality, &mut self.exchange) {
            (Finality::Preview, Exchange::LocalOffer { previewed, .. }) => *previewed = true,
            (Finality::Preview, Exchange::Stable | Exchange::RemoteOffer { .. }) => {}
            (Finality::Final, exchange) => *exchange = Exchange::Stable,
        }
    }

    /// The last answer of this leg's peer, previews included.
    fn answered(&self) -> Result<Option<&Negotiated>, Refusal> {
        match self.exchange {
            Exchange::Stable | Exchange::LocalOffer { previewed: true, .. } if self.around.is_some() => {
                Ok(self.agreed.as_ref())
            }
            Exchange::Stable | Exchange::LocalOffer { .. } | Exchange::RemoteOffer { .. } => {
                Err(Refusal::NothingToRelay)
            }
        }
    }

    /// What must be right of any description of this leg's peer.
    fn check_peer(&self, description: &Description) -> Result<(), Refusal> {
        let (ours, audio) = (self.local.ip(), &description.audio);
        let peers = [audio.rtp(), audio.rtcp()].into_iter().flatten().map(|address| address.ip());
        match peers.into_iter().find(|peer| peer.is_ipv4() != ours.is_ipv4()) {
            Some(peer) => Err(Refusal::AddressFamily { ours, peer }),
            None => Ok(()),
        }
    }

    /// The stream stands where it stood; only one of another kind may take another line (RFC 3264 section 8.1).
    fn check_place(&self, description: &Description) -> Result<(), Refusal> {
        let now = description.before.len();
        let is_fax = description.audio.fax.is_some();
        let offered = matches!(self.exchange, Exchange::LocalOffer { .. });
        let another = !offered && self.agreed.as_ref().is_some_and(|held| held.fax.is_some() != is_fax);
        match &self.around {
            Some((before, _)) if before.len() != now && !another => {
                Err(Refusal::StreamMoved { before: before.len(), now })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Of a secured and a plain stream beside each other, the one that the trunk wants.
    fn meant(&self, offer: Description) -> Description {
        let unwanted = match self.terms.security.security {
            MediaSecurity::Off => offer.audio.profile.is_secure(),
            MediaSecurity::Required | MediaSecurity::Offered => !offer.audio.profile.is_secure(),
        };
        match offer {
            Description { otherwise: Some(other), .. } if unwanted => *other,
            offer => Description { otherwise: None, ..offer },
        }
    }

    /// Profile and keys of an offer of ours: what holds, once something does, else all that the trunk has.
    fn secured(&self, has_feedback: bool) -> (Profile, Vec<Crypto>) {
        let is_secure = self.terms.security.security == MediaSecurity::Required;
        match (&self.agreed, self.said()) {
            (Some(agreed), Some(Description { audio, .. })) if agreed.fax.is_none() => {
                let held = |line: &Crypto| agreed.security.to_peer() == Some(&line.key);
                let lines = audio.crypto.into_iter().filter(held).collect();
                (Profile::of(audio.profile.is_secure(), has_feedback), lines)
            }
            _ => (Profile::of(is_secure, has_feedback), lines(&self.keys)),
        }
    }

    /// What an offer of ours says of ICE. No offer of ours restarts it.
    fn offering_ice(&self, rtcp_mux: bool) -> Option<Box<Ice>> {
        self.mint.as_ref().map(|mint| Box::new(Ice::own(mint.credentials(), self.local, rtcp_mux)))
    }

    /// What the peer has agreed to, as descriptions say it.
    fn spoken(&self) -> Vec<Format> {
        self.agreed.as_ref().map(terminated::formats_of).unwrap_or_default()
    }

    /// The line of our answer to this offer, with its tag and our key of the suite.
    fn answering(&self, offer: &Audio) -> Result<Vec<Crypto>, Refusal> {
        let Some(chosen) = self.terms.security.choose(offer)? else { return Ok(Vec::new()) };
        let key = self.keys.iter().find(|key| key.suite() == chosen.key.suite());
        let key = key.ok_or(Refusal::NotSecured)?.clone();
        Ok(vec![Crypto { tag: chosen.tag, key }])
    }

    /// Writes our description and remembers it. The version in `o=` rises only if something else changed
    /// (RFC 3264 section 8).
    fn describe(&mut self, audio: Audio, (before, after): Around) -> String {
        let origin = Origin {
            session_id: self.session_id.to_string(),
            version: self.version,
            address: self.local.ip().to_string(),
        };
        let mut description = Description { origin, before, audio, after, otherwise: None };
        let mut body = print(&description);
        if !self.sent.0.is_empty() && self.sent.0 != body {
            self.version += 1;
            description.origin.version = self.version;
            body = print(&description);
        }
        self.sent.0.clone_from(&body);
        body
    }
}

/// The line of a stream that is carried no more.
fn left(carried: &Negotiated) -> OtherStream {
    if carried.fax.is_some() {
        let [media, formats] = [fax::MEDIA, fax::FORMAT].map(str::to_owned);
        return OtherStream { media, profile: Profile::Udptl.name().to_owned(), formats };
    }
    let numbers: Vec<_> = carried.formats.iter().map(|format| format.from_peer.to_string()).collect();
    let profile = Profile::of(carried.security.to_peer().is_some(), false);
    OtherStream { media: "audio".to_owned(), profile: profile.name().to_owned(), formats: numbers.join(" ") }
}

#[cfg(test)]
mod tests;
