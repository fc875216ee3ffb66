//! A scripted SIP phone on virtual time: calls, answers by script, changes, hangs up, and retransmits by the timers
//! of RFC 3261. Written apart from the gateway's transactions and dialogs on purpose: it shares only the message
//! parser with them.

mod answer;
mod client;
mod dialog;
mod registrar;
mod server;
mod timer;

use super::far_end::FarEnd;
use super::session::Session;
pub use registrar::{Mood, Registrar, registers};

use client::Client;
use dialog::{Dialog, State};
use gateway_userspace::base::time::Time;
use gateway_userspace::sip::message::{Limits, Message, parse_within};
use server::Server;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The calling number: the one thing of a caller that may cross.
pub const CALLER: &str = "+441632960123";

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
    /// As its Via says.
    pub transport: &'static str,
    pub session: Session,
    pub on_invite: Vec<(u64, Reaction)>,
    pub on_reinvite: Vec<(u64, Reaction)>,
    /// What it answers to OPTIONS outside any dialog.
    pub on_options: u16,
    /// What it answers to REFER inside a dialog.
    pub on_refer: u16,
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
    /// The service that it stands for.
    pub far_end: Option<FarEnd>,
    /// It is a registrar too.
    pub registrar: Option<Registrar>,
    /// What no healthy counterpart makes a phone see.
    pub complaints: Vec<String>,
    /// What nothing excuses, however ill the weather is.
    pub wrongs: Vec<String>,
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

impl Phone {
    pub fn new(name: &'static str, address: &str, gateway: &str, session: Session) -> Self {
        let address_of = |text: &str| text.parse().expect("the test writes addresses right");
        Self {
            name,
            address: address_of(address),
            gateway: address_of(gateway),
            transport: "UDP",
            session,
            on_invite: vec![(50, Reaction::Say(180)), (1000, Reaction::Describe(200))],
            on_reinvite: vec![(50, Reaction::Describe(200))],
            on_options: 200,
            on_refer: 405,
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
            far_end: None,
            registrar: None,
            complaints: Vec::new(),
            wrongs: Vec::new(),
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
                && server.is_invite()
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
        if let Some(far_end) = self.far_end.as_mut().filter(|_| method == "REFER") {
            far_end.refers(header);
        }
        self.request(now, dialog, method, None, header);
    }

    /// A call stands, by a description of the gateway.
    fn stands(&mut self, now: Time, dialog: usize, description: &[u8]) {
        let call_id = &self.dialogs[dialog].call_id;
        if let Some(far_end) = &mut self.far_end {
            far_end.stands(now, call_id, &String::from_utf8_lossy(description));
        }
    }

    /// Says inside the last dialog how a call goes that it was asked for (RFC 3515 section 2.4.5).
    pub fn notify(&mut self, now: Time, header: &str, fragment: &str) {
        let header = format!("{header}Content-Type: message/sipfrag;version=2.0\r\n");
        self.ask(now, "NOTIFY", &header);
        let (empty, length) = ("Content-Length: 0\r\n\r\n", fragment.len());
        let client = self.clients.last_mut().expect("it was just made");
        client.text = client.text.replace(empty, &format!("Content-Length: {length}\r\n\r\n{fragment}"));
        *self.outbox.last_mut().expect("it was just sent") = client.text.clone().into();
    }

    /// Sends a request with a body inside the last dialog, whose type `header` says.
    pub fn tell(&mut self, now: Time, method: &'static str, header: &str, body: &str) {
        let dialog = self.dialogs.len() - 1;
        let body = (!header.is_empty()).then(|| body.to_owned());
        self.request(now, dialog, method, body, header);
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
        match parse_within(bytes, &Limits::WIDEST) {
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
        let far_end = self.far_end.as_ref().filter(|_| self.is_talking());
        clients.chain(servers).chain(far_end.and_then(FarEnd::next_refresh)).min()
    }

    pub fn expire(&mut self, now: Time) {
        if self.is_talking() && self.far_end.as_mut().is_some_and(|far_end| far_end.refreshes(now)) {
            self.reinvite(now, Some(self.session.clone()));
        }
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
