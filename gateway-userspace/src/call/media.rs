//! Ports of a call's legs, and the plan that follows from what was negotiated.

use super::Context;
use super::leg::{Leg, TrunkRef};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::base::time::Time;
use crate::media::{LegMedia, MediaPlan, PlanSettings, PortPair, PortPool};
use crate::sdp;
use crate::sip::message::{MediaType, Request, Response};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// What holds for every call's flows: the far side hears one stream whatever happens to its source, and RTCP tells
/// userspace what the far ends heard.
const PLAN: PlanSettings = PlanSettings { continuity: true, rtcp_copy: true };

/// The port pools of one core, by media address.
#[derive(Debug, Default)]
pub struct MediaPorts {
    pools: HashMap<IpAddr, PortPool>,
}

impl MediaPorts {
    pub fn new(pools: impl IntoIterator<Item = PortPool>) -> Self {
        Self { pools: pools.into_iter().map(|pool| (pool.address(), pool)).collect() }
    }

    /// Adds pools for addresses that had none; those there stay as they are.
    pub fn extend(&mut self, pools: impl IntoIterator<Item = PortPool>) {
        for pool in pools {
            self.pools.entry(pool.address()).or_insert(pool);
        }
    }

    pub(super) fn take(&mut self, address: IpAddr, now: Time) -> Result<PortPair, Fault> {
        self.pools.get_mut(&address).and_then(|pool| pool.take(now)).ok_or(Fault::PortsExhausted)
    }

    pub(super) fn release(&mut self, at: SocketAddr, now: Time) {
        if let Some(pool) = self.pools.get_mut(&at.ip()) {
            pool.release(now, at.port());
        }
    }

    /// Takes over a port that a call of another daemon held.
    pub(super) fn claim(&mut self, at: SocketAddr) -> Result<(), Fault> {
        let pool = self.pools.get_mut(&at.ip()).ok_or(Fault::PortsExhausted)?;
        pool.claim(at.port()).map(|_| ()).map_err(|_| Fault::PortsExhausted)
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
    let terms = sdp::Terms {
        codecs: trunk.media.codecs.as_deref().map(Into::into),
        offer_rtcp_mux: trunk.media.offer_rtcp_mux,
    };
    // Below 2^62: peers that hold it in a signed 64-bit integer can (RFC 8866 section 5.2 sets no bound).
    let session_id = context.tokens.number() >> 2;
    Ok(sdp::Leg::new(session_id, SocketAddr::new(address, pair.rtp()), terms))
}

/// The session description in a body, `None` without a body.
pub(super) fn description_of_request(request: &Request) -> Result<Option<sdp::Description>, Fault> {
    description(request.media_type(), &request.body)
}

/// As [`description_of_request`].
pub(super) fn description_of_response(response: &Response) -> Result<Option<sdp::Description>, Fault> {
    description(response.media_type(), &response.body)
}

fn description(media_type: Option<MediaType>, body: &[u8]) -> Result<Option<sdp::Description>, Fault> {
    if body.is_empty() {
        return Ok(None);
    }
    if media_type != Some(MediaType::Sdp) {
        return Err(Fault::UnsupportedMediaType);
    }
    sdp::parse(body).map(Some).map_err(|error| {
        tracing::debug!(%error, "a session description is refused");
        error.fault()
    })
}

/// The flows that carry what both legs have agreed on; before that, what the side that has our offer may send already;
/// else none.
pub(super) fn plan(caller: &Leg, to_trunk: &TrunkRef, callee: &sdp::Leg) -> MediaPlan {
    match (caller.media.media(), callee.media()) {
        (Some(near), Some(far)) => {
            let caller = LegMedia { negotiated: near, policy: &caller.trunk.media };
            let callee = LegMedia { negotiated: far, policy: &to_trunk.media };
            crate::media::plan(caller, callee, PLAN)
        }
        (None, None) => before_answer(caller, to_trunk, callee).unwrap_or_default(),
        (Some(_), None) | (None, Some(_)) => MediaPlan::default(),
    }
}

fn before_answer(caller: &Leg, to_trunk: &TrunkRef, callee: &sdp::Leg) -> Option<MediaPlan> {
    let (near, far) = (caller.media.prospect()?, callee.prospect()?);
    let near = LegMedia { negotiated: &near, policy: &caller.trunk.media };
    let far = LegMedia { negotiated: &far, policy: &to_trunk.media };
    let (offering, answering, answerer) = match caller.media.state() {
        sdp::State::LocalOffer => (far, near, Side::Caller),
        sdp::State::RemoteOffer | sdp::State::Stable => (near, far, Side::Callee),
    };
    answering
        .policy
        .hear_before_answer
        .then(|| crate::media::plan_before_answer(offering, answering, answerer, PLAN))
}
