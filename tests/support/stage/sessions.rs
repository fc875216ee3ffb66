//! Which session descriptions went over the wires, and whether what flows carry, and by which keys, stands in them.

use super::flows::MemoryFlows;
use super::session::{crypto_of, media_of};
use gateway_common::flow::FlowKind;
use gateway_userspace::base::id::Side;
use gateway_userspace::base::time::Time;
use gateway_userspace::media::plan::{FlowSpec, OutputSpec};
use gateway_userspace::sip::message::Message;
use gateway_userspace::srtp::{MasterKey, Suite};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// A dialog as both its ends name it: the phone, the Call-ID, and the phone's tag.
type Dialog = (SocketAddr, String, String);

/// Where media is wanted, by which payload types, and the keys that its sender will use.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    at: String,
    formats: Vec<u8>,
    keys: Vec<MasterKey>,
    when: Time,
}

/// The last descriptions in each direction. While a change is under way both what was agreed and what is offered hold
/// (RFC 3264 section 8.3.1), and a change that was refused leaves what was agreed: so more than one is kept.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    told: BTreeMap<Dialog, VecDeque<Said>>,
    heard: BTreeMap<Dialog, VecDeque<Said>>,
}

const KEPT: usize = 4;

impl Sessions {
    /// The gateway said this to a phone.
    pub(super) fn told(&mut self, now: Time, phone: SocketAddr, message: &Message) {
        note(&mut self.told, (now, phone), message, true);
    }

    /// The gateway got this of a phone.
    pub(super) fn heard(&mut self, now: Time, phone: SocketAddr, message: &Message) {
        note(&mut self.heard, (now, phone), message, false);
    }

    /// One line for each flow that takes or sends what its far ends were not told, or did not ask for.
    pub(super) fn broken(&self, flows: &MemoryFlows) -> Vec<String> {
        let mut broken = Vec::new();
        for flow in flows.iter().filter(|flow| flow.kind != FlowKind::Rtcp) {
            // One that goes nowhere waits for the answer that will name it, or for a check that will.
            let Some(output) = flow.rtp.filter(|output| output.to.port() != 0) else { continue };
            let side = if flow.from == Side::Caller { "caller" } else { "callee" };
            // What nobody was told of yet waits as well. Of its numbers the side may use ours, or its own against RFC
            // 3264 section 5.1.
            let at = flow.at.to_string();
            let told: Vec<_> = naming(&self.told, &at).collect();
            let own = |number: &u8| self.heard.values().flatten().any(|said| said.formats.contains(number));
            let known = |number: &u8| told.iter().any(|said| said.formats.contains(number)) || own(number);
            let near: Vec<_> = flow.payload_types.iter().map(|one| one.near).collect();
            if !told.is_empty() && !near.iter().all(known) {
                broken.push(format!("the {side} was never told of {near:?} at {}", flow.at));
            }
            let far: Vec<_> = match &flow.bridge {
                None => flow.payload_types.iter().map(|one| one.far).collect(),
                // What it sends it makes by itself.
                Some(bridge) => {
                    let leg = bridge.leg(flow.from.other());
                    let beside =
                        [leg.events.map(|events| events.types.to), leg.comfort_noise.map(|types| types.to)];
                    std::iter::once(leg.speech_to).chain(beside.into_iter().flatten()).collect()
                }
            };
            if !said(&self.heard, &output.to.to_string(), &far) {
                broken
                    .push(format!("nobody asked for {far:?} at {}, the other side of the {side}", output.to));
            }
            broken.extend(self.broken_keys(flows, flow, output));
        }
        broken
    }
}

