//! Dialogs (RFC 3261 section 12): tags, sequence numbers, route set, remote target.
//!
//! A [`Dialog`] is a value without timers: it builds the requests of its side, judges those of the other, and says
//! where they go. Two tables stand behind it: [`lifetime`] and [`invitation`]. Its [`Snapshot`] outlives the process.

mod id;
mod routes;
mod snapshot;

pub mod invitation;
pub mod lifetime;

#[cfg(test)]
mod tests;

pub use id::DialogId;
pub use snapshot::{BrokenSnapshot, Snapshot};

use crate::base::fault::Fault;
use crate::base::machine::{Machine, Step};
use crate::base::token::Tokens;
use crate::sip::message::{Contact, Draft, HeaderName, Method, NameAddr, Request, Response, StatusCode, Uri};
use invitation::Invitation;
use lifetime::Lifetime;
use std::time::Duration;

/// A peer-to-peer relationship between us and another user agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    state: lifetime::State,
    invitation: invitation::State,
    call_id: String,
    /// Our address, with our tag.
    local: NameAddr,
    /// Theirs, with their tag if they have one.
    remote: NameAddr,
    /// Where they are to reach us.
    contact: NameAddr,
    /// The number of our last request; `None` before the first.
    local_sequence: Option<u32>,
    /// The number of our last INVITE: other requests may have been sent since.
    invite_sequence: Option<u32>,
    /// The number of their last request; `None` before the first.
    remote_sequence: Option<u32>,
    /// Topmost first.
    route_set: Vec<NameAddr>,
    /// Where we reach them.
    remote_target: Uri,
    /// Came over TLS to a `sips:` URI (section 12.1.1).
    secure: bool,
    /// We sent the request that made it, and so own the Call-ID.
    is_caller: bool,
}

/// What the dialogs of an INVITE of ours need of it, kept from sending it until they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    local: NameAddr,
    contact: NameAddr,
    target: Uri,
    secure: bool,
}

/// Why a message makes no dialog, or a request is not let into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Section 12.1.1: an INVITE names where its sender can be reached.
    #[error("INVITE without Contact")]
    NoContact,
    /// Section 12.2.2.
    #[error("CSeq {got} after {last}")]
    OutOfOrder { got: u32, last: u32 },
    /// Section 14.2: their INVITE crossed ours.
    #[error("INVITE while one of ours is under way")]
    Glare,
    /// Section 14.2: their INVITE before we answered their last.
    #[error("INVITE before the last one was answered")]
    TooSoon,
    #[error("request in a dialog that has ended")]
    Ended,
}

/// Our INVITE has to wait until the one under way is over (section 14.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an INVITE is under way in this dialog")]
pub struct Busy;

impl Refused {
    pub fn fault(self) -> Fault {
        match self {
            Self::NoContact => Fault::MalformedHeader,
            Self::OutOfOrder { .. } => Fault::SequenceTooLow,
            Self::Glare => Fault::RequestPending,
            Self::TooSoon => Fault::InvitePending,
            Self::Ended => Fault::NoSuchDialog,
        }
    }

    /// The answer to `request`, without To tag if it has none. A 500 for a request that came too soon says when to
    /// try again, between 0 and 10 seconds (section 14.2).
    pub fn response(self, request: &Request, tokens: &mut Tokens) -> Response {
        let status =
            StatusCode::new(self.fault().status()).expect("every fault has a status code that can be sent");
        let mut response = Response::to_request(request, status);
        if self == Self::TooSoon {
            response.headers.push(HeaderName::RetryAfter, (tokens.number() % 11).to_string());
        }
        response
    }
}

impl Origin {
    /// Our tag in all dialogs that the INVITE makes.
    pub fn local_tag(&self) -> &str {
        self.local.tag().unwrap_or_default()
    }

    /// Of an INVITE about to be sent; one without Contact is taken to be reachable at its From.
    pub fn new(invite: &Draft, over_tls: bool) -> Self {
        let contact = invite.contact.first().cloned();
        Self {
            contact: contact.unwrap_or_else(|| NameAddr::new(invite.from.uri.clone())),
            local: invite.from.clone(),
            target: invite.uri.clone(),
            secure: over_tls && invite.uri.scheme() == "sips",
        }
    }
}

impl Dialog {
    /// The dialog that our response to an INVITE makes (section 12.1.1), early until [`Dialog::responded`] says 2xx.
    ///
    /// `contact` is where the peer is to reach us; `over_tls` whether the request came so.
    pub fn from_request(
        request: &Request,
        local_tag: &str,
        contact: NameAddr,
        over_tls: bool,
    ) -> Result<Self, Refused> {
        let target = request.head.contact.first().ok_or(Refused::NoContact)?;
        Ok(Self {
            state: lifetime::State::Early,
            invitation: invitation::State::Theirs,
            call_id: request.head.call_id.clone(),
            local: request.head.to.clone().with_tag(local_tag),
            remote: request.head.from.clone(),
            contact,
            local_sequence: None,
            invite_sequence: None,
            remote_sequence: Some(request.head.cseq.number),
            route_set: request.head.record_route.clone(),
            remote_target: target.uri.clone(),
            secure: over_tls && request.uri.scheme() == "sips",
            is_caller: false,
        })
    }

