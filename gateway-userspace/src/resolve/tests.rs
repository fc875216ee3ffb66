//! A DNS in a table, that can fall silent.

use super::*;
use crate::base::time::Time;
use std::collections::HashMap;

struct Rig {
    resolver: Resolver,
    zone: HashMap<Question, (Records, u64)>,
    silent: bool,
    now: Time,
    asked: Vec<String>,
}

impl Rig {
    fn new(wanted: &[Wanted]) -> Self {
        let mut resolver = Resolver::default();
        resolver.want(wanted.to_vec());
        Self { resolver, zone: HashMap::new(), silent: false, now: Time(0), asked: Vec::new() }
    }

    fn address(mut self, name: &str, ttl: u64, addresses: &[&str]) -> Self {
        self.set_address(name, ttl, addresses);
        self
    }

    fn set_address(&mut self, name: &str, ttl: u64, addresses: &[&str]) {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        let kind = Family::of(addresses[0]).kind();
        self.zone.insert(Question::new(name, kind), (Records::Addresses(addresses), ttl));
    }

    fn srv(mut self, name: &str, ttl: u64, records: &[(u16, u16, u16, &str)]) -> Self {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| Srv {
            priority: *priority,
            weight: *weight,
            port: *port,
            target: (*target).into(),
        };
        let records = Records::Srv(records.iter().map(record).collect());
        self.zone.insert(Question::new(name, Kind::Srv), (records, ttl));
        self
    }

    fn naptr(mut self, name: &str, records: &[(u16, u16, &str, &str, &str)]) -> Self {
        let record =
            |(order, preference, flags, service, replacement): &(u16, u16, &str, &str, &str)| Naptr {
                order: *order,
                preference: *preference,
                flags: (*flags).into(),
                service: (*service).into(),
                replacement: (*replacement).into(),
            };
        let records = Records::Naptr(records.iter().map(record).collect());
        self.zone.insert(Question::new(name, Kind::Naptr), (records, 60));
        self
    }

    /// Asks and answers until nothing is due; what is found, as text, `priority/weight` behind each address.
    fn settle(&mut self) -> String {
        loop {
            let questions = self.resolver.poll(self.now);
            if questions.is_empty() {
                break;
            }
            for question in questions {
                self.asked.push(question.to_string());
                let outcome = match self.zone.get(&question) {
                    _ if self.silent => Outcome::Failed,
                    Some((records, ttl)) => {
                        Outcome::Records { records: records.clone(), ttl: Duration::from_secs(*ttl) }
                    }
                    None => Outcome::Nothing { ttl: None },
                };
                self.resolver.answered(self.now, &question, outcome);
            }
        }
        self.told()
    }

    fn told(&mut self) -> String {
        let Some(findings) = self.resolver.news() else { return "nothing new".to_owned() };
        let wanted = self.resolver.wanted().first().expect("something is wanted");
        let Some(found) = findings.meaning(wanted) else { return "unknown".to_owned() };
        let line = |found: &crate::policy::Resolved| {
            format!("{} {}/{}", found.address, found.priority, found.weight)
        };
        found.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }
}

fn host(name: &str, port: Option<u16>, transport: Transport) -> Wanted {
    Wanted { address: PeerAddress::Host { name: name.into(), port }, transport, family: Family::V4 }
}

#[test]
fn a_name_with_a_port_means_its_addresses_at_that_port() {
    let mut rig = Rig::new(&[host("sip.example.net", Some(5071), Transport::Tls)])
        .address("sip.example.net", 60, &["192.0.2.1", "192.0.2.2"])
        .srv("_sips._tcp.sip.example.net", 60, &[(0, 0, 1, "other.example.net")]);
    assert_eq!(rig.settle(), "192.0.2.1:5071 0/1, 192.0.2.2:5071 0/1");
    assert_eq!(rig.asked, ["sip.example.net A"]);
}

