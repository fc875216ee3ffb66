//! Client transactions: the layer's half that sends requests and waits for responses (RFC 3261 section 17.1).

use super::cancellation::{self, Cancellation};
use super::invite_client::{self, InviteClient};
use super::key::Key;
use super::non_invite_client::{self, NonInviteClient};
use super::output::{ClientId, Output};
use super::shared::{Audience, Carrier, Owner, Scope, Shared};
use super::slots::Slots;
use super::timer::Timer;
use crate::base::machine::{Machine, Step};
use crate::base::time::Time;
use crate::sip::message::{
    CSeq, Contact, Draft, Head, HeaderName, Headers, Message, Method, Request, Response, Via, parse,
};
use crate::sip::transport::{Hop, Transport};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Branches of one INVITE whose answers are told apart from copies.
const MAX_BRANCHES: usize = 32;

/// Octets of a request above which it does not fit a datagram where the path's MTU is not known (RFC 3261 section
/// 18.1.1).
const LARGEST_DATAGRAM: usize = 1_300;

/// What a client machine asks its layer to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Sends the bytes kept: the request, or once there is one the ACK.
    Send,
    /// Makes the ACK for a failure (RFC 3261 section 17.1.1.3), keeps it in place of the INVITE and sends it.
    Acknowledge,
    /// Makes the CANCEL (RFC 3261 section 9.1) and starts its own transaction.
    Cancel,
    /// Gives the response to the user.
    Pass,
    /// Drops the bytes kept.
    Forget,
    /// Starts the timer, or its next doubling.
    Arm(Timer),
    /// Starts the timer with its cap at once.
    ArmLongest(Timer),
    Disarm(Timer),
    /// Tells the user that no response came in time.
    TimedOut,
    /// Tells the user that the transport failed.
    Unreachable,
}

#[derive(Debug, Default)]
pub(super) struct Clients {
    slots: Slots<Client>,
    index: HashMap<Key, ClientId>,
}

#[derive(Debug)]
struct Client {
    key: Key,
    carrier: Carrier,
    /// The same request for UDP, should nobody take it by TCP.
    datagram: Option<Arc<[u8]>>,
    audience: Audience,
    state: State,
    /// To tags of the final responses so far, hashed: one for each branch of a fork.
    answered: SmallVec<[u64; 1]>,
    /// Why it was cancelled, until the CANCEL may go.
    reason: Option<Box<str>>,
}

#[derive(Debug)]
enum State {
    Invite(invite_client::State, cancellation::State),
    NonInvite(non_invite_client::State),
}

/// What moves a client transaction.
enum Input {
    Response(Box<Response>, Hop),
    Fired(Timer),
    Cancel,
    TransportError,
}

/// What goes into a machine's acts and what comes out of them.
#[derive(Default)]
struct Cargo {
    response: Option<(Box<Response>, Hop)>,
    /// A CANCEL to be sent by a transaction of its own.
    cancel: Option<Request>,
}

impl Clients {
    /// Sends `draft` by a Via with a new branch.
    pub(super) fn request(
        &mut self,
        shared: &mut Shared,
        now: Time,
        draft: Draft,
        hop: Hop,
        out: &mut Vec<Output>,
    ) -> ClientId {
        let may_switch = draft.by_tcp_when_large && hop.transport == Transport::Udp;
        let mut request = draft.finish(shared.own_via(&hop));
        let datagram = may_switch.then(|| shared.print(|print| request.write(print)));
        let Some(datagram) = datagram.filter(|datagram| datagram.len() > LARGEST_DATAGRAM) else {
            return self.begin(shared, now, &request, hop, Audience::User, out);
        };
        let hop = Hop { transport: Transport::Tcp, ..hop };
        if let Some(via) = request.head.via.first_mut() {
            via.transport = hop.transport.via();
        }
        let id = self.begin(shared, now, &request, hop, Audience::User, out);
        if let Some(client) = self.slots.find(id.slot, id.epoch) {
            client.datagram = Some(datagram);
        }
        id
    }

