//! Ports of a call's legs, and the plan that follows from what was negotiated.

use super::leg::{Leg, TrunkRef};
use super::{Action, Context};
use crate::base::fault::Fault;
use crate::base::id::{CallId, Side};
use crate::base::time::Time;
use crate::media::bridge::PlayUntil;
use crate::media::plan::{BridgeSpec, Opposite};
use crate::media::ports::ClaimError;
use crate::media::{LegMedia, MediaPlan, PlanSettings, PortPair, PortPool};
use crate::rtp::{Codec, Encoding};
use crate::sdp;
use crate::signal::tone::Source;
use crate::sip::message::{Request, Response, Unsupported};
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What holds for every call's flows: the far side hears one stream whatever happens to its source, and RTCP tells
/// userspace what the far ends heard.
const PLAN: PlanSettings = PlanSettings { continuity: true, rtcp_copy: true };

/// The port pools of one core, by media address.
#[derive(Debug, Default)]
pub struct MediaPorts {
    pools: HashMap<IpAddr, PortPool>,
    /// Ports of other cores that calls of this one have had with a dialog that came from there, and have no more.
    pub(crate) freed_elsewhere: Vec<SocketAddr>,
    /// Such ports that calls of this core have from the daemon before.
    pub(crate) taken_elsewhere: Vec<SocketAddr>,
    /// Whose step is under way: what it takes and claims is its own.
    pub(crate) owner: Option<CallId>,
    /// Ports in use, and the calls that have them.
    held: HashMap<SocketAddr, Option<CallId>>,
}

impl MediaPorts {
    pub fn new(pools: impl IntoIterator<Item = PortPool>) -> Self {
        Self { pools: pools.into_iter().map(|pool| (pool.address(), pool)).collect(), ..Self::default() }
    }

    /// Adds pools for addresses that had none; those there stay as they are.
    pub fn extend(&mut self, pools: impl IntoIterator<Item = PortPool>) {
        for pool in pools {
            self.pools.entry(pool.address()).or_insert(pool);
        }
    }

    pub(super) fn take(&mut self, address: IpAddr, now: Time) -> Result<PortPair, Fault> {
        let pair =
            self.pools.get_mut(&address).and_then(|pool| pool.take(now)).ok_or(Fault::PortsExhausted)?;
        self.held.insert(SocketAddr::new(address, pair.rtp()), self.owner);
        Ok(pair)
    }

    pub(crate) fn release(&mut self, at: SocketAddr, now: Time) {
        if !self.release_own(at, now) {
            self.freed_elsewhere.push(at);
        }
    }

    /// Gives back a port of this core; `false` if it is none.
    pub(crate) fn release_own(&mut self, at: SocketAddr, now: Time) -> bool {
        self.held.remove(&at);
        self.pools.get_mut(&at.ip()).is_some_and(|pool| pool.release(now, at.port()))
    }

    /// Takes over a port that a call of another daemon held.
    pub(super) fn claim(&mut self, at: SocketAddr) -> Result<(), Fault> {
        let pool = self.pools.get_mut(&at.ip()).ok_or(Fault::PortsExhausted)?;
        match pool.claim(at.port()) {
            Err(ClaimError::Foreign(_)) => self.taken_elsewhere.push(at),
            claimed => {
                claimed.map_err(|_| Fault::PortsExhausted)?;
            }
        }
        self.keep(at);
        Ok(())
    }

    /// The call whose step it is has this port from now on: it came with a dialog of another call.
    pub(super) fn keep(&mut self, at: SocketAddr) {
        self.held.insert(at, self.owner);
    }

    /// This port goes to another call.
    pub(super) fn give_away(&mut self, at: SocketAddr) {
        self.held.remove(&at);
    }

    /// Gives back all that a call has.
    pub(crate) fn release_all(&mut self, call: CallId, now: Time) {
        let of_call = self.held.iter().filter(|(_, owner)| **owner == Some(call));
        let mut ports: Vec<_> = of_call.map(|(at, _)| *at).collect();
        ports.sort_unstable();
        for at in ports {
            self.release(at, now);
        }
    }

    /// A port of this core that a call of another core has from the daemon before.
    pub(crate) fn claim_own(&mut self, at: SocketAddr) {
        // Not in this core's part of the range: it is a third one's.
        let _ = self.pools.get_mut(&at.ip()).map(|pool| pool.claim(at.port()));
    }

    /// Ports held and ports there are, both of pairs.
    pub fn usage(&self) -> (usize, usize) {
        self.pools.values().fold((0, 0), |(used, all), pool| (used + pool.in_use(), all + pool.capacity()))
    }
}

/// A fresh session description side for a leg of `trunk`, with a port pair of its own.
pub(super) fn open(trunk: &TrunkRef, context: &mut Context<'_>) -> Result<sdp::Leg, Fault> {
    let address = trunk.media_address;
    let pair = context.ports.take(address, context.now)?;
    // Below 2^62: peers that hold it in a signed 64-bit integer can (RFC 8866 section 5.2 sets no bound).
    let session_id = context.tokens.number() >> 2;
    let local = SocketAddr::new(address, pair.rtp());
    Ok(sdp::Leg::new(session_id, local, trunk.media.terms(), context.tokens))
}

/// What we offer of our own accord, as far as the trunks allow it: what every telephone network carries.
pub(super) fn own_formats() -> Vec<sdp::Format> {
    let speech =
        [8, 9, 0].into_iter().filter_map(|number| Some((number, Codec::of_static_payload_type(number)?)));
    let mut formats: Vec<_> =
        speech.map(|(payload_type, codec)| sdp::Format { payload_type, codec, fmtp: None }).collect();
    let codec = Codec::mono(Encoding::TelephoneEvent, 8_000);
    // RFC 4733 section 2.4.1: the keys of a telephone.
    formats.push(sdp::Format { payload_type: 101, codec, fmtp: Some("0-15".into()) });
    formats
}

