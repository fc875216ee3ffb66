//! Teams and Zoom as their documents describe them: what they refuse of a gateway, and what they do of their own accord.
//!
//! A phone that stands for one of them hears only of requests that pass here. Whatever does not pass is a complaint of
//! that phone, so that a scenario fails of it unless it is what the scenario is about. Like the phones it reads
//! descriptions by string operations.

use super::session::{direction_of, media_of};
use gateway_userspace::base::time::Time;
use gateway_userspace::policy::Service;
use gateway_userspace::sip::message::{HeaderName, Method, Request, Uri};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Teams has been seen to send its description again at this time of a call, unchanged.
const REFRESH: Duration = Duration::from_secs(27 * 60);

/// The service's side of all calls.
#[derive(Clone, Debug)]
pub struct FarEnd {
    service: Service,
    /// Names under which tenants have registered this gateway.
    domains: &'static [&'static str],
    /// Where each call's media was to go first.
    media: HashMap<String, String>,
    /// Transfers that were asked for, until their INVITE comes back: to any of its machines.
    referred: Arc<Mutex<Vec<Referral>>>,
    /// Whom it has transferred it leaves when the target answers.
    pub(super) leaves: bool,
    refresh: Option<Time>,
}

/// The URI to call, and Referred-By.
type Referral = (String, Option<String>);

/// Why a request goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) why: &'static str,
}

const fn refuse(status: u16, why: &'static str) -> Result<(), Refusal> {
    Err(Refusal { status, why })
}

impl FarEnd {
    pub fn new(service: Service) -> Self {
        Self {
            service,
            domains: &["corp.example"],
            media: HashMap::new(),
            referred: Arc::default(),
            leaves: true,
            refresh: None,
        }
    }

