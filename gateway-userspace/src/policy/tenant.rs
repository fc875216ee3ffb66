//! Customers whose users stand behind a trunk that many of them share: whose a number is, who calls, and whether the
//! number that a caller shows is its own.
//!
//! Routing asks here and nowhere else. Where the table comes from, the configuration file or a register of numbers, is the
//! business of whoever builds the [`Snapshot`](super::Snapshot).

use super::{Caller, Limits, Meter, Permit, PolicyError};
use crate::base::fault::Fault;
use crate::base::time::Time;
use crate::sip::message::{HeaderName, Request};
use std::collections::HashMap;
use std::sync::Arc;

/// One customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// In records.
    pub name: Arc<str>,
    /// Its numbers: `+` and digits, the whole number or what all of a block begin with.
    pub numbers: Vec<String>,
    /// Hosts that its service calls us by: the names of trunks derived from the carrier's (Microsoft, "Configure a Session
    /// Border Controller for multiple tenants").
    pub hosts: Vec<String>,
    /// What X-MS-TenantID calls it.
    pub id: Option<String>,
    /// Its users may show no numbers but its own.
    pub screening: bool,
    /// Of its calls in either direction.
    pub limits: Limits,
}

/// All customers. Look-ups cost a hash for each digit of a number at most, however many customers there are.
#[derive(Clone, Debug, Default)]
pub struct Tenants {
    all: Vec<Tenant>,
    /// Of each, in the same order.
    meters: Vec<Arc<Meter>>,
    names: HashMap<Arc<str>, usize>,
    numbers: HashMap<Box<str>, usize>,
    /// In lower case.
    hosts: HashMap<Box<str>, usize>,
    ids: HashMap<Box<str>, usize>,
}

/// The header by which Operator Connect and Teams Phone Mobile name the customer.
const TENANT_ID: &str = "X-MS-TenantID";

impl Tenants {
    /// # Errors
    /// [`PolicyError::TenantNumber`] for what is no number; [`PolicyError::TenantTwice`] for what two of them claim.
    pub fn new(all: Vec<Tenant>) -> Result<Self, PolicyError> {
        let mut tenants = Self::default();
        let twice = |what, value: &str| PolicyError::TenantTwice { what, value: value.to_owned() };
        for (place, tenant) in all.iter().enumerate() {
            if tenants.names.insert(Arc::clone(&tenant.name), place).is_some() {
                return Err(twice("name", &tenant.name));
            }
            for number in &tenant.numbers {
                if !is_block(number) {
                    let (tenant, number) = (tenant.name.to_string(), number.clone());
                    return Err(PolicyError::TenantNumber { tenant, number });
                }
                if tenants.numbers.insert(number.as_str().into(), place).is_some() {
                    return Err(twice("number", number));
                }
            }
            for host in &tenant.hosts {
                if tenants.hosts.insert(host.to_ascii_lowercase().into(), place).is_some() {
                    return Err(twice("host", host));
                }
            }
            if let Some(id) = &tenant.id
                && tenants.ids.insert(id.to_ascii_lowercase().into(), place).is_some()
            {
                return Err(twice("id", id));
            }
        }
        tenants.meters = all.iter().map(|_| Arc::default()).collect();
        tenants.all = all;
        Ok(tenants)
    }

    /// Goes on counting for customers that keep their names.
    pub(super) fn succeed(&mut self, old: &Self) {
        for (tenant, meter) in self.all.iter().zip(&mut self.meters) {
            if let Some(place) = old.names.get(&tenant.name) {
                *meter = Arc::clone(&old.meters[*place]);
            }
        }
    }

    /// Lets a call of these customers in, the caller's and the called one's; one that calls itself counts once.
    ///
    /// # Errors
    /// [`Fault::TenantCallsExhausted`] and [`Fault::CallRateExceeded`] where one of them is at its limits.
    pub fn enter(&self, tenants: [Option<&str>; 2], now: Time) -> Result<[Option<Permit>; 2], Fault> {
        let mut permits = [None, None];
        for (permit, counted) in permits.iter_mut().zip(self.counted(tenants)) {
            let Some((tenant, meter)) = counted else { continue };
            let entered = meter.enter(&tenant.limits).map_err(|_| Fault::TenantCallsExhausted)?;
            meter.take_turn(&tenant.limits, now)?;
            *permit = Some(entered);
        }
        Ok(permits)
    }

    /// The same whatever the limits: for an emergency, and for a call that was in progress before.
    pub fn enter_above(&self, tenants: [Option<&str>; 2]) -> [Option<Permit>; 2] {
        self.counted(tenants).map(|counted| counted.map(|(tenant, meter)| meter.enter_above(&tenant.limits)))
    }

