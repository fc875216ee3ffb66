//! Dialogs that a transfer took out of a call: each is left to its peer's BYE, and hung up after a guard time.

use crate::base::fault::Fault;
use crate::base::time::Time;
use crate::call::leg::Leg;
use crate::call::{Action, CallTimer, Context, RequestKey};
use crate::sip::message::{Head, Method, Request, StatusCode};
use crate::sip::transaction::ServerId;

/// A dialog that is no side of the call any more.
#[derive(Debug)]
pub(in crate::call) struct Parting {
    /// Its port is given back.
    pub(super) leg: Leg,
    /// Of the transfer.
    pub(super) number: u8,
    /// When it is hung up.
    until: Time,
    sent: bool,
}

impl Parting {
    fn parts(&self) -> (&Leg, u8, Time) {
        (&self.leg, self.number, self.until)
    }
}

/// The dialogs of a call that are about to end.
#[derive(Debug, Default)]
pub(in crate::call) struct Partings(Vec<Parting>);

impl Partings {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Leaves `leg` to its peer's BYE until then.
    pub(super) fn add(&mut self, leg: Leg, number: u8, until: Time, context: &mut Context<'_>) {
        self.0.push(Parting { leg, number, until, sent: false });
        self.expire(context);
    }

    /// Those that no BYE of ours has gone to, each with the number of its transfer and the end of its time.
    pub(in crate::call) fn open(&self) -> impl Iterator<Item = (&Leg, u8, Time)> {
        self.0.iter().filter(|parting| !parting.sent).map(Parting::parts)
    }

    /// Those whose BYE has no answer yet.
    pub(in crate::call) fn hung_up(&self) -> impl Iterator<Item = (&Leg, u8, Time)> {
        self.0.iter().filter(|parting| parting.sent).map(Parting::parts)
    }

    /// Those that a daemon before this one left.
    pub(in crate::call) fn restored(left: impl IntoIterator<Item = (Leg, u8, Time)>) -> Self {
        let restored = left.into_iter();
        Self(restored.map(|(leg, number, until)| Parting { leg, number, until, sent: false }).collect())
    }

    /// The dialog that has this Call-ID.
    pub(super) fn of(&mut self, call_id: &str) -> Option<&mut Leg> {
        self.0.iter_mut().map(|parting| &mut parting.leg).find(|leg| leg.dialog.call_id() == call_id)
    }

    pub(super) fn has(&self, call_id: &str, tag: &str) -> bool {
        let same = |leg: &Leg| leg.dialog.call_id() == call_id && leg.local_tag() == tag;
        self.0.iter().any(|parting| same(&parting.leg))
    }

    /// Takes a request that is for one of them; `false` if it is for none.
    pub(super) fn request(
        &mut self,
        (server, request): (ServerId, &Request),
        context: &mut Context<'_>,
    ) -> bool {
        let Some(leg) = self.of(&request.head.call_id) else { return false };
        if let Err(refused) = leg.dialog.receive(request) {
            leg.turn_away(context, (server, request), refused.fault());
            return true;
        }
        match request.method {
            Method::Bye => {
                leg.respond(context, (server, request), StatusCode::OK, None);
                let call_id = request.head.call_id.clone();
                self.forget(|parting| parting.leg.dialog.call_id() == call_id, context);
            }
            Method::Options => leg.respond(context, (server, request), StatusCode::OK, None),
            // What it would change is not there any more.
            Method::Invite | Method::Update => leg.refuse(context, (server, request), Fault::RequestPending),
            _ => leg.turn_away(context, (server, request), Fault::MethodNotAllowed),
        }
        true
    }

    /// Takes the ACK that one of them waited for; `false` if it is for none.
    pub(super) fn acknowledged(&mut self, head: &Head, context: &mut Context<'_>) -> bool {
        let Some(leg) = self.of(&head.call_id) else { return false };
        leg.dialog.settle();
        self.expire(context);
        true
    }

    /// ACKs that never came are not waited for any longer.
    pub(super) fn give_up_acks(&mut self, context: &mut Context<'_>) {
        self.0.iter_mut().for_each(|parting| parting.leg.dialog.settle());
        self.expire(context);
    }

    /// The BYE in the dialog of this transfer has its final answer, or will have none.
    pub(super) fn finished(&mut self, number: u8, context: &mut Context<'_>) {
        self.forget(|parting| parting.number == number, context);
    }

    /// Hangs up on those whose time is over: none whose ACK is still on its way (RFC 3261 section 15).
    pub(super) fn expire(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        let mut next: Option<Time> = None;
        for parting in self.0.iter_mut().filter(|parting| !parting.sent) {
            if parting.until > now || parting.leg.dialog.awaits_ack() {
                if parting.until > now {
                    next = Some(next.map_or(parting.until, |next| next.min(parting.until)));
                }
                continue;
            }
            parting.sent = true;
            let draft = parting.leg.dialog.request(Method::Bye);
            parting.leg.request(context, RequestKey::Part { number: parting.number }, draft);
        }
        match next {
            Some(at) => context.arm(CallTimer::Parting, at.since(now)),
            None => context.disarm(CallTimer::Parting),
        }
    }

    fn forget(&mut self, gone: impl Fn(&Parting) -> bool, context: &mut Context<'_>) {
        for parting in self.0.extract_if(.., |parting| gone(parting)) {
            context.push(Action::Unbind { call_id: parting.leg.dialog.call_id().to_owned() });
        }
        self.expire(context);
    }
}
