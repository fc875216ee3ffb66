//! The lite agent of one port: answers checks, and knows which addresses they vouch for.
//!
//! Whoever sends a check that is protected with our password has it from signalling, so that its address is as good as
//! one that signalling named. Nothing is ever sent elsewhere: a stranger's message that proves nothing gets no answer,
//! and an error is told only to addresses that the far end itself has named or proven.

use super::credentials::{Credentials, Ufrag};
use super::message::{Builder, Class, Code, Message, StunFault, attribute};
use crate::base::time::Time;
use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

/// Addresses that one session may have proven at a time: each of many forked far ends has a few.
const PAIRS_MAX: usize = 64;

/// How long a check vouches for an address that was not nominated, as consent does (RFC 7675 section 5.1). A nominated one
/// stays for as long as signalling keeps the session, since far ends without consent checks may say nothing while they
/// hold the call.
const CHECK_HOLDS: Duration = Duration::from_secs(30);

/// One far end, or one of those that an offer of ours was forked to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Peer {
    pub ufrag: Ufrag,
    /// Its own candidates, as far as they are numeric and of UDP: errors may be told to them.
    pub candidates: Vec<SocketAddr>,
}

/// What becomes of a check with attributes that have to be known and are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownAttributes {
    /// 420, with their list (RFC 8489 section 6.3.1).
    #[default]
    Refuse,
    /// The check is answered: what Microsoft's clients ask of a gateway.
    Ignore,
}

/// What an agent made of a packet. Where there is an answer, it is to be sent from where the packet arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A check was right. `news`: what is heard or where media goes has changed.
    Answered { news: bool },
    /// An error was written, for somebody who may be told.
    Refused(Code),
    /// Something that wants no answer: an indication that keeps a path alive.
    Kept,
    /// Not from anybody who may be answered, or no check.
    Ignored(Ignored),
}

/// Why a packet was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    Malformed(StunFault),
    /// It proves nothing, or the wrong thing.
    Stranger,
    /// A response: we never ask.
    Response,
}

/// From whom media is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    /// No check came yet.
    Nobody,
    Only(SocketAddr),
    /// Everyone whose check was right: see [`LiteAgent::hears`].
    Checked,
}

/// The agent of one component of one stream of one session.
#[derive(Clone, Debug)]
pub struct LiteAgent {
    unknown: UnknownAttributes,
    current: Generation,
    /// That before a restart: it carries media until the current one has a nominated pair (RFC 8445 section 9).
    previous: Option<Generation>,
    /// What was heard and where media went when anybody was told last.
    told: (Sources, Option<SocketAddr>),
}

/// Between two restarts.
#[derive(Clone, Debug)]
struct Generation {
    local: Credentials,
    /// Far ends that answered our offer, or the one that made its own. Before any is known, whoever proves our password is
    /// heard.
    peers: Vec<Peer>,
    /// Of those far ends, the one that the session is with.
    chosen: Option<Ufrag>,
    /// Of several, the one whose media came first.
    streaming: Option<Ufrag>,
    pairs: Vec<Pair>,
}

/// An address that a check came from.
#[derive(Clone, Debug)]
struct Pair {
    remote: SocketAddr,
    /// The sender's user name fragment: which of the forked far ends it is.
    ufrag: Ufrag,
    priority: u32,
    is_nominated: bool,
    checked: Time,
}

impl LiteAgent {
    pub fn new(local: Credentials, unknown: UnknownAttributes) -> Self {
        Self { unknown, current: Generation::new(local), previous: None, told: (Sources::Nobody, None) }
    }

    pub fn local(&self) -> &Credentials {
        &self.current.local
    }

    /// What signalling knows now: `local` of our last description, `peers` by their last ones, and which of them is meant
    /// where there are several. Other credentials than before restart the agent. Whether that was news.
    pub fn configure(&mut self, local: &Credentials, peers: &[Peer], chosen: Option<&Ufrag>) -> bool {
        if self.current.local != *local {
            let before = std::mem::replace(&mut self.current, Generation::new(local.clone()));
            // A restart upon a restart: what was never used is not what carries media.
            if before.selected().is_some() || self.previous.is_none() {
                self.previous = Some(before);
            }
        }
        self.current.peers = peers.to_vec();
        self.current.chosen = chosen.cloned();
        if !self.current.streaming.as_ref().is_some_and(|streaming| self.current.rings_at(streaming)) {
            self.current.streaming = None;
        }
        self.settle()
    }

    /// Media came from this address that only a far end of ours can have protected. Of several that an offer of ours rings
    /// at, the first to send is heard alone from now on, nominated or not, until signalling knows who answers: two streams
    /// in one are no early media. Whether that was news.
    pub fn heard_media(&mut self, source: SocketAddr) -> bool {
        if !self.current.is_undecided() {
            return false;
        }
        let pair = self.current.known().find(|pair| pair.remote == source);
        self.current.streaming = pair.map(|pair| pair.ufrag.clone());
        self.settle()
    }

