//! Refusals that the caller hears: a tone or an announcement as early media, and the final response behind it (TS 24.628
//! section 4.2).

use super::{Failure, Setup};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::Facts;
use crate::call::feature::early_media;
use crate::call::media::{self, Playing};
use crate::call::phase::{Phase, crossing};
use crate::call::{CallTimer, Context, Event, RequestKey};
use crate::media::bridge::PlayUntil;
use crate::sip::message::{HeaderName, StatusCode};
use std::time::Duration;

/// Behind the end of an announcement, until whoever plays it has told of that.
const MARGIN: Duration = Duration::from_millis(500);

impl Setup {
    /// Has the caller hear why it is about to be refused, where its trunk wants that; `false` where it is to be refused now.
    pub(super) fn explain(&mut self, facts: &Facts, failure: Failure, context: &mut Context<'_>) -> bool {
        let status = match failure {
            Failure::Fault(Fault::Cancelled) => return false,
            Failure::Fault(fault) => fault.status(),
            Failure::Status(status, _) => crossing(status).code(),
        };
        let tones = self.caller.trunk.tones.clone();
        let wanted = tones.filter(|_| context.settings.plays && self.refusing.is_none());
        let Some((source, length)) = wanted.and_then(|tones| tones.refusal(status)) else { return false };
        let before = self.caller.media.clone();
        let body = self.describe_ringback();
        let legs = (&self.caller, &self.callee.trunk, &self.callee.media);
        if media::plan_playing(legs, Side::Caller, false).is_none() {
            let call = facts.start.call;
            tracing::info!(%call, status, "refused unheard: the caller takes no media, or none that can be made here");
            self.caller.media = before;
            return false;
        }
        self.refusing = Some(failure);
        self.ringback.replace(Playing::new(Side::Caller, source, PlayUntil::Stopped), context);
        for timer in [CallTimer::PeerSilent, CallTimer::NoAnswer, CallTimer::NoProgress] {
            context.disarm(timer);
        }
        self.relay(context);
        if body.is_some() {
            let mut told = self.caller.response(context, &self.request, StatusCode::SESSION_PROGRESS, body);
            if let Some(authorization) = early_media::authorization_of_ours(&self.request.headers) {
                told.headers.push(HeaderName::PEarlyMedia, authorization);
            }
            self.provisional.send(told, context);
        }
        context.arm(CallTimer::Refusal, length + MARGIN);
        true
    }

    /// What is left of an event while the caller hears why it is refused; `None` when it has heard it.
    pub(super) fn while_refusing(&mut self, event: Event, context: &mut Context<'_>) -> Option<Event> {
        if self.refusing.is_none() {
            return Some(event);
        }
        match event {
            Event::Timer(CallTimer::Refusal)
            | Event::Played { to: Side::Caller }
            | Event::FlowsRefused(_) => None,
            Event::Response { key: RequestKey::Invite { attempt }, response } => {
                let own = self.attempts.iter_mut().find(|own| own.number == attempt);
                if let Some(own) = own.filter(|_| response.status.is_final()) {
                    own.open = false;
                    if response.status.is_success() {
                        own.release(&response, context);
                    }
                }
                Some(Event::Timer(CallTimer::Refusal))
            }
            Event::TimedOut { key: RequestKey::Invite { attempt } }
            | Event::Unreachable { key: RequestKey::Invite { attempt } } => {
                let own = self.attempts.iter_mut().filter(|own| own.number == attempt);
                own.for_each(|own| own.open = false);
                Some(Event::Timer(CallTimer::Refusal))
            }
            Event::Replace { joiner, .. } => {
                joiner.refuse(Fault::NoSuchDialog, context);
                Some(Event::Timer(CallTimer::Refusal))
            }
            event => Some(event),
        }
    }

    /// The caller has heard why.
    pub(super) fn refused(self: Box<Self>, facts: &mut Facts, context: &mut Context<'_>) -> Phase {
        match self.refusing {
            Some(failure) => self.fail(facts, context, failure),
            None => Phase::Setup(self),
        }
    }
}
