use super::super::standing::RegistrationState;
use super::super::trunk::tests::trunk;
use super::*;
use crate::base::id::{CoreId, TrunkId};
use crate::sip::auth::{Credentials, Password};
use crate::sip::message::{Message, Request, StatusCode, Via, ViaTransport, parse};
use crate::sip::transport::Transport;

const SECOND: Duration = Duration::from_secs(1);

/// A registrant on virtual time; the registrar is the test.
struct Rig {
    registrant: Registrant,
    policy: Arc<Snapshot>,
    tokens: Tokens,
    now: Time,
}

fn policy(peers: &[&str]) -> Snapshot {
    let mut core = trunk("core", "203.0.113.1:5060", peers);
    core.registration = Some(RegistrationPolicy {
        domain: "core.example".parse().unwrap(),
        user: "+442079460000".into(),
        expires: SECOND * 600,
        instance: None,
    });
    core.digest = Some(Credentials {
        realm: "core.example".into(),
        user: "gateway".into(),
        password: Password::new("Circle of Life"),
        md5: true,
    });
    Snapshot::new(vec![core], Vec::new()).unwrap()
}

/// With flows of one instance.
fn with_flows(peers: &[&str]) -> Snapshot {
    let policy = policy(peers);
    let (_, core) = policy.trunks().next().unwrap();
    let mut core = core.clone();
    let instance = "urn:uuid:6fa459ea-ee8a-4ca4-894e-db77e160355e".parse().unwrap();
    core.registration.as_mut().unwrap().instance = Some(instance);
    Snapshot::new(vec![core], Vec::new()).unwrap()
}

impl Rig {
    fn new(peers: &[&str]) -> Self {
        Self::of(policy(peers))
    }

    fn of(policy: Snapshot) -> Self {
        let (now, policy) = (Time(1_000_000), Arc::new(policy));
        let mut tokens = Tokens::seeded(1);
        let share = Share { core: CoreId(0), cores: 1 };
        let registrant = Registrant::new(share, "Causeway".into(), Arc::clone(&policy), now, &mut tokens);
        Self { registrant, policy, tokens, now }
    }

    /// What happens until then.
    fn pass(&mut self, span: Duration, drains: bool) -> Turnout {
        let (end, mut out) = (self.now + span, Turnout::default());
        while let Some(at) = self.registrant.next_deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.registrant.expire(self.now, drains, &mut out);
        }
        self.now = end;
        out
    }

    fn answer(&mut self, registration: &Registration, status: u16, lines: &str) -> Turnout {
        let via = Via::new(ViaTransport::Udp, "203.0.113.1".parse::<std::net::IpAddr>().unwrap(), 5060, "a");
        let request: Request = registration.draft.clone().finish(via);
        let response = Response::to_request(&request, StatusCode::new(status).unwrap());
        let mut bytes = Vec::new();
        Message::Response(response).write(&mut bytes);
        let text = String::from_utf8(bytes).unwrap().replacen(
            "\r\nContent-Length",
            &format!("\r\n{lines}Content-Length"),
            1,
        );
        let Ok(Message::Response(response)) = parse(text.as_bytes()) else { panic!("{text}") };
        let mut out = Turnout::default();
        self.registrant.answered(registration.id, &response, self.now, &mut self.tokens, &mut out);
        out
    }

    fn state(&self) -> Option<RegistrationState> {
        let view = self.policy.peers(TrunkId(0)).next().unwrap();
        view.targets[0].standing.registration()
    }

    /// A first REGISTER that was granted this.
    fn registered(lines: &str) -> Self {
        let mut rig = Self::new(&["203.0.113.20:5060"]);
        let first = rig.pass(SECOND, false).requests.remove(0);
        let told = rig.answer(&first, 200, lines).events;
        assert!(matches!(told[..], [TrunkEvent::Registered { .. }]), "{told:?}");
        assert_eq!(rig.state(), Some(RegistrationState::Registered));
        rig
    }
}

fn expires(registration: &Registration) -> &str {
    registration.draft.headers.value(&HeaderName::Expires).unwrap()
}