#[test]
fn rfc3263_4_2_a_name_without_port_means_its_services_by_priority_and_weight() {
    let mut rig = Rig::new(&[host("example.net", None, Transport::Tcp)])
        .srv(
            "_sip._tcp.example.net",
            60,
            &[(1, 70, 5060, "a.example.net"), (1, 30, 5070, "b.example.net"), (2, 0, 5060, "c.example.net")],
        )
        .address("a.example.net", 60, &["192.0.2.1"])
        .address("b.example.net", 60, &["192.0.2.2"]);
    assert_eq!(rig.settle(), "192.0.2.1:5060 1/70, 192.0.2.2:5070 1/30");
}

#[test]
fn rfc3263_4_1_naptr_says_where_the_service_of_the_transport_is() {
    let mut rig = Rig::new(&[host("example.net", None, Transport::Tls)])
        .naptr(
            "example.net",
            &[
                (10, 1, "s", "SIP+D2T", "tcp.example.net"),
                (60, 2, "s", "SIPS+D2T", "second.example.net"),
                (60, 1, "S", "sips+d2t", "first.example.net"),
                (50, 1, "u", "SIPS+D2T", "by-expression.example.net"),
            ],
        )
        .srv("first.example.net", 60, &[(0, 1, 5061, "a.example.net")])
        .address("a.example.net", 60, &["192.0.2.1"]);
    assert_eq!(rig.settle(), "192.0.2.1:5061 0/1");
}

#[test]
fn without_naptr_and_srv_the_name_itself_is_asked_with_the_port_of_the_transport() {
    let mut rig =
        Rig::new(&[host("Example.NET.", None, Transport::Tls)]).address("example.net", 60, &["192.0.2.1"]);
    assert_eq!(rig.settle(), "192.0.2.1:5061 0/1");
    let order =
        ["example.net NAPTR", "_sips._tcp.example.net SRV", "_sip._tls.example.net SRV", "example.net A"];
    assert_eq!(rig.asked, order.map(str::to_owned));
}

#[test]
fn a_service_is_asked_as_it_is_written_and_may_say_that_it_is_not_there() {
    let service = |family| Wanted {
        address: PeerAddress::Service("_sip._tls.r1.example.net".into()),
        transport: Transport::Tls,
        family,
    };
    let mut rig = Rig::new(&[service(Family::V6)])
        .srv("_sip._tls.r1.example.net", 60, &[(0, 1, 5061, "a.example.net")])
        .address("a.example.net", 60, &["2001:db8::1"]);
    assert_eq!(rig.settle(), "[2001:db8::1]:5061 0/1");
    // RFC 2782: a target of "." means that the service is decidedly not available.
    let mut rig = Rig::new(&[service(Family::V4)]).srv("_sip._tls.r1.example.net", 60, &[(0, 0, 0, "")]);
    assert_eq!(rig.settle(), "");
}

// Statement 21.
#[test]
fn records_count_for_their_time_to_live_and_are_asked_for_again() {
    let mut rig = Rig::new(&[host("sip.example.net", Some(5061), Transport::Tls)]).address(
        "sip.example.net",
        30,
        &["192.0.2.1"],
    );
    assert_eq!(rig.settle(), "192.0.2.1:5061 0/1");
    rig.set_address("sip.example.net", 30, &["192.0.2.9"]);
    rig.pass(29);
    assert_eq!((rig.settle().as_str(), rig.asked.len()), ("nothing new", 1));
    assert_eq!(rig.resolver.next(), Some(Time(30_000_000)));
    rig.pass(1);
    assert_eq!((rig.settle().as_str(), rig.asked.len()), ("192.0.2.9:5061 0/1", 2));
}

