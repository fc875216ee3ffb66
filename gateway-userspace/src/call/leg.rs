//! One side of a call: its trunk, its dialog, its part in offer and answer.

use super::action::{Action, RequestKey};
use super::feature::ability::{ALLOW, Abilities, REPLACES};
use super::feature::session_timer::{self, Session};
use super::media::Playing;
use super::{Context, media};
use crate::base::fault::Fault;
use crate::base::id::{Side, TrunkId};
use crate::media::MediaPlan;
use crate::media::bridge::PlayUntil;
use crate::policy::{Permit, Snapshot, Trunk};
use crate::sdp;
use crate::signal::tone::Source;
use crate::sip::dialog::{Dialog, lifetime};
use crate::sip::message::{Draft, Header, HeaderName, Method, Request, Response, StatusCode, Uri};
use crate::sip::transaction::ServerId;
use crate::sip::transport::Hop;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

/// A trunk as it was when the call began: a reload does not touch calls in progress.
#[derive(Clone)]
pub struct TrunkRef {
    policy: Arc<Snapshot>,
    id: TrunkId,
}

impl TrunkRef {
    /// `None` if `policy` has no such trunk.
    pub fn new(policy: Arc<Snapshot>, id: TrunkId) -> Option<Self> {
        policy.trunk(id)?;
        Some(Self { policy, id })
    }

    pub fn id(&self) -> TrunkId {
        self.id
    }

    pub fn policy(&self) -> &Arc<Snapshot> {
        &self.policy
    }

    /// Counts a call of this trunk, if there is room for it.
    pub(crate) fn enter(&self) -> Result<Permit, Fault> {
        self.policy.standing(self.id).ok_or(Fault::Internal)?.meter.enter(&self.limits)
    }

    /// Counts a call of this trunk whether there is room or not.
    pub(crate) fn enter_above(&self) -> Result<Permit, Fault> {
        Ok(self.policy.standing(self.id).ok_or(Fault::Internal)?.meter.enter_above(&self.limits))
    }
}

impl Deref for TrunkRef {
    type Target = Trunk;

    fn deref(&self) -> &Trunk {
        self.policy.trunk(self.id).expect("`new` looked it up, and a snapshot never changes")
    }
}

impl fmt::Debug for TrunkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// One side of a call whose dialog stands.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) trunk: TrunkRef,
    /// Where this side's first message came from or went to.
    pub(super) hop: Hop,
    pub(super) dialog: Dialog,
    pub(super) media: sdp::Leg,
    /// What its peer can do.
    pub(super) abilities: Abilities,
    pub(super) session: Session,
    /// The session description that our last ACK carried, for copies of the 2xx that it answers (RFC 3261 section
    /// 13.2.2.4); empty where the INVITE carried the offer.
    pub(super) acknowledged_with: String,
    /// Sequence number of our INVITE, and its answers to challenges, which its ACK repeats (RFC 3261 section 13.2.2.4).
    pub(super) authorization: (u32, Vec<Header>),
    /// The P-Charging-Vector that our messages to its peer carry.
    pub(super) charging: Option<Box<str>>,
}

impl Leg {
    pub(super) fn local_tag(&self) -> &str {
        self.dialog.local_tag()
    }

    /// Starts a request of ours inside the dialog.
    pub(super) fn request(&self, context: &mut Context<'_>, key: RequestKey, mut draft: Draft) {
        self.trunk.sign(&mut draft);
        if let Some(vector) = &self.charging {
            draft.headers.push(HeaderName::PChargingVector, &**vector);
        }
        if matches!(draft.method, Method::Invite | Method::Update) {
            session_timer::ask(&mut draft, &self.session, self.trunk.sip.session_expires);
        }
        let hop = self.next_hop(context);
        context.push(Action::Request { key, draft: Box::new(draft), hop });
    }

    /// Acknowledges the 2xx with this sequence number.
    pub(super) fn acknowledge(&self, context: &mut Context<'_>, sequence: u32) {
        let mut draft = self.dialog.ack(sequence);
        self.trunk.sign(&mut draft);
        if self.authorization.0 == sequence {
            for header in &self.authorization.1 {
                draft.headers.push(header.name.clone(), header.value.as_str());
            }
        }
        if !self.acknowledged_with.is_empty() {
            draft.set_body(SDP, self.acknowledged_with.as_str());
        }
        let hop = self.next_hop(context);
        context.push(Action::Acknowledge { draft: Box::new(draft), hop });
    }

