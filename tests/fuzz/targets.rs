//! What is fuzzed: each target takes octets that anybody may have written, and panics where a promise is broken.

use super::media;
use gateway_userspace::base::fault::Fault;
use gateway_userspace::base::time::Time;
use gateway_userspace::base::token::Tokens;
use gateway_userspace::config::parse_rules;
use gateway_userspace::ice::{Credentials, LiteAgent, Message as Stun, Outcome, Sources, UnknownAttributes};
use gateway_userspace::policy::manipulation::{Direction, Variables};
use gateway_userspace::sdp::{self, Description, Leg, Terms};
use gateway_userspace::sip::message::{Limits, Message, Uri, Via, parse, shallow};
use gateway_userspace::sip::transport::{Frame, StreamFramer};
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Panics where a promise is broken.
pub(crate) type Target = fn(&[u8]);

/// Name, which is that of the corpus, and function.
pub(crate) const TARGETS: [(&str, Target); 13] = [
    ("message", message),
    ("uri", uri),
    ("via", via),
    ("sdp", sdp),
    ("rules", rules),
    ("stream", stream),
    ("stun", stun),
    ("rtp", media::rtp),
    ("rtcp", media::rtcp),
    ("srtp", media::srtp),
    ("audio", media::audio),
    ("events", media::events),
    ("bridge", media::bridge),
];

/// Between the rules and the message that they run over.
const RULES_END: &[u8] = b"\n---\n";

const SOMEBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5060);

/// A message is read or refused. What was read says the same once it is written; an answer can be read.
fn message(input: &[u8]) {
    match parse(input) {
        Ok(message) => {
            let owner = shallow(input).expect("a message that can be read has a Call-ID");
            assert_eq!(owner.as_bytes(), message.head().call_id.as_bytes());
            // None of these may panic, whatever they say.
            let _ = format!("{message} {message:?}");
            if let Message::Request(request) = &message {
                let _ = request.session();
            }
            if let Some(again) = read_again(&message) {
                assert_eq!(again, message);
            }
        }
        Err(error) => {
            let _ = error.to_string();
            if let Some(refusal) = error.refusal {
                let mut answer = Vec::new();
                refusal.write(SOMEBODY, "tag", &mut answer);
                assert!(answer.starts_with(b"SIP/2.0 "), "{}", answer.escape_ascii());
            }
        }
    }
}

/// A URI is read or refused; what was read is the same once it is written.
fn uri(input: &[u8]) {
    if let Some(uri) = same_when_written::<Uri>(input) {
        let _ = (uri.scheme().len(), uri.user(), uri.number(), uri.param("user"));
        assert!(uri.is_equivalent(&uri), "{uri}");
    }
}

/// A Via is read or refused; what was read is the same once it is written.
fn via(input: &[u8]) {
    if let Some(mut via) = same_when_written::<Via>(input) {
        let _ = (via.branch().map(str::len), via.maddr(), via.ttl(), via.received(), via.rport());
        via.fill_received(SOMEBODY);
        let text = via.to_string();
        assert_eq!(text.parse().as_ref(), Ok(&via), "{text}");
    }
}

/// A description is read or refused. What was read is the same once it is written, and can be offered and answered.
fn sdp(input: &[u8]) {
    let Ok(description) = sdp::parse(input) else { return };
    let print = |mut description: Description| {
        // They are written as our answer to them, not as they came.
        description.audio.preconditions = None;
        sdp::print(&description)
    };
    let text = print(description.clone());
    let again = sdp::parse(text.as_bytes()).map(print).expect("we read what we write");
    // Where no stream is carried, the one that was spoken of is not told from others.
    if description.audio.port != 0 {
        assert_eq!(again, text);
    }

    let leg =
        |port| Leg::new(1, SocketAddr::new(SOMEBODY.ip(), port), Terms::default(), &mut Tokens::seeded(1));
    let (mut near, mut far) = (leg(20_000), leg(20_002));
    if near.receive_offer(description).is_ok()
        && let Ok(offer) = far.relay_offer(&near)
    {
        let offer = sdp::parse(offer.as_bytes()).expect("we read what we offer");
        // The peer takes all of it; then its answer is what the first one gets.
        if far.receive_answer(&offer, sdp::Finality::Final).is_ok()
            && let Ok(answer) = near.relay_answer(&far, sdp::Finality::Final)
        {
            sdp::parse(answer.as_bytes()).expect("we read what we answer");
        }
    }
}

