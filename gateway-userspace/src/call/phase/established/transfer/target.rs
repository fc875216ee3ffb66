//! The call to the target of a REFER: where it goes, what its INVITE says, and what its answers make of it.

use super::{Step, Transfer};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::Facts;
use crate::call::feature::ability::{ALLOW, Abilities, REPLACES};
use crate::call::feature::correlation;
use crate::call::feature::reliable;
use crate::call::feature::session_timer::{self, Session};
use crate::call::feature::transfer::Referral;
use crate::call::leg::{Leg, SDP, TrunkRef, hop_to};
use crate::call::phase::attempt::Attempt;
use crate::call::phase::established::Established;
use crate::call::phase::established::change::INTERVAL_TOO_SMALL;
use crate::call::phase::{Phase, crossing};
use crate::call::{Action, CallTimer, Context, media};
use crate::policy::{self, Caller, Candidates, Inquiry, Permit, ReferPolicy, Service};
use crate::sdp::{self, Finality};
use crate::sip::message::{Contact, Draft, HeaderName, Method, NameAddr, Response, StatusCode, Uri};
use crate::sip::transport::{Hop, Transport};
use std::sync::Arc;

/// The target is called.
#[derive(Debug)]
pub(super) struct Dialling {
    trunk: TrunkRef,
    permit: Permit,
    way: Way,
    media: sdp::Leg,
    session: Session,
    /// Who waits for it.
    caller: Caller,
    referral: Referral,
    /// The INVITE sent last, for one more of the same dialog.
    invite: Option<Box<Draft>>,
    /// Of the attempt that is under way.
    attempt: u8,
}

/// Where the INVITE goes.
#[derive(Debug)]
enum Way {
    /// Back by the trunk that asked, to the URI that it named.
    Back(Option<Hop>),
    /// By the routes, as a call to this number.
    Routes(Candidates, String),
}

impl Established {
    /// Calls the target in the place of the peer of `side`.
    pub(super) fn call_target(
        mut self: Box<Self>,
        facts: &mut Facts,
        (side, number): (Side, u8),
        referral: Referral,
        context: &mut Context<'_>,
    ) -> Phase {
        match self.prepare_target(side, referral, context) {
            Ok(dialling) => {
                let step = Step::Dialling(Box::new(dialling));
                self.transfer = Some(Box::new(Transfer { side, number, step }));
                self.try_target(facts, StatusCode::SERVICE_UNAVAILABLE, context)
            }
            Err(fault) => self.target_failed(facts, (side, number), status_of(fault), context),
        }
    }

    fn prepare_target(
        &self,
        side: Side,
        referral: Referral,
        context: &mut Context<'_>,
    ) -> Result<Dialling, Fault> {
        let (asking, waiting) = (self.legs.of(side), self.legs.of(side.other()));
        let (trunk, permit, way) = way(asking, &referral, context)?;
        // Which is told to nobody at Teams, nor behind another trunk, where it names nothing and tells of this one; and a
        // call to the target beside the one that it talks in would not do.
        let is_elsewhere = trunk.service == Some(Service::Teams) || trunk.name != asking.trunk.name;
        if referral.replaces.is_some() && is_elsewhere {
            return Err(Fault::NoSuchDialog);
        }
        let caller = Caller::in_dialog(waiting.dialog.remote(), &waiting.trunk, asking.dialog.local());
        let media = media::open(&trunk, context)?;
        let session = Session::default();
        Ok(Dialling { trunk, permit, way, media, session, caller, referral, invite: None, attempt: 0 })
    }