    /// Customers with a limit, their calls in progress, and the limit.
    pub fn limited(&self) -> impl Iterator<Item = (&Arc<str>, u32, u32)> {
        let counted = self.all.iter().zip(&self.meters);
        counted.filter_map(|(tenant, meter)| Some((&tenant.name, meter.calls(), tenant.limits.calls?)))
    }

    /// Whom a call counts for.
    fn counted(&self, [one, other]: [Option<&str>; 2]) -> [Option<(&Tenant, &Arc<Meter>)>; 2] {
        let found = |name: Option<&str>| {
            let place = *self.names.get(name?)?;
            Some((&self.all[place], &self.meters[place]))
        };
        [found(one), found(other.filter(|other| Some(*other) != one))]
    }

    /// Whose number it is: the longest block that it lies in decides.
    pub fn of_number(&self, number: &str) -> Option<&Tenant> {
        if self.all.is_empty() || !number.is_ascii() {
            return None;
        }
        let place = (2..=number.len()).rev().find_map(|length| self.numbers.get(&number[..length]))?;
        self.all.get(*place)
    }

    /// The customer that a request names: by the host of its Request-URI, which is the trunk that the customer's own route
    /// chose, else by X-MS-TenantID.
    pub fn named_by(&self, request: &Request) -> Option<&Tenant> {
        let by_host = request.uri.as_sip().and_then(|uri| {
            let host = uri.host.to_string().to_ascii_lowercase();
            self.hosts.get(host.as_str())
        });
        let by_id = || {
            let id = request.headers.value(&HeaderName::Other(TENANT_ID.into()))?;
            self.ids.get(id.trim().to_ascii_lowercase().as_str())
        };
        self.all.get(*by_host.or_else(by_id)?)
    }

    /// Whose call an INVITE is that came from the customers' side: of whom it names, else of whom its caller's number
    /// belongs to. An emergency call is let through whosever it is.
    ///
    /// # Errors
    /// [`Fault::CallerNotAssigned`] when it is nobody's; and when its customer is to be screened and a number that the
    /// caller shows or asserts is not that customer's, or it shows none at all. The number of a caller who wants to stay
    /// unknown is the one that is asserted.
    pub fn screen(
        &self,
        request: &Request,
        caller: &Caller,
        emergency: bool,
    ) -> Result<Option<&Tenant>, Fault> {
        let shown = || [&caller.presented, &caller.asserted].into_iter().flatten();
        let by_number = || shown().find_map(|party| self.of_number(party.number.reveal()));
        let tenant = self.named_by(request).or_else(by_number);
        if emergency {
            return Ok(tenant);
        }
        let tenant = tenant.ok_or(Fault::CallerNotAssigned)?;
        let is_own = |number: &str| self.of_number(number).is_some_and(|owner| owner.name == tenant.name);
        let is_sound = shown().next().is_some() && shown().all(|party| is_own(party.number.reveal()));
        if tenant.screening && !is_sound {
            return Err(Fault::CallerNotAssigned);
        }
        Ok(Some(tenant))
    }
}

