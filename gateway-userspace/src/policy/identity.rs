//! Who calls: what the caller's side says of itself, how far it is believed, and what the other side hears of it
//! (RFC 3323, RFC 3325).

use super::Trunk;
use crate::base::redact::Number;
use crate::sip::message::{DisplayName, HeaderName, Headers, Host, NameAddr, Request, Uri};

/// How a trunk deals with identities: what is believed that comes from it, and what it hears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityPolicy {
    /// It belongs to our trust domain (RFC 3325 section 2.3): what it asserts is believed, and what callers want kept
    /// from strangers may be told to it.
    pub trusted: bool,
    pub form: IdentityForm,
    pub from: FromSource,
    pub asserted: AssertedSource,
}

/// The header field that tells a trunk's peers who calls, besides From.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityForm {
    /// None.
    #[default]
    From,
    /// P-Asserted-Identity (RFC 3325 section 9.1).
    Pai,
    /// P-Preferred-Identity (RFC 3325 section 9.2): to a network that asserts by itself.
    Ppi,
    /// Remote-Party-ID, which came before RFC 3325.
    Rpid,
}

/// Where the From that a trunk's peers see comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromSource {
    /// The caller's From.
    #[default]
    Received,
    /// What a trusted side asserted, where it did.
    Asserted,
}

/// Where the identity comes from that a trunk's peers hear besides From.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssertedSource {
    /// What a trusted side asserted.
    #[default]
    Received,
    /// The same, or else the caller's From.
    ReceivedOrFrom,
    /// The caller's From.
    From,
}

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// What From says; `None` where it names nobody.
    pub presented: Option<Party>,
    /// What a side that we trust says.
    pub asserted: Option<Party>,
    pub privacy: Privacy,
}

/// A person at a telephone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Party {
    pub name: Option<DisplayName>,
    /// In E.164 where the side's number plan says how, else as it was written; a name in place of a number stays.
    pub number: Number,
}

/// What a caller wants kept from strangers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privacy {
    /// Who calls: `id` (RFC 3325 section 9.3), or `user` (RFC 3323 section 4.2).
    pub identity: bool,
    /// Who passed the call on: `history`, or `header` and `session` that include it (RFC 7044 section 10.1).
    pub history: bool,
    /// Nothing, in so many words: `none`.
    pub waived: bool,
}

impl Caller {
    /// Who sent this INVITE, as far as the trunk that it came by is believed.
    pub fn of(request: &Request, trunk: &Trunk) -> Self {
        let headers = &request.headers;
        let mut caller = Self {
            presented: presented(&request.head.from, trunk),
            asserted: None,
            privacy: Privacy::of(headers),
        };
        if trunk.identity.trusted {
            caller.asserted = [HeaderName::PAssertedIdentity, HeaderName::PPreferredIdentity]
                .iter()
                .find_map(|header| asserted(headers, header, trunk))
                .or_else(|| caller.remote_party(headers, trunk));
        }
        caller
    }

    /// Who is at the other end of a dialog: its address there, and the one by which the other side of the call has heard
    /// of it, which tells whether it wants to stay unknown.
    pub fn in_dialog(remote: &NameAddr, trunk: &Trunk, shown_as: &NameAddr) -> Self {
        let presented = presented(remote, trunk).filter(|_| presented_to_all(shown_as));
        let asserted = presented.clone().filter(|_| trunk.identity.trusted);
        Self { presented, asserted, privacy: Privacy::default() }
    }

    /// For the record: what is asserted, or else what is presented.
    pub fn number(&self) -> Number {
        self.asserted
            .as_ref()
            .or(self.presented.as_ref())
            .map(|party| party.number.clone())
            .unwrap_or_default()
    }

    /// Whether those who may not know must not hear who calls.
    pub fn is_withheld(&self) -> bool {
        self.privacy.identity || self.presented.is_none()
    }

    /// From toward this trunk, without a tag.
    pub fn from(&self, trunk: &Trunk) -> NameAddr {
        if self.is_withheld() {
            return anonymous().with_display("Anonymous");
        }
        let asserted = self.asserted.as_ref().filter(|_| trunk.identity.from == FromSource::Asserted);
        let party = asserted.or(self.presented.as_ref());
        let mut from = party.map_or_else(anonymous, |party| party.address(trunk));
        // Networks assert numbers, and leave the name to From.
        from.display = asserted
            .and_then(|party| party.name.clone())
            .or_else(|| self.presented.as_ref().and_then(|party| party.name.clone()));
        from
    }