#[test]
fn the_binding_of_our_contact_is_asked_for_at_once_at_each_address_and_refreshed_before_it_expires() {
    let mut rig = Rig::new(&["203.0.113.20:5060", "203.0.113.21:5060"]);
    let first = rig.pass(SECOND, false).requests;
    assert_eq!(first.len(), 2);
    let draft = &first[0].draft;
    assert_eq!((draft.method.as_str(), draft.uri.to_string()), ("REGISTER", "sip:core.example".to_owned()));
    assert_eq!(draft.to.to_string(), "<sip:+442079460000@core.example>");
    assert_eq!(draft.from.uri, draft.to.uri);
    assert_eq!(draft.contact.first().unwrap().to_string(), "<sip:+442079460000@203.0.113.1:5060>");
    assert!(draft.headers.has_token(&HeaderName::Supported, "path"));
    assert_eq!(expires(&first[0]), "600");
    assert_ne!(first[0].hop.remote, first[1].hop.remote);
    assert_ne!(first[0].draft.call_id, first[1].draft.call_id);
    rig.answer(
        &first[0],
        200,
        "Contact: <sip:other@h>;expires=9, <sip:+442079460000@203.0.113.1:5060>;expires=300\r\n",
    );
    rig.answer(&first[1], 200, "Expires: 100\r\n");
    // 85 % of 300 seconds; and as early as an answer may take, of 100.
    let next = rig.pass(SECOND * 58, false).requests;
    assert!(next.is_empty());
    let next = rig.pass(SECOND * 4, false).requests;
    assert_eq!(next.len(), 1);
    assert_eq!((next[0].hop, &next[0].draft.call_id), (first[1].hop, &first[1].draft.call_id));
    assert_eq!(next[0].draft.sequence, first[1].draft.sequence + 1);
    let told = rig.answer(&next[0], 200, "Expires: 1000\r\n").events;
    assert!(told.is_empty(), "a refresh is no news");
    let next = rig.pass(SECOND * 192, false).requests;
    assert!(next.is_empty());
    assert_eq!(rig.pass(SECOND * 3, false).requests[0].hop, first[0].hop);
}

const ASKED: &str =
    "WWW-Authenticate: Digest realm=\"core.example\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"\r\n";

#[test]
fn a_challenge_of_our_realm_is_answered_by_the_same_request_and_a_stale_nonce_once_more() {
    let mut rig = Rig::new(&["203.0.113.20:5060"]);
    let first = rig.pass(SECOND, false).requests.remove(0);
    let second = rig.answer(&first, 401, ASKED).requests.remove(0);
    assert_eq!((&second.draft.call_id, second.draft.sequence), (&first.draft.call_id, 2));
    let line = second.draft.headers.value(&HeaderName::Authorization).unwrap();
    assert!(line.contains("uri=\"sip:core.example\"") && line.contains("username=\"gateway\""), "{line}");
    assert!(rig.answer(&first, 200, "").events.is_empty(), "an answer to what is past");
    let stale = ASKED.replace("realm", "stale=true, realm");
    let third = rig.answer(&second, 401, &stale).requests.remove(0);
    assert_eq!(rig.answer(&third, 200, "").events.len(), 1);
    assert_eq!(rig.state(), Some(RegistrationState::Registered));
}

#[test]
fn a_wrong_password_or_a_foreign_realm_ends_in_failure_and_not_in_a_loop() {
    let mut rig = Rig::new(&["203.0.113.20:5060"]);
    let first = rig.pass(SECOND, false).requests.remove(0);
    let second = rig.answer(&first, 401, ASKED).requests.remove(0);
    let out = rig.answer(&second, 401, ASKED);
    assert!(out.requests.is_empty());
    assert!(matches!(out.events[..], [TrunkEvent::RegistrationFailed { .. }]), "{:?}", out.events);
    assert_eq!(rig.state(), Some(RegistrationState::Failed));
    let again = rig.pass(SECOND * 31, false).requests.remove(0);
    let out = rig.answer(&again, 401, &ASKED.replace("core.example", "evil.example"));
    assert!(out.requests.is_empty() && out.events.is_empty(), "told once");
}

#[test]
fn an_interval_that_is_too_brief_is_lengthened_to_what_the_registrar_wants_up_to_a_day() {
    let mut rig = Rig::new(&["203.0.113.20:5060"]);
    let first = rig.pass(SECOND, false).requests.remove(0);
    let second = rig.answer(&first, 423, "Min-Expires: 1800\r\n").requests.remove(0);
    assert_eq!(expires(&second), "1800");
    assert!(rig.answer(&second, 423, "Min-Expires: 1800\r\n").requests.is_empty(), "it said so before");
    let again = rig.pass(SECOND * 31, false).requests.remove(0);
    assert_eq!(expires(&again), "1800");
    assert!(rig.answer(&again, 423, "Min-Expires: 86401\r\n").requests.is_empty());
}

