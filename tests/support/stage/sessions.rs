//! Which session descriptions went over the wires, and whether what flows carry stands in them.

use super::flows::MemoryFlows;
use super::session::media_of;
use gateway_common::flow::FlowKind;
use gateway_userspace::base::id::Side;
use gateway_userspace::sip::message::Message;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// A dialog as both its ends name it: the phone, the Call-ID, and the phone's tag.
type Dialog = (SocketAddr, String, String);

/// Where media is wanted, and by which payload types.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    at: String,
    formats: Vec<u8>,
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
    pub(super) fn told(&mut self, phone: SocketAddr, message: &Message) {
        note(&mut self.told, phone, message, true);
    }

    /// The gateway got this of a phone.
    pub(super) fn heard(&mut self, phone: SocketAddr, message: &Message) {
        note(&mut self.heard, phone, message, false);
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
            let far: Vec<_> = flow.payload_types.iter().map(|one| one.far).collect();
            if !said(&self.heard, &output.to.to_string(), &far) {
                broken
                    .push(format!("nobody asked for {far:?} at {}, the other side of the {side}", output.to));
            }
        }
        broken
    }
}

fn naming<'a>(all: &'a BTreeMap<Dialog, VecDeque<Said>>, at: &'a str) -> impl Iterator<Item = &'a Said> {
    all.values().flatten().filter(move |said| said.at == at)
}

fn said(all: &BTreeMap<Dialog, VecDeque<Said>>, at: &str, formats: &[u8]) -> bool {
    naming(all, at).any(|said| formats.iter().all(|format| said.formats.contains(format)))
}

fn note(all: &mut BTreeMap<Dialog, VecDeque<Said>>, phone: SocketAddr, message: &Message, is_ours: bool) {
    let body = String::from_utf8_lossy(message.body()).into_owned();
    let Some(line) = body.lines().find(|line| line.starts_with("m=audio")) else { return };
    let formats = line.split_whitespace().skip(3).filter_map(|word| word.parse().ok()).collect();
    let said = Said { at: media_of(&body), formats };
    let head = message.head();
    let theirs = matches!(message, Message::Request(_)) == is_ours;
    let tag = if theirs { head.to.tag() } else { head.from.tag() };
    let dialog = (phone, head.call_id.clone(), tag.unwrap_or_default().to_owned());
    let kept = all.entry(dialog).or_default();
    if kept.back() != Some(&said) {
        kept.push_back(said);
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }
}
