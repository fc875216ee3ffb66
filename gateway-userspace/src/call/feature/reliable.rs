//! Reliable provisional responses (RFC 3262), terminated on each leg: what we say reliably to a caller, and what a callee
//! says reliably to us.

use crate::base::time::Time;
use crate::call::{Action, CallTimer, Context};
use crate::policy::ReliableProvisional;
use crate::sip::message::{Draft, HeaderName, Headers, Request, Response};
use crate::sip::transaction::ServerId;
use std::collections::VecDeque;
use std::time::Duration;

use super::ability::REL100;

/// Our provisional responses to one INVITE, in order: each reliable one waits until the one before it is acknowledged
/// (section 3).
#[derive(Debug)]
pub(in crate::call) struct Provisional {
    server: ServerId,
    /// CSeq number of the INVITE, which RAck repeats.
    invite: u32,
    need: Need,
    /// RSeq of the next reliable one.
    next: u32,
    open: Option<Open>,
    waiting: VecDeque<Response>,
}

/// Which of them are sent reliably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    None,
    /// The caller can, and so those that carry a session description are.
    Described,
    All,
}

/// Sent and not acknowledged yet.
#[derive(Debug)]
struct Open {
    rseq: u32,
    response: Response,
    pause: Duration,
    give_up: Time,
}

/// Provisional responses that wait for the one before them; more of them are news to nobody.
const MAX_WAITING: usize = 8;

impl Provisional {
    /// For an INVITE of a caller on a trunk with this policy; `start` is random.
    pub(in crate::call) fn of(
        server: ServerId,
        invite: &Request,
        policy: ReliableProvisional,
        start: u64,
    ) -> Self {
        let requires = invite.headers.has_token(&HeaderName::Require, REL100);
        let supports = requires || invite.headers.has_token(&HeaderName::Supported, REL100);
        let need = match (requires, supports, policy) {
            (true, _, _) | (_, true, ReliableProvisional::Required) => Need::All,
            (false, true, ReliableProvisional::Supported) => Need::Described,
            (false, true, ReliableProvisional::Off) | (false, false, _) => Need::None,
        };
        // Section 3: the first lies between 1 and 2^31 - 1; there must be room to count on.
        let next = 1 + (start % (1 << 30)) as u32;
        let invite = invite.head.cseq.number;
        Self { server, invite, need, next, open: None, waiting: VecDeque::new() }
    }

    /// Whether a response with a session description goes out reliably, and so brings an answer or an offer to stay.
    pub(in crate::call) fn describes_reliably(&self) -> bool {
        self.need != Need::None
    }

    /// Sends `response` (101 to 199) in its turn.
    pub(in crate::call) fn send(&mut self, response: Response, context: &mut Context<'_>) {
        if self.open.is_some() {
            if self.waiting.len() < MAX_WAITING {
                self.waiting.push_back(response);
            }
            return;
        }
        self.transmit(response, context);
    }

    /// Takes a PRACK; whether it acknowledges the response that waits for it (section 3: else 481).
    pub(in crate::call) fn acknowledged(&mut self, prack: &Headers, context: &mut Context<'_>) -> bool {
        let acknowledged = prack.value(&HeaderName::RAck).and_then(rack);
        let expected = self.open.as_ref().map(|open| (open.rseq, self.invite));
        if acknowledged.is_none() || acknowledged != expected {
            return false;
        }
        self.open = None;
        context.disarm(CallTimer::Provisional);
        true
    }

    /// Sends what waited for the PRACK that came.
    pub(in crate::call) fn proceed(&mut self, context: &mut Context<'_>) {
        while self.open.is_none()
            && let Some(response) = self.waiting.pop_front()
        {
            self.transmit(response, context);
        }
    }

    /// Whether a response waits for its PRACK: until then no 2xx may go out, since the response may have carried an
    /// answer (section 3).
    pub(in crate::call) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Sends the open response again, at twice the pause before; false if its PRACK never came (64*T1).
    pub(in crate::call) fn repeat(&mut self, context: &mut Context<'_>) -> bool {
        let Some(open) = &mut self.open else { return true };
        if context.now >= open.give_up {
            return false;
        }
        open.pause *= 2;
        context.arm(CallTimer::Provisional, open.pause.min(open.give_up.since(context.now)));
        let response = Box::new(open.response.clone());
        context.push(Action::Respond { server: self.server, response });
        true
    }

    fn transmit(&mut self, mut response: Response, context: &mut Context<'_>) {
        let reliable = match self.need {
            Need::None => false,
            Need::Described => !response.body.is_empty(),
            Need::All => true,
        };
        if reliable {
            let t1 = context.settings.t1;
            response.headers.push(HeaderName::Require, REL100);
            response.headers.push(HeaderName::RSeq, self.next.to_string());
            let give_up = context.now + 64 * t1;
            self.open = Some(Open { rseq: self.next, response: response.clone(), pause: t1, give_up });
            self.next += 1;
            context.arm(CallTimer::Provisional, t1);
        }
        context.push(Action::Respond { server: self.server, response: Box::new(response) });
    }
}

/// Says in an INVITE that carries an offer what its trunk wants of provisional responses.
pub(in crate::call) fn ask(policy: ReliableProvisional, invite: &mut Draft) {
    match policy {
        ReliableProvisional::Off => {}
        ReliableProvisional::Supported => invite.headers.push(HeaderName::Supported, REL100),
        ReliableProvisional::Required => invite.headers.push(HeaderName::Require, REL100),
    }
}

/// RSeq of a response that was sent reliably.
pub(in crate::call) fn sequence(response: &Response) -> Option<u32> {
    if !response.headers.has_token(&HeaderName::Require, REL100) {
        return None;
    }
    response.headers.value(&HeaderName::RSeq)?.trim().parse().ok()
}

/// Whether a reliable response of an early dialog is to be taken, whose last one had RSeq `last`: not a copy, and none
/// that overtook another (section 4).
pub(in crate::call) fn is_next(last: Option<u32>, rseq: u32) -> bool {
    last.is_none_or(|last| last.checked_add(1) == Some(rseq))
}

/// RAck of the PRACK for `rseq` of the INVITE with this number.
pub(in crate::call) fn rack_of(rseq: u32, invite: u32) -> String {
    format!("{rseq} {invite} INVITE")
}

/// `response-num CSeq-num Method` (section 7.2), of an INVITE.
fn rack(value: &str) -> Option<(u32, u32)> {
    let mut words = value.split_ascii_whitespace();
    let numbers = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (words.next()? == "INVITE").then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rack_is_read_as_it_is_written() {
        assert_eq!(rack(&rack_of(776_656, 1)), Some((776_656, 1)));
        assert_eq!(rack(" 1   2 \tINVITE"), Some((1, 2)));
        for broken in ["", "1", "1 2", "1 2 BYE", "x 2 INVITE", "1 -2 INVITE", "4294967296 1 INVITE"] {
            assert_eq!(rack(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn only_the_next_in_order_is_taken() {
        assert!(is_next(None, 99));
        assert!(is_next(Some(99), 100));
        for wrong in [98, 99, 101] {
            assert!(!is_next(Some(99), wrong));
        }
        assert!(!is_next(Some(u32::MAX), 0));
    }
}
