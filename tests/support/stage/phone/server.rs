//! What a phone makes of the gateway's requests.

use super::super::far_end::Refusal;
use super::dialog::{Dialog, State};
use super::timer::{T1, T2};
use super::{Phone, Reaction, answer};
use gateway_userspace::base::time::Time;
use gateway_userspace::sip::message::{HeaderName, Method, Request};
use std::collections::BTreeMap;
use std::time::Duration;

/// A request of theirs.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) branch: String,
    pub(super) request: Request,
    pub(super) dialog: Option<usize>,
    pub(super) script: Vec<(Time, Reaction)>,
    /// Dialogs of the branches behind it.
    pub(super) branches: BTreeMap<u8, usize>,
    /// A reliable response without its PRACK: RSeq, bytes, pause, when it goes out again, when that ends.
    pub(super) reliable: Option<(u32, Vec<u8>, Duration, Time, Time)>,
    pub(super) last: Vec<u8>,
    pub(super) status: u16,
    pub(super) pause: Duration,
    pub(super) resend: Option<Time>,
    pub(super) give_up: Option<Time>,
}

impl Server {
    pub(super) fn new(branch: String, request: Request, dialog: Option<usize>) -> Self {
        Self {
            branch,
            request,
            dialog,
            script: Vec::new(),
            branches: BTreeMap::new(),
            reliable: None,
            last: Vec::new(),
            status: 0,
            pause: T1,
            resend: None,
            give_up: None,
        }
    }

    pub(super) fn is_invite(&self) -> bool {
        self.request.method == Method::Invite
    }
}

impl Phone {
    pub(super) fn expire_server(&mut self, now: Time, at: usize) {
        while let Some(due) = self.servers[at].script.iter().position(|(due, _)| *due <= now) {
            let (_, reaction) = self.servers[at].script.remove(due);
            self.react(now, at, reaction);
        }
        self.expire_reliable(now, at);
        let server = &mut self.servers[at];
        if server.resend.is_some_and(|due| due <= now) {
            server.pause = (server.pause * 2).min(T2);
            server.resend = Some(now + server.pause);
            self.outbox.push(server.last.clone());
        }
        let server = &mut self.servers[at];
        if server.give_up.is_some_and(|due| due <= now) {
            (server.give_up, server.resend) = (None, None);
            let (status, dialog) = (server.status, server.dialog);
            self.complaints.push(format!("{status} was never acknowledged"));
            if let (200, Some(dialog)) = (status, dialog) {
                self.bye(now, dialog);
            }
        }
    }

    fn expire_reliable(&mut self, now: Time, at: usize) {
        let server = &mut self.servers[at];
        let Some((rseq, bytes, pause, due, end)) = &mut server.reliable else { return };
        if *due > now {
            return;
        }
        if now >= *end {
            self.complaints.push(format!("reliable response {rseq} had no PRACK"));
            server.reliable = None;
            return;
        }
        *pause *= 2;
        *due = (now + *pause).min(*end);
        self.outbox.push(bytes.clone());
    }

    pub(super) fn requested(&mut self, now: Time, request: Request) {
        let branch = request.head.via[0].branch().unwrap_or_default().to_owned();
        let same =
            |server: &Server, method: &Method| server.branch == branch && server.request.method == *method;
        match request.method {
            Method::Ack => self.acknowledged(now, &request, &branch),
            Method::Cancel => {
                let invite = self.servers.iter().position(|server| same(server, &Method::Invite));
                self.cancelled(now, invite, &request);
            }
            _ => match self.servers.iter().position(|server| same(server, &request.method)) {
                Some(at) => {
                    let last = self.servers[at].last.clone();
                    if !last.is_empty() {
                        self.outbox.push(last);
                    }
                }
                None => self.first_time(now, request, branch),
            },
        }
    }

    fn acknowledged(&mut self, now: Time, ack: &Request, branch: &str) {
        let head = &ack.head;
        let answers = |server: &&mut Server| {
            let own_tag =
                server.dialog.and_then(|dialog| self.dialogs.get(dialog)).map(|own| own.local_tag.as_str());
            let by_dialog = server.request.head.call_id == head.call_id
                && server.request.head.cseq.number == head.cseq.number
                && own_tag == head.to.tag();
            server.is_invite() && if server.status == 200 { by_dialog } else { server.branch == branch }
        };
        let Some(server) = self.servers.iter_mut().find(answers) else {
            self.complaints.push(format!("ACK of nothing: {}", head.cseq.number));
            return;
        };
        (server.resend, server.give_up) = (None, None);
        let (status, dialog) = (server.status, server.dialog);
        if status == 200 && server.request.body.is_empty() && ack.body.is_empty() {
            self.complaints.push("an offer without an answer".to_owned());
        }
        if let Some(dialog) = dialog.filter(|dialog| status == 200 && self.dialogs[*dialog].bye_wanted) {
            self.bye(now, dialog);
        }
    }

