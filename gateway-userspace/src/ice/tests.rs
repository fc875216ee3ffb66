//! Vectors of RFC 5769, and what a lite agent makes of far ends that behave and of those that do not.

use super::agent::Ignored;
use super::*;
use crate::base::time::Time;
use crate::base::token::Tokens;
use proptest::prelude::*;
use std::net::SocketAddr;
use std::time::Duration;

/// RFC 5769 section 2.
const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff\
                       80290008932ff9b151263b36000600096576746a3a6836765920202000080014\
                       9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
const IPV4_RESPONSE: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643\
                             000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
const IPV6_RESPONSE: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f722000200014\
                             0002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed41\
                             80280004c8fb0b4c";

fn octets(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u32> = hexadecimal.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn password(text: &str) -> Password {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn vectors_of_rfc_5769_are_read() {
    let request = octets(REQUEST);
    let message = Message::parse(&request).unwrap();
    assert_eq!((message.class, message.username()), (Class::Request, Some(("evtj", "h6vY"))));
    assert_eq!(message.priority(), Some(0x6e00_01ff));
    assert_eq!(message.value(attribute::ICE_CONTROLLED), Some(&octets("932ff9b151263b36")[..]));
    assert!(message.is_fingerprinted() && message.is_protected_by(&password(PASSWORD)));
    assert!(!message.is_protected_by(&password("VOkJxbRl1RmTxUk/WvJxBT")));
    for (response, mapped) in
        [(IPV4_RESPONSE, "192.0.2.1:32853"), (IPV6_RESPONSE, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
    {
        let response = octets(response);
        let message = Message::parse(&response).unwrap();
        assert_eq!((message.class, message.mapped()), (Class::Success, Some(at(mapped))));
        assert!(message.is_fingerprinted() && message.is_protected_by(&password(PASSWORD)));
        assert_eq!(message.value(attribute::SOFTWARE), Some(&b"test vector"[..]));
    }
}

#[test]
fn what_is_written_is_read() {
    for source in ["192.0.2.7:4000", "[2001:db8::7]:65535"] {
        let mut out = vec![1, 2, 3];
        Builder::new(&mut out, Class::Success, [9; 12]).mapped(at(source)).finish(Some(&password(PASSWORD)));
        let message = Message::parse(&out).unwrap();
        assert_eq!((message.transaction(), message.mapped()), ([9; 12], Some(at(source))));
        assert!(message.is_fingerprinted() && message.is_protected_by(&password(PASSWORD)));
    }
    let mut out = Vec::new();
    Builder::new(&mut out, Class::Error, [9; 12]).error(Code::RoleConflict).finish(None);
    let message = Message::parse(&out).unwrap();
    assert_eq!((message.class, message.error(), message.has_integrity()), (Class::Error, Some(487), false));
}

// Statement 171.
#[test]
fn a_message_that_is_cut_or_changed_anywhere_is_no_message() {
    let request = octets(REQUEST);
    for length in 0..request.len() {
        assert!(Message::parse(&request[..length]).is_err(), "{length}");
    }
    // Without the type of the last attribute: another one there is a message without a fingerprint.
    let fingerprint = (request.len() - 8) * 8;
    for bit in (0..request.len() * 8).filter(|bit| !(fingerprint..fingerprint + 16).contains(bit)) {
        let mut changed = request.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let holds =
            Message::parse(&changed).is_ok_and(|message| message.is_protected_by(&password(PASSWORD)));
        assert!(!holds, "bit {bit}");
    }
}

#[test]
fn attributes_behind_the_protection_do_not_count() {
    let mut out = Vec::new();
    Builder::new(&mut out, Class::Request, [1; 12])
        .attribute(attribute::USERNAME, b"ours:them")
        .finish(Some(&password(PASSWORD)));
    // In place of the fingerprint.
    out.truncate(out.len() - 8);
    out.extend([0, 0x25, 0, 0]);
    let length = (out.len() - 20) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
    let message = Message::parse(&out).unwrap();
    assert!(message.is_protected_by(&password(PASSWORD)));
    assert_eq!(message.value(attribute::USE_CANDIDATE), None);
}

#[test]
fn credentials_are_of_the_grammar_stay_until_a_restart_and_are_never_shown() {
    let mut mint = Mint::new(&mut Tokens::seeded(1));
    let first = mint.credentials();
    assert_eq!(first, mint.credentials());
    assert!(
        first.ufrag.as_str().parse::<Ufrag>().is_ok() && first.password.reveal().parse::<Password>().is_ok()
    );
    mint.restart();
    let second = mint.credentials();
    assert!(first.ufrag != second.ufrag && first.password != second.password);
    assert!(!format!("{first:?} {mint:?}").contains(first.password.reveal()));
    for text in ["", "abc", "abcd:", "äbcd", "ab cd"] {
        assert_eq!(text.parse::<Ufrag>(), Err(IllFormed), "{text}");
    }
    assert_eq!("a".repeat(257).parse::<Ufrag>(), Err(IllFormed));
    assert_eq!("a".repeat(21).parse::<Password>(), Err(IllFormed));
}

/// A far end: a full agent that is controlling.
struct Far {
    ufrag: &'static str,
    local: Credentials,
    transaction: u8,
}

impl Far {
    fn of(agent: &LiteAgent, ufrag: &'static str) -> Self {
        Self { ufrag, local: agent.local().clone(), transaction: 0 }
    }

    /// A check as it should be, with further attributes.
    fn check(&mut self, further: &[(u16, &[u8])]) -> Vec<u8> {
        let username = format!("{}:{}", self.local.ufrag, self.ufrag);
        self.request(username.as_bytes(), further, Some(&self.local.password.clone()))
    }

    fn request(&mut self, username: &[u8], further: &[(u16, &[u8])], password: Option<&Password>) -> Vec<u8> {
        self.transaction += 1;
        let mut out = Vec::new();
        let builder = Builder::new(&mut out, Class::Request, [self.transaction; 12])
            .attribute(attribute::USERNAME, username)
            .attribute(attribute::PRIORITY, &0x6e00_01ffu32.to_be_bytes())
            .attribute(attribute::ICE_CONTROLLING, &[1; 8]);
        further
            .iter()
            .fold(builder, |builder, (kind, value)| builder.attribute(*kind, value))
            .finish(password);
        out
    }
}

const NOMINATED: (u16, &[u8]) = (attribute::USE_CANDIDATE, &[]);
const NOW: Time = Time(1_000_000);

fn agent() -> LiteAgent {
    LiteAgent::new(Mint::new(&mut Tokens::seeded(7)).credentials(), UnknownAttributes::Refuse)
}

fn peer(ufrag: &str, candidates: &[&str]) -> Peer {
    Peer { ufrag: ufrag.parse().unwrap(), candidates: candidates.iter().map(|text| at(text)).collect() }
}

/// What the agent makes of it, and its answer.
fn told(agent: &mut LiteAgent, source: &str, packet: &[u8]) -> (Outcome, Vec<u8>) {
    let mut out = vec![0xff; 3];
    let outcome = agent.receive(NOW, at(source), packet, &mut out);
    (outcome, out)
}

fn code(answer: &[u8]) -> Option<u16> {
    Message::parse(answer).unwrap().error()
}

// Statement 168.
#[test]
fn a_check_is_answered_with_the_address_it_came_from_and_nothing_is_asked() {
    let mut agent = agent();
    assert_eq!((agent.sources(), agent.way_out(), agent.deadline()), (Sources::Nobody, None, None));
    let mut far = Far::of(&agent, "them");
    let check = far.check(&[]);
    let (outcome, answer) = told(&mut agent, "198.51.100.7:50000", &check);
    assert_eq!(outcome, Outcome::Answered { news: true });
    let message = Message::parse(&answer).unwrap();
    assert_eq!((message.class, message.mapped()), (Class::Success, Some(at("198.51.100.7:50000"))));
    assert_eq!(message.transaction(), [1; 12]);
    assert!(message.is_fingerprinted() && message.is_protected_by(&agent.local().password));
    assert_eq!(agent.sources(), Sources::Only(at("198.51.100.7:50000")));
    assert_eq!(agent.way_out(), Some(at("198.51.100.7:50000")));
    let (again, _) = told(&mut agent, "198.51.100.7:50000", &check);
    assert_eq!(again, Outcome::Answered { news: false });
}

// Statement 169.
#[test]
fn a_wrong_name_or_password_is_refused_to_whom_signalling_names_and_met_with_silence_else() {
    let mut agent = agent();
    agent.configure(&agent.local().clone(), &[peer("them", &["198.51.100.7:50000"])], None);
    let mut far = Far::of(&agent, "them");
    let ours = far.local.ufrag.to_string();
    let wrong = password("0123456789012345678901");
    let right = far.local.password.clone();
    let username = format!("{ours}:them");
    let mut bare = Vec::new();
    Builder::new(&mut bare, Class::Request, [1; 12]).finish(None);
    let table = [
        (far.request(b"nobody:them", &[], Some(&right)), 401),
        (far.request(username.as_bytes(), &[], Some(&wrong)), 401),
        (far.request(username.as_bytes(), &[], None), 400),
        (far.request(b"them", &[], Some(&right)), 400),
        (bare, 400),
    ];
    for (request, expected) in table {
        let (outcome, answer) = told(&mut agent, "198.51.100.7:50000", &request);
        assert!(matches!(outcome, Outcome::Refused(refused) if refused.number() == expected), "{outcome:?}");
        assert_eq!(code(&answer), Some(expected));
        let (outcome, answer) = told(&mut agent, "203.0.113.9:1", &request);
        assert_eq!((outcome, answer.len()), (Outcome::Ignored(Ignored::Stranger), 0));
    }
    assert_eq!((agent.sources(), agent.way_out()), (Sources::Nobody, None));
}

// Statement 170.
#[test]
fn attributes_that_nobody_knows_are_passed_over_or_told_as_the_trunk_wants_it() {
    let strange: [(u16, &[u8]); 2] = [(0x7f01, b"odd"), (0x8070, b"fine")];
    let mut strict = agent();
    let check = Far::of(&strict, "them").check(&strange);
    let (outcome, answer) = told(&mut strict, "198.51.100.7:50000", &check);
    assert_eq!(outcome, Outcome::Refused(Code::UnknownAttribute));
    let message = Message::parse(&answer).unwrap();
    assert_eq!(message.value(attribute::UNKNOWN_ATTRIBUTES), Some(&[0x7f, 0x01][..]));
    assert!(message.is_protected_by(&strict.local().password));
    assert_eq!(strict.sources(), Sources::Nobody);

    let mut lenient = LiteAgent::new(strict.local().clone(), UnknownAttributes::Ignore);
    assert_eq!(told(&mut lenient, "198.51.100.7:50000", &check).0, Outcome::Answered { news: true });
}

#[test]
fn whoever_wants_to_be_controlled_too_is_told_of_the_conflict() {
    let mut agent = agent();
    let check = Far::of(&agent, "them").check(&[(attribute::ICE_CONTROLLED, &[0; 8])]);
    let (outcome, answer) = told(&mut agent, "198.51.100.7:50000", &check);
    assert_eq!((outcome, code(&answer)), (Outcome::Refused(Code::RoleConflict), Some(487)));
    assert_eq!(agent.sources(), Sources::Nobody);
}

// Statements 172, 175.
#[test]
fn eight_far_ends_are_answered_and_heard_until_one_is_nominated() {
    let mut agent = agent();
    let mut far = Far::of(&agent, "them");
    let sources: Vec<String> = (1..=8).map(|host| format!("198.51.100.{host}:50000")).collect();
    for source in &sources {
        let check = far.check(&[]);
        assert_eq!(
            told(&mut agent, source, &check).0,
            Outcome::Answered { news: source == &sources[0] || source == &sources[1] }
        );
    }
    assert_eq!(agent.sources(), Sources::Checked);
    assert!(sources.iter().all(|source| agent.hears(at(source))));
    assert!(!agent.hears(at("203.0.113.9:50000")));

    let check = far.check(&[NOMINATED]);
    assert_eq!(told(&mut agent, &sources[4], &check).0, Outcome::Answered { news: true });
    assert_eq!((agent.sources(), agent.way_out()), (Sources::Only(at(&sources[4])), Some(at(&sources[4]))));
    assert!(!agent.hears(at(&sources[0])));
}

#[test]
fn of_several_that_are_nominated_the_one_of_the_highest_priority_counts() {
    let mut agent = agent();
    let local = agent.local().clone();
    let username = format!("{}:them", local.ufrag);
    for (source, priority) in
        [("198.51.100.1:1000", 5u32), ("198.51.100.2:1000", 9), ("198.51.100.3:1000", 7)]
    {
        let mut check = Vec::new();
        Builder::new(&mut check, Class::Request, [1; 12])
            .attribute(attribute::USERNAME, username.as_bytes())
            .attribute(attribute::PRIORITY, &priority.to_be_bytes())
            .attribute(attribute::USE_CANDIDATE, &[])
            .finish(Some(&local.password));
        told(&mut agent, source, &check);
    }
    assert_eq!(agent.way_out(), Some(at("198.51.100.2:1000")));
}

#[test]
fn before_anything_is_nominated_media_goes_to_the_checked_address_of_the_highest_priority() {
    let mut agent = agent();
    let mut far = Far::of(&agent, "them");
    let check = far.check(&[]);
    told(&mut agent, "198.51.100.1:1000", &check);
    let local = agent.local().clone();
    let mut check = Vec::new();
    Builder::new(&mut check, Class::Request, [9; 12])
        .attribute(attribute::USERNAME, format!("{}:them", local.ufrag).as_bytes())
        .attribute(attribute::PRIORITY, &u32::MAX.to_be_bytes())
        .finish(Some(&local.password));
    told(&mut agent, "198.51.100.2:1000", &check);
    assert_eq!(agent.way_out(), Some(at("198.51.100.2:1000")));
}

// Statement 181.
#[test]
fn forks_are_told_apart_at_one_port_and_the_chosen_one_gets_the_media() {
    let mut agent = agent();
    let local = agent.local().clone();
    let (mut first, mut second) = (Far::of(&agent, "fork1"), Far::of(&agent, "fork2"));
    let check = first.check(&[NOMINATED]);
    told(&mut agent, "198.51.100.1:1000", &check);
    let check = second.check(&[NOMINATED]);
    told(&mut agent, "198.51.100.2:1000", &check);
    let fork = |agent: &LiteAgent, source: &str| agent.fork_of(at(source)).map(ToString::to_string);
    assert_eq!(fork(&agent, "198.51.100.1:1000").as_deref(), Some("fork1"));
    assert_eq!(fork(&agent, "198.51.100.2:1000").as_deref(), Some("fork2"));

    let peers = [peer("fork1", &[]), peer("fork2", &[])];
    for (chosen, expected) in [("fork2", "198.51.100.2:1000"), ("fork1", "198.51.100.1:1000")] {
        let chosen = chosen.parse().unwrap();
        assert!(agent.configure(&local, &peers, Some(&chosen)));
        assert_eq!((agent.way_out(), agent.sources()), (Some(at(expected)), Sources::Checked));
    }
    // The other one was released.
    agent.configure(&local, &peers[..1], Some(&peers[0].ufrag));
    assert_eq!(fork(&agent, "198.51.100.2:1000"), None);
}

// Statement 66.
#[test]
fn of_forks_the_first_to_send_is_heard_alone_until_one_answers() {
    let mut agent = agent();
    let local = agent.local().clone();
    let peers = [peer("fork1", &[]), peer("fork2", &[])];
    let (mut first, mut second) = (Far::of(&agent, "fork1"), Far::of(&agent, "fork2"));
    agent.configure(&local, &peers, Some(&peers[0].ufrag));
    let checks = [first.check(&[NOMINATED]), second.check(&[]), second.check(&[])];
    let all = ["198.51.100.1:1000", "198.51.100.2:1000", "198.51.100.2:2000"];
    for (source, check) in all.iter().zip(&checks) {
        told(&mut agent, source, check);
    }
    assert!(!agent.heard_media(at("203.0.113.9:50000")), "that is nobody's");
    assert!(all.iter().all(|source| agent.hears(at(source))));

    // The one that was not nominated sends first: it is heard at all its addresses, and gets what there is to hear.
    assert!(agent.heard_media(at(all[1])));
    assert_eq!(all.map(|source| agent.hears(at(source))), [false, true, true]);
    assert!(agent.way_out().is_some_and(|to| to.ip() == at(all[1]).ip()));
    assert!(!agent.heard_media(at(all[0])), "too late");
    // A further fork rings, and changes nothing.
    let three = [peers[0].clone(), peers[1].clone(), peer("fork3", &[])];
    agent.configure(&local, &three, Some(&three[2].ufrag));
    assert_eq!(all.map(|source| agent.hears(at(source))), [false, true, true]);

    // The other one answers.
    assert!(agent.configure(&local, &peers[..1], Some(&peers[0].ufrag)));
    assert_eq!((agent.way_out(), agent.sources()), (Some(at(all[0])), Sources::Only(at(all[0]))));
}

// Statement 177.
#[test]
fn after_a_restart_the_old_pair_carries_media_until_a_new_one_is_nominated() {
    let mut agent = agent();
    let before = agent.local().clone();
    let mut far = Far::of(&agent, "them");
    let check = far.check(&[NOMINATED]);
    told(&mut agent, "198.51.100.1:1000", &check);

    let mut mint = Mint::new(&mut Tokens::seeded(7));
    mint.restart();
    let restarted = mint.credentials();
    agent.configure(&restarted, &[peer("newer", &[])], None);
    assert_eq!(agent.way_out(), Some(at("198.51.100.1:1000")));
    assert!(agent.hears(at("198.51.100.1:1000")));
    let check = far.check(&[]);
    assert_eq!(
        told(&mut agent, "198.51.100.1:1000", &check).0,
        Outcome::Answered { news: false },
        "consent goes on"
    );

    let mut newer = Far { ufrag: "newer", local: restarted, transaction: 0 };
    let check = newer.check(&[]);
    told(&mut agent, "198.51.100.2:1000", &check);
    assert_eq!(agent.way_out(), Some(at("198.51.100.1:1000")));
    assert!(agent.hears(at("198.51.100.2:1000")));
    let check = newer.check(&[NOMINATED]);
    told(&mut agent, "198.51.100.2:1000", &check);
    assert_eq!(agent.way_out(), Some(at("198.51.100.2:1000")));
    assert!(!agent.hears(at("198.51.100.1:1000")));
    let check = Far { ufrag: "them", local: before, transaction: 0 }.check(&[]);
    assert_ne!(told(&mut agent, "203.0.113.1:1000", &check).0, Outcome::Answered { news: false });
}

// Statement 178.
#[test]
fn what_was_nominated_holds_through_a_minute_of_silence_and_what_was_only_checked_does_not() {
    let mut agent = agent();
    let mut far = Far::of(&agent, "them");
    let check = far.check(&[]);
    told(&mut agent, "198.51.100.1:1000", &check);
    let later = NOW + Duration::from_secs(30);
    assert_eq!(agent.deadline(), Some(later));
    assert!(!agent.expire(NOW + Duration::from_secs(29)));
    assert!(agent.expire(later));
    assert_eq!((agent.sources(), agent.deadline()), (Sources::Nobody, None));

    let check = far.check(&[NOMINATED]);
    told(&mut agent, "198.51.100.1:1000", &check);
    assert_eq!(agent.deadline(), None);
    assert!(!agent.expire(NOW + Duration::from_secs(61)));
    assert_eq!(agent.way_out(), Some(at("198.51.100.1:1000")));
}

// Statement 171.
#[test]
fn indications_responses_and_noise_get_no_answer_and_change_nothing() {
    let mut agent = agent();
    let mut indication = Vec::new();
    Builder::new(&mut indication, Class::Indication, [1; 12]).finish(None);
    let table = [
        (indication, Outcome::Kept),
        (octets(IPV4_RESPONSE), Outcome::Ignored(Ignored::Response)),
        (octets("0001000021120000"), Outcome::Ignored(Ignored::Malformed(StunFault::Header))),
        (
            octets("000100042112a442b7e7a701bc34d686fa87dfae00060009"),
            Outcome::Ignored(Ignored::Malformed(StunFault::Attribute(20))),
        ),
        (
            octets("000300002112a442b7e7a701bc34d686fa87dfae"),
            Outcome::Ignored(Ignored::Malformed(StunFault::Method)),
        ),
    ];
    for (packet, expected) in table {
        assert_eq!(told(&mut agent, "198.51.100.1:1000", &packet), (expected, Vec::new()));
    }
    assert_eq!(agent.sources(), Sources::Nobody);
}

#[test]
fn a_far_end_that_never_rests_takes_no_more_memory_than_its_share() {
    let mut agent = agent();
    let mut far = Far::of(&agent, "them");
    for port in 1..=1_000u16 {
        let check = far.check(if port == 1 { &[NOMINATED] } else { &[] });
        far.transaction = 0;
        told(&mut agent, &format!("198.51.100.1:{port}"), &check);
    }
    assert_eq!(agent.way_out(), Some(at("198.51.100.1:1")));
}

proptest! {
    #[test]
    fn no_octets_make_it_panic_or_answer(mut packet in prop::collection::vec(any::<u8>(), 0..200), framed: bool) {
        if let (true, Some(header)) = (framed, packet.get_mut(..8)) {
            header.copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
            let length = (packet.len().saturating_sub(20)) as u16;
            packet[2..4].copy_from_slice(&length.to_be_bytes());
        }
        let (_, answer) = told(&mut agent(), "198.51.100.1:1000", &packet);
        prop_assert!(answer.is_empty());
    }
}
