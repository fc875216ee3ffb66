//! One peer's try at the callee leg: its INVITE, the branches that ring behind it, and what to do with answers that come
//! too late.

use crate::base::id::Side;
use crate::call::feature::reliable;
use crate::call::leg::{SDP, TrunkRef, next_hop};
use crate::call::{Action, Context, RequestKey, media};
use crate::media::plan::Fork;
use crate::sdp::{self, Finality};
use crate::sip::dialog::{Dialog, DialogId, Origin};
use crate::sip::message::{Contact, Draft, Header, HeaderName, Headers, Method, Response};
use crate::sip::transport::Hop;

/// An INVITE of ours that has no final response yet, or may still get a second 2xx from another branch.
#[derive(Debug)]
pub(in crate::call) struct Attempt {
    /// From 1.
    pub(super) number: u8,
    pub(super) sequence: u32,
    pub(super) origin: Origin,
    pub(super) hop: Hop,
    /// Times that it was sent again because the peer asked who we are.
    pub(super) challenged: u8,
    /// What answered that: its ACK says it again (RFC 3261 section 13.2.2.4).
    pub(super) authorization: Vec<Header>,
    /// No final response came yet.
    pub(super) open: bool,
    /// Some response came, and so the INVITE was sent.
    pub(super) heard: bool,
    /// A provisional response other than 100 came.
    pub(super) rang: bool,
    trunk: TrunkRef,
    branches: Vec<Branch>,
    /// Position of the branch that described media last: early media flows by it.
    flowing: Option<usize>,
    /// To tags of dialogs that were hung up because they came too late.
    released: Vec<String>,
}

/// One early dialog of the INVITE: a proxy forked it, or the callee moved it on (RFC 3261 section 12.1).
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) dialog: Dialog,
    /// A copy of the leg that made the offer, which this branch answers.
    pub(super) media: sdp::Leg,
    /// RSeq of its last reliable response.
    rseq: Option<u32>,
    readiness: Readiness,
    /// What it described was not told the caller: it came before its preconditions were met.
    is_withheld: bool,
}

/// Where word that our access is ready stands with a branch (RFC 3312 section 5.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Unsaid,
    /// Our UPDATE has no answer yet.
    OnItsWay,
    Said,
}

/// A proxy and the callee may each ask who we are, and each find a nonce too old.
const MAX_CHALLENGES: u8 = 4;
/// Branches of one INVITE; those beyond are heard when they answer.
const MAX_BRANCHES: usize = 32;
/// Sequence numbers that PRACKs and UPDATEs of a call that is forgotten may have used.
const USED_SEQUENCES: u32 = 100;

/// ACK and BYE for a 2xx of an INVITE that no call knows any more; `None` if it makes no dialog.
pub(crate) fn release(response: &Response, trunk: &TrunkRef) -> Option<(Draft, Draft)> {
    let mut invite = Draft::new(
        Method::Invite,
        response.head.to.uri.clone(),
        response.head.from.clone(),
        response.head.to.clone(),
        response.head.call_id.as_str(),
        response.head.cseq.number,
    );
    invite.contact = Contact::one(trunk.contact());
    let mut dialog = Dialog::from_response(&Origin::new(&invite, false), response)?;
    let (mut ack, mut bye) = (dialog.ack(invite.sequence), dialog.request(Method::Bye));
    bye.sequence = bye.sequence.saturating_add(USED_SEQUENCES);
    trunk.sign(&mut ack);
    trunk.sign(&mut bye);
    Some((ack, bye))
}

impl Attempt {
    pub(super) fn new(number: u8, invite: &Draft, hop: Hop, trunk: TrunkRef) -> Self {
        Self {
            number,
            sequence: invite.sequence,
            origin: Origin::new(invite, false),
            hop,
            challenged: 0,
            authorization: Vec::new(),
            open: true,
            heard: false,
            rang: false,
            trunk,
            branches: Vec::new(),
            flowing: None,
            released: Vec::new(),
        }
    }

    /// Sends the INVITE again by the next number, after a refusal that it now heeds.
    pub(super) fn try_again(&mut self, draft: &mut Draft, context: &mut Context<'_>) {
        draft.sequence += 1;
        (self.sequence, self.open) = (draft.sequence, true);
        context.push(Action::Request { key: self.key(), draft: Box::new(draft.clone()), hop: self.hop });
    }