fn is_block(number: &str) -> bool {
    let digits = number.strip_prefix('+').unwrap_or_default();
    (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Trunk;
    use crate::sip::message::{Message, parse};
    use crate::sip::transport::Transport;

    fn tenant(name: &str, numbers: &[&str]) -> Tenant {
        Tenant {
            name: name.into(),
            numbers: numbers.iter().map(|number| (*number).to_owned()).collect(),
            hosts: vec![format!("{name}.customers.carrier.example")],
            id: Some(format!("{name}-id")),
            screening: true,
            limits: Limits::default(),
        }
    }

    fn tenants() -> Tenants {
        let open = Tenant { screening: false, ..tenant("open", &["+442079461"]) };
        Tenants::new(vec![
            tenant("contoso", &["+44207946", "+12025550147"]),
            tenant("fabrikam", &["+442079460999"]),
            open,
        ])
        .unwrap()
    }

    fn invite(host: &str, from: &str, lines: &str) -> Request {
        let text = format!(
            "INVITE sip:+15550100@{host} SIP/2.0\r\nVia: SIP/2.0/TLS h;branch=z9hG4bK1\r\nFrom: {from};tag=1\r\n\
             To: <sip:+15550100@{host}>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\
             Contact: <sip:h>\r\n{lines}Content-Length: 0\r\n\r\n"
        );
        let Ok(Message::Request(request)) = parse(text.as_bytes()) else { panic!("{text}") };
        request
    }

    fn screened(host: &str, from: &str, lines: &str, emergency: bool) -> Result<Option<String>, Fault> {
        let mut trunk = Trunk::new("teams", Transport::Tls, "192.0.2.1:5061".parse().unwrap());
        trunk.identity.trusted = true;
        let request = invite(host, from, lines);
        let caller = Caller::of(&request, &trunk);
        let tenants = tenants();
        tenants
            .screen(&request, &caller, emergency)
            .map(|tenant| tenant.map(|tenant| tenant.name.to_string()))
    }

    const CONTOSO: &str = "contoso.customers.carrier.example";
    const OWN: &str = "<sip:+442079460000@t>";
    const FOREIGN: &str = "<sip:+442079460999@t>";
    const ANONYMOUS: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

    #[test]
    fn a_number_belongs_to_whom_the_longest_block_names() {
        let tenants = tenants();
        let owner = |number| tenants.of_number(number).map(|tenant| &*tenant.name);
        assert_eq!(owner("+442079460000"), Some("contoso"));
        assert_eq!(owner("+442079460999"), Some("fabrikam"));
        assert_eq!(owner("+442079461000"), Some("open"));
        assert_eq!(owner("+12025550147"), Some("contoso"));
        for nobodys in ["+441632960123", "", "+", "02079460000", "müller"] {
            assert_eq!(owner(nobodys), None, "{nobodys}");
        }
        assert_eq!(Tenants::default().of_number("+442079460000"), None);
    }

    // Statement 76.
    #[test]
    fn the_customer_is_named_by_the_host_else_by_the_identifier_else_by_the_number() {
        let id = "X-MS-TenantID: Contoso-ID\r\n";
        let own = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(screened("CONTOSO.customers.carrier.example", OWN, "", false), own("contoso"));
        assert_eq!(screened("customers.carrier.example", OWN, id, false), own("contoso"));
        assert_eq!(screened("customers.carrier.example", OWN, "", false), own("contoso"));
        assert_eq!(
            screened("open.customers.carrier.example", OWN, id, false),
            own("open"),
            "the host is stronger"
        );
        let nobody = screened("customers.carrier.example", "<sip:+441632960123@t>", "", false);
        assert_eq!(nobody, Err(Fault::CallerNotAssigned));
    }

    // Statements 77, 78, 79, 80.
    #[test]
    fn screening_covers_what_is_shown_and_asserted_and_lets_emergencies_pass() {
        let asserted = |number: &str| format!("P-Asserted-Identity: <sip:{number}@t>\r\nPrivacy: id\r\n");
        let (own, foreign) = (asserted("+442079460000"), asserted("+442079460999"));
        let passes = Ok(Some("contoso".to_owned()));
        let refused = Err(Fault::CallerNotAssigned);
        let table = [
            (OWN, "", &passes),
            (FOREIGN, "", &refused),
            (OWN, own.as_str(), &passes),
            (OWN, foreign.as_str(), &refused),
            (FOREIGN, own.as_str(), &refused),
            (ANONYMOUS, own.as_str(), &passes),
            (ANONYMOUS, foreign.as_str(), &refused),
            (ANONYMOUS, "", &refused),
        ];
        for (from, lines, expected) in table {
            assert_eq!(&screened(CONTOSO, from, lines, false), expected, "{from} {lines}");
            assert_eq!(screened(CONTOSO, from, lines, true), passes, "{from} {lines} in need");
        }
        let open = screened("open.customers.carrier.example", FOREIGN, "", false);
        assert_eq!(open, Ok(Some("open".to_owned())));
    }

    #[test]
    fn what_two_customers_claim_and_what_is_no_number_is_refused_by_name() {
        let refused = |one: Tenant, other: Tenant| Tenants::new(vec![one, other]).unwrap_err().to_string();
        insta::assert_snapshot!(
            [
                refused(tenant("a", &["+44"]), tenant("a", &["+1"])),
                refused(tenant("a", &["+44"]), tenant("b", &["+44"])),
                refused(tenant("a", &[]), Tenant { hosts: vec!["A.customers.carrier.EXAMPLE".into()], ..tenant("b", &[]) }),
                refused(tenant("a", &[]), Tenant { id: Some("A-ID".into()), ..tenant("b", &[]) }),
                refused(tenant("a", &[]), tenant("b", &["0207946"])),
            ]
            .join("\n"),
            @r#"
        two tenants have the name "a"
        two tenants have the number "+44"
        two tenants have the host "A.customers.carrier.EXAMPLE"
        two tenants have the id "A-ID"
        tenant "b" has "0207946", which is no number: a + and up to 15 digits
        "#
        );
    }
}
