//! Server transactions: the layer's half that takes requests and sends responses (RFC 3261 section 17.2).

use super::invite_server::{self, InviteServer};
use super::key::Key;
use super::non_invite_server::{self, NonInviteServer};
use super::output::{Output, ServerId};
use super::shared::{Audience, Carrier, Owner, Scope, Shared};
use super::slots::Slots;
use super::timer::Timer;
use crate::base::machine::Machine;
use crate::base::time::Time;
use crate::sip::message::{
    Contact, Head, HeaderName, Headers, Message, Method, Request, Response, StatusCode, parse,
};
use crate::sip::transport::{Hop, fill_received, response_destination};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a server machine asks its layer to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Keeps the user's response in the place of the last one.
    Keep,
    /// Sends the bytes kept: the last response, or for an INVITE without any a 100.
    Send,
    /// Gives the request or the ACK to the user.
    Pass,
    /// Drops the bytes kept.
    Forget,
    /// Starts the timer, or its next doubling.
    Arm(Timer),
    Disarm(Timer),
    /// Tells the user that its final response was never acknowledged.
    NoAck,
    /// Tells the user that the transport failed.
    Undeliverable,
}

#[derive(Debug, Default)]
pub(super) struct Servers {
    slots: Slots<Server>,
    index: HashMap<Key, ServerId>,
    /// Requests without To tag by call and sequence number, to know copies that come by another way.
    merges: HashMap<Key, ServerId>,
    /// 2xx of INVITEs by dialog and sequence number, to know their ACKs.
    answers: HashMap<Key, ServerId>,
}

#[derive(Debug)]
struct Server {
    key: Key,
    merge: Option<Key>,
    answer: Option<Key>,
    carrier: Carrier,
    /// Where responses go once the connection that the request came by is gone (RFC 3261 section 18.2.2).
    fallback: Option<Hop>,
    audience: Audience,
    /// Our tag in the responses to an INVITE, for the response to its CANCEL (RFC 3261 section 9.2).
    tag: Option<Box<str>>,
    state: State,
}

#[derive(Debug)]
enum State {
    Invite(invite_server::State),
    NonInvite(non_invite_server::State),
}

/// What moves a server transaction.
enum Input {
    Request,
    Ack(Box<Request>),
    Response(Box<Response>),
    Fired(Timer),
    TransportError,
}

/// A message on its way into a machine.
enum Cargo {
    Nothing,
    Request(Box<Request>, Hop),
    Ack(Box<Request>),
    Response(Box<Response>),
}

impl Servers {
    /// Takes a request that came by `hop`, and says whether it is a copy. `others` counts the transactions that share
    /// the limit.
    pub(super) fn receive(
        &mut self,
        shared: &mut Shared,
        now: Time,
        mut request: Box<Request>,
        hop: Hop,
        others: usize,
        out: &mut Vec<Output>,
    ) -> bool {
        fill_received(&mut request, hop.remote);
        let Some(via) = request.head.via.first() else {
            shared.counts.illegal += 1;
            return false;
        };
        let method = if request.method == Method::Ack { &Method::Invite } else { &request.method };
        let known = self.index.get(shared.key.server(&request, via, method)).copied();
        match (known, &request.method) {
            (Some(id), Method::Ack) => return self.ack_again(shared, now, id, request, out),
            (Some(id), _) => {
                self.apply(shared, now, id, Input::Request, out);
                return true;
            }
            (None, Method::Ack) => return self.acknowledged(shared, now, request, out),
            (None, Method::Cancel) => self.cancelled(shared, now, request, hop, out),
            (None, _) => self.requested(shared, now, request, hop, others, out),
        }
        false
    }

    /// An ACK of a known INVITE; whether that was acknowledged before.
    fn ack_again(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: ServerId,
        ack: Box<Request>,
        out: &mut Vec<Output>,
    ) -> bool {
        let is_copy = self.slots.find(id.slot, id.epoch).is_some_and(|server| server.is_acknowledged());
        self.apply(shared, now, id, Input::Ack(ack), out);
        is_copy
    }

