//! What is heard on every wire of a scenario, and the rules that hold for all of it.

use super::flows::MemoryFlows;
use super::sessions::Sessions;
use gateway_userspace::base::time::Time;
use gateway_userspace::sip::message::{HeaderName, Message, Method, parse};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The gateway's two sides, by the first octets of the addresses in use there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Wing {
    Operator,
    Service,
}

/// An INVITE: its sender, Call-ID, sequence number, branch, and the daemon that had it.
type Invite = (SocketAddr, String, u32, String, u32);

/// How a dialog of the gateway came to its end.
#[derive(Debug)]
struct End {
    /// Number of the gateway's last request.
    last: u32,
    at: Time,
    daemon: u32,
}

/// RFC 3261 section 17.1.2.2: timer K, the life of a BYE behind its answer.
const REMEMBERED: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct Tap {
    /// Tokens by the wing on which they were first seen: tags, Call-IDs, branches, `o=` lines.
    tokens: HashMap<String, Wing>,
    /// What the gateway sent, by wing.
    sent: Vec<(Wing, String)>,
    /// What everybody sent last.
    last: HashMap<SocketAddr, String>,
    /// Status codes and To tags of the gateway's final answers.
    finals: BTreeMap<Invite, BTreeSet<(u16, String)>>,
    /// Requests of the gateway by Call-ID and tags: number and method in the order of first sending.
    sequences: BTreeMap<(SocketAddr, String, String), Vec<(u32, String)>>,
    /// Call-IDs of INVITEs that a daemon took on: it said 100.
    begun: BTreeSet<(SocketAddr, String, u32)>,
    /// Senders and Call-IDs of INVITEs that are to take the place of another dialog: they are part of its call, or none.
    joining: BTreeSet<(SocketAddr, String)>,
    /// Dialogs that the gateway ended or heard the end of, by its address's wing, Call-ID and their tag, and the number of
    /// its last request then.
    ended: BTreeMap<(SocketAddr, String, String), End>,
    /// Of the message that is heard.
    pub now: Time,
    after_the_end: Vec<String>,
    sessions: Sessions,
    /// Daemons before this one: what they had begun, they cannot finish.
    pub daemons: u32,
}

impl Tap {
    pub fn hear(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Ok(message) = parse(bytes) else { return };
        let from_gateway = is_gateway(from.ip());
        let wing = wing_of(if from_gateway { from } else { to });
        let text = String::from_utf8_lossy(bytes).into_owned();
        for token in tokens_of(&message, &text) {
            self.tokens.entry(token).or_insert(wing);
        }
        self.last.insert(from, text.clone());
        if !from_gateway {
            if matches!(&message, Message::Request(request) if request.headers.value(&HeaderName::Replaces).is_some())
            {
                self.joining.insert((from, message.head().call_id.clone()));
            }
            return;
        }
        self.sessions.told(self.now, to, &message);
        self.sent.push((wing, text));
        self.follow_ends(to, &message);
        let head = message.head();
        let (call_id, sequence) = (head.call_id.clone(), head.cseq.number);
        match &message {
            Message::Response(response) if head.cseq.method == Method::Invite => {
                let status = response.status.code();
                let branch = head.via[0].branch().unwrap_or_default().to_owned();
                let tag = head.to.tag().unwrap_or_default().to_owned();
                if status == 100 && head.to.tag().is_none() && !self.joining.contains(&(to, call_id.clone()))
                {
                    self.begun.insert((to, call_id, self.daemons));
                } else if status >= 200 {
                    self.finals
                        .entry((to, call_id, sequence, branch, self.daemons))
                        .or_default()
                        .insert((status, tag));
                }
            }
            Message::Response(_) => {}
            Message::Request(request) => {
                let dialog = (to, call_id, head.to.tag().unwrap_or_default().to_owned());
                let numbers = self.sequences.entry(dialog).or_default();
                let entry = (sequence, request.method.to_string());
                if !numbers.contains(&entry) {
                    numbers.push(entry);
                }
            }
        }
    }

    /// A message of a phone reached the gateway.
    pub fn arrived(&mut self, now: Time, from: SocketAddr, bytes: &[u8]) {
        if let Ok(message) = parse(bytes) {
            self.sessions.heard(now, from, &message);
        }
    }

    /// What flows carry that nobody was told of.
    pub fn broken_media(&self, flows: &MemoryFlows) -> Vec<String> {
        self.sessions.broken(flows)
    }

    /// RFC 3261 section 15: after a BYE, sent or answered, the dialog has no more requests of the gateway. ACKs are no
    /// requests of their own, and a CANCEL belongs to an INVITE that was sent before.
    fn follow_ends(&mut self, to: SocketAddr, message: &Message) {
        let head = message.head();
        let (call_id, number) = (head.call_id.clone(), head.cseq.number);
        match message {
            Message::Response(response)
                if head.cseq.method == Method::Bye && response.status.is_success() =>
            {
                let tag = head.from.tag().unwrap_or_default().to_owned();
                let dialog = (to, call_id.clone(), tag.clone());
                let last =
                    self.sequences.get(&(to, call_id, tag)).and_then(|own| own.last()).map(|own| own.0);
                let end = self.end(last.unwrap_or_default());
                self.ended.entry(dialog).or_insert(end);
            }
            Message::Response(_) => {}
            Message::Request(request) => {
                let dialog = (to, call_id.clone(), head.to.tag().unwrap_or_default().to_owned());
                let belongs_to_earlier = matches!(request.method, Method::Ack | Method::Cancel);
                match self.ended.get(&dialog) {
                    Some(end)
                        if number > end.last && !belongs_to_earlier && self.knows(end, &request.method) =>
                    {
                        let what = format!("{} {number} in {call_id} after its end", request.method);
                        self.after_the_end.push(what);
                    }
                    None if request.method == Method::Bye => {
                        let end = self.end(number);
                        self.ended.insert(dialog, end);
                    }
                    _ => {}
                }
            }
        }
    }

