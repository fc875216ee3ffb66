//! Calls with dialogs of more than one core: a dialog that joins a call by Replaces, or comes to it from another call, has a
//! Call-ID whose hash may name another core than the call's. That core passes on what has this Call-ID; the call itself
//! never moves.

use super::core::Core;
use super::registrations;
use super::turn::{Errand, Turn};
use crate::base::id::{CallId, CoreId};
use crate::base::time::Time;
use crate::call::{Claim, Claimant, Event, Replaces};
use crate::sip::dialog::DialogId;
use crate::sip::message::{Message, Method, Request};
use crate::sip::transport::Hop;
use std::collections::HashMap;
use std::time::Duration;

/// Call-IDs of a core whose calls live on others.
#[derive(Debug, Default)]
pub(super) struct Guests {
    hosts: HashMap<Box<str>, Host>,
}

#[derive(Debug)]
struct Host {
    core: CoreId,
    /// Until when it is known without the host's own word: for an INVITE that is refused there, and its copies.
    until: Option<Time>,
}

/// As long as copies of an INVITE and its ACK may come: 64*T1, and a little.
const PROVISIONAL: Duration = Duration::from_secs(40);

impl Guests {
    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.hosts.values().filter_map(|host| host.until).min()
    }

    pub(super) fn expire(&mut self, now: Time) {
        if !self.hosts.is_empty() {
            self.hosts.retain(|_, host| host.until.is_none_or(|until| until > now));
        }
    }

    fn of(&self, call_id: &str) -> Option<CoreId> {
        self.hosts.get(call_id).map(|host| host.core)
    }
}

/// The core that a message is for, where it is another one.
pub(super) fn host(core: &mut Core, now: Time, message: &Message) -> Option<CoreId> {
    let call_id = message.head().call_id.as_str();
    if let Some(host) = core.guests.of(call_id) {
        return Some(host);
    }
    let Message::Request(request) = message else { return None };
    let host = host_of_replaced(core, request)?;
    core.guests.hosts.insert(call_id.into(), Host { core: host, until: Some(now + PROVISIONAL) });
    Some(host)
}

/// The core whose call has the dialog that an INVITE is to replace, as its Call-ID says.
fn host_of_replaced(core: &Core, request: &Request) -> Option<CoreId> {
    if request.method != Method::Invite || request.head.to.tag().is_some() {
        return None;
    }
    let replaces = Replaces::of(&request.headers).ok()??;
    elsewhere(core, &replaces.call_id)
}

/// The core that a Call-ID leads to, where it is another one.
fn elsewhere(core: &Core, call_id: &str) -> Option<CoreId> {
    if core.legs.contains_key(call_id) {
        return None;
    }
    let share = core.settings.share;
    let owner = core.guests.of(call_id).unwrap_or_else(|| share.owner(call_id.as_bytes()));
    (owner != share.core).then_some(owner)
}

/// Tells the core that a Call-ID names by its hash where its messages go.
pub(super) fn announce(core: &Core, turn: &mut Turn<'_>, call_id: &str) {
    let share = core.settings.share;
    let owner = share.owner(call_id.as_bytes());
    if owner != share.core {
        turn.out.errands.push((owner, Errand::Guest { call_id: call_id.into(), host: share.core }));
    }
}

/// A dialog has left its call.
pub(super) fn unbind(core: &mut Core, turn: &mut Turn<'_>, id: CallId, call_id: &str) {
    if let Some(entry) = core.calls.get_mut(&id) {
        entry.call_ids.retain(|own| &**own != call_id);
    }
    release(core, turn, id, call_id);
}

/// Requests with this Call-ID are not for this call any more.
pub(super) fn release(core: &mut Core, turn: &mut Turn<'_>, id: CallId, call_id: &str) {
    let Some(legs) = core.legs.get_mut(call_id) else { return };
    legs.retain(|(call, _)| *call != id);
    if legs.is_empty() {
        core.legs.remove(call_id);
        let share = core.settings.share;
        let owner = share.owner(call_id.as_bytes());
        if owner != share.core {
            turn.out.errands.push((owner, Errand::GuestLeft { call_id: call_id.into() }));
        }
    }
}

/// Asks the call that has `dialog` for the other end of it.
pub(super) fn claim(core: &mut Core, turn: &mut Turn<'_>, dialog: DialogId, claimant: Claimant) {
    match elsewhere(core, &dialog.call_id) {
        Some(owner) => turn.out.errands.push((owner, Errand::Claim { dialog, claimant })),
        None => claim_here(core, turn, &dialog, claimant),
    }
}