    pub(super) fn receive(
        &mut self,
        shared: &mut Shared,
        now: Time,
        response: Box<Response>,
        hop: Hop,
        out: &mut Vec<Output>,
    ) -> bool {
        let found = shared.key.client_of(&response).and_then(|key| self.index.get(key)).copied();
        let Some(id) = found else {
            shared.counts.stray_responses += 1;
            if response.status.is_success() && response.head.cseq.method == Method::Invite {
                out.push(Output::StrayAnswer { response, hop });
            }
            return false;
        };
        let client = self.slots.find(id.slot, id.epoch);
        let is_copy = client.is_some_and(|client| client.had(shared, &response));
        self.apply(shared, now, id, Input::Response(response, hop), out);
        is_copy
    }

    pub(super) fn cancel(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: ClientId,
        reason: Option<String>,
        out: &mut Vec<Output>,
    ) {
        if let Some(client) = self.slots.find(id.slot, id.epoch) {
            client.reason = reason.map(Into::into);
        }
        self.apply(shared, now, id, Input::Cancel, out);
    }

    pub(super) fn expire(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: ClientId,
        timer: Timer,
        out: &mut Vec<Output>,
    ) {
        if let Some(client) = self.slots.find(id.slot, id.epoch) {
            client.carrier.fired(timer);
            self.apply(shared, now, id, Input::Fired(timer), out);
        }
    }

