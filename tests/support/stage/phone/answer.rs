//! How a phone answers: by one voice, or by the branches of a proxy that forked.

use super::dialog::State;
use super::server::Server;
use super::timer::{GIVE_UP, T1};
use super::{Phone, Reaction};
use gateway_userspace::base::time::Time;
use gateway_userspace::sip::message::{HeaderName, Method, Request, Response, StatusCode};

impl Phone {
    /// Answers the request of this server transaction.
    pub(super) fn react(&mut self, now: Time, at: usize, reaction: Reaction) {
        if self.servers[at].status >= 200 && !matches!(reaction, Reaction::Fork | Reaction::Branch(..)) {
            return;
        }
        let (status, describes) = match reaction {
            Reaction::Say(status) | Reaction::Reliable(status, false) => (status, false),
            Reaction::Describe(status) | Reaction::Reliable(status, true) => (status, true),
            Reaction::Fork => return self.fork(now, at),
            Reaction::Branch(number, status, describes) => {
                return self.branch_says(now, at, (number, status, describes));
            }
        };
        if let Reaction::Reliable(..) = reaction {
            self.next_rseq += 1;
            self.rseq = Some(self.next_rseq);
        }
        let tag = match self.servers[at].dialog {
            Some(dialog) => self.dialogs[dialog].local_tag.clone(),
            None => format!("tag-{}-none", self.name),
        };
        self.send_response(now, at, status, &tag, describes);
    }

    fn send_response(&mut self, now: Time, at: usize, status: u16, tag: &str, describes: bool) {
        let request = self.servers[at].request.clone();
        let mut response = respond(&request, status, tag);
        let rseq = self.rseq.take();
        self.furnish(&mut response, &request, rseq);
        if describes {
            let offer =
                (!request.body.is_empty()).then(|| String::from_utf8_lossy(&request.body).into_owned());
            let body = self.describe(offer.as_deref());
            response.set_body("application/sdp", body);
        }
        let server = &mut self.servers[at];
        server.last = printed(&response);
        server.status = status;
        self.outbox.push(server.last.clone());
        if let Some(rseq) = rseq {
            server.reliable = Some((rseq, server.last.clone(), T1, now + T1, now + GIVE_UP));
        }
        if server.is_invite() && status >= 200 {
            self.decided(now, at, status);
        }
    }

    /// Headers of a response besides those that every response has.
    fn furnish(&self, response: &mut Response, request: &Request, rseq: Option<u32>) {
        let status = response.status.code();
        if request.method == Method::Invite && (101..300).contains(&status) {
            let contact = format!("<sip:{}@{}{}>", self.name, self.address, self.contact_parameters);
            response.headers.push(HeaderName::Other("Contact".into()), contact);
        }
        if let Some(rseq) = rseq {
            response.headers.push(HeaderName::Require, "100rel");
            response.headers.push(HeaderName::RSeq, rseq.to_string());
        }
        if let Some((value, algorithm)) = self.load {
            let params = &mut response.head.via[0].params;
            params.set("oc", &value.to_string());
            params.set_quoted("oc-algo", algorithm);
            params.set("oc-validity", "5000");
        }
        if matches!(request.method, Method::Invite | Method::Update) {
            for (name, value) in &self.adds {
                response.headers.push(HeaderName::Other((*name).into()), value.as_str());
            }
        }
    }

    /// The INVITE has its final answer, which waits for the ACK.
    fn decided(&mut self, now: Time, at: usize, status: u16) {
        let server = &mut self.servers[at];
        server.reliable = None;
        let call_id = server.request.head.call_id.clone();
        let branches: Vec<_> = server.branches.values().copied().collect();
        for branch in branches {
            let dialog = &mut self.dialogs[branch];
            if dialog.call_id == call_id && dialog.state == State::Early {
                dialog.state = State::Ended;
            }
        }
        let server = &mut self.servers[at];
        server
            .script
            .retain(|(_, reaction)| matches!(reaction, Reaction::Fork | Reaction::Branch(_, 200, _)));
        server.resend = Some(now + T1);
        server.give_up = Some(now + GIVE_UP);
        if let Some(dialog) = server.dialog {
            let is_first = self.dialogs[dialog].state == State::Early;
            match status {
                200..300 if is_first => {
                    self.dialogs[dialog].state = State::Confirmed;
                    let offer = self.servers[at].request.body.clone();
                    self.stands(now, dialog, &offer);
                }
                300.. if is_first => self.dialogs[dialog].state = State::Ended,
                _ => {}
            }
        }
    }

    /// A branch of the INVITE speaks, as behind a proxy that forked.
    fn branch_says(&mut self, now: Time, at: usize, (number, status, describes): (u8, u16, bool)) {
        let request = self.servers[at].request.clone();
        let dialog = match self.servers[at].branches.get(&number) {
            Some(known) => *known,
            None => self.accept_dialog(&request),
        };
        self.servers[at].branches.insert(number, dialog);
        let usual = self.session.clone();
        if let Some(own) = self.branches.get(&number) {
            self.session = own.clone();
        }
        if status >= 200 {
            // The proxy cancels the others.
            for (other, state) in self.servers[at].branches.iter().map(|(n, d)| (*n, *d)).collect::<Vec<_>>()
            {
                if other != number && self.dialogs[state].state == State::Early {
                    self.dialogs[state].state = State::Ended;
                }
            }
            let main = self.servers[at].dialog.expect("an INVITE has a dialog");
            if self.dialogs[main].state == State::Early {
                self.dialogs[main].state = State::Ended;
            }
            self.servers[at].status = 200;
            self.servers[at]
                .script
                .retain(|(_, reaction)| matches!(reaction, Reaction::Fork | Reaction::Branch(_, 200, _)));
            self.answer_by(now, at, dialog, describes);
        } else {
            let tag = self.dialogs[dialog].local_tag.clone();
            self.send_response(now, at, status, &tag, describes);
        }
        self.session = usual;
    }

    /// Another branch of the same INVITE answers, as behind a proxy that forked.
    fn fork(&mut self, now: Time, at: usize) {
        let request = self.servers[at].request.clone();
        let dialog = self.accept_dialog(&request);
        self.answer_by(now, at, dialog, true);
    }

    fn answer_by(&mut self, now: Time, at: usize, dialog: usize, describes: bool) {
        let request = self.servers[at].request.clone();
        let branch = format!("fork of {}", self.servers[at].branch);
        self.servers.push(Server::new(branch, request, Some(dialog)));
        let reaction = if describes { Reaction::Describe(200) } else { Reaction::Say(200) };
        self.react(now, self.servers.len() - 1, reaction);
    }
}

pub(super) fn respond(request: &Request, status: u16, tag: &str) -> Response {
    let status = StatusCode::new(status).expect("the test writes status codes right");
    let mut response = Response::to_request(request, status);
    if status.code() > 100 && response.head.to.tag().is_none() {
        response.head.to.set_tag(tag);
    }
    response
}

pub(super) fn printed(response: &Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    response.write(&mut bytes);
    bytes
}
