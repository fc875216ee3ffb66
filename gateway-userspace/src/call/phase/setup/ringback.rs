//! Ringback of our own: for callers whose network does not ring by itself when the callee does, and for those who were told
//! of early media that does not come (RFC 3960 section 3.2). It gives way to the first that the callee's side says.

use super::Setup;
use crate::base::id::Side;
use crate::call::facts::Facts;
use crate::call::feature::early_media;
use crate::call::media::{self, Playing};
use crate::call::{Action, CallTimer, Context};
use crate::media::bridge::PlayUntil;
use crate::media::{MediaPlan, Tones};
use crate::sdp::{Finality, State};
use crate::signal::tone::{Signal, Source};
use crate::sip::message::{HeaderName, StatusCode};
use std::sync::Arc;

/// What the caller hears of us while its call is set up.
#[derive(Debug, Default)]
pub(super) struct Ringback {
    playing: Option<Playing>,
    /// The callee's side has spoken, or answered: nothing more of us.
    is_over: bool,
    /// Early media was told of, and is waited for.
    watches: bool,
}

impl Ringback {
    pub(super) fn plays(&self) -> bool {
        self.playing.is_some()
    }

    /// Makes the data plane carry `plan`.
    pub(super) fn relay(&mut self, plan: MediaPlan, context: &mut Context<'_>) {
        match &mut self.playing {
            Some(playing) => playing.relay(plan, context),
            None => context.push(Action::Relay(Box::new(plan))),
        }
    }

    /// Something else in its place, to its end.
    pub(super) fn replace(&mut self, playing: Playing, context: &mut Context<'_>) {
        self.stop(context);
        self.playing = Some(playing);
    }

    /// For good.
    pub(super) fn stop(&mut self, context: &mut Context<'_>) {
        self.is_over = true;
        if std::mem::take(&mut self.watches) {
            context.disarm(CallTimer::Silence);
        }
        if let Some(playing) = self.playing.take() {
            playing.stop(context);
        }
    }
}

impl Setup {
    /// The callee rings, and says nothing of media. Where the caller's network wants it the caller is rung by us: then comes
    /// what 183 is to describe, `None` inside where the caller knows it.
    pub(super) fn ring(&mut self, facts: &Facts, context: &mut Context<'_>) -> Option<Option<String>> {
        let tones = self.tones(context)?;
        let is_described = self.caller.media.media().is_some();
        if !tones.on_ringing || (is_described && !self.ringback.plays()) {
            return None;
        }
        self.begin_ringback(facts, &tones, context)
    }

    /// The caller was told that something happens: if it hears nothing for too long, we ring.
    pub(super) fn watch_silence(&mut self, context: &mut Context<'_>) {
        let patience = self.tones(context).and_then(|tones| tones.on_silence);
        if let Some(patience) = patience.filter(|_| !self.ringback.plays() && !self.ringback.watches) {
            self.ringback.watches = true;
            context.arm(CallTimer::Silence, patience);
        }
    }

    /// Nothing has come of the callee's side since.
    pub(super) fn ring_into_silence(&mut self, facts: &Facts, context: &mut Context<'_>) {
        let Some(tones) = self.tones(context).filter(|_| self.ringback.watches) else { return };
        if self.ringback.plays() {
            return;
        }
        let is_told = self.caller.media.media().is_some();
        let body = self.begin_ringback(facts, &tones, context).flatten();
        if let Some(body) = body.filter(|_| !is_told) {
            let status = StatusCode::SESSION_PROGRESS;
            let mut told = self.caller.response(context, &self.request, status, Some(body));
            if let Some(authorization) = early_media::authorization_of_ours(&self.request.headers) {
                told.headers.push(HeaderName::PEarlyMedia, authorization);
            }
            self.provisional.send(told, context);
        }
    }

    /// The callee's side speaks: it is relayed as if there had been no ringback.
    pub(super) fn gave_way(&mut self, context: &mut Context<'_>) {
        if self.ringback.plays() {
            self.ringback.stop(context);
            self.relay(context);
        }
    }

    fn tones(&self, context: &Context<'_>) -> Option<Arc<Tones>> {
        let tones = self.caller.trunk.tones.clone().filter(|_| !self.ringback.is_over)?;
        context.settings.plays.then_some(tones)
    }

    fn begin_ringback(
        &mut self,
        facts: &Facts,
        tones: &Tones,
        context: &mut Context<'_>,
    ) -> Option<Option<String>> {
        let before = self.caller.media.clone();
        let body = self.describe_ringback();
        if self.ringback.plays() {
            return Some(body);
        }
        let source = Source::Cadence(tones.plan.cadence(Signal::Ringback).clone());
        let flowing = self.attempts.last().and_then(|attempt| attempt.media());
        let legs = (&self.caller, &self.callee.trunk, flowing.unwrap_or(&self.callee.media));
        if media::plan_playing(legs, Side::Caller, false).is_none() {
            let call = facts.start.call;
            tracing::info!(%call, "no ringback: the caller takes no media, or none that can be made here");
            self.caller.media = before;
            return None;
        }
        self.ringback.playing = Some(Playing::new(Side::Caller, source, PlayUntil::Speech));
        // Before the caller hears of it: its first packet may come at once.
        self.relay(context);
        Some(body)
    }

    /// What the caller is told of the media that it will hear; `None` where it has been told for good, or has offered none.
    pub(super) fn describe_ringback(&mut self) -> Option<String> {
        let finality =
            if self.provisional.describes_reliably() { Finality::Final } else { Finality::Preview };
        let near = &mut self.caller.media;
        match (near.state(), near.media()) {
            (State::RemoteOffer, None) => near.answer_playing(&self.callee.media, finality).ok(),
            (State::RemoteOffer, Some(_)) => near.answer_again(finality).ok(),
            (State::Stable | State::LocalOffer, _) => None,
        }
    }
}
