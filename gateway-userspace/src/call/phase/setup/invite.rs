//! Our INVITE to the callee's side: what it says, and what a refusal of one peer makes of it: the same once more, or none for
//! a while.

use super::{Callee, Setup};
use crate::call::feature::ability::{ALLOW, PRECONDITION, REPLACES};
use crate::call::feature::reliable;
use crate::call::feature::session_timer;
use crate::call::leg::SDP;
use crate::call::phase::Phase;
use crate::call::{Action, Context, media};
use crate::policy::{Candidate, Trunk};
use crate::sdp;
use crate::sip::message::{
    Contact, Draft, HeaderName, Method, NameAddr, Response, StatusCode, Via, ViaTransport,
};
use crate::sip::transport::Transport;
use std::time::Duration;

/// Octets above which a request does not fit a datagram where the path's MTU is not known (RFC 3261 section 18.1.1).
const LARGEST_DATAGRAM: usize = 1_300;

impl Callee {
    /// The INVITE of this side: our own dialog, the numbers and the name of the other.
    pub(super) fn invite(
        &self,
        max_forwards: Option<u8>,
        peer: &Candidate,
        context: &mut Context<'_>,
    ) -> Draft {
        let trunk = &self.trunk;
        let from = self.caller.from(trunk).with_tag(&context.tokens.token());
        let called = trunk.numbers.write(&self.called);
        let to = NameAddr::new(trunk.as_phone(peer.uri(Some(&called)), &called));
        let target = trunk.target_uri(peer, &called);
        let call_id = context.settings.share.call_id(context.tokens);
        let mut draft = Draft::new(Method::Invite, target, from, to, call_id, 1);
        draft.max_forwards = max_forwards.map_or(draft.max_forwards, |left| left.saturating_sub(1));
        draft.contact = Contact::one(self.trunk.contact());
        draft.headers.push(HeaderName::Allow, ALLOW);
        draft.headers.push(HeaderName::Supported, REPLACES);
        self.caller.assert(trunk, &mut draft.headers);
        self.redirection.write(trunk, &draft.to.uri, &mut draft.headers);
        self.trunk.sign(&mut draft);
        let sip = &self.trunk.sip;
        // Without our offer a reliable response would bring one, to be answered before the caller can have said
        // anything about it (RFC 3262 section 5).
        if self.has_offer {
            reliable::ask(sip.reliable_provisional, &mut draft);
        }
        if self.media.preconditions().is_some() {
            draft.headers.push(HeaderName::Supported, PRECONDITION);
        }
        session_timer::ask(&mut draft, &self.session, sip.session_expires);
        if sip.p_early_media {
            draft.headers.push(HeaderName::PEarlyMedia, "supported");
        }
        draft
    }
}

impl Setup {
    /// Puts into an INVITE what its peer is offered: where it would not fit a datagram, encodings of telephone networks
    /// only (RFC 3261 section 18.1.1).
    pub(super) fn offer_in(&mut self, draft: &mut Draft) -> Result<(), sdp::Refusal> {
        draft.set_body(SDP, self.offer()?);
        let trunk = &self.callee.trunk;
        let slims = trunk.sip.slim_when_large && trunk.transport == Transport::Udp;
        if slims && octets(draft, trunk) > LARGEST_DATAGRAM {
            let all = self.callee.media.slim();
            if let Ok(offer) = self.offer() {
                draft.set_body(SDP, offer);
            } else {
                self.callee.media.set_terms(all);
                draft.set_body(SDP, self.offer()?);
            }
        }
        Ok(())
    }

    /// What the next peer is offered.
    fn offer(&mut self) -> Result<String, sdp::Refusal> {
        let (near, far) = (&self.caller.media, &mut self.callee.media);
        far.abandon();
        match (near.state(), near.media()) {
            (sdp::State::RemoteOffer, _) => far.relay_offer(near),
            (sdp::State::Stable | sdp::State::LocalOffer, None) => far.offer_own(&media::own_formats(), near),
            // The caller has its answer, by a reliable response: it holds for this peer too.
            (sdp::State::Stable | sdp::State::LocalOffer, Some(_)) => far.offer_agreed(near),
        }
    }

    /// The peer wants its sessions refreshed less often: the same INVITE once more, by the next number (RFC 4028
    /// section 7.3).
    pub(super) fn ask_for_longer(mut self: Box<Self>, context: &mut Context<'_>) -> Phase {
        let (Some(mut draft), Some(attempt)) = (self.callee.invite.take(), self.attempts.last_mut()) else {
            return Phase::Setup(self);
        };
        session_timer::ask(&mut draft, &self.callee.session, self.callee.trunk.sip.session_expires);
        attempt.try_again(&mut draft, context);
        self.callee.invite = Some(draft);
        Phase::Setup(self)
    }

    /// The peer asks who we are, and the trunk says what to answer: the same INVITE once more, by the next number (RFC
    /// 3261 section 22.2). `false` leaves the refusal to the caller.
    pub(super) fn authenticate(&mut self, response: &Response, context: &mut Context<'_>) -> bool {
        let (Some(draft), Some(attempt)) = (&mut self.callee.invite, self.attempts.last_mut()) else {
            return false;
        };
        attempt.authenticate(&self.callee.trunk, draft, response, context)
    }

    /// A peer that says how long it is out of service gets no new calls for so long (RFC 3261 section 21.5.4).
    pub(super) fn honour_pause(&self, response: &Response, context: &mut Context<'_>) {
        let pause = match response.status {
            StatusCode::SERVICE_UNAVAILABLE => retry_after(response),
            _ => None,
        };
        if let (Some(pause), Some(attempt)) = (pause, self.attempts.last()) {
            let trunk = self.callee.trunk.clone();
            context.push(Action::Rest { trunk, hop: attempt.hop, pause });
        }
    }
}

/// How long the request will be on the wire.
fn octets(draft: &Draft, trunk: &Trunk) -> usize {
    let via = Via::new(ViaTransport::Udp, trunk.listen.ip(), trunk.listen.port(), "of a usual length");
    let mut bytes = Vec::new();
    draft.clone().finish(via).write(&mut bytes);
    bytes.len()
}

/// The pause that Retry-After names (RFC 3261 section 20.33): whole seconds, before a comment and parameters.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers.value(&HeaderName::RetryAfter)?.trim_start();
    let digits = value.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok().map(Duration::from_secs)
}
