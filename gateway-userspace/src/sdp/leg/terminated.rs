//! Offers and answers of our own: what a leg says when nobody stands behind it who is asked, only what the other leg has
//! agreed to, or what both trunks allow.

use super::super::fault::Refusal;
use super::super::ice;
use super::super::model::{Audio, Description, Direction, Format};
use super::super::negotiated::{
    Negotiated, NegotiatedFormat, accept, agreed_by_offer, may_share_port, speaks,
};
use super::super::offer_answer::Event;
use super::super::parse::parse;
use super::super::precondition::Preconditions;
use super::super::transcoding;
use super::{Exchange, Finality, Leg, Terms};

/// What the other leg's peer wants beside its formats, as it stands in a [`Negotiated`].
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    ptime: Option<u16>,
    maxptime: Option<u16>,
    metrics: bool,
}

impl Wishes {
    fn of(media: &Negotiated) -> Self {
        let Negotiated { ptime, maxptime, metrics, .. } = *media;
        Self { ptime, maxptime, metrics }
    }
}

impl Leg {
    /// Writes an offer of what the peer of `other` has agreed to: for a caller that offered nothing itself, or when
    /// the other side's answer has changed behind a peer that has had its own.
    pub fn offer_agreed(&mut self, other: &Leg) -> Result<String, Refusal> {
        let media = other.agreed.as_ref().ok_or(Refusal::NothingToRelay)?;
        self.offer_formats(&self.beside(other, media), media.direction, Wishes::of(media))
    }

    /// As [`Leg::offer_agreed`], in both directions: to a peer that was held by somebody who has left, say.
    pub fn offer_resumed(&mut self, other: &Leg) -> Result<String, Refusal> {
        let media = other.agreed.as_ref().ok_or(Refusal::NothingToRelay)?;
        self.offer_formats(&self.beside(other, media), Direction::SendReceive, Wishes::of(media))
    }

    /// Writes an offer to a peer that comes to a call in which the peer of `other` waits: what that one has agreed to
    /// with somebody else, then those of `own` that both trunks allow, which it may be asked for then.
    pub fn offer_joining(&mut self, other: &Leg, own: &[Format]) -> Result<String, Refusal> {
        let agreed = other.agreed.as_ref();
        let mut formats = agreed.map(|media| self.beside(other, media)).unwrap_or_default();
        for format in own.iter().filter(|format| other.terms.allow(format)) {
            if !formats.iter().any(|known| known.codec == format.codec) {
                formats.push(format.clone());
            }
        }
        let wishes = agreed.map(Wishes::of).unwrap_or_default();
        self.offer_formats(&formats, Direction::SendReceive, wishes)
    }

    /// Answers the offer of a peer that comes to a call in which the peer of `other` waits: by what that one has agreed to
    /// with somebody else; where they have nothing of it in common, by a format that both trunks allow, which the one that
    /// waits is then offered.
    pub fn answer_joining(&mut self, other: &Leg) -> Result<String, Refusal> {
        self.allowed(Event::SendAnswer)?;
        let Some(mut media) = other.agreed.clone() else { return self.answer_own(other) };
        media.direction = Direction::SendReceive;
        match self.answer_as(&media, None, (&other.terms, Finality::Final)) {
            Err(Refusal::NothingInCommon) => self.answer_own(other),
            answer => answer,
        }
    }

    /// Writes an offer of `formats` as far as the trunks of both sides allow them, where neither peer has offered
    /// anything: for an INVITE to a peer that wants an offer, when the other side's had none.
    pub fn offer_own(&mut self, formats: &[Format], other: &Leg) -> Result<String, Refusal> {
        let allowed = formats.iter().filter(|format| other.terms.allow(format)).cloned().collect();
        let allowed = self.terms.beside(&other.terms, allowed);
        self.offer_formats(&allowed, Direction::SendReceive, Wishes::default())
    }

    /// Answers the peer's offer by what it has in common with the one that the peer of `other` has made and that nobody has
    /// answered yet: both want an answer, and each will get what the other offered.
    pub fn answer_offered(&mut self, other: &Leg) -> Result<String, Refusal> {
        self.allowed(Event::SendAnswer)?;
        let mut media = other.prospect().ok_or(Refusal::NothingToRelay)?;
        media.direction = Direction::SendReceive;
        // An offer prefers nothing yet: what is common goes first.
        match self.answer_as(&media, None, (&Terms::default(), Finality::Final)) {
            Err(Refusal::NothingInCommon) => self.answer_as(&media, None, (&other.terms, Finality::Final)),
            answer => answer,
        }
    }