    /// The dialog that a response to our INVITE makes (section 12.1.2): early by 101 to 199, confirmed by 2xx. Each
    /// branch of a forked INVITE makes one of its own.
    ///
    /// `None` if the response makes none: 100, a failure, a provisional response without To tag. Where it lacks the
    /// Contact it should have, the target stays where the INVITE went.
    pub fn from_response(origin: &Origin, response: &Response) -> Option<Self> {
        let tagless = response.head.to.tag().is_none();
        let (state, invitation) = match response.status {
            status if status.is_success() => (lifetime::State::Confirmed, invitation::State::Idle),
            status if status.is_failure() || status == StatusCode::TRYING || tagless => return None,
            _ => (lifetime::State::Early, invitation::State::Ours),
        };
        Some(Self {
            state,
            invitation,
            call_id: response.head.call_id.clone(),
            local: origin.local.clone(),
            remote: response.head.to.clone(),
            contact: origin.contact.clone(),
            local_sequence: Some(response.head.cseq.number),
            invite_sequence: Some(response.head.cseq.number),
            remote_sequence: None,
            route_set: routes::reversed(&response.head.record_route),
            remote_target: target_of(&response.head.contact).unwrap_or_else(|| origin.target.clone()),
            secure: origin.secure,
            is_caller: true,
        })
    }

    pub fn id(&self) -> DialogId {
        DialogId {
            call_id: self.call_id.clone(),
            local_tag: self.local_tag().to_owned(),
            remote_tag: self.remote_tag().to_owned(),
        }
    }

    pub fn state(&self) -> lifetime::State {
        self.state
    }

    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    pub fn local_tag(&self) -> &str {
        self.local.tag().unwrap_or_default()
    }

    /// Empty for a peer of RFC 2543 times that has none.
    pub fn remote_tag(&self) -> &str {
        self.remote.tag().unwrap_or_default()
    }

    pub fn local(&self) -> &NameAddr {
        &self.local
    }

    pub fn remote(&self) -> &NameAddr {
        &self.remote
    }

    pub fn remote_target(&self) -> &Uri {
        &self.remote_target
    }

    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether our 2xx still waits for its ACK: until then we must not send BYE (section 15).
    pub fn awaits_ack(&self) -> bool {
        self.invitation == invitation::State::Accepted
    }

    /// Whether [`Dialog::invite`] would let an INVITE through.
    pub fn may_invite(&self) -> bool {
        self.state == lifetime::State::Confirmed && self.invitation == invitation::State::Idle
    }

    /// The URI that names the next hop of our requests (section 8.1.2): the first route, else the remote target.
    pub fn next_hop(&self) -> &Uri {
        self.route_set.first().map_or(&self.remote_target, |route| &route.uri)
    }

    /// A request inside the dialog, other than INVITE, ACK and CANCEL, with the next sequence number (section
    /// 12.2.1.1). A BYE ends the dialog.
    pub fn request(&mut self, method: Method) -> Draft {
        let sequence = self.local_sequence.map_or(1, |last| last.saturating_add(1));
        self.local_sequence = Some(sequence);
        if method == Method::Bye {
            self.live(lifetime::Event::Bye);
        }
        self.draft(method, sequence)
    }

    /// A re-INVITE with the next sequence number.
    pub fn invite(&mut self) -> Result<Draft, Busy> {
        match Invitation::step(self.invitation, invitation::Event::Send) {
            Step::To(next, []) => self.invitation = next,
            Step::To(..) | Step::Already | Step::Illegal => return Err(Busy),
        }
        let draft = self.request(Method::Invite);
        self.invite_sequence = Some(draft.sequence);
        Ok(draft)
    }

    /// The ACK of a 2xx to our INVITE of that sequence number (section 13.2.2.4).
    pub fn ack(&self, sequence: u32) -> Draft {
        self.draft(Method::Ack, sequence)
    }

    /// A response inside the dialog: our tag, and our Contact where it makes or refreshes the target. Tell
    /// [`Dialog::responded`] once it is sent.
    pub fn response(&self, request: &Request, status: StatusCode) -> Response {
        let mut response = Response::to_request(request, status);
        if status != StatusCode::TRYING {
            response.head.to.set_tag(self.local_tag());
        }
        if (101..300).contains(&status.code()) && refreshes_target(&request.method) {
            response.head.contact = Contact::one(self.contact.clone());
        }
        response
    }