#[test]
fn failures_are_followed_by_longer_pauses_none_the_same_and_retry_after_is_heeded() {
    let mut rig = Rig::new(&["203.0.113.20:5060"]);
    let mut registration = rig.pass(SECOND, false).requests.remove(0);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let mut out = Turnout::default();
        rig.registrant.lost(registration.id, ProbeOutcome::Silence, rig.now, &mut rig.tokens, &mut out);
        let from = rig.now;
        rig.now = rig.registrant.timers.next().unwrap();
        pauses.push(rig.now.since(from).as_secs_f64());
        registration = rig.pass(SECOND, false).requests.remove(0);
    }
    let mut longest = 30.0;
    for pause in pauses {
        assert!((longest / 2.0..=longest).contains(&pause), "{pause} of {longest}");
        longest = (longest * 2.0_f64).min(1_800.0);
    }
    rig.answer(&registration, 200, "");
    let next = rig.pass(SECOND * 600, false).requests.remove(0);
    rig.answer(&next, 503, "Retry-After: 120 (maintenance)\r\n");
    assert!(rig.pass(SECOND * 119, false).requests.is_empty());
    assert_eq!(rig.pass(SECOND * 2, false).requests.len(), 1);
}

#[test]
fn a_drain_takes_the_binding_back_and_its_end_asks_for_it_again() {
    for of_trunk in [false, true] {
        let mut rig = Rig::registered("");
        let standing = Arc::clone(rig.policy.standing(TrunkId(0)).unwrap());
        standing.drain(of_trunk);
        let left = rig.pass(SECOND * 6, !of_trunk).requests;
        assert_eq!((left.len(), expires(&left[0])), (1, "0"));
        let told = rig.answer(&left[0], 200, "").events;
        assert!(matches!(told[..], [TrunkEvent::Unregistered { .. }]), "{told:?}");
        assert!(rig.pass(SECOND * 1_000, !of_trunk).requests.is_empty());
        standing.drain(false);
        let back = rig.pass(SECOND * 6, false).requests;
        assert_eq!((back.len(), expires(&back[0])), (1, "600"));
    }
}

#[test]
fn a_lost_connection_brings_the_binding_back_within_moments() {
    let mut rig = Rig::registered("");
    let there = Hop {
        transport: Transport::Udp,
        local: "203.0.113.1:5060".parse().unwrap(),
        remote: "203.0.113.20:5060".parse().unwrap(),
        connection: None,
    };
    let elsewhere = Hop { remote: "203.0.113.21:5060".parse().unwrap(), ..there };
    rig.registrant.disconnected(&elsewhere, rig.now, &mut rig.tokens);
    assert!(rig.pass(SECOND * 3, false).requests.is_empty());
    rig.registrant.disconnected(&there, rig.now, &mut rig.tokens);
    let again = rig.pass(SECOND * 2, false).requests;
    assert_eq!((again.len(), expires(&again[0])), (1, "600"));
}

#[test]
fn a_reload_keeps_bindings_that_stay_and_takes_those_back_that_go() {
    let mut rig = Rig::registered("");
    let mut out = Turnout::default();
    let more = Arc::new(policy(&["203.0.113.20:5060", "203.0.113.21:5060"]).succeed(&rig.policy));
    rig.registrant.follow(more, rig.now, &mut rig.tokens, &mut out);
    assert!(out.requests.is_empty());
    let new = rig.pass(SECOND, false).requests;
    assert_eq!(new.iter().map(|new| new.hop.remote.to_string()).collect::<Vec<_>>(), ["203.0.113.21:5060"]);
    rig.answer(&new[0], 200, "");
    let fewer = Arc::new(policy(&["203.0.113.21:5060"]));
    rig.registrant.follow(fewer, rig.now, &mut rig.tokens, &mut out);
    assert_eq!(out.requests.len(), 1);
    assert_eq!((expires(&out.requests[0]), out.requests[0].hop.remote.port()), ("0", 5060));
    assert_eq!(out.requests[0].hop.remote.to_string(), "203.0.113.20:5060");
    assert!(!rig.registrant.has_left());
}

#[test]
fn a_registrar_that_asks_who_takes_a_binding_back_is_told_even_after_a_reload_without_its_trunk() {
    let mut rig = Rig::registered("");
    let mut out = Turnout::default();
    let none = Arc::new(Snapshot::new(vec![trunk("other", "203.0.113.1:5070", &[])], Vec::new()).unwrap());
    rig.registrant.follow(none, rig.now, &mut rig.tokens, &mut out);
    let again = rig.answer(&out.requests[0], 401, ASKED).requests;
    assert_eq!((again.len(), expires(&again[0])), (1, "0"));
    assert!(again[0].draft.headers.value(&HeaderName::Authorization).is_some());
    let told = rig.answer(&again[0], 200, "").events;
    assert!(matches!(told[..], [TrunkEvent::Unregistered { .. }]), "{told:?}");
    assert!(rig.registrant.has_left() && rig.pass(SECOND * 3_600, false).requests.is_empty());
}