    /// Sends the INVITE to the next address; without one left, the transfer has failed by `last`.
    fn try_target(
        mut self: Box<Self>,
        facts: &mut Facts,
        last: StatusCode,
        context: &mut Context<'_>,
    ) -> Phase {
        let number = self.next_number();
        let Some(Transfer { side, step: Step::Dialling(dialling), .. }) = self.transfer.as_deref_mut() else {
            return Phase::Established(self);
        };
        let side = *side;
        if let Some(invite) = dialling.invite.take() {
            context.push(Action::Unbind { call_id: invite.call_id });
        }
        let asking = self.legs.of(side);
        let waiting = &self.legs.of(side.other()).media;
        let Some((mut draft, hop)) = dialling.next_invite(asking, context) else {
            return self.transfer_failed(facts, last, context);
        };
        dialling.media.abandon();
        match dialling.media.offer_joining(waiting, &media::own_formats()) {
            Ok(offer) => draft.set_body(SDP, offer),
            Err(refusal) => return self.transfer_failed(facts, status_of(refusal.fault()), context),
        }
        let attempt = Attempt::new(number, &draft, hop, dialling.trunk.clone());
        dialling.attempt = number;
        dialling.invite = Some(Box::new(draft.clone()));
        context.push(Action::Bind { side, call_id: draft.call_id.clone() });
        context.arm(CallTimer::PeerSilent, dialling.trunk.peer_timeout);
        context.push(Action::Request { key: attempt.key(), draft: Box::new(draft), hop });
        self.attempts.push(attempt);
        self.save(facts, context);
        Phase::Established(self)
    }

    /// Whether the INVITE of this number calls the target now.
    pub(in crate::call::phase::established) fn is_calling(&self, number: u8) -> bool {
        matches!(
            self.transfer.as_deref(),
            Some(Transfer { step: Step::Dialling(dialling), .. }) if dialling.attempt == number
        )
    }

    /// A response to the INVITE that calls the target.
    pub(in crate::call::phase::established) fn target_says(
        mut self: Box<Self>,
        facts: &mut Facts,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        let Some(Transfer { number, step: Step::Dialling(dialling), .. }) = self.transfer.as_deref_mut()
        else {
            return Phase::Established(self);
        };
        let (number, own) = (*number, dialling.attempt);
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.number == own) else {
            return Phase::Established(self);
        };
        let status = response.status;
        attempt.heard = true;
        if status.is_provisional() {
            context.disarm(CallTimer::PeerSilent);
            if !dialling.progress(attempt, response, context) {
                return Phase::Established(self);
            }
            if status != StatusCode::TRYING {
                attempt.rang = true;
                self.tell(facts, number, status, context);
                self.ring_waiting(facts, context);
            }
            context.arm(CallTimer::NoAnswer, context.settings.answer_timeout);
            return Phase::Established(self);
        }
        attempt.open = false;
        if status.is_success() {
            return self.target_answered(facts, response, context);
        }
        if let (Some(draft), true) = (&mut dialling.invite, status == INTERVAL_TOO_SMALL)
            && dialling.session.raise(response)
        {
            session_timer::ask(draft, &dialling.session, dialling.trunk.sip.session_expires);
            attempt.try_again(draft, context);
            return Phase::Established(self);
        }
        let asks = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        if let (Some(draft), true) = (&mut dialling.invite, asks)
            && attempt.authenticate(&dialling.trunk, draft, response, context)
        {
            return Phase::Established(self);
        }
        // It rang: what timed out is the target, and others shall not ring after it.
        if policy::retries(status.code()) && !attempt.rang {
            return self.try_target(facts, status, context);
        }
        self.transfer_failed(facts, crossing(status), context)
    }

    /// No final response came.
    pub(in crate::call::phase::established) fn target_lost(
        mut self: Box<Self>,
        facts: &mut Facts,
        fault: Fault,
        context: &mut Context<'_>,
    ) -> Phase {
        if let Some(Transfer { step: Step::Dialling(dialling), .. }) = self.transfer.as_deref() {
            let own = dialling.attempt;
            self.attempts
                .iter_mut()
                .filter(|attempt| attempt.number == own)
                .for_each(|lost| lost.open = false);
        }
        self.try_target(facts, status_of(fault), context)
    }

    /// The target, or who was to be asked for it, is silent, or rings for too long.
    pub(in crate::call::phase::established) fn target_late(
        mut self: Box<Self>,
        facts: &mut Facts,
        timer: CallTimer,
        context: &mut Context<'_>,
    ) -> Phase {
        let dialling = match self.transfer.as_deref_mut() {
            Some(Transfer { step: Step::Dialling(dialling), .. }) => dialling,
            Some(Transfer { step: Step::Fetching(_), .. }) => {
                return self.transfer_failed(facts, StatusCode::REQUEST_TIMEOUT, context);
            }
            _ => return Phase::Established(self),
        };
        let own = dialling.attempt;
        if let Some(attempt) = self.attempts.iter().find(|attempt| attempt.number == own && attempt.open) {
            context.push(Action::Cancel { key: attempt.key(), reason: None });
        }
        match timer {
            CallTimer::PeerSilent => self.try_target(facts, StatusCode::REQUEST_TIMEOUT, context),
            _ => self.transfer_failed(facts, status_of(Fault::NoAnswer), context),
        }
    }

    fn target_answered(
        mut self: Box<Self>,
        facts: &mut Facts,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        let Some(transfer) = self.transfer.as_deref_mut() else { return Phase::Established(self) };
        let Step::Dialling(dialling) = &mut transfer.step else { return Phase::Established(self) };
        let own = dialling.attempt;
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.number == own) else {
            return Phase::Established(self);
        };
        let taken = dialling.answered(attempt, response);
        let (dialog, media) = match taken {
            Ok(taken) => taken,
            Err(fault) => {
                attempt.release(response, context);
                return self.transfer_failed(facts, status_of(fault), context);
            }
        };
        for timer in [CallTimer::PeerSilent, CallTimer::NoAnswer] {
            context.disarm(timer);
        }
        self.legs.stop_playing(context);
        let mut session = dialling.session;
        session.learn(response, context.now);
        let leg = Leg {
            trunk: dialling.trunk.clone(),
            hop: attempt.hop,
            dialog,
            media,
            abilities: Abilities::of(&response.headers),
            session,
            acknowledged_with: String::new(),
            authorization: (attempt.sequence, attempt.authorization.clone()),
            charging: correlation::charging_vector(&response.headers, &dialling.trunk),
        };
        leg.acknowledge(context, response.head.cseq.number);
        let Some(Transfer { side, number, step: Step::Dialling(dialling) }) =
            self.transfer.take().map(|transfer| *transfer)
        else {
            return Phase::Established(self);
        };
        let step = Step::Ready(Box::new(leg), dialling.permit);
        self.transfer = Some(Box::new(Transfer { side, number, step }));
        // It takes its place in this turn, unless a change is under way.
        Phase::Established(self)
    }
}