fn claim_here(core: &mut Core, turn: &mut Turn<'_>, dialog: &DialogId, claimant: Claimant) {
    let legs = core.legs.get(dialog.call_id.as_str());
    let found = legs.into_iter().flatten().copied().find(|(id, side)| {
        let call = core.calls.get(id).filter(|_| claimant.call != *id);
        call.is_some_and(|entry| entry.call.dialog(*side).as_ref() == Some(dialog))
    });
    match found {
        Some((call, side)) => core.advance(turn, call, Event::GiveUp { side, claimant }),
        None => surrender(core, turn, claimant, None),
    }
}

/// Hands over what a call asked for.
pub(super) fn surrender(core: &mut Core, turn: &mut Turn<'_>, claimant: Claimant, claim: Option<Box<Claim>>) {
    let Claimant { core: host, call } = claimant;
    if host == core.settings.share.core {
        return core.advance(turn, call, Event::Claimed(claim));
    }
    if let Some(DialogId { call_id, .. }) = claim.as_ref().map(|claim| claim.dialog()) {
        let share = core.settings.share;
        if share.owner(call_id.as_bytes()) == share.core {
            // From now on, and not only from when the host says so.
            core.guests.hosts.insert(call_id.into(), Host { core: host, until: None });
        }
    }
    turn.out.errands.push((host, Errand::Claimed { call, claim }));
}

/// What another core asks for, or answers.
pub(super) fn errand(core: &mut Core, turn: &mut Turn<'_>, errand: Errand) {
    match errand {
        Errand::Message { hop, message } => message_passed_on(core, turn, message, hop),
        Errand::Guest { call_id, host } => {
            core.guests.hosts.insert(call_id, Host { core: host, until: None });
        }
        Errand::GuestLeft { call_id } => {
            // Copies of its last request may still come.
            if let Some(host) = core.guests.hosts.get_mut(&call_id) {
                host.until = Some(turn.now + PROVISIONAL);
            }
        }
        // Whoever has it here passes it on once: what a host does not have is nowhere.
        Errand::Claim { dialog, claimant } => match core.guests.of(&dialog.call_id) {
            Some(host) => turn.out.errands.push((host, Errand::Claim { dialog, claimant })),
            None => claim_here(core, turn, &dialog, claimant),
        },
        Errand::Claimed { call, claim } if core.calls.contains_key(&call) => {
            core.advance(turn, call, Event::Claimed(claim));
        }
        Errand::Claimed { claim, .. } => {
            if let Some(claim) = claim {
                discard(core, turn, *claim);
            }
        }
        Errand::PortFreed { at } => {
            core.ports.release_own(at, turn.now);
        }
        Errand::PortTaken { at } => core.ports.claim_own(at),
        Errand::ServiceRoute(known) => registrations::learn(core, known),
    }
}

fn message_passed_on(core: &mut Core, turn: &mut Turn<'_>, message: Box<Message>, hop: Hop) {
    let Message::Request(request) = &*message else { return core.take(turn, *message, hop) };
    let replaces = Replaces::of(&request.headers).ok().flatten().filter(|_| request.head.to.tag().is_none());
    let host = replaces.and_then(|replaces| core.guests.of(&replaces.call_id));
    match host {
        Some(host) => turn.out.errands.push((host, Errand::Message { hop, message })),
        None => core.take(turn, *message, hop),
    }
}

/// Who asked for a dialog is gone, and it belongs to nobody: it is hung up.
fn discard(core: &mut Core, turn: &mut Turn<'_>, claim: Claim) {
    let dialog = claim.dialog();
    let (at, bye, hop) = claim.discard(&core.policy);
    core.ports.release(at, turn.now);
    let client = core.transactions.request(turn.now, bye, hop, &mut core.outputs);
    core.releases.insert(client, dialog);
}

/// Tells the other cores of ports that are theirs.
pub(super) fn settle_ports(core: &mut Core, turn: &mut Turn<'_>) {
    let freed = std::mem::take(&mut core.ports.freed_elsewhere);
    let taken = std::mem::take(&mut core.ports.taken_elsewhere);
    let share = core.settings.share;
    let others = || (0..share.cores).map(CoreId).filter(|other| *other != share.core);
    for at in freed {
        turn.out.errands.extend(others().map(|other| (other, Errand::PortFreed { at })));
    }
    for at in taken {
        turn.out.errands.extend(others().map(|other| (other, Errand::PortTaken { at })));
    }
}