    /// A packet that looks like STUN, from `source`; what is to be answered is in `out`, which is empty for nothing.
    pub fn receive(&mut self, now: Time, source: SocketAddr, packet: &[u8], out: &mut Vec<u8>) -> Outcome {
        out.clear();
        let message = match Message::parse(packet) {
            Ok(message) => message,
            Err(fault) => return Outcome::Ignored(Ignored::Malformed(fault)),
        };
        match message.class {
            Class::Request => self.check(now, source, &message, out),
            Class::Indication => Outcome::Kept,
            Class::Success | Class::Error => Outcome::Ignored(Ignored::Response),
        }
    }

    /// Goes on with the address that an agent of a daemon before this one had chosen, until checks say better: one that was
    /// nominated stays, as its far end may not check it again.
    pub fn resume(&mut self, now: Time, remote: SocketAddr, is_nominated: bool) {
        let chosen = self.current.chosen.as_ref();
        let Some(ufrag) = chosen.or(self.current.peers.first().map(|peer| &peer.ufrag)).cloned() else {
            return;
        };
        self.current.pairs.push(Pair { remote, ufrag, priority: 0, is_nominated, checked: now });
        self.settle();
    }

    /// Whether media from this address is heard.
    pub fn hears(&self, source: SocketAddr) -> bool {
        match self.sources() {
            Sources::Nobody => false,
            Sources::Only(only) => only == source,
            Sources::Checked => {
                let previous = self.previous.as_ref();
                self.current.knows(source) || previous.is_some_and(|previous| previous.knows(source))
            }
        }
    }

    /// From whom media is heard: from everyone who was checked until one of them is nominated, and from every far end that
    /// an offer of ours rings at until one of them sends.
    pub fn sources(&self) -> Sources {
        let mut checked = self.generations().flat_map(Generation::known);
        let nominated = self.current.selected().filter(|_| !self.current.is_undecided());
        match (nominated, checked.next()) {
            (Some(nominated), _) => Sources::Only(nominated.remote),
            (None, None) => Sources::Nobody,
            (None, Some(first)) => match checked.all(|pair| pair.remote == first.remote) {
                true => Sources::Only(first.remote),
                false => Sources::Checked,
            },
        }
    }

    /// Where media goes: to the nominated address, of before a restart until there is one of after it; with none, to the
    /// checked one of the highest priority. `None` before the first check (RFC 8445 section 12.1: nothing is sent).
    pub fn way_out(&self) -> Option<SocketAddr> {
        let nominated = self.generations().find_map(Generation::selected);
        let best = || {
            self.generations()
                .find_map(|generation| generation.known().min_by_key(|pair| Reverse(pair.priority)))
        };
        nominated.or_else(best).map(|pair| pair.remote)
    }

    /// Which of the far ends that it is configured with an address has proven to be of, by its place among them.
    pub fn place_of(&self, source: SocketAddr) -> Option<usize> {
        let ufrag = self.fork_of(source)?;
        self.generations()
            .find_map(|generation| generation.peers.iter().position(|peer| peer.ufrag == *ufrag))
    }

    /// Which far end media from this address is of, where an offer of ours was forked.
    pub fn fork_of(&self, source: SocketAddr) -> Option<&Ufrag> {
        self.generations()
            .flat_map(Generation::known)
            .find(|pair| pair.remote == source)
            .map(|pair| &pair.ufrag)
    }

    /// Forgets addresses that were not checked for long; whether that was news.
    pub fn expire(&mut self, now: Time) -> bool {
        for generation in std::iter::once(&mut self.current).chain(&mut self.previous) {
            generation.pairs.retain(|pair| pair.is_nominated || now < pair.checked + CHECK_HOLDS);
        }
        self.settle()
    }

    /// When [`LiteAgent::expire`] has something to do.
    pub fn deadline(&self) -> Option<Time> {
        let passing =
            self.generations().flat_map(|generation| &generation.pairs).filter(|pair| !pair.is_nominated);
        passing.map(|pair| pair.checked + CHECK_HOLDS).min()
    }

    fn check(&mut self, now: Time, source: SocketAddr, message: &Message<'_>, out: &mut Vec<u8>) -> Outcome {
        let Some((ours, _)) = message.username().filter(|_| message.has_integrity()) else {
            return self.turn_away(source, Code::BadRequest, message, out);
        };
        let proven = std::iter::once(&mut self.current)
            .chain(&mut self.previous)
            .find(|generation| generation.local.ufrag.as_str() == ours)
            .filter(|generation| message.is_protected_by(&generation.local.password));
        let Some(generation) = proven else {
            return self.turn_away(source, Code::Unauthenticated, message, out);
        };
        let password = generation.local.password.clone();
        let taken = match refused(message, self.unknown) {
            None => generation.take(now, source, message),
            Some(code) => Err(code),
        };
        match taken {
            Ok(()) => {
                Builder::new(out, Class::Success, message.transaction())
                    .mapped(source)
                    .finish(Some(&password));
                Outcome::Answered { news: self.settle() }
            }
            Err(code) => {
                let refusal = Builder::new(out, Class::Error, message.transaction()).error(code);
                match code {
                    Code::UnknownAttribute => refusal.unknown(message.unknown()).finish(Some(&password)),
                    _ => refusal.finish(Some(&password)),
                }
                Outcome::Refused(code)
            }
        }
    }