    /// The peer asks who we are, and the trunk says what to answer: the same INVITE once more (RFC 3261 section 22.2).
    /// `false` leaves the refusal to who asked for the call.
    pub(super) fn authenticate(
        &mut self,
        trunk: &TrunkRef,
        draft: &mut Draft,
        response: &Response,
        context: &mut Context<'_>,
    ) -> bool {
        let credentials = trunk.digest.as_ref().filter(|_| self.challenged < MAX_CHALLENGES);
        let cnonce = context.tokens.token();
        if !credentials.is_some_and(|credentials| credentials.answer(response, draft, &cnonce)) {
            return false;
        }
        let answers = [HeaderName::Authorization, HeaderName::ProxyAuthorization];
        let is_answer = |header: &&Header| answers.contains(&header.name);
        self.authorization = draft.headers.iter().filter(is_answer).cloned().collect();
        self.challenged += 1;
        self.try_again(draft, context);
        true
    }

    pub(super) fn key(&self) -> RequestKey {
        RequestKey::Invite { attempt: self.number }
    }

    /// The branch that a provisional response speaks for, which it may have made; `offering` is the leg that offered.
    pub(super) fn branch(&mut self, response: &Response, offering: &sdp::Leg) -> Option<usize> {
        if let Some(known) = self.position(response) {
            self.branches[known].dialog.receive_response(response);
            return Some(known);
        }
        if self.branches.len() >= MAX_BRANCHES {
            return None;
        }
        let dialog = Dialog::from_response(&self.origin, response)?;
        self.branches.push(Branch {
            dialog,
            media: offering.clone(),
            rseq: None,
            readiness: Readiness::Unsaid,
            is_withheld: false,
        });
        Some(self.branches.len() - 1)
    }

    /// Whether one of its early dialogs is this one.
    pub(super) fn has_dialog(&self, dialog: &DialogId) -> bool {
        self.open && self.branches.iter().any(|branch| branch.dialog.id() == *dialog)
    }

    pub(super) fn branch_mut(&mut self, position: usize) -> &mut Branch {
        &mut self.branches[position]
    }

    /// The branch whose dialog has this remote tag.
    pub(super) fn branch_of(&mut self, remote_tag: Option<&str>) -> Option<(usize, &mut Branch)> {
        self.branches
            .iter_mut()
            .enumerate()
            .find(|(_, branch)| Some(branch.dialog.remote_tag()) == remote_tag)
    }

    /// Early media flows by this branch from now on.
    pub(super) fn flow_by(&mut self, position: usize) {
        self.flowing = Some(position);
    }

    pub(super) fn flows_by(&self, position: usize) -> bool {
        self.flowing == Some(position)
    }

    /// What the branch says about media by which early media flows.
    pub(super) fn media(&self) -> Option<&sdp::Leg> {
        Some(&self.branches.get(self.flowing?)?.media)
    }

    /// Branches that have said who will check our candidate, and with what they protect.
    pub(super) fn forks(&self) -> Vec<Fork> {
        let answered = self.branches.iter().filter_map(|branch| branch.media.media());
        answered
            .filter_map(|media| {
                let peer = media.checks.as_ref()?.peer.clone()?;
                Some(Fork { peer, unprotect: media.security.from_peer().cloned() })
            })
            .collect()
    }

    /// Whether the branch that a 2xx speaks for owes us an answer, which is to come before the 2xx is taken.
    pub(super) fn owes_answer(&self, response: &Response) -> bool {
        self.position(response).is_some_and(|known| self.branches[known].readiness == Readiness::OnItsWay)
    }

    /// The final answer to word of our readiness; without one, no branch answers any more. A refusal changes nothing: a
    /// branch that sends an UPDATE itself learns of our readiness by our answer.
    pub(super) fn readiness_told(&mut self, response: Option<&Response>) {
        let tag = response.map(|response| response.head.to.tag());
        let branches = self.branches.iter_mut().filter(|branch| branch.readiness == Readiness::OnItsWay);
        for branch in branches.filter(|own| tag.is_none_or(|tag| tag == Some(own.dialog.remote_tag()))) {
            branch.readiness = Readiness::Said;
            let answer = response.filter(|response| response.status.is_success());
            let answer = answer.and_then(|answer| media::description_of_response(answer).ok().flatten());
            let taken = answer.map(|answer| branch.media.receive_answer(&answer, Finality::Final));
            if !matches!(taken, Some(Ok(_))) {
                branch.media.abandon();
            }
        }
    }

