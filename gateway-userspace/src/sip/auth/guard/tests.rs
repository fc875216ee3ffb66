use super::*;
use crate::sip::auth::Credentials;
use crate::sip::message::{Draft, Message, Method, NameAddr, StatusCode, Via, ViaTransport, parse};

const SOURCE: &str = "198.51.100.10";

fn challenger() -> Challenger {
    Challenger {
        realm: "gateway.example".into(),
        users: vec![("pbx".into(), Password::new("Circle of Life"))],
        algorithms: vec![Algorithm::Sha512_256, Algorithm::Sha256],
        lifetime: Duration::from_secs(300),
    }
}

fn guard(seed: u64) -> Guard {
    Guard::new(&mut Tokens::seeded(seed))
}

fn source(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn draft() -> Draft {
    let address = || NameAddr::new("sip:a@h".parse().unwrap());
    Draft::new(Method::Invite, "sip:+442079460123@192.0.2.1".parse().unwrap(), address(), address(), "1", 1)
}

fn request(draft: &Draft) -> Request {
    draft.clone().finish(Via::new(ViaTransport::Udp, source(SOURCE), 5060, "a"))
}

/// The 401 as it arrives there.
fn asked(guard: &Guard, challenger: &Challenger, stale: bool, now: Time) -> Response {
    let mut response = Response::to_request(&request(&draft()), StatusCode::UNAUTHORIZED);
    guard.challenge(("pbx", challenger), source(SOURCE), stale, &mut response, now);
    let mut bytes = Vec::new();
    Message::Response(response).write(&mut bytes);
    match parse(&bytes) {
        Ok(Message::Response(response)) => response,
        other => panic!("{other:?}"),
    }
}

fn us(user: &str, password: &str) -> Credentials {
    let (realm, user) = ("gateway.example".to_owned(), user.to_owned());
    Credentials { realm, user, password: Password::new(password), md5: true }
}

/// The request with the answer to a challenge of that time.
fn answered(guard: &Guard, challenger: &Challenger, credentials: &Credentials, now: Time) -> Request {
    let mut draft = draft();
    assert!(credentials.answer(&asked(guard, challenger, false, now), &mut draft, "c"));
    request(&draft)
}

/// The same answer, counted on, as nobody but its owner could: the hash is made anew.
fn counted(request: &Request, count: u32) -> Request {
    let mut request = request.clone();
    let line = request.headers.value(&HeaderName::Authorization).unwrap();
    let mut answer = Answer::parse(line).unwrap();
    answer.nc = format!("{count:08x}");
    let hash = |text: String| answer.algorithm.hash(&text);
    let secret = hash(format!("{}:{}:Circle of Life", answer.user, answer.realm));
    let asked = hash(format!("INVITE:{}", answer.uri));
    let response = hash(format!("{secret}:{}:{}:{}:auth:{asked}", answer.nonce, answer.nc, answer.cnonce));
    let line = line.replace(&answer.response, &response).replace("nc=00000001", &format!("nc={}", answer.nc));
    request.headers.set(HeaderName::Authorization, line);
    request
}

fn judged(guard: &mut Guard, request: &Request, now: Time) -> Verdict {
    guard.judge(("pbx", &challenger()), source(SOURCE), request, now)
}

const UNKNOWN: Verdict = Verdict::Unknown { stale: false };
const STALE: Verdict = Verdict::Unknown { stale: true };

#[test]
fn who_knows_the_password_is_known_by_each_algorithm_that_is_offered() {
    for algorithm in Algorithm::ALL {
        let challenger = Challenger { algorithms: vec![algorithm], ..challenger() };
        let mut guard = guard(1);
        let request = answered(&guard, &challenger, &us("pbx", "Circle of Life"), at(7));
        let verdict = guard.judge(("pbx", &challenger), source(SOURCE), &request, at(8));
        assert_eq!(verdict, Verdict::Known, "{algorithm:?}");
        let others: Vec<_> = Algorithm::ALL.into_iter().filter(|other| *other != algorithm).collect();
        let other = Challenger { algorithms: others, ..challenger };
        let verdict = guard.judge(("pbx", &other), source(SOURCE), &request, at(8));
        assert_eq!(verdict, Verdict::Wrong, "an algorithm that was not offered");
    }
}

#[test]
fn challenges_stand_in_the_order_of_preference_with_qop_auth() {
    let told = asked(&guard(1), &challenger(), true, at(7));
    let lines: Vec<_> = told.headers.values(&HeaderName::WwwAuthenticate).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("algorithm=SHA-512-256, qop=\"auth\", stale=true"), "{lines:?}");
    assert!(lines[1].contains("algorithm=SHA-256, qop=\"auth\", stale=true"), "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("realm=\"gateway.example\"")), "{lines:?}");
}