/// Rules are read or refused, and what they make of a message can be read.
fn rules(input: &[u8]) {
    let end = input.windows(RULES_END.len()).position(|window| window == RULES_END).unwrap_or(input.len());
    let (rules, rest) = input.split_at(end);
    let Ok(rules) = std::str::from_utf8(rules) else { return };
    let rules = match parse_rules("rules.toml", rules) {
        Ok(rules) => rules,
        Err(errors) => return drop(errors.to_string()),
    };
    let Ok(message) = parse(rest.get(RULES_END.len()..).unwrap_or_default()) else { return };
    if read_again(&message).is_none() {
        return;
    }
    let variables = Variables { trunk: "service", calling: Some("+442079461111"), called: None };
    for direction in [Direction::Receive, Direction::Send] {
        let mut changed = message.clone();
        let _ = rules.apply(direction, &mut (&mut changed).into(), &variables);
        let text = written(&changed);
        if let Err(error) = parse(&text) {
            panic!("{error} in\n{}", text.escape_ascii());
        }
    }
}

/// A stream gives the same frames whatever the pieces are that it comes in: the first octet says how large.
fn stream(input: &[u8]) {
    let Some((first, stream)) = input.split_first() else { return };
    let whole = frames(std::iter::once(stream));
    let pieces = frames(stream.chunks(usize::from(*first) + 1));
    assert_eq!(whole, pieces);
    for frame in whole.iter().flatten() {
        // It was cut out by its own length, so it is one message to whoever reads it alone.
        let alone = frames(std::iter::once(frame.as_slice()));
        assert_eq!(alone, [Some(frame.clone())], "{}", frame.escape_ascii());
    }
}

/// A check is answered or not. What is answered can be read, is no longer than the check and what an answer adds, and
/// nobody is believed who has not proven the password of [RFC 5769](https://www.rfc-editor.org/rfc/rfc5769), which the
/// corpus knows.
fn stun(input: &[u8]) {
    let local = Credentials {
        ufrag: "evtj".parse().expect("a user name fragment"),
        password: "VOkJxbRl1RmTxUk/WvJxBt".parse().expect("a password"),
    };
    let proven = Stun::parse(input).is_ok_and(|message| message.is_protected_by(&local.password));
    let mut agent = LiteAgent::new(local, UnknownAttributes::Refuse);
    let mut answer = Vec::new();
    let outcome = agent.receive(Time(1), SOMEBODY, input, &mut answer);
    assert!(proven || answer.is_empty(), "a stranger is answered: {outcome:?}");
    match outcome {
        Outcome::Answered { .. } => assert_eq!(agent.sources(), Sources::Only(SOMEBODY)),
        _ => assert_eq!(agent.sources(), Sources::Nobody),
    }
    if !answer.is_empty() {
        Stun::parse(&answer).expect("we read what we answer");
        assert!(answer.len() <= input.len() + 80, "{} octets", answer.len());
    }
    agent.expire(Time(u64::MAX));
}

/// Messages; `None` for what ends the stream.
fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Option<Vec<u8>>> {
    let mut framer = StreamFramer::new(Limits::DEFAULT);
    let mut frames = Vec::new();
    for piece in pieces {
        framer.push(piece);
        while let Some(frame) = framer.next_frame() {
            match frame {
                Ok(Frame::Message(bytes)) => frames.push(Some(bytes.to_vec())),
                Ok(Frame::Ping) => {}
                Err(_) => frames.push(None),
            }
        }
        let _ = framer.part();
    }
    frames
}

/// What is read of a message as we write it; `None` if that is over a limit, because lists that came in one line are
/// written in many.
fn read_again(message: &Message) -> Option<Message> {
    let text = written(message);
    match parse(&text) {
        Err(error) if error.fault == Fault::MessageTooLarge => None,
        Err(error) => panic!("{error} in\n{}", text.escape_ascii()),
        Ok(again) => Some(again),
    }
}

fn written(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write(&mut bytes);
    bytes
}

fn same_when_written<T: FromStr + Display + PartialEq + std::fmt::Debug>(input: &[u8]) -> Option<T> {
    let read: T = std::str::from_utf8(input).ok()?.parse().ok()?;
    let text = read.to_string();
    assert!(text.parse::<T>().is_ok_and(|again| again == read), "{text:?} of {}", input.escape_ascii());
    Some(read)
}