/// The session description in a body, `None` without a body.
pub(super) fn description_of_request(request: &Request) -> Result<Option<sdp::Description>, Fault> {
    description(request.session())
}

/// As [`description_of_request`].
pub(super) fn description_of_response(response: &Response) -> Result<Option<sdp::Description>, Fault> {
    description(response.session())
}

fn description(session: Result<Option<&[u8]>, Unsupported>) -> Result<Option<sdp::Description>, Fault> {
    let Some(body) = session.map_err(|Unsupported| Fault::UnsupportedMediaType)? else { return Ok(None) };
    sdp::parse(body).map(Some).map_err(|error| {
        tracing::debug!(%error, "a session description is refused");
        error.fault()
    })
}

/// The flows that carry what both legs have agreed on. What one has not agreed on yet is taken for what was offered: the
/// side that has our offer may send by it already, and is sent nothing.
pub(super) fn plan(caller: &Leg, to_trunk: &TrunkRef, callee: &sdp::Leg) -> MediaPlan {
    let (Some(near), Some(far)) = (View::of(&caller.media), View::of(callee)) else {
        return MediaPlan::default();
    };
    let caller = LegMedia { negotiated: &near.media, policy: &caller.trunk.media };
    let callee = LegMedia { negotiated: &far.media, policy: &to_trunk.media };
    let (offering, answering, answerer) = match (near.unanswered, far.unanswered) {
        (false, false) => {
            let plan = crate::media::plan(caller, callee, PLAN);
            let both = near.is_agreed && far.is_agreed;
            return if both { plan.bridged(caller, callee) } else { plan };
        }
        (_, true) => (caller, callee, Side::Callee),
        (true, false) => (callee, caller, Side::Caller),
    };
    match answering.policy.hear_before_answer {
        true => crate::media::plan_before_answer(offering, answering, answerer, PLAN),
        false => MediaPlan::default(),
    }
}

/// The same with something between the peers that plays to the one of `to`, where that one has agreed to media that we can
/// make; `None` where nothing can be played. `is_gone`: the other one has left.
pub(super) fn plan_playing(
    (caller, to_trunk, callee): (&Leg, &TrunkRef, &sdp::Leg),
    to: Side,
    is_gone: bool,
) -> Option<MediaPlan> {
    let (near, mut far) = (View::of(&caller.media)?, View::of(callee)?);
    let hearer = if to == Side::Caller { &near } else { &far };
    if !hearer.is_agreed || (to == Side::Callee && near.unanswered) {
        return None;
    }
    let mut opposite = if is_gone { Opposite::Gone } else { Opposite::Present };
    let awaits_answer = far.unanswered;
    if awaits_answer {
        // Packets that cannot be read yet are as good as none (RFC 4568 section 5.1.2).
        let is_secured = matches!(far.media.security, sdp::Security::Awaited);
        if is_secured {
            far.media.to_mut().security = sdp::Security::Plain;
        }
        if is_secured || !to_trunk.media.hear_before_answer {
            opposite = Opposite::Unheard;
        }
    }
    let caller = LegMedia { negotiated: &near.media, policy: &caller.trunk.media };
    let callee = LegMedia { negotiated: &far.media, policy: &to_trunk.media };
    let plan = if awaits_answer {
        crate::media::plan_before_answer(caller, callee, Side::Callee, PLAN)
    } else {
        crate::media::plan(caller, callee, PLAN).bridged(caller, callee)
    };
    let (hearer, other) = if to == Side::Caller { (caller, callee) } else { (callee, caller) };
    plan.playing(to, (hearer, other), opposite)
}

/// What a peer hears of us.
#[derive(Debug)]
pub(super) struct Playing {
    pub(super) to: Side,
    source: Source,
    until: PlayUntil,
    /// What plays it since it was begun.
    by: Option<Arc<BridgeSpec>>,
}

impl Playing {
    pub(super) fn new(to: Side, source: Source, until: PlayUntil) -> Self {
        Self { to, source, until, by: None }
    }

    /// Makes the data plane carry `plan`, which has something that plays: it begins, or goes on where it is the same.
    pub(super) fn relay(&mut self, plan: MediaPlan, context: &mut Context<'_>) {
        let by = plan.flows.iter().find_map(|flow| flow.bridge.clone());
        context.push(Action::Relay(Box::new(plan)));
        if by != self.by {
            self.by = by;
            context.push(Action::Play { to: self.to, what: Some((self.source.clone(), self.until)) });
        }
    }

    pub(super) fn stop(self, context: &mut Context<'_>) {
        context.push(Action::Play { to: self.to, what: None });
    }
}

/// A leg as a plan sees it.
struct View<'a> {
    media: Cow<'a, sdp::Negotiated>,
    /// Its peer has our offer and was never heard on it.
    unanswered: bool,
    /// Something holds, and not only what the peer has offered.
    is_agreed: bool,
}

impl<'a> View<'a> {
    fn of(leg: &'a sdp::Leg) -> Option<Self> {
        if let Some(media) = leg.media() {
            return Some(Self { media: Cow::Borrowed(media), unanswered: false, is_agreed: true });
        }
        let media = Cow::Owned(leg.prospect()?);
        let unanswered = leg.state() == sdp::State::LocalOffer;
        Some(Self { media, unanswered, is_agreed: false })
    }
}