    /// Lets a request of the peer in, or says why not (sections 12.2.2 and 14.2). To be asked once for each new
    /// request and for each ACK of a 2xx.
    pub fn receive(&mut self, request: &Request) -> Result<(), Refused> {
        if request.method == Method::Ack {
            self.settle();
            return Ok(());
        }
        if self.state == lifetime::State::Terminated {
            return Err(Refused::Ended);
        }
        let got = request.head.cseq.number;
        // Equal is out of order too: the copies of a request end in its transaction.
        if let Some(last) = self.remote_sequence.filter(|last| got <= *last) {
            return Err(Refused::OutOfOrder { got, last });
        }
        self.remote_sequence = Some(got);
        match request.method {
            Method::Invite => self.receive_invite()?,
            Method::Bye => self.live(lifetime::Event::Bye),
            _ => {}
        }
        if refreshes_target(&request.method) {
            self.refresh_target(&request.head.contact);
        }
        Ok(())
    }

    /// To be told of each response we sent to an INVITE of the peer.
    pub fn responded(&mut self, status: StatusCode) {
        let is_first = self.state == lifetime::State::Early;
        if status.is_success() {
            self.live(lifetime::Event::Success);
            self.invited(invitation::Event::Accept);
        } else if status.is_failure() {
            if is_first {
                self.live(lifetime::Event::Failure);
            }
            self.invited(invitation::Event::Refuse);
        }
    }

    /// To be told that the ACK of our 2xx came, or was given up.
    pub fn settle(&mut self) {
        self.invited(invitation::Event::Settled);
    }

    /// To be told of each response to a request of ours inside the dialog, and of each further one to the INVITE
    /// that made it.
    pub fn receive_response(&mut self, response: &Response) {
        let method = &response.head.cseq.method;
        let status = response.status;
        let is_of_last_invite =
            *method == Method::Invite && Some(response.head.cseq.number) == self.invite_sequence;
        if is_of_last_invite && status.is_final() {
            self.invited(invitation::Event::Finished);
        }
        if is_of_last_invite && self.state == lifetime::State::Early {
            if status.is_success() {
                // Section 13.2.2.4: the route set is the 2xx's, whatever the provisional responses had.
                self.route_set = routes::reversed(&response.head.record_route);
                self.live(lifetime::Event::Success);
            } else if status.is_failure() {
                self.live(lifetime::Event::Failure);
            }
        }
        if matches!(status, StatusCode::NO_SUCH_TRANSACTION | StatusCode::REQUEST_TIMEOUT) {
            self.live(lifetime::Event::Gone);
        }
        if (101..300).contains(&status.code()) && refreshes_target(method) {
            self.refresh_target(&response.head.contact);
        }
    }

    /// To be told that a request of ours inside the dialog got no response (section 12.2.1.2).
    pub fn timed_out(&mut self) {
        self.invited(invitation::Event::Finished);
        self.live(lifetime::Event::Gone);
    }

    /// How long to wait after a 491 before the INVITE is sent again (section 14.1): 2.1 to 4 s for the owner of the
    /// Call-ID, 0 to 2 s for the other, in steps of 10 ms.
    pub fn pause_after_glare(&self, tokens: &mut Tokens) -> Duration {
        let steps = if self.is_caller { 210 + tokens.number() % 191 } else { tokens.number() % 201 };
        Duration::from_millis(10 * steps)
    }

    fn draft(&self, method: Method, sequence: u32) -> Draft {
        let (uri, route) = routes::address(&self.route_set, &self.remote_target);
        let has_contact = refreshes_target(&method);
        let mut draft =
            Draft::new(method, uri, self.local.clone(), self.remote.clone(), self.call_id.as_str(), sequence);
        draft.route = route;
        if has_contact {
            draft.contact = Contact::one(self.contact.clone());
        }
        draft
    }

    fn receive_invite(&mut self) -> Result<(), Refused> {
        match Invitation::step(self.invitation, invitation::Event::Receive) {
            Step::To(next, []) => {
                self.invitation = next;
                Ok(())
            }
            Step::To(_, [invitation::Act::Glare, ..]) => Err(Refused::Glare),
            Step::To(..) | Step::Already | Step::Illegal => Err(Refused::TooSoon),
        }
    }

    fn refresh_target(&mut self, contact: &Contact) {
        if let Some(target) = target_of(contact) {
            self.remote_target = target;
        }
    }

    fn live(&mut self, event: lifetime::Event) {
        if let Step::To(next, _) = Lifetime::step(self.state, event) {
            self.state = next;
        }
    }

    fn invited(&mut self, event: invitation::Event) {
        if let Step::To(next, _) = Invitation::step(self.invitation, event) {
            self.invitation = next;
        }
    }
}

fn target_of(contact: &Contact) -> Option<Uri> {
    contact.first().map(|address| address.uri.clone())
}

/// Methods whose Contact moves the remote target (RFC 3261 section 12.2, RFC 3311, RFC 6665, RFC 3515).
fn refreshes_target(method: &Method) -> bool {
    matches!(method, Method::Invite | Method::Update | Method::Subscribe | Method::Notify | Method::Refer)
}