    /// The dialog and the media of the branch that a 2xx speaks for, whether it was heard of before or not.
    pub(super) fn answered(&self, response: &Response, offering: &sdp::Leg) -> Option<(Dialog, sdp::Leg)> {
        let media = self.position(response).map_or(offering, |known| &self.branches[known].media);
        Some((self.dialog_of(response)?, media.clone()))
    }

    /// Acknowledges and hangs up a dialog that nobody wants any more: the 2xx crossed our CANCEL, or came from a
    /// second branch (RFC 3261 section 13.2.2.4). Copies of the 2xx are acknowledged again.
    pub(super) fn release(&mut self, response: &Response, context: &mut Context<'_>) {
        let Some(mut dialog) = self.dialog_of(response) else { return };
        let mut ack = dialog.ack(self.sequence);
        self.trunk.sign(&mut ack);
        for Header { name, value } in self.authorization.clone() {
            ack.headers.push(name, value);
        }
        context.push(Action::Acknowledge { draft: Box::new(ack), hop: self.hop });
        let tag = dialog.remote_tag().to_owned();
        if !self.released.contains(&tag) {
            self.released.push(tag);
            let mut draft = Box::new(dialog.request(Method::Bye));
            self.trunk.sign(&mut draft);
            context.push(Action::Request { key: RequestKey::Release, draft, hop: self.hop });
        }
    }

    fn dialog_of(&self, response: &Response) -> Option<Dialog> {
        match self.position(response) {
            Some(known) => {
                let mut dialog = self.branches[known].dialog.clone();
                dialog.receive_response(response);
                Some(dialog)
            }
            None => Dialog::from_response(&self.origin, response),
        }
    }

    fn position(&self, response: &Response) -> Option<usize> {
        let tag = response.head.to.tag()?;
        self.branches.iter().position(|branch| branch.dialog.remote_tag() == tag)
    }
}

impl Branch {
    /// Acknowledges a reliable response by PRACK (RFC 3262 section 4). `false` for one that is to be left alone: a copy,
    /// or one that overtook another.
    pub(super) fn acknowledge(
        &mut self,
        rseq: u32,
        (invite, hop): (u32, Hop),
        trunk: &TrunkRef,
        context: &mut Context<'_>,
    ) -> bool {
        if !reliable::is_next(self.rseq, rseq) {
            return false;
        }
        self.rseq = Some(rseq);
        let mut draft = self.dialog.request(Method::Prack);
        draft.headers.push(HeaderName::RAck, reliable::rack_of(rseq, invite));
        trunk.sign(&mut draft);
        let hop = next_hop(context.policy, &self.dialog, trunk, hop);
        context.push(Action::Request { key: RequestKey::Prack, draft: Box::new(draft), hop });
        true
    }

    /// Says by UPDATE that our access is ready, once, to a branch that waits for it.
    pub(super) fn tell_readiness(&mut self, hop: Hop, trunk: &TrunkRef, context: &mut Context<'_>) {
        let waits = self.media.preconditions().is_some_and(|said| said.await_word());
        if !waits || self.readiness != Readiness::Unsaid {
            return;
        }
        let Ok(offer) = self.media.offer_readiness() else { return };
        self.readiness = Readiness::OnItsWay;
        let mut draft = self.dialog.request(Method::Update);
        draft.set_body(SDP, offer);
        trunk.sign(&mut draft);
        let hop = next_hop(context.policy, &self.dialog, trunk, hop);
        let key = RequestKey::Update { to: Side::Callee };
        context.push(Action::Request { key, draft: Box::new(draft), hop });
    }

    /// Whether what it describes may be told the caller now: not as long as it waits for preconditions, when nobody rings
    /// and nothing plays; and then not before its network says that there is early media (RFC 5009), where the caller's
    /// own ringing would end for silence.
    pub(super) fn may_be_heard(&mut self, describes: bool, provisional: &Headers) -> bool {
        let said = self.media.preconditions();
        let waits = said.is_some_and(|said| !said.are_met() || said.await_word());
        if describes && waits {
            self.is_withheld = true;
            return false;
        }
        let is_authorized =
            ["sendrecv", "sendonly"].iter().any(|word| provisional.has_token(&HeaderName::PEarlyMedia, word));
        let is_news = self.is_withheld && is_authorized;
        self.is_withheld &= !(describes || is_news);
        describes || is_news
    }
}