    /// Tells somebody who has proven nothing why, if it is an address that the far end named or has proven.
    fn turn_away(&self, source: SocketAddr, code: Code, message: &Message<'_>, out: &mut Vec<u8>) -> Outcome {
        if !self.generations().any(|generation| generation.vouches_for(source)) {
            return Outcome::Ignored(Ignored::Stranger);
        }
        Builder::new(out, Class::Error, message.transaction()).error(code).finish(None);
        Outcome::Refused(code)
    }

    /// Lets go of what was before a restart once that is no longer needed; whether anything has changed since the last
    /// time.
    fn settle(&mut self) -> bool {
        if self.current.selected().is_some() {
            self.previous = None;
        }
        let now = (self.sources(), self.way_out());
        std::mem::replace(&mut self.told, now) != now
    }

    fn generations(&self) -> impl Iterator<Item = &Generation> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

impl Generation {
    fn new(local: Credentials) -> Self {
        Self { local, peers: Vec::new(), chosen: None, streaming: None, pairs: Vec::new() }
    }

    /// Our offer rings at several far ends, and none of them has sent media yet.
    fn is_undecided(&self) -> bool {
        self.peers.len() > 1 && self.streaming.is_none()
    }

    /// Whether this is one of several that our offer rings at.
    fn rings_at(&self, ufrag: &Ufrag) -> bool {
        self.peers.len() > 1 && self.peers.iter().any(|peer| peer.ufrag == *ufrag)
    }

    /// A check was right. What was nominated stays so: a later check without the word takes nothing back.
    fn take(&mut self, now: Time, source: SocketAddr, message: &Message<'_>) -> Result<(), Code> {
        let theirs = message.username().and_then(|(_, theirs)| theirs.parse().ok());
        let proven = Pair {
            remote: source,
            ufrag: theirs.ok_or(Code::BadRequest)?,
            priority: message.priority().unwrap_or(0),
            is_nominated: message.value(attribute::USE_CANDIDATE).is_some(),
            checked: now,
        };
        match self.pairs.iter_mut().find(|pair| pair.remote == proven.remote) {
            Some(pair) => {
                let is_nominated = proven.is_nominated || pair.is_nominated && pair.ufrag == proven.ufrag;
                *pair = Pair { is_nominated, ..proven };
            }
            None => {
                if self.pairs.len() == PAIRS_MAX {
                    let passing = self.pairs.iter().enumerate().filter(|(_, pair)| !pair.is_nominated);
                    let oldest = passing.min_by_key(|(_, pair)| pair.checked).map_or(0, |(index, _)| index);
                    self.pairs.swap_remove(oldest);
                }
                self.pairs.push(proven);
            }
        }
        Ok(())
    }

    /// Of far ends that signalling knows, or of the one of them that sends; of anybody's while it knows none.
    fn known(&self) -> impl Iterator<Item = &Pair> {
        let is_known = |ufrag: &Ufrag| match &self.streaming {
            Some(streaming) => streaming == ufrag,
            None => self.peers.is_empty() || self.peers.iter().any(|peer| peer.ufrag == *ufrag),
        };
        self.pairs.iter().filter(move |pair| is_known(&pair.ufrag))
    }

    fn knows(&self, source: SocketAddr) -> bool {
        self.known().any(|pair| pair.remote == source)
    }

    /// The nominated pair of the far end that the session is with. Of several the one of the highest priority: those who
    /// nominate aggressively mean that one (RFC 5245 section 8.1.1.2).
    fn selected(&self) -> Option<&Pair> {
        let chosen = self.streaming.as_ref().or(self.chosen.as_ref());
        let is_chosen = |pair: &&Pair| chosen.is_none_or(|chosen| *chosen == pair.ufrag);
        self.known()
            .filter(|pair| pair.is_nominated)
            .filter(is_chosen)
            .min_by_key(|pair| Reverse(pair.priority))
    }

    fn vouches_for(&self, source: SocketAddr) -> bool {
        let is_named = self.peers.iter().any(|peer| peer.candidates.contains(&source));
        is_named || self.pairs.iter().any(|pair| pair.remote == source)
    }
}

/// Why a check that is protected as it should be is refused.
fn refused(message: &Message<'_>, unknown: UnknownAttributes) -> Option<Code> {
    if unknown == UnknownAttributes::Refuse && message.unknown().next().is_some() {
        return Some(Code::UnknownAttribute);
    }
    // RFC 8445 section 6.1.1: a lite agent is controlled, whatever a tie-breaker says.
    message.value(attribute::ICE_CONTROLLED).map(|_| Code::RoleConflict)
}
