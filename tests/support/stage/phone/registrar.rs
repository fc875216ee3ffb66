//! A registrar behind a phone (RFC 3261 section 10.3): asks who it is that registers, keeps what it has granted, and has
//! moods. Digest itself is held against the RFCs' examples elsewhere; here it is the gateway's own, the other way round.

use super::Phone;
use super::answer::{printed, respond};
use gateway_userspace::base::time::Time;
use gateway_userspace::base::token::Tokens;
use gateway_userspace::policy::{RegistrationPolicy, Trunk};
use gateway_userspace::sip::auth::{Algorithm, Challenger, Credentials, Guard, Password, Verdict};
use gateway_userspace::sip::message::{HeaderName, Request, Response};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

const REALM: &str = "registrar.example";
const USER: &str = "gateway";
const PASSWORD: &str = "Circle of Life";

/// What it does about a REGISTER whose sender it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes it, for so many seconds at most.
    Grants(u32),
    /// Wants it for so many seconds at least (423).
    WantsLonger(u32),
    /// Refuses it, before it asks who it is.
    Refuses(u16),
    /// Says nothing.
    IsSilent,
}

#[derive(Debug)]
pub struct Registrar {
    pub mood: Mood,
    challenger: Challenger,
    guard: Guard,
    /// By the URI of the Contact.
    bindings: BTreeMap<String, Bound>,
    /// When one was taken back last.
    left: Option<Time>,
}

/// One Contact, as it was registered last.
#[derive(Debug)]
struct Bound {
    call_id: String,
    sequence: u32,
    until: Time,
}

/// What a trunk needs to register with a [`Registrar`].
pub fn registers(trunk: &mut Trunk) {
    trunk.registration = Some(RegistrationPolicy {
        domain: REALM.parse().expect("a name"),
        user: "trunk".into(),
        expires: Duration::from_secs(600),
        instance: None,
    });
    trunk.digest = Some(Credentials {
        realm: REALM.into(),
        user: USER.into(),
        password: Password::new(PASSWORD),
        md5: false,
    });
}

impl Registrar {
    /// Whose nonces last `lifetime`.
    pub fn new(lifetime: Duration) -> Self {
        let challenger = Challenger {
            realm: REALM.into(),
            users: vec![(USER.into(), Password::new(PASSWORD))],
            algorithms: vec![Algorithm::Sha256],
            lifetime,
        };
        let guard = Guard::new(&mut Tokens::seeded(7));
        Self { mood: Mood::Grants(600), challenger, guard, bindings: BTreeMap::new(), left: None }
    }

    /// Whether anybody is registered.
    pub fn knows_somebody(&self, now: Time) -> bool {
        self.bindings.values().any(|bound| now < bound.until)
    }

    /// Whether somebody took a binding back within the last `span`, and may not know yet that it is gone.
    pub fn was_left(&self, now: Time, span: Duration) -> bool {
        self.left.is_some_and(|left| now.since(left) < span)
    }

    /// `Err` tells what no gateway does.
    fn answer(&mut self, now: Time, source: IpAddr, request: &Request) -> Result<Option<Response>, String> {
        let asked = ("registrar", &self.challenger);
        match self.mood {
            Mood::IsSilent => return Ok(None),
            Mood::Refuses(status) => return Ok(Some(say(request, status))),
            Mood::Grants(_) | Mood::WantsLonger(_) => {}
        }
        match self.guard.judge(asked, source, request, now) {
            Verdict::Known => self.register(now, request).map(Some),
            Verdict::Unknown { stale } => {
                let mut response = say(request, 401);
                self.guard.challenge(asked, source, stale, &mut response, now);
                Ok(Some(response))
            }
            Verdict::Wrong => Err("a REGISTER answers a challenge wrong".to_owned()),
        }
    }

    fn register(&mut self, now: Time, request: &Request) -> Result<Response, String> {
        let head = &request.head;
        let contact = head.contact.first().ok_or("a REGISTER has no Contact")?;
        let said = contact.param("expires").or_else(|| request.headers.value(&HeaderName::Expires));
        let wanted: u32 = said.and_then(|said| said.trim().parse().ok()).ok_or("a REGISTER says no time")?;
        let key = contact.uri.to_string();
        // What was said before and comes late changes nothing (section 10.3, step 7).
        let is_late = |bound: &Bound| bound.call_id == head.call_id && bound.sequence >= head.cseq.number;
        if self.bindings.get(&key).is_some_and(is_late) {
            return Ok(say(request, 500));
        }
        let granted = match self.mood {
            Mood::WantsLonger(least) if (1..least).contains(&wanted) => {
                let mut response = say(request, 423);
                response.headers.push(HeaderName::MinExpires, least.to_string());
                return Ok(response);
            }
            Mood::Grants(most) => wanted.min(most),
            _ => wanted,
        };
        let until = now + Duration::from_secs(granted.into());
        let bound = Bound { call_id: head.call_id.clone(), sequence: head.cseq.number, until };
        let mut response = say(request, 200);
        if granted > 0 {
            response.headers.push(HeaderName::Other("Contact".into()), format!("<{key}>;expires={granted}"));
        }
        if granted == 0 {
            self.left = Some(now);
        }
        self.bindings.insert(key, bound);
        Ok(response)
    }
}

impl Phone {
    pub(super) fn registered(&mut self, now: Time, at: usize) {
        let (gateway, request) = (self.gateway.ip(), self.servers[at].request.clone());
        let Some(registrar) = &mut self.registrar else { return };
        match registrar.answer(now, gateway, &request) {
            Ok(None) => {}
            Ok(Some(response)) => {
                let server = &mut self.servers[at];
                (server.last, server.status) = (printed(&response), response.status.code());
                self.outbox.push(server.last.clone());
            }
            Err(broken) => self.wrongs.push(broken),
        }
    }
}

fn say(request: &Request, status: u16) -> Response {
    respond(request, status, "tag-of-registrar")
}