    /// Teams, where tenants have registered a gateway by these names.
    pub fn knowing(domains: &'static [&'static str]) -> Self {
        Self { domains, ..Self::new(Service::Teams) }
    }

    /// It leaves nobody of its own accord.
    pub fn lingering(self) -> Self {
        Self { leaves: false, ..self }
    }

    /// Transfers whose INVITE has not come back yet.
    pub fn awaits(&self) -> usize {
        self.asked().len()
    }

    pub(super) fn judge(&mut self, request: &Request) -> Result<(), Refusal> {
        let is_inside = request.head.to.tag().is_some();
        match (&self.service, &request.method) {
            (Service::Teams, Method::Options) if !is_inside => {
                addressed(request)?;
                self.named(request)
            }
            (Service::Teams, Method::Invite) if is_inside => self.changed(request),
            (Service::Teams, Method::Invite) => {
                addressed(request)?;
                self.named(request)?;
                self.called(request)?;
                self.sent_back(request)
            }
            (Service::Zoom, Method::Invite) if !is_inside => asked_of_zoom(request),
            _ => Ok(()),
        }
    }

    /// A call stands: its media goes where `description` of the gateway says.
    pub(super) fn stands(&mut self, now: Time, call_id: &str, description: &str) {
        if self.service == Service::Teams {
            self.refresh = Some(now + REFRESH);
            if description.contains("m=audio") {
                self.media.entry(call_id.to_owned()).or_insert_with(|| media_of(description));
            }
        }
    }

    /// A REFER with these header lines is sent.
    pub(super) fn refers(&mut self, lines: &str) {
        let value = |name: &str| lines.split("\r\n").find_map(|line| line.strip_prefix(name));
        let Some((_, to)) = value("Refer-To: ").and_then(|to| to.split_once('<')) else { return };
        let to = to.split('>').next().unwrap_or_default().to_owned();
        self.asked().push((to, value("Referred-By: ").map(str::to_owned)));
    }

    pub(super) fn next_refresh(&self) -> Option<Time> {
        self.refresh
    }

    /// Whether the call's description is due again.
    pub(super) fn refreshes(&mut self, now: Time) -> bool {
        let is_due = self.refresh.is_some_and(|due| due <= now);
        if is_due {
            self.refresh = Some(now + REFRESH);
        }
        is_due
    }

    /// The gateway is known by the name in its Contact, or by what that is a part of; an address is nobody.
    fn named(&self, request: &Request) -> Result<(), Refusal> {
        let [contact] = request.head.contact.addresses() else {
            return refuse(403, "there is not exactly one Contact");
        };
        let host = host(&contact.uri).unwrap_or_default();
        if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return refuse(403, "its Contact is an address");
        }
        let parent = host.split_once('.').map_or("", |(_, parent)| parent);
        if !self.domains.iter().any(|known| *known == host || *known == parent) {
            return refuse(403, "its Contact is of no tenant (510532)");
        }
        // The name of a Record-Route would win.
        let routed =
            request.head.record_route.iter().any(|route| self::host(&route.uri).as_ref() != Some(&host));
        if routed { refuse(403, "its Record-Route names another") } else { Ok(()) }
    }

    fn called(&mut self, request: &Request) -> Result<(), Refusal> {
        if request.headers.value(&HeaderName::Replaces).is_some() {
            return refuse(403, "it has Replaces");
        }
        if request.body.is_empty() {
            return refuse(488, "it has no offer");
        }
        let media = media_of(&String::from_utf8_lossy(&request.body));
        self.media.insert(request.head.call_id.clone(), media);
        Ok(())
    }

    /// An INVITE for a transfer is what was asked for, octet for octet.
    fn sent_back(&self, request: &Request) -> Result<(), Refusal> {
        let by = request.headers.value(&HeaderName::ReferredBy).map(str::to_owned);
        let asked = (request.uri.to_string(), by);
        let mut referred = self.asked();
        if let Some(place) = referred.iter().position(|referred| *referred == asked) {
            referred.remove(place);
            return Ok(());
        }
        if asked.1.is_some() {
            return refuse(403, "it is of no transfer that was asked for");
        }
        let has_number = request.uri.user().is_some_and(|user| user.starts_with('+'));
        if has_number { Ok(()) } else { refuse(404, "its number is not an E.164 number") }
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Referral>> {
        self.referred.lock().expect("no scenario panics with it in its hands")
    }

    fn changed(&self, request: &Request) -> Result<(), Refusal> {
        let offer = String::from_utf8_lossy(&request.body);
        if offer.is_empty() {
            return refuse(488, "a re-INVITE has no offer");
        }
        if offer.contains("c=IN IP4 0.0.0.0") {
            return refuse(488, "it holds by 0.0.0.0 (531052)");
        }
        if matches!(direction_of(&offer), "sendonly" | "recvonly") {
            return refuse(488, "it holds by a direction that is not understood");
        }
        match self.media.get(&request.head.call_id) {
            Some(first) if *first != media_of(&offer) => refuse(488, "its media has moved"),
            _ => Ok(()),
        }
    }
}

/// What is named in From, To and Request-URI can be read by Teams.
fn addressed(request: &Request) -> Result<(), Refusal> {
    let text = request.to_string();
    if text.split("\r\n\r\n").next().is_some_and(|head| head.contains("sips:")) {
        return refuse(416, "it has a sips URI");
    }
    if text.contains("sip:@") { refuse(400, "a user is empty") } else { Ok(()) }
}

fn host(uri: &Uri) -> Option<String> {
    match uri {
        Uri::Sip(uri) => Some(uri.host.to_string()),
        _ => None,
    }
}

fn asked_of_zoom(request: &Request) -> Result<(), Refusal> {
    if request.body.is_empty() {
        return refuse(488, "it has no offer");
    }
    if !request.uri.user().is_some_and(|user| user.starts_with('+')) {
        return refuse(404, "its number is not an E.164 number");
    }
    if request.headers.value(&HeaderName::PAssertedIdentity).is_none() {
        return refuse(403, "it says nothing of its caller that is asserted");
    }
    Ok(())
}
