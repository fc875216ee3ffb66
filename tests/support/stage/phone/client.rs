//! A phone's requests: sent, retransmitted, answered.

use super::Phone;
use super::dialog::{Dialog, State};
use super::timer::{GIVE_UP, T1, T2};
use gateway_userspace::base::time::Time;
use gateway_userspace::sip::message::{HeaderName, Response};
use std::time::Duration;

/// A request of ours.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) branch: String,
    pub(super) method: &'static str,
    pub(super) sequence: u32,
    pub(super) dialog: usize,
    pub(super) text: String,
    pub(super) pause: Duration,
    pub(super) resend: Option<Time>,
    pub(super) give_up: Option<Time>,
    pub(super) provisional: bool,
    pub(super) status: Option<u16>,
    pub(super) cancel_wanted: bool,
    pub(super) offered: bool,
    /// RSeq of the reliable responses that were acknowledged.
    pub(super) acknowledged: Vec<u32>,
}

impl Client {
    fn new(
        now: Time,
        (method, sequence): (&'static str, u32),
        branch: String,
        dialog: usize,
        text: String,
    ) -> Self {
        Self {
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
            offered: false,
            acknowledged: Vec::new(),
        }
    }
}

impl Phone {
    pub(super) fn expire_client(&mut self, now: Time, at: usize) {
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

    pub(super) fn request(
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
        let offered = body.is_some() && !header.contains("Content-Type");
        let text = self.text(dialog, method, sequence, &branch, body.as_deref(), header);
        self.outbox.push(text.clone().into());
        let client = Client::new(now, (method, sequence), branch, dialog, text);
        self.clients.push(Client { offered, ..client });
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
        let (own, name, transport) = (self.address, self.name, self.transport);
        let late = if remote_tag.is_some() { self.dialog_parameters } else { "" };
        let end = format!("{late}>");
        let (local, remote) = (local.replace('>', &end), remote.replace('>', &end));
        let to_tag = remote_tag.as_ref().map(|tag| format!(";tag={tag}")).unwrap_or_default();
        let contact = match method {
            "INVITE" | "UPDATE" => format!("Contact: <sip:{name}@{own}{}>\r\n", self.contact_parameters),
            _ => String::new(),
        };
        let content = match body {
            Some(body) if header.contains("Content-Type") => {
                format!("Content-Length: {}\r\n\r\n{body}", body.len())
            }
            Some(body) => {
                format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            }
            None => "Content-Length: 0\r\n\r\n".to_owned(),
        };
        format!(
            "{method} {target}{late} SIP/2.0\r\nVia: SIP/2.0/{transport} {own};branch={branch}\r\nMax-Forwards: 70\r\n\
             From: {local};tag={local_tag}\r\nTo: {remote}{to_tag}\r\nCall-ID: {call_id}\r\n\
             CSeq: {sequence} {method}\r\n{contact}User-Agent: {name}\r\n{header}{content}"
        )
    }

    pub(super) fn answered(&mut self, now: Time, response: &Response) {
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
            self.stands(now, dialog, &response.body);
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

    pub(super) fn bye(&mut self, now: Time, dialog: usize) {
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

    pub(super) fn send_cancel(&mut self, now: Time, at: usize) {
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
        self.clients.push(Client::new(now, ("CANCEL", sequence), branch, dialog, text));
    }

    pub(super) fn is_inviting(&self, dialog: Option<usize>) -> bool {
        let pending = |client: &Client| {
            client.method == "INVITE" && client.status.is_none() && client.give_up.is_some()
        };
        self.clients.iter().any(|client| Some(client.dialog) == dialog && pending(client))
    }
}