    /// Tells this trunk who calls, besides From: in its form, and only what it may know (RFC 3325 section 5).
    pub fn assert(&self, trunk: &Trunk, headers: &mut Headers) {
        let policy = &trunk.identity;
        let (received, from) = (self.asserted.as_ref(), self.presented.as_ref());
        let party = match policy.asserted {
            AssertedSource::Received => received,
            AssertedSource::ReceivedOrFrom => received.or(from),
            AssertedSource::From => from,
        };
        let withheld = self.is_withheld();
        let Some(party) = party.filter(|party| !party.number.reveal().is_empty()) else { return };
        if withheld && !policy.trusted {
            return;
        }
        let mut address = party.address(trunk);
        address.display.clone_from(&party.name);
        let header = match policy.form {
            IdentityForm::From => return,
            IdentityForm::Pai => HeaderName::PAssertedIdentity,
            IdentityForm::Ppi => HeaderName::PPreferredIdentity,
            IdentityForm::Rpid => {
                address.params.set("party", "calling");
                address.params.set("screen", if received.is_some() { "yes" } else { "no" });
                address.params.set("privacy", if withheld { "full" } else { "off" });
                return headers.push(HeaderName::RemotePartyId, address.to_string());
            }
        };
        headers.push(header, address.to_string());
        if withheld {
            headers.push(HeaderName::Privacy, "id");
        } else if self.privacy.waived {
            headers.push(HeaderName::Privacy, "none");
        }
    }

    /// The caller of Remote-Party-ID; its own mark of privacy counts as `id`. What its side did not screen is no more
    /// than From.
    fn remote_party(&mut self, headers: &Headers, trunk: &Trunk) -> Option<Party> {
        let is = |address: &NameAddr, param: &str, value: &str| {
            address.param(param).is_some_and(|own| own.eq_ignore_ascii_case(value))
        };
        let address = headers
            .items(&HeaderName::RemotePartyId)
            .filter_map(|item| item.parse::<NameAddr>().ok())
            .find(|address| !address.params.has("party") || is(address, "party", "calling"))?;
        self.privacy.identity |= ["full", "uri", "name"].iter().any(|value| is(&address, "privacy", value));
        if is(&address, "screen", "no") { None } else { Party::of(&address, trunk) }
    }
}

impl Party {
    /// `None` if the address names nobody.
    pub(super) fn of(address: &NameAddr, trunk: &Trunk) -> Option<Self> {
        let number = trunk.numbers.read_uri(&address.uri)?;
        Some(Self { name: address.display.clone(), number: Number::new(number) })
    }

    /// At our own address, because where the other side lives concerns nobody; without the name.
    pub(super) fn address(&self, trunk: &Trunk) -> NameAddr {
        let number = trunk.numbers.write(self.number.reveal());
        let user = Some(&*number).filter(|number| !number.is_empty());
        NameAddr::new(trunk.as_phone(trunk.own_uri(user), &number))
    }
}

impl Privacy {
    fn of(headers: &Headers) -> Self {
        let mut privacy = Self::default();
        let values = headers.values(&HeaderName::Privacy).flat_map(|value| value.split([';', ',']));
        for value in values {
            match value.trim().to_ascii_lowercase().as_str() {
                "id" | "user" => privacy.identity = true,
                "history" | "header" | "session" => privacy.history = true,
                "none" => privacy.waived = true,
                _ => {}
            }
        }
        privacy
    }
}

/// RFC 3323 section 4.1.1.3.
pub(super) fn anonymous() -> NameAddr {
    NameAddr::new(Uri::sip(Some(ANONYMOUS), Host::Name(NOWHERE.to_owned()), None))
}

const ANONYMOUS: &str = "anonymous";
const NOWHERE: &str = "anonymous.invalid";

fn presented_to_all(address: &NameAddr) -> bool {
    let at_nowhere = |host: &Host| matches!(host, Host::Name(name) if name.eq_ignore_ascii_case(NOWHERE));
    !address.uri.as_sip().is_some_and(|uri| at_nowhere(&uri.host))
}

/// `None` for From that withholds the caller. Without a user part it names a host, which is less than a caller and still
/// no wish for privacy.
fn presented(from: &NameAddr, trunk: &Trunk) -> Option<Party> {
    let is_nowhere = !presented_to_all(from);
    let is_anonymous = from.uri.user().is_some_and(|user| user.eq_ignore_ascii_case(ANONYMOUS));
    if is_nowhere || is_anonymous {
        return None;
    }
    let nameless = || Party { name: from.display.clone(), number: Number::default() };
    Some(Party::of(from, trunk).unwrap_or_else(nameless))
}

/// The first identity of a header field that may have a `sip` and a `tel` URI (RFC 3325 section 9.1); the name may stand
/// beside either.
fn asserted(headers: &Headers, header: &HeaderName, trunk: &Trunk) -> Option<Party> {
    let addresses = || headers.items(header).filter_map(|item| item.parse::<NameAddr>().ok()).take(2);
    let mut party = addresses().find_map(|address| Party::of(&address, trunk))?;
    if party.name.is_none() {
        party.name = addresses().find_map(|address| address.display);
    }
    Some(party)
}

#[cfg(test)]
mod tests;