    fn end(&self, last: u32) -> End {
        End { last, at: self.now, daemon: self.daemons }
    }

    /// Whether the gateway can know of this end. What a daemon knew went with it; and a copy of an answer that comes
    /// long behind the BYE can only be put down once more.
    fn knows(&self, end: &End, method: &Method) -> bool {
        end.daemon == self.daemons && (*method != Method::Bye || self.now.since(end.at) < REMEMBERED)
    }

    /// The gateway's last message.
    pub fn last_sent(&self) -> String {
        self.sent.last().map(|(_, text)| text.clone()).unwrap_or_default()
    }

    /// All that the gateway sent.
    pub fn sent(&self) -> impl Iterator<Item = &str> {
        self.sent.iter().map(|(_, text)| text.as_str())
    }

    /// All that the gateway said to the operator.
    pub fn said_to_operator(&self) -> impl Iterator<Item = &str> {
        self.said_to(Wing::Operator)
    }

    /// All that the gateway said to the service.
    pub fn said_to_service(&self) -> impl Iterator<Item = &str> {
        self.said_to(Wing::Service)
    }

    fn said_to(&self, to: Wing) -> impl Iterator<Item = &str> {
        self.sent.iter().filter(move |(wing, _)| *wing == to).map(|(_, text)| text.as_str())
    }

    /// The last message of a phone.
    pub fn last_from(&self, phone: SocketAddr) -> String {
        self.last.get(&phone).cloned().unwrap_or_default()
    }

    /// Calls that the gateway took on.
    pub fn calls_begun(&self) -> usize {
        self.begun.len()
    }

    /// One line for each rule that something broke.
    pub fn broken_rules(&self) -> Vec<String> {
        let mut broken = Vec::new();
        self.check_finals(&mut broken);
        self.check_sequences(&mut broken);
        self.check_separation(&mut broken);
        broken.extend(self.after_the_end.iter().cloned());
        broken.sort();
        broken.dedup();
        broken
    }

    fn check_finals(&self, broken: &mut Vec<String>) {
        for ((_, call_id, sequence, ..), answers) in &self.finals {
            if answers.len() > 1 {
                broken.push(format!(
                    "INVITE {sequence} of {call_id} has {} final answers: {answers:?}",
                    answers.len()
                ));
            }
        }
    }

    /// RFC 3261 section 12.2.1.1: each new request counts up; ACK and CANCEL have their INVITE's number.
    fn check_sequences(&self, broken: &mut Vec<String>) {
        for ((_, call_id, _), requests) in &self.sequences {
            let mut last = 0;
            for (number, method) in requests {
                match method.as_str() {
                    "ACK" | "CANCEL" => {}
                    _ if *number <= last => {
                        broken.push(format!("{method} {number} after {last} in {call_id}"))
                    }
                    _ => last = *number,
                }
            }
        }
    }

    /// Nothing that belongs to one wing is sent into the other.
    fn check_separation(&self, broken: &mut Vec<String>) {
        for (wing, text) in &self.sent {
            let foreign = match wing {
                Wing::Operator => ["Bob", "Carol", "198.18.", "203.0.113."].as_slice(),
                Wing::Service => ["Alice", "Dave", "198.51.100.", "192.0.2."].as_slice(),
            };
            for word in foreign.iter().filter(|word| text.contains(**word)) {
                broken.push(format!("{word:?} of the other side in {:?}", line_with(text, word)));
            }
            for (token, of) in self.tokens.iter().filter(|(_, of)| *of != wing) {
                if text.contains(token.as_str()) {
                    broken.push(format!("{token:?} of {of:?} in {:?}", line_with(text, token)));
                }
            }
        }
    }
}

fn line_with<'a>(text: &'a str, word: &str) -> &'a str {
    text.lines().find(|line| line.contains(word)).unwrap_or_default()
}

fn tokens_of(message: &Message, text: &str) -> Vec<String> {
    let head = message.head();
    let mut tokens = vec![head.call_id.clone()];
    tokens.extend([head.from.tag(), head.to.tag()].into_iter().flatten().map(str::to_owned));
    tokens.extend(head.via.iter().filter_map(|via| via.branch()).map(str::to_owned));
    if let Some(origin) = text.lines().find_map(|line| line.strip_prefix("o=")) {
        tokens.extend(origin.split_whitespace().nth(1).map(str::to_owned));
    }
    // Shorter numbers meet by chance.
    tokens.retain(|token| token.len() > 6);
    tokens
}

fn is_gateway(address: IpAddr) -> bool {
    let text = address.to_string();
    text.starts_with("192.0.2.") || text.starts_with("203.0.113.")
}

fn wing_of(gateway: SocketAddr) -> Wing {
    match gateway.to_string().starts_with("192.0.2.") {
        true => Wing::Operator,
        false => Wing::Service,
    }
}