#[test]
fn whatever_is_wrong_looks_the_same_and_leaves_no_trace() {
    let mut guard = guard(1);
    assert_eq!(judged(&mut guard, &request(&draft()), at(7)), UNKNOWN);
    let right = answered(&guard, &challenger(), &us("pbx", "Circle of Life"), at(7));
    let line = right.headers.value(&HeaderName::Authorization).unwrap().to_owned();
    let with = |line: &str| {
        let mut request = right.clone();
        request.headers.set(HeaderName::Authorization, line);
        request
    };
    let other_number = Request { uri: "sip:+9001@192.0.2.1".parse().unwrap(), ..right.clone() };
    for (what, request) in [
        ("password", answered(&guard, &challenger(), &us("pbx", "wrong"), at(7))),
        ("empty password of nobody", answered(&guard, &challenger(), &us("nobody", ""), at(7))),
        ("user", answered(&guard, &challenger(), &us("nobody", "Circle of Life"), at(7))),
        ("realm", with(&line.replace("gateway.example", "other.example"))),
        ("another number than was called", other_number),
        ("no count", with(&line.replace("nc=00000001", "nc=x"))),
        ("no qop", with(&line.replace(", qop=auth", ""))),
        ("cut off", with(&line[..line.len() / 2])),
        ("another scheme", with("Basic cGJ4Og==")),
        ("nothing", with("")),
    ] {
        assert_eq!(judged(&mut guard, &request, at(8)), Verdict::Wrong, "{what}");
    }
    assert!(guard.uses.is_empty());
    assert_eq!(judged(&mut guard, &right, at(8)), Verdict::Known);
}

#[test]
fn a_nonce_is_good_for_its_trunk_its_source_its_core_and_its_time_only() {
    let ours = us("pbx", "Circle of Life");
    let mut guard = guard(1);
    let request = answered(&guard, &challenger(), &ours, at(7));
    let judge = |guard: &mut Guard, trunk: &str, from: &str, now| {
        guard.judge((trunk, &challenger()), source(from), &request, now)
    };
    assert_eq!(judge(&mut guard, "other", SOURCE, at(8)), STALE);
    assert_eq!(judge(&mut guard, "pbx", "198.51.100.11", at(8)), STALE);
    assert_eq!(judge(&mut self::guard(2), "pbx", SOURCE, at(8)), STALE);
    assert_eq!(judge(&mut guard, "pbx", SOURCE, at(308)), STALE);
    assert_eq!(judge(&mut guard, "pbx", SOURCE, at(307)), Verdict::Known);
    assert_eq!(guard.uses.len(), 1);
}

#[test]
fn each_count_of_a_nonce_is_good_once_and_may_come_a_little_late() {
    let mut guard = guard(1);
    let first = answered(&guard, &challenger(), &us("pbx", "Circle of Life"), at(7));
    let mut said = |count| judged(&mut guard, &counted(&first, count), at(8));
    let table = [
        (2, Verdict::Known),
        (2, STALE),
        (1, Verdict::Known),
        (1, STALE),
        (5, Verdict::Known),
        (4, Verdict::Known),
        (4, STALE),
        (3, Verdict::Known),
        (70, Verdict::Known),
        (6, Verdict::Known),
        (5, STALE),
        (70, STALE),
        (500, Verdict::Known),
        (436, Verdict::Known),
        (435, STALE),
        (499, Verdict::Known),
        (u32::MAX, Verdict::Known),
    ];
    for (count, expected) in table {
        assert_eq!(said(count), expected, "{count}");
    }
}

#[test]
fn nonces_that_are_forgotten_are_out_of_date() {
    let mut guard = guard(1);
    let ours = us("pbx", "Circle of Life");
    let old = answered(&guard, &challenger(), &ours, at(7));
    assert_eq!(judged(&mut guard, &old, at(8)), Verdict::Known);
    for place in 0..MAX_NONCES as u64 - 1 {
        let nonce = guard.nonce("pbx", source(SOURCE), 100 + place);
        guard.uses.insert(nonce, Uses { highest: 1, below: 0 });
    }
    let new = answered(&guard, &challenger(), &ours, at(50));
    assert_eq!(judged(&mut guard, &new, at(51)), Verdict::Known);
    assert!(guard.uses.len() <= MAX_NONCES);
    assert_eq!(judged(&mut guard, &counted(&old, 2), at(52)), STALE, "its counts are not known any more");
}
