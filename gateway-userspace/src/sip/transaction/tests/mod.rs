//! Transactions on virtual time: one layer, its peer played by text.

mod client;
mod random;
mod server;

use super::*;
use crate::sip::message::{Message, NameAddr, Request, Response, StatusCode, parse};
use crate::sip::transport::{ConnectionId, Transport};

const UDP: Hop = hop(Transport::Udp, None);
const TCP: Hop = hop(Transport::Tcp, Some(ConnectionId(1)));

const fn hop(transport: Transport, connection: Option<ConnectionId>) -> Hop {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    Hop {
        transport,
        local: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5060),
        remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), 5060),
        connection,
    }
}

/// A layer, its clock, and what it sent and said.
struct Rig {
    now: Time,
    layer: Transactions,
    /// When, where to and what, read back.
    sent: Vec<(u64, Hop, Message)>,
    said: Vec<Output>,
}

impl Rig {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        Self {
            now: Time(1),
            layer: Transactions::new(settings, Tokens::seeded(1)),
            sent: Vec::new(),
            said: Vec::new(),
        }
    }

    fn step<T>(&mut self, mutation: impl FnOnce(&mut Transactions, Time, &mut Vec<Output>) -> T) -> T {
        let mut out = Vec::new();
        let result = mutation(&mut self.layer, self.now, &mut out);
        for output in out {
            match output {
                Output::Send { hop, bytes, .. } => {
                    let message = parse(&bytes).expect("we send what we can read");
                    self.sent.push((self.now.0 / 1000, hop, message));
                }
                said => self.said.push(said),
            }
        }
        result
    }

    /// Lets `milliseconds` pass, deadline by deadline.
    fn pass(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        while let Some(at) = self.layer.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step(|layer, now, out| layer.expire(now, out));
        }
        self.now = end;
    }

    fn receive(&mut self, text: &str, hop: Hop) {
        let message = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        self.step(|layer, now, out| layer.receive(now, message, hop, out));
    }

    fn request(&mut self, draft: Draft, hop: Hop) -> ClientId {
        self.step(|layer, now, out| layer.request(now, draft, hop, out))
    }

    /// Answers the request that was last passed up, with our tag `ours`.
    fn respond(&mut self, status: u16) -> ServerId {
        let (id, request) = self.passed_request();
        let status = StatusCode::new(status).expect("a status code");
        let mut response = Response::to_request(&request, status);
        if status != StatusCode::TRYING {
            response.head.to.set_tag("ours");
        }
        self.step(|layer, now, out| layer.respond(now, id, response, out));
        id
    }

    fn passed_request(&self) -> (ServerId, Request) {
        let passed = self.said.iter().rev().find_map(|output| match output {
            Output::Request { id, request, .. } => Some((*id, (**request).clone())),
            _ => None,
        });
        passed.expect("a request was passed up")
    }

    /// What was said since the last time, in short.
    fn heard(&mut self) -> Vec<String> {
        self.said.iter().map(word).collect()
    }

    /// What was sent since the last time: milliseconds and start of the message.
    fn take_sent(&mut self) -> Vec<(u64, String)> {
        self.sent.drain(..).map(|(at, _, message)| (at, name(&message))).collect()
    }

    fn last_sent(&self) -> &Message {
        &self.sent.last().expect("something was sent").2
    }

    fn last_request(&self) -> &Request {
        match self.last_sent() {
            Message::Request(request) => request,
            Message::Response(response) => panic!("{response}"),
        }
    }

    fn last_response(&self) -> &Response {
        match self.last_sent() {
            Message::Response(response) => response,
            Message::Request(request) => panic!("{request}"),
        }
    }

    /// The peer answers the request that was sent first, or its like of another method.
    fn peer_answers(&mut self, method: &str, status: u16, hop: Hop) {
        let (_, _, request) = self
            .sent
            .iter()
            .find(|(_, _, message)| name(message) == method)
            .unwrap_or_else(|| panic!("no {method} was sent"));
        let Message::Request(request) = request.clone() else { unreachable!("found by its method") };
        let mut response = Response::to_request(&request, StatusCode::new(status).expect("a status code"));
        response.head.to.set_tag("theirs");
        self.step(|layer, now, out| layer.receive(now, Message::Response(response), hop, out));
    }

    /// After this long nothing may be left of any transaction.
    fn assert_all_ends(&mut self) {
        self.pass(200_000);
        assert!(self.layer.is_empty(), "{:?}", self.layer);
        assert_eq!(self.layer.next_deadline(), None);
    }
}

fn name(message: &Message) -> String {
    match message {
        Message::Request(request) => request.method.to_string(),
        Message::Response(response) => response.status.to_string(),
    }
}

fn word(output: &Output) -> String {
    match output {
        Output::Send { .. } => "send".into(),
        Output::Request { request, .. } => request.method.to_string(),
        Output::Ack { answered, .. } => if answered.is_some() { "ack" } else { "ack of unknown" }.into(),
        Output::Cancelled { .. } => "cancelled".into(),
        Output::Response { response, .. } => response.status.to_string(),
        Output::StrayAnswer { .. } => "stray answer".into(),
        Output::TimedOut { .. } => "timed out".into(),
        Output::Unreachable { .. } => "unreachable".into(),
        Output::NoAck { .. } => "no ack".into(),
        Output::Undeliverable { .. } => "undeliverable".into(),
        Output::ClientEnded { .. } | Output::ServerEnded { .. } => "ended".into(),
    }
}

fn draft(method: &str) -> Draft {
    let address = |text: &str| text.parse::<NameAddr>().expect("an address");
    let mut draft = Draft::new(
        method.parse().expect("a method"),
        "sip:bob@192.0.2.9".parse().expect("a URI"),
        address("<sip:alice@192.0.2.1>;tag=ours"),
        address("<sip:bob@192.0.2.9>"),
        "call",
        7,
    );
    draft.route = vec![address("<sip:192.0.2.9;lr>")];
    draft
}

/// A request of the peer, number 7 of its call.
fn text(method: &str, branch: &str, to_tag: Option<&str>) -> String {
    let to_tag = to_tag.map(|tag| format!(";tag={tag}")).unwrap_or_default();
    format!(
        "{method} sip:us@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch={branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:peer@192.0.2.9>;tag=theirs\r\nTo: <sip:us@192.0.2.1>{to_tag}\r\nCall-ID: call\r\n\
         CSeq: 7 {method}\r\nContact: <sip:peer@192.0.2.9>\r\n\r\n"
    )
}
