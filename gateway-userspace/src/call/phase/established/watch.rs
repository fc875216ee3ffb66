//! The watch over media of an answered call, and what observers hear of it.

use super::Established;
use crate::call::facts::Facts;
use crate::call::leg::Leg;
use crate::call::{Action, CallTimer, Context};
use crate::observe;
use crate::observe::event::MediaSummary;
use std::time::Duration;

impl Established {
    pub(super) fn watch_media(&self, context: &mut Context<'_>) {
        let timeout = context.settings.media_timeout;
        if !timeout.is_zero() {
            context.arm(CallTimer::MediaCheck, (timeout / 4).max(Duration::from_secs(1)));
        }
    }

    /// Whether neither side was heard for the media timeout. A call on hold may be silent, also one that is held by
    /// `sendonly`: few phones play music.
    pub(super) fn is_dead(&self, heard: [Option<Duration>; 2], context: &Context<'_>) -> bool {
        let since_agreed = context.now.since(self.agreed);
        let talks = |leg: &Leg| {
            leg.media.media().is_some_and(|media| media.direction.sends() && media.direction.receives())
        };
        let silent = |heard: Option<Duration>| {
            heard.unwrap_or(since_agreed).min(since_agreed) >= context.settings.media_timeout
        };
        talks(&self.legs.caller) && talks(&self.legs.callee) && heard.into_iter().all(silent)
    }

    pub(super) fn publish_media(&self, facts: &Facts, context: &mut Context<'_>) {
        let (Some(near), Some(far)) = (self.legs.caller.media.media(), self.legs.callee.media.media()) else {
            return;
        };
        let codec = |media: &crate::sdp::Negotiated| {
            media.formats.first().map(|format| format.codec.to_string()).unwrap_or_default().into()
        };
        let both_ways =
            |media: &crate::sdp::Negotiated| media.direction.sends() && media.direction.receives();
        let media = MediaSummary {
            caller_codec: codec(near),
            callee_codec: codec(far),
            early: facts.answered.is_none(),
            held: !both_ways(near) || !both_ways(far),
        };
        context.push(Action::Publish(observe::Event::MediaPlanned { call: facts.start.call, media }));
    }
}
