//! Session timers of an answered call: each side's session is refreshed on its own leg, and ends both legs when it expires.

use super::change::INTERVAL_TOO_SMALL;
use super::{BOTH, Established, Purpose, Stage};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::{Ending as Outcome, Facts};
use crate::call::feature::session_timer::Due;
use crate::call::leg::SDP;
use crate::call::phase::Phase;
use crate::call::{CallTimer, Context, RequestKey};
use crate::sip::message::{Method, Response, StatusCode};
use std::time::Duration;

/// How long a refresh waits that cannot go now: long enough for what is under way to end, short against any interval.
const POSTPONED: Duration = Duration::from_secs(4);

impl Established {
    /// Arms the timers as the sessions now stand.
    pub(super) fn watch_sessions(&mut self, context: &mut Context<'_>) {
        for side in BOTH {
            let deadline = self.legs.of(side).session.deadline();
            if self.armed[side.index()] == deadline {
                continue;
            }
            self.armed[side.index()] = deadline;
            match deadline {
                Some(at) => context.arm(CallTimer::Session(side), at.since(context.now)),
                None => context.disarm(CallTimer::Session(side)),
            }
        }
    }

    pub(super) fn session_due(
        mut self: Box<Self>,
        facts: &mut Facts,
        side: Side,
        context: &mut Context<'_>,
    ) -> Phase {
        self.armed[side.index()] = None;
        match self.legs.of(side).session.due(context.now) {
            Some(Due::Expired) => {
                return self.end(facts, Outcome::fault(Fault::SessionExpired, true), &BOTH, context);
            }
            Some(Due::Refresh) => self.refresh(facts, side, context),
            None => {}
        }
        Phase::Established(self)
    }

    /// Refreshes the session with this side: by UPDATE without a session description where the peer takes it (RFC 4028
    /// section 7.4), else by a re-INVITE that repeats our last one.
    pub(super) fn refresh(&mut self, facts: &Facts, side: Side, context: &mut Context<'_>) {
        let is_free = matches!(self.stage, Stage::Steady);
        let leg = self.legs.of_mut(side);
        // The answer has 64*T1 to come; the end of the session is watched meanwhile.
        leg.session.put_off(context.now, 64 * context.settings.t1);
        if leg.abilities.update {
            let draft = leg.dialog.request(Method::Update);
            self.refreshing[side.index()] = Some(draft.sequence);
            leg.request(context, RequestKey::Update { to: side }, draft);
            return self.save(facts, context);
        }
        if !is_free || !leg.dialog.may_invite() {
            return leg.session.put_off(context.now, POSTPONED);
        }
        let Ok(body) = leg.media.offer_again() else { return };
        let Ok(mut draft) = leg.dialog.invite() else { return leg.media.abandon() };
        draft.set_body(SDP, body);
        self.stage = Stage::Offering(side, draft.sequence, Purpose::Refresh);
        leg.request(context, RequestKey::Reinvite { to: side }, draft);
        self.save(facts, context);
    }

    pub(super) fn is_refresh(&self, to: Side, response: &Response) -> bool {
        let head = &response.head;
        head.cseq.method == Method::Update && self.refreshing[to.index()] == Some(head.cseq.number)
    }

    /// The final answer to an UPDATE that refreshed the session with `to`.
    pub(super) fn refresh_answered(
        mut self: Box<Self>,
        facts: &mut Facts,
        to: Side,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        self.refreshing[to.index()] = None;
        let leg = self.legs.of_mut(to);
        leg.dialog.receive_response(response);
        match response.status {
            status if status.is_success() => {
                leg.session.learn(response, context.now);
                self.save(facts, context);
            }
            INTERVAL_TOO_SMALL if leg.session.raise(response) => self.refresh(facts, to, context),
            StatusCode::NO_SUCH_TRANSACTION | StatusCode::REQUEST_TIMEOUT => {
                return self.end(facts, Outcome::fault(Fault::NoSuchDialog, true), &BOTH, context);
            }
            _ => leg.session.put_off(context.now, POSTPONED),
        }
        Phase::Established(self)
    }
}