    /// Answers a request of this side inside the dialog, with a session description if there is one.
    pub(super) fn respond(
        &mut self,
        context: &mut Context<'_>,
        (server, request): (ServerId, &Request),
        status: StatusCode,
        body: Option<String>,
    ) {
        let mut response = response(&self.dialog, request, status, body);
        if status.is_success() && matches!(request.method, Method::Invite | Method::Update) {
            self.session.answer(request, &mut response, self.trunk.sip.session_expires, context.now);
        }
        self.push_response(context, server, response);
    }

    /// A response to a request of this side inside the dialog, for somebody else to send.
    pub(super) fn response(
        &self,
        context: &Context<'_>,
        request: &Request,
        status: StatusCode,
        body: Option<String>,
    ) -> Response {
        let mut response = response(&self.dialog, request, status, body);
        self.sign(context, &mut response);
        response
    }

    /// Refuses a request of this side by the other side's word, and by its Reason (RFC 6432).
    pub(super) fn pass_refusal(
        &mut self,
        context: &mut Context<'_>,
        (server, request): (ServerId, &Request),
        status: StatusCode,
        reason: Option<String>,
    ) {
        let mut response = response(&self.dialog, request, status, None);
        if let Some(reason) = reason {
            response.headers.push(HeaderName::Reason, reason);
        }
        self.push_response(context, server, response);
    }

    /// Refuses a request of this side inside the dialog.
    pub(super) fn refuse(
        &mut self,
        context: &mut Context<'_>,
        (server, request): (ServerId, &Request),
        fault: Fault,
    ) {
        let mut response = super::refusal(request, fault);
        response.head.to.set_tag(self.dialog.local_tag());
        self.push_response(context, server, response);
    }

    /// Refuses a request that the dialog did not let in: what is under way in it goes on untouched.
    pub(super) fn turn_away(
        &self,
        context: &mut Context<'_>,
        (server, request): (ServerId, &Request),
        fault: Fault,
    ) {
        let mut response = super::refusal(request, fault);
        response.head.to.set_tag(self.dialog.local_tag());
        self.sign(context, &mut response);
        context.push(Action::Respond { server, response: Box::new(response) });
    }

    fn push_response(&mut self, context: &mut Context<'_>, server: ServerId, mut response: Response) {
        self.sign(context, &mut response);
        if response.head.cseq.method == Method::Invite {
            self.dialog.responded(response.status);
        }
        context.push(Action::Respond { server, response: Box::new(response) });
    }

    /// What every response of ours on this leg carries.
    fn sign(&self, context: &Context<'_>, response: &mut Response) {
        response.headers.push(HeaderName::Server, &*context.settings.product);
        if let Some(vector) = self.charging.as_ref().filter(|_| response.head.cseq.method == Method::Invite) {
            response.headers.push(HeaderName::PChargingVector, &**vector);
        }
    }

    fn next_hop(&self, context: &Context<'_>) -> Hop {
        next_hop(context.policy, &self.dialog, &self.trunk, self.hop)
    }

    /// Gives back the ports.
    pub(super) fn close(&self, context: &mut Context<'_>) {
        context.ports.release(self.media.local(), context.now);
    }
}

/// Where requests inside the dialog go: to the address that its next hop's URI names, if the trunk allows that address,
/// else to `first`, where the leg's first message came from or went to.
///
/// A trunk that keeps its connections apart never gets requests by one that its peer opened: they go to the port that the
/// URI names.
///
/// What names mean is what they mean in `policy`, today's.
pub(super) fn next_hop(policy: &Snapshot, dialog: &Dialog, trunk: &TrunkRef, first: Hop) -> Hop {
    hop_to(policy, dialog.next_hop(), trunk, first)
}