impl Sessions {
    /// What a peer protects is read with a key that it sent us, and what it is sent is protected with one that we sent it
    /// (RFC 4568 section 6.1). A peer that was told of no flow yet waits.
    fn broken_keys(&self, flows: &MemoryFlows, flow: &FlowSpec, output: OutputSpec) -> Vec<String> {
        let mut broken = Vec::new();
        let side = format!("the {:?}'s media", flow.from);
        let told = |at: SocketAddr| dialogs(&self.told, &at.to_string(), flows.since(at));
        let (from, to) = (told(flow.at), told(output.from));
        if let Some(key) = flow.unprotect.as_ref().filter(|_| !from.is_empty())
            && !keys(&self.heard, &from).any(|own| same(own, key))
        {
            broken.push(format!("{side} is read with a key that it never sent"));
        }
        if let Some(key) = flow.protect.as_ref().filter(|_| !to.is_empty())
            && !keys(&self.told, &to).any(|own| same(own, key))
        {
            broken.push(format!("{side} goes to {} by a key that was never sent there", output.to));
        }
        broken
    }
}

/// The far ends and Call-IDs of the dialogs in which this address was named since then.
fn dialogs<'a>(
    all: &'a BTreeMap<Dialog, VecDeque<Said>>,
    at: &str,
    since: Time,
) -> Vec<(SocketAddr, &'a str)> {
    let naming = all.iter().filter(|(_, said)| said.iter().any(|said| said.at == at && said.when >= since));
    naming.map(|((phone, call_id, _), _)| (*phone, call_id.as_str())).collect()
}

/// The keys that were sent in any of these dialogs.
fn keys<'a>(
    all: &'a BTreeMap<Dialog, VecDeque<Said>>,
    dialogs: &'a [(SocketAddr, &'a str)],
) -> impl Iterator<Item = &'a MasterKey> {
    let among = |(phone, call_id, _): &Dialog| dialogs.contains(&(*phone, call_id.as_str()));
    all.iter().filter(move |(dialog, _)| among(dialog)).flat_map(|(_, said)| said).flat_map(|said| &said.keys)
}

fn same(one: &MasterKey, other: &MasterKey) -> bool {
    (one.suite(), one.key(), one.salt()) == (other.suite(), other.key(), other.salt())
}

/// The key of an `a=crypto` line, if it is one that can be used.
fn key_of(line: &str) -> Option<MasterKey> {
    let mut words = line.split(' ').skip(1);
    let suite = Suite::named(words.next()?)?;
    let inline = words.next()?.strip_prefix("inline:")?;
    MasterKey::from_base64(suite, inline.split('|').next()?).ok()
}

fn naming<'a>(all: &'a BTreeMap<Dialog, VecDeque<Said>>, at: &'a str) -> impl Iterator<Item = &'a Said> {
    all.values().flatten().filter(move |said| said.at == at)
}

fn said(all: &BTreeMap<Dialog, VecDeque<Said>>, at: &str, formats: &[u8]) -> bool {
    naming(all, at).any(|said| formats.iter().all(|format| said.formats.contains(format)))
}

fn note(
    all: &mut BTreeMap<Dialog, VecDeque<Said>>,
    (when, phone): (Time, SocketAddr),
    message: &Message,
    is_ours: bool,
) {
    let body = String::from_utf8_lossy(message.body()).into_owned();
    let is_media = |line: &&str| line.starts_with("m=audio") || line.starts_with("m=image");
    let Some(line) = body.lines().find(is_media) else { return };
    let formats = line.split_whitespace().skip(3).filter_map(|word| word.parse().ok()).collect();
    let keys = crypto_of(&body).into_iter().filter_map(key_of).collect();
    let said = Said { at: media_of(&body), formats, keys, when };
    let head = message.head();
    let theirs = matches!(message, Message::Request(_)) == is_ours;
    let tag = if theirs { head.to.tag() } else { head.from.tag() };
    let dialog = (phone, head.call_id.clone(), tag.unwrap_or_default().to_owned());
    let kept = all.entry(dialog).or_default();
    if let Some(last) = kept.back_mut().filter(|last| Said { when, ..(**last).clone() } == said) {
        last.when = when;
        return;
    }
    kept.push_back(said);
    if kept.len() > KEPT {
        kept.pop_front();
    }
}
