//! A scripted SIP phone on virtual time: calls, answers by script, changes, hangs up, and retransmits by the timers
//! of RFC 3261. Written apart from the gateway's transactions and dialogs on purpose: it shares only the message
//! parser with them.

use super::session::Session;
use gateway_userspace::base::time::Time;
use gateway_userspace::sip::message::{HeaderName, Message, Method, Request, Response, StatusCode, parse};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const GIVE_UP: Duration = Duration::from_secs(32);

/// What a phone does about an INVITE, and how long after it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// A bare response.
    Say(u16),
    /// A response with a session description: 183 or 200.
    Describe(u16),
    /// A 200 from one more branch of a proxy that forked: another tag, another dialog.
    Fork,
    /// A reliable provisional response (RFC 3262), with a session description or without.
    Reliable(u16, bool),
    /// A response of the branch with this number, with a session description or without.
    Branch(u8, u16, bool),
}

/// One phone, or what stands for a peer's proxy.
#[derive(Debug)]
pub struct Phone {
    /// Stands in every token that this phone makes, so that a leak to the other side can be found; its capital keeps it
    /// apart from the gateway's own tokens.
    pub name: &'static str,
    pub address: SocketAddr,
    /// Where its requests go.
    pub gateway: SocketAddr,
    pub session: Session,
    pub on_invite: Vec<(u64, Reaction)>,
    pub on_reinvite: Vec<(u64, Reaction)>,
    /// What it answers to OPTIONS outside any dialog.
    pub on_options: u16,
    /// Sends ACKs of 2xx.
    pub acknowledges: bool,
    /// Hears and says nothing.
    pub dead: bool,
    /// Answers with its own payload numbers instead of the offer's.
    pub own_numbers: bool,
    /// Leaves a CANCEL without effect on the INVITE, as if it had come too late.
    pub ignores_cancel: bool,
    /// Header lines, each with its end, that the INVITE of a call carries besides.
    pub calls_with: &'static str,
    /// Parameters of the URI in its Contact, with their semicolon.
    pub contact_parameters: &'static str,
    /// From of its calls, without a tag; empty for its own number.
    pub calls_as: &'static str,
    /// Of the URIs in Request-URI, From and To inside its dialogs.
    pub dialog_parameters: &'static str,
    /// What its responses say of its load: value and algorithm (RFC 7339).
    pub load: Option<(u32, &'static str)>,
    /// Header lines that its responses to INVITEs carry besides.
    pub adds: Vec<(&'static str, String)>,
    /// A header line, with its end, of its BYEs and CANCELs.
    pub last_line: String,
    /// Sends PRACK.
    pub pracks: bool,
    /// What it says to UPDATE instead of 200.
    pub refuses_update: Option<u16>,
    /// What branches of a fork say about media, where it differs from [`Phone::session`].
    pub branches: BTreeMap<u8, Session>,
    /// All that came, as text.
    pub inbox: Vec<String>,
    /// Final responses to its requests, in order: `INVITE 200`.
    pub answers: Vec<String>,
    /// What no healthy counterpart makes a phone see.
    pub complaints: Vec<String>,
    pub outbox: Vec<Vec<u8>>,
    dialogs: Vec<Dialog>,
    clients: Vec<Client>,
    servers: Vec<Server>,
    minted: u32,
    sessions: u32,
    next_rseq: u32,
    /// RSeq for the response that is being written.
    rseq: Option<u32>,
}

#[derive(Debug)]
struct Dialog {
    call_id: String,
    local_tag: String,
    remote_tag: Option<String>,
    local: String,
    remote: String,
    target: String,
    sequence: u32,
    state: State,
    bye_wanted: bool,
    /// The ACK of each 2xx, by sequence number.
    acks: Vec<(u32, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Early,
    Confirmed,
    Ended,
}

/// A request of ours.
#[derive(Debug)]
struct Client {
    branch: String,
    method: &'static str,
    sequence: u32,
    dialog: usize,
    text: String,
    pause: Duration,
    resend: Option<Time>,
    give_up: Option<Time>,
    provisional: bool,
    status: Option<u16>,
    cancel_wanted: bool,
    offered: bool,
    /// RSeq of the reliable responses that were acknowledged.
    acknowledged: Vec<u32>,
}

/// A request of theirs.
#[derive(Debug)]
struct Server {
    branch: String,
    request: Request,
    dialog: Option<usize>,
    script: Vec<(Time, Reaction)>,
    /// Dialogs of the branches behind it.
    branches: BTreeMap<u8, usize>,
    /// A reliable response without its PRACK: RSeq, bytes, pause, when it goes out again, when that ends.
    reliable: Option<(u32, Vec<u8>, Duration, Time, Time)>,
    last: Vec<u8>,
    status: u16,
    pause: Duration,
    resend: Option<Time>,
    give_up: Option<Time>,
}

impl Phone {
    pub fn new(name: &'static str, address: &str, gateway: &str, session: Session) -> Self {
        let address_of = |text: &str| text.parse().expect("the test writes addresses right");
        Self {
            name,
            address: address_of(address),
            gateway: address_of(gateway),
            session,
            on_invite: vec![(50, Reaction::Say(180)), (1000, Reaction::Describe(200))],
            on_reinvite: vec![(50, Reaction::Describe(200))],
            on_options: 200,
            acknowledges: true,
            dead: false,
            own_numbers: false,
            ignores_cancel: false,
            calls_with: "",
            contact_parameters: "",
            calls_as: "",
            dialog_parameters: "",
            load: None,
            adds: Vec::new(),
            last_line: String::new(),
            pracks: true,
            refuses_update: None,
            branches: BTreeMap::new(),
            inbox: Vec::new(),
            answers: Vec::new(),
            complaints: Vec::new(),
            outbox: Vec::new(),
            dialogs: Vec::new(),
            clients: Vec::new(),
            servers: Vec::new(),
            minted: 0,
            sessions: 0,
            next_rseq: 4_000,
            rseq: None,
        }
    }

    /// Calls `number`, with an offer in the INVITE or without.
    pub fn call(&mut self, now: Time, number: &str, offers: bool) {
        let token = self.token();
        let (gateway, own) = (self.gateway, self.address);
        self.dialogs.push(Dialog {
            call_id: format!("call-{token}@{own}"),
            local_tag: format!("tag-{token}"),
            remote_tag: None,
            local: match self.calls_as {
                "" => format!("<sip:{CALLER}@{own}>"),
                from => from.to_owned(),
            },
            remote: format!("<sip:{number}@{gateway}>"),
            target: format!("sip:{number}@{gateway}"),
            sequence: 0,
            state: State::Early,
            bye_wanted: false,
            acks: Vec::new(),
        });
        let body = offers.then(|| self.describe(None));
        self.request(now, self.dialogs.len() - 1, "INVITE", body, self.calls_with);
    }

    /// Takes the INVITE back, at once or when a provisional response allows it (RFC 3261 section 9.1).
    pub fn cancel(&mut self, now: Time) {
        let open = |client: &Client| client.method == "INVITE" && client.status.is_none();
        let Some(at) = self.clients.iter().rposition(open) else { return };
        self.clients[at].cancel_wanted = true;
        if self.clients[at].provisional {
            self.send_cancel(now, at);
        }
    }

    /// Hangs up; a callee that still waits for the ACK does so when it comes (RFC 3261 section 15).
    pub fn hang_up(&mut self, now: Time) {
        let Some(dialog) = self.dialogs.iter().rposition(|dialog| dialog.state != State::Ended) else {
            return;
        };
        let Dialog { state, remote_tag, .. } = &self.dialogs[dialog];
        if *state == State::Early && remote_tag.is_none() {
            // There is no dialog yet that a BYE could end.
            return self.cancel(now);
        }
        let awaits_ack = self.servers.iter().any(|server| {
            server.dialog == Some(dialog)
                && server.status == 200
                && server.give_up.is_some()
                && is_invite(server)
        });
        if awaits_ack {
            self.dialogs[dialog].bye_wanted = true;
        } else {
            self.bye(now, dialog);
        }
    }

    /// Changes the session, by a re-INVITE with an offer or without one.
    pub fn reinvite(&mut self, now: Time, session: Option<Session>) {
        let Some(dialog) = self.dialogs.iter().rposition(|dialog| dialog.state == State::Confirmed) else {
            return;
        };
        let offers = session.is_some();
        if let Some(session) = session {
            self.session = session;
        }
        let body = offers.then(|| self.describe(None));
        self.request(now, dialog, "INVITE", body, "");
    }

    /// As [`Phone::reinvite`], with further header lines.
    pub fn reinvite_with(&mut self, now: Time, session: Session, lines: &str) {
        let dialog = self.dialogs.iter().rposition(|dialog| dialog.state == State::Confirmed);
        let dialog = dialog.expect("the phone talks");
        self.session = session;
        let body = self.describe(None);
        self.request(now, dialog, "INVITE", Some(body), lines);
    }

    /// Sends a request inside the last dialog with an extra header line.
    pub fn ask(&mut self, now: Time, method: &'static str, header: &str) {
        let dialog = self.dialogs.len() - 1;
        self.request(now, dialog, method, None, header);
    }

    /// Sends a request with an offer inside the last dialog.
    pub fn offer(&mut self, now: Time, method: &'static str, session: Session, header: &str) {
        let dialog = self.dialogs.len() - 1;
        self.session = session;
        let body = self.describe(None);
        self.request(now, dialog, method, Some(body), header);
    }

    /// Sends an UPDATE inside the last dialog, with an offer if there is one.
    pub fn update(&mut self, now: Time, session: Option<Session>) {
        let Some(dialog) = self.dialogs.len().checked_sub(1) else { return };
        let body = session.map(|session| {
            self.session = session;
            self.describe(None)
        });
        self.request(now, dialog, "UPDATE", body, "");
    }

    /// What came that starts with `start`.
    pub fn came<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        self.inbox.iter().map(String::as_str).filter(move |text| text.starts_with(start))
    }

    /// Sends text as it is; what comes back matches no transaction of the phone.
    pub fn say(&mut self, text: &str) {
        self.outbox.push(text.as_bytes().to_vec());
    }

    pub fn receive(&mut self, now: Time, bytes: &[u8]) {
        if self.dead {
            return;
        }
        self.inbox.push(String::from_utf8_lossy(bytes).into_owned());
        match parse(bytes) {
            Ok(Message::Request(request)) => self.requested(now, request),
            Ok(Message::Response(response)) => self.answered(now, &response),
            Err(error) => self.complaints.push(format!("unreadable: {error}")),
        }
    }

    pub fn next_deadline(&self) -> Option<Time> {
        let clients = self.clients.iter().flat_map(|client| [client.resend, client.give_up]).flatten();
        let servers = self.servers.iter().flat_map(|server| {
            let script = server.script.iter().map(|(at, _)| *at);
            let reliable = server.reliable.iter().map(|(_, _, _, due, _)| *due);
            [server.resend, server.give_up].into_iter().flatten().chain(script).chain(reliable)
        });
        clients.chain(servers).min()
    }

    pub fn expire(&mut self, now: Time) {
        for at in 0..self.clients.len() {
            self.expire_client(now, at);
        }
        for at in 0..self.servers.len() {
            self.expire_server(now, at);
        }
    }

    /// Whether every dialog has ended, and how many there were.
    pub fn is_idle(&self) -> bool {
        self.dialogs.iter().all(|dialog| dialog.state == State::Ended)
    }

    pub fn is_talking(&self) -> bool {
        self.dialogs.iter().any(|dialog| dialog.state == State::Confirmed)
    }

    fn expire_client(&mut self, now: Time, at: usize) {
        let client = &mut self.clients[at];
        if client.resend.is_some_and(|due| due <= now) {
            let cap = if client.method == "INVITE" { Duration::MAX } else { T2 };
            client.pause = (client.pause * 2).min(cap);
            client.resend = Some(now + client.pause);
            self.outbox.push(client.text.clone().into());
        }
        let client = &mut self.clients[at];
        if client.give_up.is_some_and(|due| due <= now) {
            (client.give_up, client.resend) = (None, None);
            if client.status.is_none() {
                let (method, dialog) = (client.method, client.dialog);
                self.answers.push(format!("{method} nothing"));
                if method == "INVITE" || method == "BYE" {
                    self.dialogs[dialog].state = State::Ended;
                }
            }
        }
    }

    fn expire_server(&mut self, now: Time, at: usize) {
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

    // Requests of theirs.

    fn requested(&mut self, now: Time, request: Request) {
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
            is_invite(server) && if server.status == 200 { by_dialog } else { server.branch == branch }
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
        let text = printed(&respond(cancel, status, "tag-of-cancel"));
        self.outbox.push(text);
        if let Some(at) = invite.filter(|at| self.servers[*at].status < 200 && !self.ignores_cancel) {
            self.react(now, at, Reaction::Say(487));
        }
    }

    fn first_time(&mut self, now: Time, request: Request, branch: String) {
        let dialog = request.head.to.tag().and_then(|tag| {
            let own = |dialog: &Dialog| dialog.call_id == request.head.call_id && dialog.local_tag == tag;
            self.dialogs.iter().position(own)
        });
        let is_new_call = request.method == Method::Invite && request.head.to.tag().is_none();
        let dialog = if is_new_call { Some(self.accept_dialog(&request)) } else { dialog };
        let delays = if is_new_call { &self.on_invite } else { &self.on_reinvite };
        let script = delays.iter().map(|(delay, reaction)| (now + Duration::from_millis(*delay), *reaction));
        let method = request.method.clone();
        let mut server = Server {
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
        };
        if method == Method::Invite {
            server.script = script.collect();
        }
        self.servers.push(server);
        let at = self.servers.len() - 1;
        let state = dialog.map(|dialog| self.dialogs[dialog].state);
        match (method, state) {
            (Method::Options, None) => self.react(now, at, Reaction::Say(self.on_options)),
            (_, None) => self.react(now, at, Reaction::Say(481)),
            (Method::Bye, Some(_)) => self.bye_received(now, at),
            (_, Some(State::Ended)) => self.react(now, at, Reaction::Say(481)),
            (Method::Invite, Some(_)) if self.is_inviting(dialog) => self.react(now, at, Reaction::Say(491)),
            (Method::Invite, Some(_)) => self.expire_server(now, at),
            (Method::Options, Some(_)) => self.react(now, at, Reaction::Say(200)),
            (Method::Prack, Some(_)) => self.pracked(now, at),
            (Method::Update, Some(_)) => {
                let offers = !self.servers[at].request.body.is_empty();
                let refused = self.refuses_update.map(Reaction::Say);
                let reaction = if offers { Reaction::Describe(200) } else { Reaction::Say(200) };
                self.react(now, at, refused.unwrap_or(reaction));
            }
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

    fn is_inviting(&self, dialog: Option<usize>) -> bool {
        let pending = |client: &Client| {
            client.method == "INVITE" && client.status.is_none() && client.give_up.is_some()
        };
        self.clients.iter().any(|client| Some(client.dialog) == dialog && pending(client))
    }

    fn accept_dialog(&mut self, invite: &Request) -> usize {
        let token = self.token();
        self.dialogs.push(Dialog {
            call_id: invite.head.call_id.clone(),
            local_tag: format!("tag-{token}"),
            remote_tag: invite.head.from.tag().map(str::to_owned),
            local: invite.head.to.to_string(),
            remote: invite.head.from.to_string(),
            target: invite.head.contact.first().map(|contact| contact.uri.to_string()).unwrap_or_default(),
            sequence: 100,
            state: State::Early,
            bye_wanted: false,
            acks: Vec::new(),
        });
        self.dialogs.len() - 1
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
            } else if is_invite(server) && server.status < 200 {
                open = Some(position);
            }
        }
        self.react(now, at, Reaction::Say(200));
        if let Some(open) = open {
            self.react(now, open, Reaction::Say(487));
        }
    }

    /// Answers the request of this server transaction.
    fn react(&mut self, now: Time, at: usize, reaction: Reaction) {
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
        if request.method == Method::Invite && (101..300).contains(&status) {
            let contact = format!("<sip:{}@{}{}>", self.name, self.address, self.contact_parameters);
            response.headers.push(HeaderName::Other("Contact".into()), contact);
        }
        let rseq = self.rseq.take();
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
        if is_invite(server) && status >= 200 {
            server.reliable = None;
            let call_id = request.head.call_id.clone();
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
                    200..300 if is_first => self.dialogs[dialog].state = State::Confirmed,
                    300.. if is_first => self.dialogs[dialog].state = State::Ended,
                    _ => {}
                }
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
        self.servers.push(Server {
            branch: format!("fork of {}", self.servers[at].branch),
            request,
            dialog: Some(dialog),
            script: Vec::new(),
            branches: BTreeMap::new(),
            reliable: None,
            last: Vec::new(),
            status: 0,
            pause: T1,
            resend: None,
            give_up: None,
        });
        let reaction = if describes { Reaction::Describe(200) } else { Reaction::Say(200) };
        self.react(now, self.servers.len() - 1, reaction);
    }

    // Requests of ours.

    fn request(
        &mut self,
        now: Time,
        dialog: usize,
        method: &'static str,
        body: Option<String>,
        header: &str,
    ) {
        self.dialogs[dialog].sequence += 1;
        let sequence = self.dialogs[dialog].sequence;
        let branch = self.branch();
        let offered = body.is_some();
        let text = self.text(dialog, method, sequence, &branch, body.as_deref(), header);
        self.outbox.push(text.clone().into());
        self.clients.push(Client {
            branch,
            method,
            sequence,
            dialog,
            text,
            pause: T1,
            resend: Some(now + T1),
            give_up: Some(now + GIVE_UP),
            provisional: false,
            status: None,
            cancel_wanted: false,
            offered,
            acknowledged: Vec::new(),
        });
    }

    fn text(
        &self,
        dialog: usize,
        method: &str,
        sequence: u32,
        branch: &str,
        body: Option<&str>,
        header: &str,
    ) -> String {
        let Dialog { call_id, local_tag, remote_tag, local, remote, target, .. } = &self.dialogs[dialog];
        let local = local.split(";tag=").next().unwrap_or_default();
        let remote = remote.split(";tag=").next().unwrap_or_default();
        let (own, name) = (self.address, self.name);
        let late = if remote_tag.is_some() { self.dialog_parameters } else { "" };
        let end = format!("{late}>");
        let (local, remote) = (local.replace('>', &end), remote.replace('>', &end));
        let to_tag = remote_tag.as_ref().map(|tag| format!(";tag={tag}")).unwrap_or_default();
        let contact = match method {
            "INVITE" | "UPDATE" => format!("Contact: <sip:{name}@{own}{}>\r\n", self.contact_parameters),
            _ => String::new(),
        };
        let content = match body {
            Some(body) => {
                format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            }
            None => "Content-Length: 0\r\n\r\n".to_owned(),
        };
        format!(
            "{method} {target}{late} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch={branch}\r\nMax-Forwards: 70\r\n\
             From: {local};tag={local_tag}\r\nTo: {remote}{to_tag}\r\nCall-ID: {call_id}\r\n\
             CSeq: {sequence} {method}\r\n{contact}User-Agent: {name}\r\n{header}{content}"
        )
    }

    fn answered(&mut self, now: Time, response: &Response) {
        let branch = response.head.via[0].branch().unwrap_or_default();
        let method = response.head.cseq.method.as_str();
        let own = |client: &Client| client.branch == branch && client.method == method;
        let Some(at) = self.clients.iter().position(own) else { return };
        let status = response.status.code();
        let client = &mut self.clients[at];
        if status < 200 {
            client.provisional = true;
            match client.method {
                "INVITE" => {
                    (client.resend, client.give_up) = (None, client.give_up.map(|_| now + 6 * GIVE_UP))
                }
                _ => client.pause = T2,
            }
            if client.cancel_wanted {
                self.send_cancel(now, at);
            }
            self.learn(at, response);
            self.prack(now, at, response);
            return;
        }
        let is_first = client.status.is_none();
        (client.resend, client.give_up) = (None, None);
        client.status = Some(status);
        let cancelled = client.cancel_wanted;
        if is_first {
            self.answers.push(format!("{method} {status}"));
        }
        match method {
            "INVITE" if status < 300 => self.accepted(now, at, response, is_first, cancelled),
            "INVITE" => self.refused(at, response, status),
            _ => {}
        }
    }

    /// Acknowledges a reliable response, once.
    fn prack(&mut self, now: Time, at: usize, response: &Response) {
        let rseq = response.headers.value(&HeaderName::RSeq).and_then(|value| value.parse().ok());
        let Some(rseq) = rseq.filter(|_| self.pracks) else { return };
        let Client { dialog, sequence, offered, .. } = self.clients[at];
        if self.clients[at].acknowledged.contains(&rseq) {
            return;
        }
        self.clients[at].acknowledged.push(rseq);
        let offer = String::from_utf8_lossy(&response.body).into_owned();
        let body = (!offered && !offer.is_empty()).then(|| self.describe(Some(&offer)));
        // The answer has gone: the ACK carries none.
        self.clients[at].offered |= body.is_some();
        self.request(now, dialog, "PRACK", body, &format!("RAck: {rseq} {sequence} INVITE\r\n"));
    }

    /// The remote tag and target, from whatever tells them.
    fn learn(&mut self, at: usize, response: &Response) {
        let dialog = &mut self.dialogs[self.clients[at].dialog];
        if let Some(tag) = response.head.to.tag() {
            match &dialog.remote_tag {
                Some(known) if known != tag => {
                    self.complaints.push("the gateway answered with two tags".to_owned());
                }
                _ => dialog.remote_tag = Some(tag.to_owned()),
            }
        }
        if let Some(contact) = response.head.contact.first() {
            dialog.target = contact.uri.to_string();
        }
    }

    fn accepted(&mut self, now: Time, at: usize, response: &Response, is_first: bool, cancelled: bool) {
        self.learn(at, response);
        let Client { dialog, sequence, offered, .. } = self.clients[at];
        if is_first && self.dialogs[dialog].state == State::Early {
            self.dialogs[dialog].state = State::Confirmed;
        }
        if is_first {
            let body = if offered {
                None
            } else {
                Some(self.describe(Some(&String::from_utf8_lossy(&response.body))))
            };
            let branch = self.branch();
            let ack = self.text(dialog, "ACK", sequence, &branch, body.as_deref(), "");
            self.dialogs[dialog].acks.push((sequence, ack));
        }
        let known = self.dialogs[dialog].acks.iter().find(|(own, _)| *own == sequence);
        if let Some((_, ack)) = known.filter(|_| self.acknowledges) {
            self.outbox.push(ack.clone().into());
        }
        if is_first && cancelled && sequence == 1 {
            self.bye(now, dialog);
        }
    }

    fn refused(&mut self, at: usize, response: &Response, status: u16) {
        let Client { dialog, sequence, .. } = self.clients[at];
        let (branch, text) = (self.clients[at].branch.clone(), &self.clients[at].text);
        // RFC 3261 section 17.1.1.3: the ACK has the INVITE's Request-URI, branch and From, the response's To.
        let target = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let ack = self.text(dialog, "ACK", sequence, &branch, None, "");
        let (_, rest) = ack.split_once(" SIP/2.0").expect("the phone wrote it");
        let to = format!("To: {}", response.head.to);
        let lines: Vec<_> = rest
            .split("\r\n")
            .map(|line| if line.starts_with("To: ") { to.as_str() } else { line })
            .collect();
        self.outbox.push(format!("ACK {target} SIP/2.0{}", lines.join("\r\n")).into());
        let dialog = &mut self.dialogs[dialog];
        if (dialog.state == State::Early && sequence == 1) || status == 481 || status == 408 {
            dialog.state = State::Ended;
        }
    }

    fn bye(&mut self, now: Time, dialog: usize) {
        if self.dialogs[dialog].state == State::Ended {
            return;
        }
        self.dialogs[dialog].state = State::Ended;
        for server in
            self.servers.iter_mut().filter(|server| server.dialog == Some(dialog) && server.status == 200)
        {
            (server.resend, server.give_up) = (None, None);
        }
        let line = self.last_line.clone();
        self.request(now, dialog, "BYE", None, &line);
    }

    fn send_cancel(&mut self, now: Time, at: usize) {
        let branch = self.clients[at].branch.clone();
        if self.clients.iter().any(|client| client.method == "CANCEL" && client.branch == branch) {
            return;
        }
        let Client { dialog, sequence, .. } = self.clients[at];
        let invite = &self.clients[at].text;
        let line =
            |name: &str| invite.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        let target = invite.split_whitespace().nth(1).unwrap_or_default();
        let text = format!(
            "CANCEL {target} SIP/2.0\r\n{}\r\nMax-Forwards: 70\r\n{}\r\n{}\r\n{}\r\nCSeq: {sequence} CANCEL\r\n{}\
             Content-Length: 0\r\n\r\n",
            line("Via: "),
            line("From: "),
            line("To: "),
            line("Call-ID: "),
            self.last_line
        );
        self.outbox.push(text.clone().into());
        self.clients.push(Client {
            branch,
            method: "CANCEL",
            sequence,
            dialog,
            text,
            pause: T1,
            resend: Some(now + T1),
            give_up: Some(now + GIVE_UP),
            provisional: false,
            status: None,
            cancel_wanted: false,
            offered: false,
            acknowledged: Vec::new(),
        });
    }

    fn describe(&mut self, offer: Option<&str>) -> String {
        self.sessions += 1;
        match offer {
            Some(offer) => self.session.answer(offer, self.own_numbers).print(self.name, self.sessions),
            None => self.session.print(self.name, self.sessions),
        }
    }

    fn token(&mut self) -> String {
        self.minted += 1;
        format!("{}-{}", self.name, self.minted)
    }

    fn branch(&mut self) -> String {
        format!("z9hG4bK-{}", self.token())
    }
}

/// The calling number: the one thing of a caller that may cross.
pub const CALLER: &str = "+441632960123";

fn is_invite(server: &Server) -> bool {
    server.request.method == Method::Invite
}

fn respond(request: &Request, status: u16, tag: &str) -> Response {
    let status = StatusCode::new(status).expect("the test writes status codes right");
    let mut response = Response::to_request(request, status);
    if status.code() > 100 && response.head.to.tag().is_none() {
        response.head.to.set_tag(tag);
    }
    response
}

fn printed(response: &Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    response.write(&mut bytes);
    bytes
}
