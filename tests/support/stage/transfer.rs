//! What scenarios of transfers need besides: REFERs, what their senders hear, and INVITEs that replace dialogs.

use super::scene::Scene;
use gateway_userspace::base::id::Side;
use gateway_userspace::sip::message::{HeaderName, Limits, Message, Request, parse, parse_within};

impl Scene {
    /// A phone asks, inside its last dialog, that somebody else be called in its place.
    pub fn refers(&mut self, phone: usize, to: &str) {
        self.asks(phone, "REFER", &format!("Refer-To: {to}\r\n"));
    }

    /// A phone that got a REFER says how its call goes: Event, Subscription-State, and what stands behind `SIP/2.0`.
    pub fn notifies(&mut self, phone: usize, event: &str, state: &str, line: &str) {
        let now = self.now;
        let header = format!("Event: {event}\r\nSubscription-State: {state}\r\n");
        self.phones[phone].notify(now, &header, &format!("SIP/2.0 {line}\r\n"));
        self.run(0);
    }

    /// What a phone was told of its transfers: status line and state of each NOTIFY, copies left out.
    pub fn told(&self, phone: usize) -> Vec<String> {
        let mut seen = Vec::new();
        let mut told = Vec::new();
        for request in self.requests_to(phone, "NOTIFY") {
            let number = (request.head.call_id.clone(), request.head.cseq.number);
            if seen.contains(&number) {
                continue;
            }
            seen.push(number);
            let value = |name| request.headers.value(&name).unwrap_or_default().to_owned();
            assert!(value(HeaderName::ContentType).starts_with("message/sipfrag"), "{request}");
            assert!(value(HeaderName::Event).starts_with("refer"), "{request}");
            let line = String::from_utf8_lossy(&request.body).trim_end().to_owned();
            let state = value(HeaderName::SubscriptionState);
            told.push(format!("{line} ({})", state.split(';').next().unwrap_or_default()));
        }
        told
    }

    /// Requests of this method that came to a phone.
    pub fn requests_to(&self, phone: usize, method: &str) -> Vec<Request> {
        let read = |text: &str| match parse_within(text.as_bytes(), &Limits::WIDEST) {
            Ok(Message::Request(request)) => Some(request),
            _ => None,
        };
        self.phones[phone].came(&format!("{method} ")).filter_map(read).collect()
    }

    /// The Replaces header for the last dialog between the gateway and a phone, from the gateway's side: the INVITE that
    /// has it goes to the gateway.
    pub fn replaces(&self, phone: usize) -> String {
        self.replaces_if_talking(phone).expect("the phone talks")
    }

    /// As [`Scene::replaces`], if there is such a dialog.
    pub fn replaces_if_talking(&self, phone: usize) -> Option<String> {
        let read = |text: &String| parse(text.as_bytes()).ok();
        let dialog = self.phones[phone].inbox.iter().rev().filter_map(read).find_map(|message| {
            let head = message.head();
            let (from, to) = (head.from.tag()?.to_owned(), head.to.tag()?.to_owned());
            match &message {
                Message::Request(request) if request.method.as_str() == "ACK" => {
                    Some((head.call_id.clone(), from, to))
                }
                Message::Response(response)
                    if head.cseq.method.as_str() == "INVITE" && response.status.is_success() =>
                {
                    Some((head.call_id.clone(), to, from))
                }
                _ => None,
            }
        });
        let (call_id, ours, theirs) = dialog?;
        Some(format!("{call_id};to-tag={ours};from-tag={theirs}"))
    }

    /// The Replaces header for the early dialog of the INVITE that a phone rings by.
    pub fn early(&self, phone: usize) -> String {
        let invite = self.requests_to(phone, "INVITE").pop().expect("the phone rings");
        let rang = self.tap().last_from(self.phones[phone].address);
        let rang = parse_within(rang.as_bytes(), &Limits::WIDEST).expect("the phone wrote it");
        let tag = |tag: Option<&str>| tag.unwrap_or_default().to_owned();
        let (ours, theirs) = (tag(invite.head.from.tag()), tag(rang.head().to.tag()));
        format!("{};to-tag={ours};from-tag={theirs}", invite.head.call_id)
    }

    /// The same for a phone that calls, and has heard that it rings.
    pub fn early_answer(&self, phone: usize) -> String {
        let rings = self.phones[phone].came("SIP/2.0 180").last().expect("it has heard");
        let rings = parse_within(rings.as_bytes(), &Limits::WIDEST).expect("the gateway wrote it");
        let (head, tag) = (rings.head(), |tag: Option<&str>| tag.unwrap_or_default().to_owned());
        format!("{};to-tag={};from-tag={}", head.call_id, tag(head.to.tag()), tag(head.from.tag()))
    }

    /// A phone calls with a Replaces header, and further lines.
    pub fn replaces_with(&mut self, phone: usize, number: &str, replaces: &str, lines: &str) {
        let now = self.now;
        self.phones[phone].calls_with = format!("Replaces: {replaces}\r\n{lines}").leak();
        self.phones[phone].call(now, number, true);
        self.phones[phone].calls_with = "";
        self.run(0);
    }

    /// Pairs of media ports that calls hold.
    pub fn ports_in_use(&self) -> usize {
        self.cores().map(|core| core.ports().usage().0).sum()
    }

    /// Dialogs by which requests find their calls.
    pub fn dialogs(&self) -> usize {
        self.cores().map(|core| core.dialogs()).sum()
    }

    /// Where media of each side goes now, the caller's first; `None` for none, or where it is muted.
    pub fn audio(&self) -> [Option<String>; 2] {
        [Side::Caller, Side::Callee].map(|side| {
            let flow = self.flows.media_of(side).filter(|flow| !flow.muted)?;
            flow.rtp.map(|output| output.to.to_string())
        })
    }
}