impl Dialling {
    /// The INVITE for the next address, its offer left out, and that address.
    fn next_invite(&mut self, asking: &Leg, context: &mut Context<'_>) -> Option<(Draft, Hop)> {
        let trunk = &self.trunk;
        let (target, to, hop) = match &mut self.way {
            Way::Back(hop) => {
                let target = self.referral.target.clone();
                (target.clone(), target, hop.take()?)
            }
            Way::Routes(candidates, called) => {
                let peer = candidates.next(context.now)?;
                let called = trunk.numbers.write(called);
                let to = trunk.as_phone(peer.uri(Some(&called)), &called);
                let remote = peer.address;
                let hop = Hop { transport: trunk.transport, local: trunk.listen, remote, connection: None };
                (trunk.target_uri(&peer, &called), to, hop)
            }
        };
        let from = self.caller.from(trunk).with_tag(&context.tokens.token());
        let call_id = context.settings.share.call_id(context.tokens);
        let mut draft = Draft::new(Method::Invite, target, from, NameAddr::new(to), call_id, 1);
        draft.contact = Contact::one(trunk.contact());
        draft.headers.push(HeaderName::Allow, ALLOW);
        draft.headers.push(HeaderName::Supported, REPLACES);
        self.caller.assert(trunk, &mut draft.headers);
        if let Some(by) = self.referral.referred_by.as_ref().filter(|_| trunk.name == asking.trunk.name) {
            // It names what stands behind its own trunk.
            draft.headers.push(HeaderName::ReferredBy, by.as_str());
        }
        if let Some(replaces) = &self.referral.replaces {
            draft.headers.push(HeaderName::Replaces, replaces.line());
        }
        reliable::ask(trunk.sip.reliable_provisional, &mut draft);
        trunk.sign(&mut draft);
        session_timer::ask(&mut draft, &self.session, trunk.sip.session_expires);
        draft.headers.push(HeaderName::UserAgent, &*context.settings.product);
        Some((draft, hop))
    }