    pub(super) fn knows(&mut self, shared: &mut Shared, request: &Request) -> bool {
        let Some(via) = request.head.via.first() else { return false };
        self.index.contains_key(shared.key.server(request, via, &request.method))
    }

    pub(super) fn refuse(
        &mut self,
        shared: &mut Shared,
        request: &Request,
        response: Response,
        hop: Hop,
        out: &mut Vec<Output>,
    ) {
        shared.counts.refused += 1;
        stateless(shared, request, response, hop, out);
    }

    pub(super) fn respond(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: ServerId,
        mut response: Box<Response>,
        out: &mut Vec<Output>,
    ) {
        let Some(server) = self.slots.find(id.slot, id.epoch) else {
            shared.counts.illegal += 1;
            return;
        };
        server.agree_on_tag(shared, &mut response);
        let answer = response.status.is_success().then(|| Key::from(shared.key.answer(&response.head)));
        self.apply(shared, now, id, Input::Response(response), out);
        if let (Some(answer), Some(server)) = (answer, self.slots.find(id.slot, id.epoch))
            && matches!(server.state, State::Invite(invite_server::State::Accepted))
            && server.answer.is_none()
        {
            server.answer = Some(answer.clone());
            self.answers.insert(answer, id);
        }
    }

    pub(super) fn abandon(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: ServerId,
        status: StatusCode,
        out: &mut Vec<Output>,
    ) {
        let open = self.slots.find(id.slot, id.epoch).filter(|server| !server.is_answered());
        let Some(Ok(Message::Response(said))) =
            open.and_then(|server| server.carrier.kept()).map(|bytes| parse(bytes))
        else {
            return;
        };
        let head = Head { contact: Contact::default(), record_route: Vec::new(), ..said.head };
        let reason = status.phrase().into_owned();
        let response = Response { status, reason, head, headers: Headers::default(), body: Vec::new() };
        self.respond(shared, now, id, Box::new(response), out);
    }