    fn cancelled(&mut self, now: Time, invite: Option<usize>, cancel: &Request) {
        let status = if invite.is_some() { 200 } else { 481 };
        let text = answer::printed(&answer::respond(cancel, status, "tag-of-cancel"));
        self.outbox.push(text);
        if let Some(at) = invite.filter(|at| self.servers[*at].status < 200 && !self.ignores_cancel) {
            self.react(now, at, Reaction::Say(487));
        }
    }

    fn first_time(&mut self, now: Time, request: Request, branch: String) {
        let judged = self.far_end.as_mut().map_or(Ok(()), |far_end| far_end.judge(&request));
        if let Err(Refusal { status, why }) = judged {
            self.complaints.push(format!("{} refused: {why}", request.method.as_str()));
            self.servers.push(Server::new(branch, request, None));
            return self.react(now, self.servers.len() - 1, Reaction::Say(status));
        }
        let dialog = request.head.to.tag().and_then(|tag| {
            let own = |dialog: &Dialog| dialog.call_id == request.head.call_id && dialog.local_tag == tag;
            self.dialogs.iter().position(own)
        });
        let is_new_call = request.method == Method::Invite && request.head.to.tag().is_none();
        let dialog = if is_new_call { Some(self.accept_dialog(&request)) } else { dialog };
        let delays = if is_new_call { &self.on_invite } else { &self.on_reinvite };
        let script = delays.iter().map(|(delay, reaction)| (now + Duration::from_millis(*delay), *reaction));
        let method = request.method.clone();
        let mut server = Server::new(branch, request, dialog);
        if method == Method::Invite {
            server.script = script.collect();
        }
        self.servers.push(server);
        let at = self.servers.len() - 1;
        let state = dialog.map(|dialog| self.dialogs[dialog].state);
        match (method, state) {
            (Method::Register, None) if self.registrar.is_some() => self.registered(now, at),
            (Method::Options, None) => self.react(now, at, Reaction::Say(self.on_options)),
            (_, None) => self.react(now, at, Reaction::Say(481)),
            (Method::Bye, Some(_)) => self.bye_received(now, at),
            (_, Some(State::Ended)) => self.react(now, at, Reaction::Say(481)),
            (Method::Invite, Some(_)) if self.is_inviting(dialog) => self.react(now, at, Reaction::Say(491)),
            (Method::Invite, Some(_)) => self.expire_server(now, at),
            (Method::Options, Some(_)) => self.react(now, at, Reaction::Say(200)),
            (Method::Notify, Some(_)) => {
                self.react(now, at, Reaction::Say(200));
                // Teams leaves whom it has transferred; nobody else may.
                let talks = self.servers[at].request.body.starts_with(b"SIP/2.0 200");
                if let Some(dialog) =
                    dialog.filter(|_| talks && self.far_end.as_ref().is_some_and(|own| own.leaves))
                {
                    self.bye(now, dialog);
                }
            }
            (Method::Prack, Some(_)) => self.pracked(now, at),
            (Method::Update, Some(_)) => {
                let offers = !self.servers[at].request.body.is_empty();
                let refused = self.refuses_update.map(Reaction::Say);
                let reaction = if offers { Reaction::Describe(200) } else { Reaction::Say(200) };
                self.react(now, at, refused.unwrap_or(reaction));
            }
            (Method::Refer, Some(_)) => self.react(now, at, Reaction::Say(self.on_refer)),
            (_, Some(_)) => self.react(now, at, Reaction::Say(405)),
        }
    }

    /// A PRACK came: it has to name a reliable response that waits.
    fn pracked(&mut self, now: Time, at: usize) {
        let rack = HeaderName::RAck;
        let named = self.servers[at].request.headers.value(&rack).unwrap_or_default().to_owned();
        let call_id = self.servers[at].request.head.call_id.clone();
        let waiting = self.servers.iter_mut().find(|server| {
            let reliable = server.reliable.as_ref();
            let expected = |rseq: u32| format!("{rseq} {} INVITE", server.request.head.cseq.number);
            server.request.head.call_id == call_id
                && reliable.is_some_and(|(rseq, ..)| expected(*rseq) == named)
        });
        match waiting {
            Some(server) => {
                server.reliable = None;
                self.react(now, at, Reaction::Say(200));
            }
            None => {
                self.complaints.push(format!("PRACK of nothing: {named}"));
                self.react(now, at, Reaction::Say(481));
            }
        }
    }

    fn bye_received(&mut self, now: Time, at: usize) {
        let dialog = self.servers[at].dialog.expect("the caller found the dialog");
        self.dialogs[dialog].state = State::Ended;
        let mut open = None;
        for (position, server) in
            self.servers.iter_mut().enumerate().filter(|(_, own)| own.dialog == Some(dialog))
        {
            if server.status == 200 {
                (server.resend, server.give_up) = (None, None);
            } else if server.is_invite() && server.status < 200 {
                open = Some(position);
            }
        }
        self.react(now, at, Reaction::Say(200));
        if let Some(open) = open {
            self.react(now, open, Reaction::Say(487));
        }
    }
}