    /// Acknowledges a provisional response that is reliable, and takes the answer in it (RFC 3262 section 5); `false` for
    /// one that is to be left alone.
    fn progress(&self, attempt: &mut Attempt, response: &Response, context: &mut Context<'_>) -> bool {
        let Some(rseq) = reliable::sequence(response) else { return true };
        let invite = (attempt.sequence, attempt.hop);
        let Some(branch) = attempt.branch(response, &self.media) else { return false };
        let branch = attempt.branch_mut(branch);
        if !branch.acknowledge(rseq, invite, &self.trunk, context) {
            return false;
        }
        if let Ok(Some(answer)) = media::description_of_response(response) {
            // One that cannot be used is left out: the final answer may still be good.
            let _ = branch.media.receive_answer(&answer, Finality::Final);
        }
        true
    }

    fn answered(
        &mut self,
        attempt: &Attempt,
        response: &Response,
    ) -> Result<(crate::sip::dialog::Dialog, sdp::Leg), Fault> {
        let (dialog, mut media) = attempt.answered(response, &self.media).ok_or(Fault::MalformedHeader)?;
        let taken = match media::description_of_response(response)? {
            Some(answer) => media.receive_answer(&answer, Finality::Final),
            None => media.confirm_preview(),
        };
        taken.map_err(|refusal| refusal.fault())?;
        Ok((dialog, media))
    }

    /// Takes the INVITE back and gives back what was taken for it.
    pub(super) fn give_up(self, attempts: &mut [Attempt], context: &mut Context<'_>) {
        let own = attempts.iter().find(|attempt| attempt.number == self.attempt && attempt.open);
        if let Some(attempt) = own {
            context.push(Action::Cancel { key: attempt.key(), reason: None });
        }
        if let Some(invite) = self.invite {
            context.push(Action::Unbind { call_id: invite.call_id });
        }
        context.ports.release(self.media.local(), context.now);
    }
}

/// By which trunk the target is called, and where.
fn way(
    asking: &Leg,
    referral: &Referral,
    context: &mut Context<'_>,
) -> Result<(TrunkRef, Permit, Way), Fault> {
    if asking.trunk.sip.refer == ReferPolicy::SendBack {
        return back(asking, &referral.target, context);
    }
    let known = context.policy.trunk_named(&asking.trunk.name).map(|(id, _)| id).ok_or(Fault::NoRoute)?;
    let called = asking.trunk.numbers.read_uri(&referral.target);
    let routed = called.ok_or(Fault::NoRoute).and_then(|called| {
        let (now, spread) = (context.now, context.tokens.number());
        let inquiry = Inquiry { from: known, called: &called, emergency: false, now, spread };
        let decision = context.policy.decide(&inquiry)?;
        let trunk = TrunkRef::new(Arc::clone(context.policy), decision.candidates.trunk());
        Ok((trunk.ok_or(Fault::NoRoute)?, decision.permit, Way::Routes(decision.candidates, called)))
    });
    match routed {
        Err(Fault::NoRoute) if is_at(&referral.target, known, context) => {
            back(asking, &referral.target, context)
        }
        routed => routed,
    }
}

fn is_at(target: &Uri, trunk: crate::base::id::TrunkId, context: &Context<'_>) -> bool {
    target.as_sip().is_some_and(|uri| context.policy.meant_by(trunk, &uri.host, uri.port).is_some())
}

fn back(asking: &Leg, target: &Uri, context: &Context<'_>) -> Result<(TrunkRef, Permit, Way), Fault> {
    let trunk = asking.trunk.clone();
    let permit = trunk.enter()?;
    let hop = hop_to(context.policy, target, &trunk, asking.hop);
    // With TLS each side's requests go by connections of its own.
    let connection = hop.connection.filter(|_| trunk.transport != Transport::Tls);
    Ok((trunk, permit, Way::Back(Some(Hop { connection, ..hop }))))
}

fn status_of(fault: Fault) -> StatusCode {
    StatusCode::new(fault.status()).unwrap_or(StatusCode::SERVER_INTERNAL_ERROR)
}