#[test]
fn a_binding_that_is_granted_after_a_reload_without_its_trunk_is_taken_back() {
    let mut rig = Rig::new(&["203.0.113.20:5060"]);
    let first = rig.pass(SECOND, false).requests.remove(0);
    let mut out = Turnout::default();
    let none = Arc::new(Snapshot::new(Vec::new(), Vec::new()).unwrap());
    rig.registrant.follow(none, rig.now, &mut rig.tokens, &mut out);
    assert!(out.requests.is_empty());
    let last = rig.answer(&first, 200, "").requests;
    assert_eq!((last.len(), expires(&last[0])), (1, "0"));
    rig.registrant.lost(last[0].id, ProbeOutcome::Silence, rig.now, &mut rig.tokens, &mut out);
    assert!(rig.registrant.has_left() && rig.pass(SECOND * 3_600, false).requests.is_empty());
}

#[test]
fn flows_of_an_instance_are_registered_by_number_and_kept_as_the_registrar_wants() {
    let mut rig = Rig::of(with_flows(&["203.0.113.20:5060", "203.0.113.21:5060"]));
    let first = rig.pass(SECOND, false).requests;
    let contact = |request: &Registration| request.draft.contact.first().unwrap().to_string();
    let marked = |flow: u8| {
        format!(
            "<sip:+442079460000@203.0.113.1:5060>;\
             +sip.instance=\"<urn:uuid:6fa459ea-ee8a-4ca4-894e-db77e160355e>\";reg-id={flow}"
        )
    };
    assert_eq!([contact(&first[0]), contact(&first[1])], [marked(1), marked(2)]);
    assert!(first[0].draft.headers.has_token(&HeaderName::Supported, "outbound"));
    let kept = rig.answer(&first[0], 200, "Require: outbound\r\nFlow-Timer: 30\r\n").flows;
    assert_eq!(kept, [(first[0].hop, SECOND * 27)]);
    let kept = rig.answer(&first[1], 200, "Require: outbound\r\n").flows;
    assert_eq!(kept, [(first[1].hop, SECOND * 95)]);
    let next = rig.pass(SECOND * 511, false).requests;
    assert_eq!(contact(&next[0]), marked(1), "a flow keeps its number");
    assert!(rig.answer(&next[0], 200, "").flows.is_empty(), "a registrar that knows no flows keeps none");
}

/// RFC 5626 section 11.6.
#[test]
fn a_first_hop_that_knows_no_flows_gets_an_address() {
    let mut rig = Rig::of(with_flows(&["203.0.113.20:5060"]));
    let first = rig.pass(SECOND, false).requests.remove(0);
    let second = rig.answer(&first, 439, "").requests.remove(0);
    assert_eq!(second.draft.contact.first().unwrap().to_string(), "<sip:+442079460000@203.0.113.1:5060>");
    assert!(!second.draft.headers.has_token(&HeaderName::Supported, "outbound"));
    assert!(second.draft.headers.has_token(&HeaderName::Supported, "path"));
    let out = rig.answer(&second, 200, "Flow-Timer: 30\r\n");
    assert!(out.flows.is_empty() && out.events.len() == 1);
    assert!(rig.answer(&second, 439, "").requests.is_empty());
}

#[test]
fn calls_pass_the_proxies_that_the_registrar_names_as_long_as_it_knows_us() {
    let mut rig = Rig::new(&["203.0.113.20:5060"]);
    let first = rig.pass(SECOND, false).requests.remove(0);
    let lines =
        "Service-Route: <sip:a.example;lr>, <sip:b.example;lr>\r\nService-Route: <sip:c.example;lr>\r\n";
    let routes = |out: Turnout| {
        let text = |known: ServiceRoute| known.route.iter().map(ToString::to_string).collect::<Vec<_>>();
        out.routes.into_iter().map(text).collect::<Vec<_>>()
    };
    let told = routes(rig.answer(&first, 200, lines));
    assert_eq!(told, [["<sip:a.example;lr>", "<sip:b.example;lr>", "<sip:c.example;lr>"]]);
    let next = rig.pass(SECOND * 511, false).requests.remove(0);
    assert!(routes(rig.answer(&next, 200, lines)).is_empty(), "the same is no news");
    let next = rig.pass(SECOND * 511, false).requests.remove(0);
    assert_eq!(routes(rig.answer(&next, 503, "")), [Vec::<String>::new()]);
}