// Statement 21.
#[test]
fn while_the_dns_is_silent_its_last_answer_counts_and_it_is_asked_less_and_less() {
    let mut rig = Rig::new(&[host("sip.example.net", Some(5061), Transport::Tls)]).address(
        "sip.example.net",
        30,
        &["192.0.2.1"],
    );
    rig.settle();
    rig.silent = true;
    rig.pass(30);
    for asked in 2..=20 {
        assert_eq!(rig.settle(), "nothing new");
        assert_eq!(rig.asked.len(), asked);
        let next = rig.resolver.next().expect("it is tried again");
        assert!(next.since(rig.now) <= Duration::from_secs(60));
        rig.now = next;
    }
    assert!(rig.now > Time(600_000_000));
    rig.silent = false;
    rig.set_address("sip.example.net", 30, &["192.0.2.9"]);
    assert_eq!(rig.settle(), "192.0.2.9:5061 0/1");
    rig.pass(30);
    rig.silent = true;
    rig.settle();
    assert_eq!(rig.resolver.next().expect("it is tried again").since(rig.now), Duration::from_secs(5));
}

#[test]
fn a_name_that_is_not_there_is_asked_again_within_minutes() {
    let mut rig = Rig::new(&[host("sip.example.net", Some(5061), Transport::Tls)]);
    assert_eq!(rig.settle(), "");
    let question = Question::new("sip.example.net", Kind::A);
    for (told, waits) in [(0, 5), (86_400, 300), (120, 120)] {
        rig.now = rig.resolver.next().expect("it is tried again");
        assert_eq!(rig.resolver.poll(rig.now), std::slice::from_ref(&question));
        rig.resolver.answered(rig.now, &question, Outcome::Nothing { ttl: Some(Duration::from_secs(told)) });
        assert_eq!(
            rig.resolver.next().expect("it is tried again").since(rig.now),
            Duration::from_secs(waits)
        );
    }
}

#[test]
fn silence_about_naptr_or_about_one_target_does_not_hide_what_is_known() {
    let wanted = host("example.net", None, Transport::Tcp);
    let mut rig = Rig::new(&[wanted])
        .srv("_sip._tcp.example.net", 60, &[(0, 1, 5060, "a.example.net"), (0, 1, 5060, "b.example.net")])
        .address("a.example.net", 60, &["192.0.2.1"]);
    for silent in ["example.net NAPTR", "b.example.net A"] {
        loop {
            let questions = rig.resolver.poll(rig.now);
            if questions.is_empty() {
                break;
            }
            for question in questions {
                let outcome = match rig.zone.get(&question) {
                    Some((records, ttl)) => {
                        Outcome::Records { records: records.clone(), ttl: Duration::from_secs(*ttl) }
                    }
                    None => Outcome::Failed,
                };
                rig.resolver.answered(rig.now, &question, outcome);
            }
        }
        assert!(rig.resolver.next().is_some(), "{silent}");
    }
    assert_eq!(rig.told(), "192.0.2.1:5060 0/1");
}

#[test]
fn names_that_are_wanted_no_more_are_asked_no_more() {
    let mut rig = Rig::new(&[host("old.example.net", Some(5060), Transport::Udp)]).address(
        "old.example.net",
        30,
        &["192.0.2.1"],
    );
    rig.settle();
    rig.resolver.want(vec![host("new.example.net", Some(5060), Transport::Udp)]);
    rig.set_address("new.example.net", 60, &["192.0.2.2"]);
    assert_eq!(rig.settle(), "192.0.2.2:5060 0/1");
    rig.pass(30);
    assert_eq!((rig.settle().as_str(), rig.asked.len()), ("nothing new", 2));
}

#[test]
fn names_of_dialogs_are_looked_up_for_an_hour_and_only_so_many() {
    let mut resolver = Resolver::default();
    for number in 0..1_000 {
        resolver.learn(Time(0), host(&format!("n{number}.example.net"), Some(5061), Transport::Tls));
    }
    assert_eq!(resolver.poll(Time(0)).len(), 256);
    assert!(resolver.poll(Time(0) + Duration::from_secs(3_600)).is_empty());
    resolver.learn(Time(0) + Duration::from_secs(3_600), host("new.example.net", Some(5061), Transport::Tls));
    assert_eq!(resolver.poll(Time(0) + Duration::from_secs(3_600)).len(), 1);
}