/// As [`next_hop`], for a request to this URI.
pub(super) fn hop_to(policy: &Snapshot, uri: &Uri, trunk: &TrunkRef, first: Hop) -> Hop {
    let (named, port) = match uri.as_sip() {
        Some(uri) => {
            let known = policy.trunk_named(&trunk.name).filter(|_| uri.host.address().is_none());
            let (policy, id) = known.map_or((&**trunk.policy(), trunk.id()), |(id, _)| (policy, id));
            let port = uri.port.unwrap_or(first.transport.default_port());
            (policy.meant_by(id, &uri.host, uri.port), port)
        }
        None => (None, first.transport.default_port()),
    };
    let ours = Hop { connection: None, ..first };
    match (named, trunk.shares_connections() || first.connection.is_none()) {
        (Some(remote), true) if remote == first.remote => first,
        (Some(remote), _) => Hop { remote, ..ours },
        (None, true) => first,
        (None, false) => Hop { remote: SocketAddr::new(first.remote.ip(), port), ..ours },
    }
}

/// A response inside `dialog`, with a session description if there is one, and with what we can do where it is asked.
pub(super) fn response(
    dialog: &Dialog,
    request: &Request,
    status: StatusCode,
    body: Option<String>,
) -> Response {
    let mut response = dialog.response(request, status);
    if status.is_success() && matches!(request.method, Method::Invite | Method::Update | Method::Options) {
        response.headers.push(HeaderName::Allow, ALLOW);
        response.headers.push(HeaderName::Supported, REPLACES);
    }
    if let Some(body) = body {
        response.set_body(SDP, body);
    }
    response
}

pub(super) const SDP: &str = "application/sdp";

/// The legs of an answered call.
#[derive(Debug)]
pub(super) struct Legs {
    pub(super) caller: Leg,
    pub(super) callee: Leg,
    /// What one of them hears in the place of the other.
    playing: Option<Playing>,
}

impl Legs {
    pub(super) fn new(caller: Leg, callee: Leg) -> Self {
        Self { caller, callee, playing: None }
    }

    pub(super) fn into_parts(self) -> (Leg, Leg) {
        (self.caller, self.callee)
    }

    /// The peer of `to` hears this of us from now on, once [`Self::relay`] says so; `false` where it cannot.
    pub(super) fn play(&mut self, to: Side, source: Source) -> bool {
        if self.plan_playing(to).is_none() {
            return false;
        }
        self.playing = Some(Playing::new(to, source, PlayUntil::Stopped));
        true
    }

    pub(super) fn plays(&self) -> bool {
        self.playing.is_some()
    }

    /// Both hear each other again, once [`Self::relay`] says so. Whether anything was played.
    pub(super) fn stop_playing(&mut self, context: &mut Context<'_>) -> bool {
        let playing = self.playing.take();
        let played = playing.is_some();
        playing.into_iter().for_each(|playing| playing.stop(context));
        played
    }

    fn plan_playing(&self, to: Side) -> Option<MediaPlan> {
        let is_gone = self.of(to.other()).dialog.state() == lifetime::State::Terminated;
        media::plan_playing((&self.caller, &self.callee.trunk, &self.callee.media), to, is_gone)
    }

    pub(super) fn of(&self, side: Side) -> &Leg {
        match side {
            Side::Caller => &self.caller,
            Side::Callee => &self.callee,
        }
    }

    pub(super) fn of_mut(&mut self, side: Side) -> &mut Leg {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }

    pub(super) fn with_call_id(&mut self, call_id: &str) -> Option<&mut Leg> {
        [&mut self.caller, &mut self.callee].into_iter().find(|leg| leg.dialog.call_id() == call_id)
    }

    /// The leg of `side` and the other one.
    pub(super) fn pair(&mut self, side: Side) -> (&mut Leg, &mut Leg) {
        match side {
            Side::Caller => (&mut self.caller, &mut self.callee),
            Side::Callee => (&mut self.callee, &mut self.caller),
        }
    }

    /// What both have agreed to carry.
    pub(super) fn plan(&self) -> MediaPlan {
        let playing = self.playing.as_ref().and_then(|playing| self.plan_playing(playing.to));
        playing.unwrap_or_else(|| self.plan_of_both())
    }

    fn plan_of_both(&self) -> MediaPlan {
        media::plan(&self.caller, &self.callee.trunk, &self.callee.media)
    }

    /// Makes the data plane carry it.
    pub(super) fn relay(&mut self, context: &mut Context<'_>) {
        let plan = self.plan();
        match &mut self.playing {
            Some(playing) => playing.relay(plan, context),
            None => context.push(Action::Relay(Box::new(plan))),
        }
    }
}