    /// Offers once more what this leg said last, word for word, so that nothing changes (RFC 4028 section 7.4).
    pub fn offer_again(&mut self) -> Result<String, Refusal> {
        self.allowed(Event::SendOffer)?;
        let said = self.said().ok_or(Refusal::NothingToRelay)?;
        let (before, around) = (self.agreed.clone(), self.around.clone());
        self.exchange = Exchange::LocalOffer { offer: said.audio, previewed: false, before, around };
        Ok(self.sent.0.clone())
    }

    /// Answers the peer's offer before the other side was asked: by the first speech format that both trunks allow, which
    /// the other side is then offered, and by what goes with it.
    pub fn answer_own(&mut self, other: &Leg) -> Result<String, Refusal> {
        self.allowed(Event::SendAnswer)?;
        self.answer_first(other, |_| true, Finality::Final)
    }

    /// The same by the first of those speech formats that we can code: for something of our own that its peer is to hear
    /// before the other side has answered.
    pub fn answer_playing(&mut self, other: &Leg, finality: Finality) -> Result<String, Refusal> {
        let event = match finality {
            Finality::Preview => Event::SendPreview,
            Finality::Final => Event::SendAnswer,
        };
        self.allowed(event)?;
        self.answer_first(other, |format| transcoding::is_codable(&format_of(format)), finality)
    }

    fn answer_first(
        &mut self,
        other: &Leg,
        is_wanted: impl Fn(&NegotiatedFormat) -> bool,
        finality: Finality,
    ) -> Result<String, Refusal> {
        let mut media = self.prospect().ok_or(Refusal::NothingInCommon)?;
        media.formats.retain(|format| other.terms.allow(&format_of(format)));
        let is_speech = |format: &NegotiatedFormat| format.codec.encoding.is_speech();
        let first = media.formats.iter().position(|format| is_speech(format) && is_wanted(format));
        let mut position = 0..;
        media.formats.retain(|format| position.next() == first || !is_speech(format));
        media.direction = Direction::SendReceive;
        self.answer_as(&media, None, (&other.terms, finality))
    }

    /// Answers the peer's offer by what the peer of `other` agreed to before, which is not asked again; `direction`,
    /// in the answer's own view, in place of what follows from the other side's.
    pub fn answer_agreed(&mut self, other: &Leg, direction: Option<Direction>) -> Result<String, Refusal> {
        self.allowed(Event::SendAnswer)?;
        let media = other.agreed.clone().ok_or(Refusal::NothingToRelay)?;
        self.answer_as(&media, direction, (&other.terms, Finality::Final))
    }

    /// Says the answer once more that a provisional response previewed: an answer does not change on its way to the
    /// final response (RFC 3261 section 13.2.1), whichever branch of the other side's fork speaks.
    pub fn answer_again(&mut self, finality: Finality) -> Result<String, Refusal> {
        let event = match finality {
            Finality::Preview => Event::SendPreview,
            Finality::Final => Event::SendAnswer,
        };
        self.allowed(event)?;
        let Exchange::RemoteOffer { offer, .. } = &self.exchange else {
            return Err(Refusal::Illegal { state: self.state(), event });
        };
        if self.agreed.is_none() {
            return Err(Refusal::NothingToRelay);
        }
        if finality == Finality::Final {
            self.around = Some((offer.before.clone(), offer.after.clone()));
            self.exchange = Exchange::Stable;
        }
        Ok(self.sent.0.clone())
    }

    /// Whether media of `other`'s peer passes to this leg's and back without another answer: each speech format that this
    /// peer may send is one that the other takes, and the one that the other prefers is agreed here; or a codec may stand
    /// between them.
    pub fn carries(&self, other: &Leg) -> bool {
        let (Some(near), Some(far)) = (&self.agreed, &other.agreed) else { return false };
        let is_codable = |media: &Negotiated| {
            media.preferred().is_some_and(|format| transcoding::is_codable(&format_of(format)))
        };
        if self.terms.transcodes(&other.terms) && is_codable(near) && is_codable(far) {
            return true;
        }
        let speech = |media: &Negotiated| {
            media
                .formats
                .iter()
                .filter(|format| format.codec.encoding.is_speech())
                .cloned()
                .collect::<Vec<_>>()
        };
        let (near, far) = (speech(near), speech(far));
        let is_in =
            |formats: &[NegotiatedFormat], wanted| formats.iter().any(|format| format.relays_as(wanted));
        near.iter().all(|format| is_in(&far, format))
            && far.first().is_some_and(|preferred| is_in(&near, preferred))
    }