    pub(super) fn expire(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: ServerId,
        timer: Timer,
        out: &mut Vec<Output>,
    ) {
        if let Some(server) = self.slots.find(id.slot, id.epoch) {
            server.carrier.fired(timer);
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
            if let Some(server) = self.slots.find(id.slot, id.epoch)
                && let Some(fallback) = server.fallback.take()
            {
                server.carrier.hop = fallback;
                if !matches!(server.state, State::NonInvite(non_invite_server::State::Trying)) {
                    server.carrier.send(shared, out);
                }
                continue;
            }
            self.apply(shared, now, id, Input::TransportError, out);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    fn using(&self, hop: &Hop, scope: Scope) -> Vec<ServerId> {
        let by_hop = self.slots.iter().filter(|(_, _, server)| server.carrier.goes_by(hop, scope));
        by_hop.map(|(slot, epoch, _)| ServerId { slot, epoch }).collect()
    }

    /// A request that no transaction knows.
    fn requested(
        &mut self,
        shared: &mut Shared,
        now: Time,
        request: Box<Request>,
        hop: Hop,
        others: usize,
        out: &mut Vec<Output>,
    ) {
        let is_initial = request.head.to.tag().is_none();
        if is_initial && self.merges.contains_key(shared.key.merge(&request)) {
            shared.counts.merged += 1;
            let response = Response::to_request(&request, LOOP_DETECTED);
            let (id, _) = self.begin(shared, now, request, hop, Audience::Nobody, out);
            return self.respond(shared, now, id, Box::new(response), out);
        }
        if self.len() + others >= shared.settings.room_for(is_initial) {
            shared.counts.refused += 1;
            let mut response = Response::to_request(&request, StatusCode::SERVICE_UNAVAILABLE);
            let pause = shared.settings.retry_after.as_secs().to_string();
            response.headers.push(HeaderName::RetryAfter, pause);
            return stateless(shared, &request, response, hop, out);
        }
        self.begin(shared, now, request, hop, Audience::User, out);
    }

    /// The ACK of a 2xx has a branch of its own (RFC 3261 section 13.2.2.4).
    fn acknowledged(
        &mut self,
        shared: &mut Shared,
        now: Time,
        request: Box<Request>,
        out: &mut Vec<Output>,
    ) -> bool {
        match self.answers.get(shared.key.answer(&request.head)).copied() {
            Some(id) => return self.ack_again(shared, now, id, request, out),
            // The dialog may have been adopted from a process that is gone, and its transaction went with it.
            None if request.head.to.tag().is_some() => out.push(Output::Ack { answered: None, request }),
            None => shared.counts.stray_acks += 1,
        }
        false
    }

    /// A new CANCEL (RFC 3261 section 9.2): a transaction of its own that answers at once.
    fn cancelled(
        &mut self,
        shared: &mut Shared,
        now: Time,
        cancel: Box<Request>,
        hop: Hop,
        out: &mut Vec<Output>,
    ) {
        let invite = cancel.head.via.first().and_then(|via| {
            let id = *self.index.get(shared.key.server(&cancel, via, &Method::Invite))?;
            Some((id, self.slots.find(id.slot, id.epoch)?))
        });
        let Some((invite, server)) = invite else {
            shared.counts.stray_cancels += 1;
            let response = Response::to_request(&cancel, StatusCode::NO_SUCH_TRANSACTION);
            return stateless(shared, &cancel, response, hop, out);
        };
        let mut response = Response::to_request(&cancel, StatusCode::OK);
        server.agree_on_tag(shared, &mut response);
        let is_open = matches!(server.state, State::Invite(invite_server::State::Proceeding));
        let (id, cancel) = self.begin(shared, now, cancel, hop, Audience::Nobody, out);
        self.respond(shared, now, id, Box::new(response), out);
        if let (true, Some(cancel)) = (is_open, cancel) {
            out.push(Output::Cancelled { id: invite, cancel });
        }
    }

    /// Begins a transaction; gives the request back if its audience is nobody.
    fn begin(
        &mut self,
        shared: &mut Shared,
        now: Time,
        request: Box<Request>,
        hop: Hop,
        audience: Audience,
        out: &mut Vec<Output>,
    ) -> (ServerId, Option<Box<Request>>) {
        let via = request.head.via.first().expect("receive looked for the Via before it came here");
        let key = Key::from(shared.key.server(&request, via, &request.method));
        let is_first = audience == Audience::User && request.head.to.tag().is_none();
        let merge = is_first.then(|| Key::from(shared.key.merge(&request)));
        let mut carrier = Carrier::new(response_destination(via, &hop));
        let unconnected = Hop { connection: None, ..hop };
        let fallback = hop.connection.map(|_| response_destination(via, &unconnected));
        // For requests other than INVITE it is never sent (RFC 4320 section 4.1), but a final response can be made of it.
        let trying = Response::to_request(&request, StatusCode::TRYING);
        carrier.keep(shared.print(|print| trying.write(print)));
        let (state, acts) = match request.method {
            Method::Invite => (State::Invite(InviteServer::START.0), InviteServer::START.1),
            _ => (State::NonInvite(NonInviteServer::START.0), NonInviteServer::START.1),
        };
        let server = Server {
            key: key.clone(),
            merge: merge.clone(),
            answer: None,
            carrier,
            fallback,
            audience,
            tag: None,
            state,
        };
        let (slot, epoch) = self.slots.insert(server);
        let id = ServerId { slot, epoch };
        self.index.insert(key, id);
        if let Some(merge) = merge {
            self.merges.insert(merge, id);
        }
        shared.counts.requests_received += 1;
        let mut cargo = Cargo::Request(request, hop);
        if let Some(server) = self.slots.find(slot, epoch) {
            server.perform(shared, now, id, acts, &mut cargo, out);
        }
        match cargo {
            Cargo::Request(request, _) => (id, Some(request)),
            Cargo::Nothing | Cargo::Ack(_) | Cargo::Response(_) => (id, None),
        }
    }

    fn apply(&mut self, shared: &mut Shared, now: Time, id: ServerId, input: Input, out: &mut Vec<Output>) {
        let Some(server) = self.slots.find(id.slot, id.epoch) else {
            shared.counts.illegal += 1;
            return;
        };
        let acts = server.step(shared, &input);
        let mut cargo = match input {
            Input::Ack(request) => Cargo::Ack(request),
            Input::Response(response) => Cargo::Response(response),
            Input::Request | Input::Fired(_) | Input::TransportError => Cargo::Nothing,
        };
        server.perform(shared, now, id, acts, &mut cargo, out);
        if server.is_over()
            && let Some(mut server) = self.slots.remove(id.slot, id.epoch)
        {
            server.carrier.disarm_all(shared, Owner::Server(id));
            remove_own(&mut self.index, Some(&server.key), id);
            remove_own(&mut self.merges, server.merge.as_ref(), id);
            remove_own(&mut self.answers, server.answer.as_ref(), id);
            server.tell(Output::ServerEnded { id }, out);
        }
    }
}

impl Server {
    fn step(&mut self, shared: &mut Shared, input: &Input) -> &'static [Act] {
        match &mut self.state {
            State::Invite(state) => match invite_event(input) {
                Some(event) => shared.step::<InviteServer>(state, event),
                None => shared.illegal(),
            },
            State::NonInvite(state) => match non_invite_event(input) {
                Some(event) => shared.step::<NonInviteServer>(state, event),
                None => shared.illegal(),
            },
        }
    }

    fn perform(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: ServerId,
        acts: &[Act],
        cargo: &mut Cargo,
        out: &mut Vec<Output>,
    ) {
        for act in acts {
            // A timer of no time fires behind the acts that started it: it stands last among them.
            if let Some(timer) = self.act(shared, now, id, *act, cargo, out) {
                let acts = self.step(shared, &Input::Fired(timer));
                self.perform(shared, now, id, acts, &mut Cargo::Nothing, out);
            }
        }
    }

    /// Does one act; `Some` is a timer that fires at once.
    fn act(
        &mut self,
        shared: &mut Shared,
        now: Time,
        id: ServerId,
        act: Act,
        cargo: &mut Cargo,
        out: &mut Vec<Output>,
    ) -> Option<Timer> {
        let owner = Owner::Server(id);
        match act {
            Act::Keep => {
                if let Cargo::Response(response) = cargo {
                    self.carrier.keep(shared.print(|print| response.write(print)));
                }
            }
            Act::Send => self.carrier.send(shared, out),
            Act::Pass => self.pass(id, cargo, out),
            Act::Forget => self.carrier.forget(),
            Act::Arm(timer) => return self.carrier.arm(shared, owner, timer, now),
            Act::Disarm(timer) => self.carrier.disarm(shared, owner, timer),
            Act::NoAck => {
                shared.counts.not_acknowledged += 1;
                self.tell(Output::NoAck { id }, out);
            }
            Act::Undeliverable => self.tell(Output::Undeliverable { id }, out),
        }
        None
    }

    fn pass(&self, id: ServerId, cargo: &mut Cargo, out: &mut Vec<Output>) {
        if self.audience == Audience::Nobody {
            return;
        }
        match std::mem::replace(cargo, Cargo::Nothing) {
            Cargo::Request(request, hop) => out.push(Output::Request { id, request, hop }),
            Cargo::Ack(request) => out.push(Output::Ack { answered: Some(id), request }),
            Cargo::Nothing | Cargo::Response(_) => {}
        }
    }

    fn tell(&self, output: Output, out: &mut Vec<Output>) {
        if self.audience == Audience::User {
            out.push(output);
        }
    }

    /// Gives a response without To tag the one that others to the same request have, and remembers it.
    fn agree_on_tag(&mut self, shared: &mut Shared, response: &mut Response) {
        if response.status == StatusCode::TRYING {
            return;
        }
        match response.head.to.tag() {
            Some(tag) if matches!(self.state, State::Invite(_)) && self.tag.as_deref() != Some(tag) => {
                self.tag = Some(tag.into());
            }
            Some(_) => {}
            None => {
                let tag = self.tag.get_or_insert_with(|| shared.tokens.token().into());
                response.head.to.set_tag(tag);
            }
        }
    }

    /// Whether a final response went out.
    fn is_answered(&self) -> bool {
        match self.state {
            State::Invite(state) => state != invite_server::State::Proceeding,
            State::NonInvite(state) => {
                !matches!(state, non_invite_server::State::Trying | non_invite_server::State::Proceeding)
            }
        }
    }

    /// Whether the ACK of its final response came.
    fn is_acknowledged(&self) -> bool {
        use invite_server::State::{Acknowledged, Confirmed};
        matches!(self.state, State::Invite(Acknowledged | Confirmed))
    }

    fn is_over(&self) -> bool {
        match self.state {
            State::Invite(state) => state == invite_server::State::Terminated,
            State::NonInvite(state) => state == non_invite_server::State::Terminated,
        }
    }
}

const LOOP_DETECTED: StatusCode = StatusCode::new(482).expect("482 is a status code");

fn invite_event(input: &Input) -> Option<invite_server::Event> {
    use invite_server::Event;
    Some(match input {
        Input::Request => Event::Request,
        Input::Ack(_) => Event::Ack,
        Input::Response(response) if response.status.is_provisional() => Event::Provisional,
        Input::Response(response) if response.status.is_success() => Event::Success,
        Input::Response(_) => Event::Failure,
        Input::Fired(Timer::Trying) => Event::TimerTrying,
        Input::Fired(Timer::Answer) => Event::TimerAnswer,
        Input::Fired(Timer::G) => Event::TimerG,
        Input::Fired(Timer::H) => Event::TimerH,
        Input::Fired(Timer::I) => Event::TimerI,
        Input::Fired(Timer::L) => Event::TimerL,
        Input::Fired(_) => return None,
        Input::TransportError => Event::TransportError,
    })
}

fn non_invite_event(input: &Input) -> Option<non_invite_server::Event> {
    use non_invite_server::Event;
    Some(match input {
        Input::Request => Event::Request,
        Input::Response(response) if response.status.is_provisional() => Event::Provisional,
        Input::Response(_) => Event::Final,
        Input::Fired(Timer::J) => Event::TimerJ,
        Input::Fired(_) | Input::Ack(_) => return None,
        Input::TransportError => Event::TransportError,
    })
}

fn remove_own(index: &mut HashMap<Key, ServerId>, key: Option<&Key>, id: ServerId) {
    if let Some(key) = key
        && index.get(key) == Some(&id)
    {
        index.remove(key);
    }
}

/// Answers without a transaction. The To tag follows from the request, so that copies get the same (RFC 3261
/// section 8.2.7), and from a secret, so that nobody foresees it.
fn stateless(
    shared: &mut Shared,
    request: &Request,
    mut response: Response,
    hop: Hop,
    out: &mut Vec<Output>,
) {
    let Some(via) = request.head.via.first() else { return };
    if response.head.to.tag().is_none() {
        let mut hasher = DefaultHasher::new();
        (shared.secret, shared.key.server(request, via, &request.method)).hash(&mut hasher);
        response.head.to.set_tag(&format!("{:016x}", hasher.finish()));
    }
    let bytes = shared.print(|print| response.write(print));
    out.push(Output::Send { hop: response_destination(via, &hop), bytes, again: false });
}