    pub(super) fn transport_failed(
        &mut self,
        shared: &mut Shared,
        now: Time,
        (hop, scope): (&Hop, Scope),
        out: &mut Vec<Output>,
    ) {
        for id in self.using(hop, scope) {
            let client = self.slots.find(id.slot, id.epoch);
            if !client.is_some_and(|client| client.fall_back(shared, now, id, out)) {
                self.apply(shared, now, id, Input::TransportError, out);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    fn using(&self, hop: &Hop, scope: Scope) -> Vec<ClientId> {
        let by_hop = self.slots.iter().filter(|(_, _, client)| client.carrier.goes_by(hop, scope));
        by_hop.map(|(slot, epoch, _)| ClientId { slot, epoch }).collect()
    }

    fn begin(
        &mut self,
        shared: &mut Shared,
        now: Time,
        request: &Request,
        hop: Hop,
        audience: Audience,
        out: &mut Vec<Output>,
    ) -> ClientId {
        let branch = request.head.via.first().and_then(Via::branch).unwrap_or_default();
        let key = Key::from(shared.key.client(branch, &request.method));
        let mut carrier = Carrier::new(hop);
        carrier.keep(shared.print(|print| request.write(print)));
        let (state, acts) = match request.method {
            Method::Invite => {
                let (state, acts) = InviteClient::START;
                (State::Invite(state, Cancellation::START.0), acts)
            }
            _ => (State::NonInvite(NonInviteClient::START.0), NonInviteClient::START.1),
        };
        let (slot, epoch) = self.slots.insert(Client {
            key: key.clone(),
            carrier,
            datagram: None,
            audience,
            state,
            answered: SmallVec::new(),
            reason: None,
        });
        let id = ClientId { slot, epoch };
        self.index.insert(key, id);
        shared.counts.requests_sent += 1;
        if let Some(client) = self.slots.find(slot, epoch) {
            client.perform(shared, now, id, acts, &mut Cargo::default(), out);
        }
        id
    }

    fn apply(&mut self, shared: &mut Shared, now: Time, id: ClientId, input: Input, out: &mut Vec<Output>) {
        let Some(client) = self.slots.find(id.slot, id.epoch) else {
            shared.counts.illegal += 1;
            return;
        };
        let (acts, more) = client.step(shared, &input);
        let mut cargo = Cargo::default();
        if let Input::Response(response, hop) = input {
            cargo.response = Some((response, hop));
        }
        client.perform(shared, now, id, acts, &mut cargo, out);
        client.perform(shared, now, id, more, &mut cargo, out);
        let hop = client.carrier.hop;
        if client.is_over()
            && let Some(mut client) = self.slots.remove(id.slot, id.epoch)
        {
            client.carrier.disarm_all(shared, Owner::Client(id));
            self.index.remove(&client.key);
            client.tell(Output::ClientEnded { id }, out);
        }
        if let Some(cancel) = cargo.cancel {
            self.begin(shared, now, &cancel, hop, Audience::Nobody, out);
        }
    }
}

impl Client {
    /// Begins again by UDP if the request was only too large for it and is not answered yet (RFC 3261 section 18.1.1).
    fn fall_back(&mut self, shared: &mut Shared, now: Time, id: ClientId, out: &mut Vec<Output>) -> bool {
        let acts = match self.state {
            State::Invite(state, _) if state == InviteClient::START.0 => InviteClient::START.1,
            State::NonInvite(state) if state == NonInviteClient::START.0 => NonInviteClient::START.1,
            State::Invite(..) | State::NonInvite(_) => return false,
        };
        let Some(datagram) = self.datagram.take() else { return false };
        self.carrier.disarm_all(shared, Owner::Client(id));
        self.carrier = Carrier::new(Hop { transport: Transport::Udp, connection: None, ..self.carrier.hop });
        self.carrier.keep(datagram);
        self.perform(shared, now, id, acts, &mut Cargo::default(), out);
        true
    }

    /// What to do, in order: the acts of the transaction, then those of its cancellation.
    fn step(&mut self, shared: &mut Shared, input: &Input) -> (&'static [Act], &'static [Act]) {
        match &mut self.state {
            State::Invite(state, cancellation) => {
                let acts = invite_event(input).map(|event| shared.step::<InviteClient>(state, event));
                (acts.unwrap_or_default(), cancellation_acts(cancellation, input))
            }
            State::NonInvite(state) => match non_invite_event(input) {
                Some(event) => (shared.step::<NonInviteClient>(state, event), &[]),
                None => (shared.illegal(), &[]),
            },
        }
    }

    fn perform(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: ClientId,
        acts: &[Act],
        cargo: &mut Cargo,
        out: &mut Vec<Output>,
    ) {
        for act in acts {
            // A timer of no time fires behind the acts that started it: it stands last among them.
            if let Some(timer) = self.act(shared, now, id, *act, cargo, out) {
                let (acts, _) = self.step(shared, &Input::Fired(timer));
                self.perform(shared, now, id, acts, &mut Cargo::default(), out);
            }
        }
    }

    /// Does one act; `Some` is a timer that fires at once.
    fn act(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: ClientId,
        act: Act,
        cargo: &mut Cargo,
        out: &mut Vec<Output>,
    ) -> Option<Timer> {
        let owner = Owner::Client(id);
        match act {
            Act::Send => self.carrier.send(shared, out),
            Act::Acknowledge => {
                if let (Some(invite), Some((response, _))) = (self.sent_request(), &cargo.response) {
                    let ack = ack_of(invite, response);
                    self.carrier.keep(shared.print(|print| ack.write(print)));
                    self.carrier.send(shared, out);
                }
            }
            Act::Cancel => {
                let reason = self.reason.take();
                cargo.cancel = self.sent_request().map(|invite| cancel_of(invite, reason.as_deref()));
            }
            Act::Pass => {
                if let Some((response, hop)) = cargo.response.take() {
                    self.tell(Output::Response { id, response, hop }, out);
                }
            }
            Act::Forget => self.carrier.forget(),
            Act::Arm(timer) => return self.carrier.arm(shared, owner, timer, now),
            Act::ArmLongest(timer) => self.carrier.arm_longest(shared, owner, timer, now),
            Act::Disarm(timer) => self.carrier.disarm(shared, owner, timer),
            Act::TimedOut => {
                shared.counts.timed_out += 1;
                self.tell(Output::TimedOut { id }, out);
            }
            Act::Unreachable => self.tell(Output::Unreachable { id }, out),
        }
        None
    }

    /// Whether this is a final response of a branch that gave one before; remembers it.
    fn had(&mut self, shared: &Shared, response: &Response) -> bool {
        if !response.status.is_final() {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        (shared.secret, response.head.to.tag()).hash(&mut hasher);
        let branch = hasher.finish();
        let is_copy = self.answered.contains(&branch);
        if !is_copy && self.answered.len() < MAX_BRANCHES {
            self.answered.push(branch);
        }
        is_copy
    }

    fn tell(&self, output: Output, out: &mut Vec<Output>) {
        if self.audience == Audience::User {
            out.push(output);
        }
    }

    fn is_over(&self) -> bool {
        match self.state {
            State::Invite(state, _) => state == invite_client::State::Terminated,
            State::NonInvite(state) => state == non_invite_client::State::Terminated,
        }
    }

    /// The request as it was sent, read back: only failures and cancellations need it, so that it costs nothing in
    /// calls that succeed, neither time nor memory beside the bytes.
    fn sent_request(&self) -> Option<Request> {
        match parse(self.carrier.kept()?) {
            Ok(Message::Request(request)) => Some(request),
            Ok(Message::Response(_)) | Err(_) => None,
        }
    }
}

fn invite_event(input: &Input) -> Option<invite_client::Event> {
    use invite_client::Event;
    Some(match input {
        Input::Response(response, _) if response.status.is_provisional() => Event::Provisional,
        Input::Response(response, _) if response.status.is_success() => Event::Success,
        Input::Response(..) => Event::Failure,
        Input::Fired(Timer::A) => Event::TimerA,
        Input::Fired(Timer::B) => Event::TimerB,
        Input::Fired(Timer::D) => Event::TimerD,
        Input::Fired(Timer::M) => Event::TimerM,
        Input::Fired(Timer::Cancelled) => Event::TimerCancelled,
        Input::Fired(_) | Input::Cancel => return None,
        Input::TransportError => Event::TransportError,
    })
}

fn cancellation_event(input: &Input) -> Option<cancellation::Event> {
    use cancellation::Event;
    match input {
        Input::Response(response, _) if response.status.is_provisional() => Some(Event::Provisional),
        Input::Response(..) => Some(Event::Final),
        Input::Cancel => Some(Event::Ask),
        Input::Fired(_) | Input::TransportError => None,
    }
}

/// Steps the machine of the cancellation; copies of a response concern the transaction alone, so nothing is counted.
fn cancellation_acts(state: &mut cancellation::State, input: &Input) -> &'static [Act] {
    match cancellation_event(input).map(|event| Cancellation::step(*state, event)) {
        Some(Step::To(next, acts)) => {
            *state = next;
            acts
        }
        Some(Step::Already | Step::Illegal) | None => &[],
    }
}

fn non_invite_event(input: &Input) -> Option<non_invite_client::Event> {
    use non_invite_client::Event;
    Some(match input {
        Input::Response(response, _) if response.status.is_provisional() => Event::Provisional,
        Input::Response(..) => Event::Final,
        Input::Fired(Timer::E) => Event::TimerE,
        Input::Fired(Timer::F) => Event::TimerF,
        Input::Fired(Timer::K) => Event::TimerK,
        // Only an INVITE can be cancelled (RFC 3261 section 9.1).
        Input::Fired(_) | Input::Cancel => return None,
        Input::TransportError => Event::TransportError,
    })
}

/// The ACK of a failure (RFC 3261 section 17.1.1.3): all of the INVITE's, but the To of the response.
fn ack_of(invite: Request, response: &Response) -> Request {
    let mut ack = sibling_of(invite, Method::Ack);
    ack.head.to = response.head.to.clone();
    ack
}

/// The CANCEL of an INVITE (RFC 3261 section 9.1).
fn cancel_of(invite: Request, reason: Option<&str>) -> Request {
    let mut cancel = sibling_of(invite, Method::Cancel);
    if let Some(reason) = reason {
        cancel.headers.push(HeaderName::Reason, reason);
    }
    cancel
}

/// A request that goes the way of the INVITE: same Via with its branch, same route, same number; no Contact, no
/// body.
fn sibling_of(invite: Request, method: Method) -> Request {
    let Head { via, from, to, call_id, cseq, route, .. } = invite.head;
    let cseq = CSeq { number: cseq.number, method: method.clone() };
    Request {
        method,
        uri: invite.uri,
        head: Head {
            via,
            from,
            to,
            call_id,
            cseq,
            max_forwards: Some(70),
            contact: Contact::default(),
            route,
            record_route: Vec::new(),
        },
        headers: Headers::default(),
        body: Vec::new(),
    }
}