    /// What the peer's open offer still waits for (RFC 3312).
    pub fn awaits_preconditions(&self) -> bool {
        let Exchange::RemoteOffer { offer, .. } = &self.exchange else { return false };
        offer.audio.preconditions.is_some_and(|preconditions| !preconditions.are_met())
    }

    /// Lets our offers say from now on that our access is ready, and ask after the peer's (RFC 3312).
    pub fn ask_for_preconditions(&mut self) {
        self.preconditions = Some(Preconditions::UNKNOWN);
    }

    /// Offers say nothing of preconditions any more: the session stands.
    pub fn forget_preconditions(&mut self) {
        self.preconditions = None;
    }

    /// What the peer has said of preconditions that we asked for.
    pub fn preconditions(&self) -> Option<Preconditions> {
        self.preconditions
    }

    /// Offers once more what this leg has agreed on, as word that our access is ready (RFC 3312 section 5.1.1).
    pub fn offer_readiness(&mut self) -> Result<String, Refusal> {
        let media = self.agreed.clone().ok_or(Refusal::NothingToRelay)?;
        self.offer_formats(&formats_of(&media), media.direction.reversed(), Wishes::of(&media))
    }

    pub(super) fn learn_preconditions(&mut self, said: &Description) {
        if self.preconditions.is_some() && said.audio.preconditions.is_some() {
            self.preconditions = said.audio.preconditions;
        }
    }

    /// Our last description, read back.
    pub(super) fn said(&self) -> Option<Description> {
        // Only refreshes and re-offers need it, which is too seldom to keep it in memory for each call.
        parse(self.sent.0.as_bytes()).ok()
    }

    /// What the peer of `other` has agreed to, and codecs of our own where the trunks say so.
    fn beside(&self, other: &Leg, media: &Negotiated) -> Vec<Format> {
        self.terms.offer(&other.terms, &formats_of(media), &self.spoken())
    }

    fn offer_formats(
        &mut self,
        formats: &[Format],
        direction: Direction,
        wishes: Wishes,
    ) -> Result<String, Refusal> {
        self.allowed(Event::SendOffer)?;
        let allowed: Vec<_> = formats.iter().filter(|format| self.terms.allow(format)).cloned().collect();
        if !speaks(allowed.iter()) {
            return Err(Refusal::NothingInCommon);
        }
        let formats = self.numbering.assign(&allowed).ok_or(Refusal::NumbersExhausted)?;
        let has_feedback = self.said().is_some_and(|said| said.audio.profile.has_feedback());
        let (profile, crypto) = self.secured(has_feedback);
        let rtcp_mux = self.terms.offer_rtcp_mux && may_share_port(&formats);
        let offer = Audio {
            address: self.local.ip(),
            port: self.local.port(),
            profile,
            direction,
            rtcp: None,
            rtcp_mux,
            metrics: wishes.metrics && self.terms.voip_metrics,
            formats,
            ptime: wishes.ptime,
            maxptime: wishes.maxptime,
            preconditions: self.preconditions.map(Preconditions::offered),
            crypto,
            ice: self.offering_ice(rtcp_mux),
            fax: None,
        };
        Ok(self.offer(offer))
    }

    fn answer_as(
        &mut self,
        media: &Negotiated,
        direction: Option<Direction>,
        (other, finality): (&Terms, Finality),
    ) -> Result<String, Refusal> {
        let Exchange::RemoteOffer { offer: Description { before, audio: offer, after, .. }, before: held } =
            &self.exchange
        else {
            return Err(Refusal::Illegal { state: self.state(), event: Event::SendAnswer });
        };
        let crypto = self.answering(offer)?;
        let mut answer = accept(self.local, offer, media, crypto, (&self.terms, other))?;
        if let Some(direction) = direction {
            answer.direction = direction;
        }
        let at = (self.local, answer.rtcp_mux);
        answer.ice =
            self.mint.as_mut().and_then(|mint| ice::answering(mint, offer, held.as_ref(), at)).map(Box::new);
        let agreed = agreed_by_offer(self.local, offer, &answer, held.as_ref(), self.terms.ice)?;
        let around = (before.clone(), after.clone());
        if finality == Finality::Final {
            self.around = Some(around.clone());
        }
        self.numbering.adopt(&answer.formats);
        self.agree(Some(agreed));
        let body = self.describe(answer, around);
        self.close_or_preview(finality);
        Ok(body)
    }
}

/// What a leg agreed on, as descriptions say it.
pub(super) fn formats_of(media: &Negotiated) -> Vec<Format> {
    media.formats.iter().map(format_of).collect()
}

fn format_of(format: &NegotiatedFormat) -> Format {
    Format { payload_type: format.from_peer, codec: format.codec.clone(), fmtp: format.fmtp.clone() }
}
