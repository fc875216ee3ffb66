//! Answers that one side gets from us without asking the other: to UPDATE, to an offer in a PRACK, and to changes that
//! concern that side alone.

use crate::base::fault::Fault;
use crate::sdp;

/// Answers `offer` of the peer of `asking` by what the other side has agreed to or, before it has, by what its trunk
/// allows (RFC 3311 section 5.2 says when not). A refusal changes nothing.
pub(in crate::call) fn answer(
    asking: &mut sdp::Leg,
    other: &sdp::Leg,
    offer: sdp::Description,
) -> Result<String, Fault> {
    match asking.state() {
        // We owe them an answer already.
        sdp::State::RemoteOffer => return Err(Fault::InvitePending),
        sdp::State::LocalOffer => return Err(Fault::RequestPending),
        sdp::State::Stable => {}
    }
    let taken = asking.receive_offer(offer);
    let answered = taken.and_then(|()| match other.media() {
        Some(_) => asking.answer_agreed(other, None),
        None => asking.answer_own(other),
    });
    answered.map_err(|refusal| {
        asking.abandon();
        refusal.fault()
    })
}
